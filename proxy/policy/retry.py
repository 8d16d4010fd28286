"""What follows a failed attempt: wait and ask the same target again, ask the next one, or give up.

Here: the decision, the wait, the budget of retries; chance and time are arguments. Not here: what went wrong (faults.py), sleeping.
The next credential comes first, then the next target, both at once: one waits only where there is none left to ask.
"""

from __future__ import annotations

import msgspec

from proxy.config.schema import BackoffConfig, FailoverConfig, TargetChoice
from proxy.policy.faults import REACTIONS, Fault

RETRY_SHARE = 0.2
"""Of the first attempts at a target: more retries than that are a storm, which keeps a struggling target down."""
RESERVE = 10.0  # retries that a target with little traffic may always spend in a row
REFILL_PER_S = 0.1  # and how fast these come back
MOST_SAVED = 10 * RESERVE  # what isn't used in good times doesn't pile up for bad ones


class GiveUp(msgspec.Struct, frozen=True, tag=True):
    """The call ends with this attempt's failure."""

    reason: str


class NextTarget(msgspec.Struct, frozen=True, tag=True):
    """Ask the plan's next target, at once."""


class NextCredential(msgspec.Struct, frozen=True, tag=True):
    """Ask the same target with its next credential, at once."""


class RetryTarget(msgspec.Struct, frozen=True, tag=True):
    """Ask the same target again."""

    wait_s: float


Next = GiveUp | NextTarget | NextCredential | RetryTarget


class FailedAttempt(msgspec.Struct, frozen=True):
    """What the decision is made from."""

    fault: Fault
    attempts: int  # made for this call so far
    retries: int  # of them, at this target after its first
    has_next_target: bool
    has_next_credential: bool = False  # this target has another one, not tried in this call
    barred: str | None = None  # why this target may not be asked again, if it may not
    retry_after_s: float | None = None  # as the provider asked


def after(failed: FailedAttempt, failover: FailoverConfig, chance: float) -> Next:
    """What to do now. `chance` is uniform in [0, 1)."""
    reaction = REACTIONS[failed.fault]
    rotates = reaction.rotates and failed.has_next_credential  # a list of credentials asks for it by itself, whatever `on` names
    if not rotates and failed.fault.value not in failover.on and failed.fault not in _ALWAYS:
        return GiveUp(f"failover.on doesn't name {failed.fault}")
    if failed.attempts >= failover.attempts:
        return GiveUp(f"failover.attempts is {failover.attempts}")
    if rotates:
        return NextCredential()
    if reaction.failover and failed.has_next_target:
        return NextTarget()
    if not reaction.retry:
        return GiveUp("no target is left")
    if failed.barred is not None:
        return GiveUp(failed.barred)
    wait_s = max(backoff_s(failed.retries, failover.backoff, chance), failed.retry_after_s or 0.0)
    if wait_s > failover.backoff.max_s:
        return GiveUp(f"the target asks for {wait_s:g} s, failover.backoff.max_s is {failover.backoff.max_s:g}")
    return RetryTarget(wait_s)


_ALWAYS = frozenset({Fault.QUOTA, Fault.CREDENTIAL, Fault.CONTEXT_WINDOW, Fault.CONTENT_FILTER})
"""Not named in `failover.on`: they have switches of their own, or (a key that isn't taken) follow where another target is left."""


def targets_for(fault: Fault, failover: FailoverConfig) -> list[TargetChoice]:
    """The targets that a rule names for this fault alone: they are asked in place of the rest of the plan. Empty: it names none."""
    match fault:
        case Fault.CONTEXT_WINDOW:
            return failover.context_window_to
        case Fault.CONTENT_FILTER:
            return failover.content_filter_to
        case _:
            return []


def backoff_s(retries: int, backoff: BackoffConfig, chance: float) -> float:
    """Full jitter: anything from 0 to first_ms doubled with each retry, at most max_s."""
    ceiling_s = min(backoff.max_s, backoff.first_ms / 1000 * 2.0 ** min(retries, 60))
    return chance * ceiling_s


class RetryBudget:
    """One target's budget: a fifth of its first attempts, beside a small reserve. Property: retries <= 0.2 first + 10 + 0.1 seconds."""

    def __init__(self, now_ns: int) -> None:
        self._tokens = RESERVE
        self._refilled_ns = now_ns

    def first_attempt(self) -> None:
        """A first attempt was made: it earns a fifth of a retry."""
        self._tokens = min(MOST_SAVED, self._tokens + RETRY_SHARE)

    def allows(self, now_ns: int) -> bool:
        """Whether a retry may be made now."""
        if self._tokens < RESERVE:
            self._tokens = min(RESERVE, self._tokens + (now_ns - self._refilled_ns) / 1e9 * REFILL_PER_S)
        self._refilled_ns = now_ns
        return self._tokens >= 1

    def spend(self) -> None:
        """A retry is made."""
        self._tokens -= 1
