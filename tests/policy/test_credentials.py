"""Which of a target's credentials is used, and for how long one rests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.credentials import REFUSED_S, THROTTLED_S, Credentials
from proxy.policy.faults import REACTIONS, Fault

S = 1_000_000_000
ROTATING = [fault for fault in Fault if REACTIONS[fault].rotates]


def test_the_first_is_current_until_it_fails() -> None:
    credentials = Credentials(3)
    assert [credentials.current(now_s * S) for now_s in (0, 1, 10_000)] == [0, 0, 0]


def test_faults_of_a_key_an_account_and_a_rate_rotate_and_no_others() -> None:
    assert ROTATING == [Fault.THROTTLED, Fault.QUOTA, Fault.CREDENTIAL]
    for fault in Fault:
        credentials = Credentials(2)
        credentials.failed(0, fault, None, 0)
        assert credentials.current(0) == (1 if fault in ROTATING else 0)


@pytest.mark.parametrize(
    ("fault", "retry_after_s", "rest_s"),
    [
        (Fault.CREDENTIAL, None, REFUSED_S),
        (Fault.CREDENTIAL, 1.0, REFUSED_S),
        (Fault.QUOTA, None, REFUSED_S),
        (Fault.QUOTA, 1.0, REFUSED_S),
        (Fault.THROTTLED, None, THROTTLED_S),
        (Fault.THROTTLED, 7.5, 7.5),
        (Fault.THROTTLED, 0.0, 0.0),
    ],
)
def test_one_that_failed_rests_as_long_as_its_fault_asks_for(fault: Fault, retry_after_s: float | None, rest_s: float) -> None:
    credentials = Credentials(2)
    credentials.failed(0, fault, retry_after_s, 5 * S)
    back_ns = 5 * S + int(rest_s * S)
    assert credentials.following(back_ns - 1, tried={1}) is None
    assert credentials.following(back_ns, tried={1}) == 0


def test_one_that_is_back_waits_for_its_turn() -> None:
    credentials = Credentials(3)
    credentials.failed(0, Fault.THROTTLED, 1.0, 0)
    assert [credentials.current(now_s * S) for now_s in (0, 2, 100)] == [1, 1, 1]
    credentials.failed(1, Fault.THROTTLED, 1.0, 100 * S)
    credentials.failed(2, Fault.THROTTLED, 5.0, 100 * S)
    assert credentials.current(100 * S) == 0


def test_the_late_failure_of_one_that_is_no_longer_current_moves_nothing() -> None:
    credentials = Credentials(3)
    for position in (0, 1, 0):
        credentials.failed(position, Fault.THROTTLED, 0.0, 0)
    assert credentials.current(0) == 2


def test_where_all_rest_the_one_that_comes_back_soonest_is_used() -> None:
    credentials = Credentials(3)
    credentials.failed(0, Fault.CREDENTIAL, None, 0)
    credentials.failed(1, Fault.THROTTLED, 5.0, 0)
    credentials.failed(2, Fault.THROTTLED, 9.0, 0)
    assert credentials.current(1 * S) == 1
    assert credentials.following(1 * S) is None


def test_a_retry_waits_for_whichever_is_back_first() -> None:
    credentials = Credentials(2)
    credentials.failed(0, Fault.THROTTLED, 2.0, 0)
    credentials.failed(1, Fault.THROTTLED, 30.0, 1 * S)
    assert credentials.wait_s(30.0, 1 * S) == 1.0
    assert credentials.wait_s(0.5, 1 * S) == 0.5
    assert credentials.wait_s(None, 1 * S) is None
    assert Credentials(1).wait_s(30.0, 0) == 30.0


@pytest.mark.parametrize("count", [0, 1])
def test_without_a_choice_none_rests(count: int) -> None:
    credentials = Credentials(count)
    credentials.failed(0, Fault.CREDENTIAL, None, 0)
    assert credentials.current(0) == 0
    assert credentials.following(0, tried={0}) is None


FAILURES = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(list(Fault)), st.none() | st.floats(0, 1000), st.integers(0, 2000 * S)))


@given(st.integers(1, 4), FAILURES)
def test_one_that_rests_is_never_current_while_another_does_not(count: int, failures: list[tuple[int, Fault, float | None, int]]) -> None:
    credentials = Credentials(count)
    for position, fault, retry_after_s, now_ns in sorted(failures, key=lambda failure: failure[3]):
        credentials.failed(position % count, fault, retry_after_s, now_ns)
        following, current = credentials.following(now_ns), credentials.current(now_ns)
        assert 0 <= current < count
        assert following is None or current == following
