"""`make soak` judges what it is meant to: its sums, and when it says no."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from tests.soak.__main__ import MIN_JUDGED_MINUTES, losses, verdict
from tests.soak.load import KINDS
from tests.soak.memory import Slope, floors, read_sample, slope

STEADY: dict[str, Slope | None] = {
    "gate RSS floor": Slope(0.2, 0.1, 300),
    "observer RSS floor": Slope(-0.5, 0.1, 300),
    "observer PSS": Slope(9.0, 0.1, 300),
}


def status(**observer: Any) -> dict[str, Any]:
    return {"observer": {"dropped": {}, "counters": {"records": 9, "spool_bytes": 0}, "restarts": 0, "queued": 0} | observer}


def test_slope_is_that_of_the_line_through_the_points() -> None:
    found = slope([(seconds, 40 + 2 * seconds / 3600) for seconds in range(0, 3600, 10)])
    assert found is not None
    assert found.mb_per_hour == pytest.approx(2)
    assert found.error_mb_per_hour == pytest.approx(0, abs=1e-6)


def test_slope_of_noise_has_an_error_that_covers_it() -> None:
    chance = random.Random(7)
    found = slope([(seconds, 40 + chance.gauss(0, 1)) for seconds in range(0, 3600, 10)])
    assert found is not None
    assert abs(found.mb_per_hour) < 3 * found.error_mb_per_hour


def test_spikes_do_not_hide_growth_nor_look_like_it() -> None:
    spiky = [(float(seconds), 40 + seconds / 3600 + (15 if seconds % 60 else 0)) for seconds in range(0, 3600, 10)]
    found = slope(floors(spiky, 120))
    assert found is not None
    assert found.mb_per_hour == pytest.approx(1)
    assert found.samples == 30


@pytest.mark.parametrize("points", [[], [(0.0, 1.0), (1.0, 2.0)], [(5.0, 1.0)] * 4])
def test_too_few_points_have_no_slope(points: list[tuple[float, float]]) -> None:
    assert slope(points) is None


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="memory is read from Linux's /proc")
def test_memory_of_a_process_is_read() -> None:
    sample = read_sample(os.getpid(), 1.5)
    assert sample is not None
    assert sample.rss_mb >= sample.pss_mb > 1


def test_steady_memory_passes() -> None:
    assert verdict(STEADY, MIN_JUDGED_MINUTES, losses(status())) == 0


@pytest.mark.parametrize("rise", [Slope(1.1, 0.1, 300), None])
def test_growth_of_either_process_fails(rise: Slope | None) -> None:
    assert verdict(STEADY | {"observer RSS floor": rise}, MIN_JUDGED_MINUTES, {}) == 1


def test_a_short_run_is_not_judged_by_growth() -> None:
    assert verdict(STEADY | {"observer RSS floor": Slope(99.0, 0.1, 9)}, MIN_JUDGED_MINUTES - 1, {}) == 0


@pytest.mark.parametrize(
    "observer",
    [
        {"dropped": {"full": 1}},
        {"counters": {"dropped_rows_shutdown": 1}},
        {"counters": {"export_failures": 1}},
        {"restarts": 1},
        {"queued": 1},
    ],
)
def test_any_loss_fails(observer: dict[str, Any]) -> None:
    assert verdict(STEADY, 0, losses(status(**observer))) == 1


@pytest.mark.parametrize(("name", "make"), [(name, make) for name, _, make in KINDS])
def test_every_kind_of_call_can_be_made(name: str, make: Any) -> None:
    assert make(random.Random(1)).path.startswith("/v1/"), name
