"""What is known of a target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import BreakerConfig
from proxy.policy.breaker import BreakerState
from proxy.policy.target_state import PeakEwma, TargetState

S = 1_000_000_000


def test_a_worse_sample_counts_at_once_and_is_forgotten_slowly() -> None:
    average = PeakEwma()
    average.add(0.1, 0)
    average.add(2.0, S)
    assert average.value == 2.0
    average.add(0.1, 2 * S)
    assert average.value == pytest.approx(1.82, abs=0.01)
    average.add(0.1, 60 * S)
    assert average.value == pytest.approx(0.1, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 100 * S)), min_size=1))
def test_the_average_stays_within_what_was_seen(samples: list[tuple[float, int]]) -> None:
    average = PeakEwma()
    for sample, now_ns in samples:
        average.add(sample, now_ns)
    assert average.value is not None
    assert min(sample for sample, _ in samples) - 1e-9 <= average.value <= max(sample for sample, _ in samples) + 1e-9


def test_headroom_is_forgotten_after_a_minute() -> None:
    state = TargetState(BreakerConfig(), 0)
    state.told_headroom(0.25, 0)
    state.told_headroom(None, 30 * S)
    assert state.headroom(59 * S) == 0.25
    assert state.headroom(60 * S) is None


def test_failures_do_not_make_a_target_look_fast() -> None:
    state = TargetState(BreakerConfig(), 0)
    state.failed(state.begin(0), 0)
    assert state.latency_s is None


def test_attempts_of_every_end_are_no_longer_in_flight() -> None:
    state = TargetState(BreakerConfig(failures=1), 0)
    tickets = [state.begin(0) for _ in range(3)]
    assert state.in_flight == 3
    state.succeeded(tickets[0], 0, 0.1, 0.3)
    state.released(tickets[1])
    state.failed(tickets[2], 0)
    assert state.in_flight == 0
    assert state.latency_s == pytest.approx(0.2)
    assert state.breaker.state is BreakerState.OPEN
