from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from proxy.call import Cost, Outcome
from proxy.config.schema import KeepConfig
from proxy.observer.telemetry.keep import is_in_ratio, is_kept
from tests.call_records import START_NS, attempt_record, call_record

NONE_ELSE = KeepConfig(ratio=0.0)


def test_everything_is_kept_unless_somebody_asks_for_less() -> None:
    assert is_kept(call_record(), KeepConfig())
    assert not is_kept(call_record(), NONE_ELSE)


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": Outcome.FAILED},
        {"outcome": Outcome.INTERRUPTED},
        {"outcome": Outcome.THROTTLED},
        {"status": 500},
        {"attempts": [attempt_record(outcome=Outcome.FAILED), attempt_record(number=2)]},
        {"outcome": Outcome.REJECTED, "attempts": [attempt_record(outcome=Outcome.REJECTED, status=400)]},
    ],
)
def test_errors_are_always_kept_unless_the_ratio_is_for_them_too(changes: dict[str, Any]) -> None:
    assert is_kept(call_record(**changes), NONE_ELSE)
    assert not is_kept(call_record(**changes), KeepConfig(errors="ratio", ratio=0.0))


@pytest.mark.parametrize("changes", [{"rule": "tenant-day", "outcome": Outcome.REJECTED}, {"outcome": Outcome.REJECTED, "attempts": []}])
def test_refusals_are_always_kept_unless_the_ratio_is_for_them_too(changes: dict[str, Any]) -> None:
    assert is_kept(call_record(**changes), NONE_ELSE)
    assert not is_kept(call_record(**changes), KeepConfig(refusals="ratio", ratio=0.0))


def test_a_client_that_left_is_no_error() -> None:
    assert not is_kept(call_record(outcome=Outcome.ABANDONED, status=499), NONE_ELSE)


def test_slow_calls_are_kept() -> None:
    keep = KeepConfig(ratio=0.0, slower_than_s=10)
    assert not is_kept(call_record(end_ns=START_NS + 10_000_000_000), keep)
    assert is_kept(call_record(end_ns=START_NS + 10_000_000_001), keep)


def test_dear_calls_are_kept_by_the_sum_of_their_attempts() -> None:
    keep = KeepConfig(ratio=0.0, dearer_than_usd=0.1)
    half = attempt_record(cost=Cost(60_000_000))
    assert not is_kept(call_record(attempts=[half, attempt_record(cost=None)]), keep)
    assert is_kept(call_record(attempts=[half, half]), keep)


@given(st.integers(1, 2**128 - 1), st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.999, 1.0]))
def test_ratio_answers_as_the_sdks_sampler_does(trace_id: int, ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision is Decision.RECORD_AND_SAMPLE
    assert is_in_ratio(f"{trace_id:032x}", ratio) is theirs
