"""The breaker of a target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import BreakerConfig
from proxy.policy.breaker import NS_PER_S, Breaker, BreakerState

LIMITS = BreakerConfig(failures=3, window_s=10, ratio=0.5, open_s=5, probes=2)


def attempt(breaker: Breaker, now_s: float, failed: bool) -> bool:
    """One attempt that ends at once; False if it wasn't admitted."""
    now_ns = int(now_s * NS_PER_S)
    if not breaker.admits(now_ns):
        return False
    ticket = breaker.admit(now_ns)
    (breaker.failed if failed else breaker.succeeded)(now_ns, ticket)
    return True


def opened(now_s: float = 0) -> Breaker:
    breaker = Breaker(LIMITS)
    for _ in range(3):
        attempt(breaker, now_s, failed=True)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(LIMITS)
    for failed in (True, True, False, True, True):
        attempt(breaker, 0, failed)
    # four failures of five within the window: the ratio is reached although they weren't in a row
    assert breaker.state is BreakerState.OPEN


def test_a_success_starts_the_row_again() -> None:
    breaker = Breaker(LIMITS)
    for failed in (False, False, False, False, True, True, False, True, True):
        attempt(breaker, 0, failed)
    assert breaker.state is BreakerState.CLOSED


def test_failures_spread_over_more_than_the_window_do_not_open_it() -> None:
    breaker = Breaker(LIMITS)
    for turn in range(20):
        attempt(breaker, turn * 6, failed=True)
        attempt(breaker, turn * 6 + 3, failed=False)
    assert breaker.state is BreakerState.CLOSED


def test_nothing_is_admitted_while_it_is_open() -> None:
    breaker = opened(0)
    assert not attempt(breaker, 4.9, failed=False)
    assert attempt(breaker, 5, failed=False)
    assert breaker.state is BreakerState.HALF_OPEN


def test_half_open_admits_as_many_probes_at_a_time_as_it_says() -> None:
    breaker = opened(0)
    now_ns = 6 * NS_PER_S
    assert [breaker.admits(now_ns) and breaker.admit(now_ns) for _ in range(4)] == [1, 1, False, False]
    breaker.released(1)
    assert breaker.admits(now_ns)


def test_successful_probes_close_it() -> None:
    breaker = opened(0)
    assert attempt(breaker, 6, failed=False)
    assert attempt(breaker, 6, failed=False)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.opened_ns == 0


def test_a_failed_probe_opens_it_again_for_as_long() -> None:
    breaker = opened(0)
    assert attempt(breaker, 6, failed=True)
    assert breaker.state is BreakerState.OPEN
    assert not attempt(breaker, 10.9, failed=False)
    assert attempt(breaker, 11, failed=False)


def test_the_time_to_recovery_counts_from_the_first_opening() -> None:
    breaker = opened(2)
    attempt(breaker, 8, failed=True)
    assert breaker.opened_ns == 2 * NS_PER_S


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_an_attempt_begun_before_it_opened_is_no_probe(ending: str) -> None:
    breaker = Breaker(LIMITS)
    late = breaker.admit(0)
    for _ in range(3):
        attempt(breaker, 0, failed=True)
    attempt(breaker, 6, failed=False)
    assert breaker.state is BreakerState.HALF_OPEN
    getattr(breaker, ending)(6 * NS_PER_S, late)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_probe_of_an_earlier_round_changes_nothing() -> None:
    breaker = opened(0)
    first, second = breaker.admit(6 * NS_PER_S), breaker.admit(6 * NS_PER_S)
    breaker.failed(6 * NS_PER_S, first)
    again = breaker.admit(12 * NS_PER_S)
    breaker.succeeded(12 * NS_PER_S, second)
    assert breaker.admits(12 * NS_PER_S)
    breaker.succeeded(12 * NS_PER_S, again)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_busy_target_takes_no_memory_for_its_window() -> None:
    breaker = Breaker(LIMITS)
    for index in range(10_000):
        attempt(breaker, index / 100, failed=False)
    assert len(breaker._slots) <= 11


def test_a_window_that_is_made_longer_is_as_long_as_it_says() -> None:
    breaker = Breaker(BreakerConfig(failures=3, window_s=10, ratio=0.1))
    attempt(breaker, 0, failed=True)
    breaker.limits = BreakerConfig(failures=3, window_s=1000, ratio=0.1)
    for now_s in (100, 500, 900):
        assert breaker.state is BreakerState.CLOSED
        attempt(breaker, now_s, failed=False)
        attempt(breaker, now_s, failed=True)
    assert breaker.state is BreakerState.OPEN


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["begin", "succeeded", "failed", "released"])), max_size=60))
def test_never_more_probes_than_allowed(steps: list[tuple[float, str]]) -> None:
    breaker = Breaker(LIMITS)
    running: list[int] = []
    now_ns = 0
    for wait_s, step in steps:
        now_ns += int(wait_s * NS_PER_S)
        if step == "begin":
            if breaker.admits(now_ns):
                running.append(breaker.admit(now_ns))
        elif running:
            ticket = running.pop(0)
            breaker.released(ticket) if step == "released" else getattr(breaker, step)(now_ns, ticket)
        assert 0 <= breaker._probing <= LIMITS.probes or breaker.state is not BreakerState.HALF_OPEN
