"""What follows a failed attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import BackoffConfig, FailoverConfig, TargetChoice
from proxy.policy.faults import Fault
from proxy.policy.retry import FailedAttempt, GiveUp, NextCredential, NextTarget, RetryBudget, RetryTarget, after, backoff_s, targets_for

FAILOVER = FailoverConfig(attempts=3, backoff=BackoffConfig(first_ms=200, max_s=8))


def failed(fault: Fault, **changes: object) -> FailedAttempt:
    fields: dict[str, object] = {"fault": fault, "attempts": 1, "retries": 0, "has_next_target": False}
    return FailedAttempt(**fields | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.CLIENT])
def test_the_next_target_is_asked_at_once(fault: Fault) -> None:
    assert after(failed(fault, has_next_target=True), FAILOVER, 0.5) == NextTarget()


@pytest.mark.parametrize("fault", Fault)
def test_the_next_credential_comes_before_the_next_target_where_the_fault_is_the_credentials(fault: Fault) -> None:
    rotates = fault in (Fault.THROTTLED, Fault.QUOTA, Fault.CREDENTIAL)
    decided = after(failed(fault, has_next_target=True, has_next_credential=True), FAILOVER, 0.5)
    assert isinstance(decided, NextCredential) == rotates


def test_the_next_credential_is_asked_whatever_failover_on_names_and_no_oftener_than_attempts_says() -> None:
    only_connect = FailoverConfig(on=("connect",), attempts=3)
    assert after(failed(Fault.THROTTLED, has_next_credential=True), only_connect, 0.5) == NextCredential()
    assert after(failed(Fault.THROTTLED, has_next_credential=True, attempts=3), only_connect, 0.5) == GiveUp("failover.attempts is 3")


@pytest.mark.parametrize("fault", [Fault.CONNECT, Fault.THROTTLED, Fault.SERVER_ERROR, Fault.TRUNCATED])
def test_the_last_target_is_asked_again_after_a_wait(fault: Fault) -> None:
    assert after(failed(fault), FAILOVER, 0.5) == RetryTarget(0.1)


@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.QUOTA, Fault.CREDENTIAL, Fault.CONTEXT_WINDOW, Fault.CONTENT_FILTER])
def test_what_would_fail_again_is_not_asked_again(fault: Fault) -> None:
    assert isinstance(after(failed(fault), FAILOVER, 0.5), GiveUp)


def test_a_fault_of_the_client_is_nobody_elses() -> None:
    assert isinstance(after(failed(Fault.CLIENT, has_next_target=True), FAILOVER, 0.5), GiveUp)


def test_a_fault_that_the_rule_does_not_name_ends_the_call() -> None:
    assert isinstance(after(failed(Fault.TIMEOUT, has_next_target=True), FailoverConfig(on=("connect",)), 0.5), GiveUp)


def test_attempts_are_bounded_over_all_targets() -> None:
    assert isinstance(after(failed(Fault.CONNECT, attempts=3, has_next_target=True), FAILOVER, 0.5), GiveUp)


def test_the_provider_may_ask_for_a_longer_wait_than_the_backoff() -> None:
    assert after(failed(Fault.THROTTLED, retry_after_s=2.5), FAILOVER, 0.5) == RetryTarget(2.5)


def test_a_wait_of_minutes_is_not_waited_for() -> None:
    assert isinstance(after(failed(Fault.THROTTLED, retry_after_s=600), FAILOVER, 0.5), GiveUp)
    assert after(failed(Fault.THROTTLED, retry_after_s=600, has_next_target=True), FAILOVER, 0.5) == NextTarget()


def test_a_target_that_is_barred_is_not_asked_again_but_another_is() -> None:
    assert after(failed(Fault.CONNECT, barred="its breaker is open"), FAILOVER, 0.5) == GiveUp("its breaker is open")
    assert after(failed(Fault.CONNECT, barred="its breaker is open", has_next_target=True), FAILOVER, 0.5) == NextTarget()


def test_two_faults_have_targets_of_their_own() -> None:
    long, filtered = [TargetChoice("long")], [TargetChoice("filtered")]
    failover = FailoverConfig(context_window_to=long, content_filter_to=filtered)
    named = {fault: targets_for(fault, failover) for fault in Fault}
    assert {fault: targets for fault, targets in named.items() if targets} == {Fault.CONTEXT_WINDOW: long, Fault.CONTENT_FILTER: filtered}


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_anything_up_to_the_doubled_first_one(retries: int, chance: float) -> None:
    backoff = BackoffConfig(first_ms=200, max_s=8)
    assert 0 <= backoff_s(retries, backoff, chance) <= min(8, 0.2 * 2 ** min(retries, 60))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=400))
def test_the_budget_of_retries_is_never_passed(steps: list[tuple[bool, float]]) -> None:
    budget, now_ns, first, retries = RetryBudget(0), 0, 0, 0
    for is_retry, wait_s in steps:
        now_ns += int(wait_s * 1e9)
        if not is_retry:
            first += 1
            budget.first_attempt()
        elif budget.allows(now_ns):
            retries += 1
            budget.spend()
        assert retries <= 0.2 * first + 10 + 0.1 * now_ns / 1e9 + 1e-6


def test_a_target_with_little_traffic_may_retry() -> None:
    budget = RetryBudget(0)
    for _ in range(10):
        assert budget.allows(0)
        budget.spend()
    assert not budget.allows(0)
    assert budget.allows(11_000_000_000)
