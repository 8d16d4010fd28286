"""Where a call stands in its plan: which target is asked now, and whether another attempt follows a failure.

Here: the cursor through the plan, fed with faults. Not here: how an attempt goes (live_attempt.py), what a fault calls for
(policy/retry.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import assert_never

from proxy.call import HeaderList
from proxy.config.schema import FailoverConfig, TargetChoice
from proxy.errors import AllTargetsFailed, PosternError, UpstreamError
from proxy.pipeline.known import may_be_paid, takes_calls
from proxy.pipeline.live_attempt import LiveAttempt, Turn
from proxy.pipeline.reserve import Reservation
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.state import CallState
from proxy.policy.credentials import Credentials
from proxy.policy.faults import REACTIONS, Fault
from proxy.policy.order import Candidate
from proxy.policy.retry import FailedAttempt, GiveUp, Next, NextCredential, NextTarget, RetryTarget, after, targets_for
from proxy.policy.target_state import TargetState
from proxy.wire.http1 import header

ROTATION = FailoverConfig()
"""How far the credentials of a list are tried where no rule of failover says it."""


class Failover:
    """One call's way through its plan."""

    def __init__(self, gate: Gate, runtime: Runtime, call: CallState) -> None:
        assert call.decision is not None
        self._gate = gate
        self._runtime = runtime
        self._call = call
        self._route = call.decision.route
        self._rule = call.decision.failover
        self._steps = call.decision.plan.steps
        self._index = 0
        self._turns = 0  # times a target was asked
        self._retries = 0  # of them, at the current target after its first
        self._tried: set[int] = set()  # of the current target's credentials, by position
        self._rotated_to: int | None = None  # the credential that the current target is asked with next, where a fault said so
        self._asked: set[tuple[str, str | None]] = set()
        self.wait_s = 0.0  # before the next attempt

    @property
    def step(self) -> Candidate:
        """Whom to ask now."""
        return self._steps[self._index]

    @property
    def state(self) -> TargetState:
        """The state of whom to ask now."""
        return self._runtime.states[self.step.target]

    @property
    def _credentials(self) -> Credentials:
        return self._runtime.credentials[self.step.target]

    @property
    def is_possible(self) -> bool:
        """Whether anything may follow a failure: if not, the reply needn't be held back to see whether it is one."""
        return (self._rule is not None or len(self._credentials) > 1) and not self._call.is_upload_begun

    @property
    def has_following(self) -> bool:
        """Whether one more target could be asked now."""
        return self._rule is not None and self._turns < self._rule.attempts and self._following() is not None

    def begin_turn(self) -> Turn:
        """The current target is to be asked. To ask it again without `include_usage` is no turn of its own."""
        self._turns += 1
        self._asked.add((self.step.target, self.step.model))
        if not self._tried:
            self.state.retries.first_attempt()
        credential = self._credentials.current(self._gate.clock.monotonic_ns()) if self._rotated_to is None else self._rotated_to
        self._tried.add(credential)
        return Turn(self.step, credential)

    @property
    def following_step(self) -> Candidate | None:
        """Whom to ask after the current one."""
        following = self._following()
        return None if following is None else self._steps[following]

    def begin_hedge(self) -> Turn:
        """The following target is to be asked beside the current one, and is the current one from here on."""
        following = self._following()
        assert following is not None, "has_following says whether there is one"
        self._move_to(following)
        return self.begin_turn()._replace(cause="hedge")

    def leaves(self, live: LiveAttempt) -> bool:
        """Whether another attempt follows the fault of this one, so that its reply isn't passed on; moves on if so."""
        attempt = live.attempt
        if attempt.fault is None:
            return False
        live.report()  # first of all: this fault may have opened the target's breaker
        credential = self._untried_credential(attempt.fault)
        rule = ROTATION if self._rule is None and credential is not None else self._rule
        if rule is None or self._call.is_upload_begun:
            return False
        self._turn_to(targets_for(attempt.fault, rule))
        following = self._following()
        failed = FailedAttempt(
            attempt.fault,
            self._turns,
            self._retries,
            has_next_target=following is not None,
            has_next_credential=credential is not None,
            barred=self._barred(live.headers),
            retry_after_s=self._credentials.wait_s(live.asked_s, self._gate.clock.monotonic_ns()),
        )
        return self._moves(after(failed, rule, self._gate.chance()), following, credential)

    async def cover(self, reservation: Reservation) -> None:
        """Hold what an attempt at the current target may use; where too little is left, at the next one. Raises AllTargetsFailed."""
        told = _told(self._call)
        while (short := await reservation.cover(self.step)) is not None:
            told.append(f"{self.step.target}: {short}")
            following = self._following()
            if following is None:
                raise AllTargetsFailed(f"No attempt succeeded, and no other could be made ({'; '.join(told)}).", param=self._route)
            self._move_to(following)

    def _moves(self, decided: Next, following: int | None, credential: int | None) -> bool:
        """Do what was decided; False: nothing follows."""
        self._rotated_to, self.wait_s = None, 0.0
        match decided:
            case GiveUp():
                return False
            case NextCredential():
                self._rotated_to = credential
            case NextTarget():
                assert following is not None
                self._move_to(following)
            case RetryTarget(wait_s):
                self.state.retries.spend()
                self._retries += 1
                self.wait_s = wait_s
            case _:
                assert_never(decided)
        return True

    def _move_to(self, index: int) -> None:
        self._index, self._retries, self._tried, self._rotated_to = index, 0, set(), None

    def _untried_credential(self, fault: Fault) -> int | None:
        """The position of a credential that the current target may be asked with now, in place of the one that had this fault."""
        if not REACTIONS[fault].rotates or not takes_calls(self._gate, self._runtime, self.step.target):
            return None
        return self._credentials.following(self._gate.clock.monotonic_ns(), self._tried)

    def _barred(self, headers: HeaderList) -> str | None:
        """Why the current target may not be asked once more."""
        now_ns = self._gate.clock.monotonic_ns()
        if header(headers, b"x-should-retry").lower() == b"false":
            return "the target says that a retry is of no use"
        if not self.state.breaker.admits(now_ns):
            return "its breaker is open"
        return None if self.state.retries.allows(now_ns) else "the budget of retries is used up"

    # -- whom to ask next --------------------------------------------------------------------------------------------

    def _turn_to(self, choices: Sequence[TargetChoice]) -> None:
        """Ask these in place of the rest of the plan, those left out that were asked; none: the plan stays."""
        if choices:
            expanded = dict.fromkeys(self._runtime.router.candidates(choices))
            steps = [step for step in expanded if (step.target, step.model) not in self._asked]
            self._steps = (*self._steps[: self._index + 1], *(step for step in steps if may_be_paid(self._runtime, self._call, step)))

    def _following(self) -> int | None:
        """The next step that takes calls now; the plan was made before these attempts."""
        return next(
            (
                index
                for index in range(self._index + 1, len(self._steps))
                if takes_calls(self._gate, self._runtime, self._steps[index].target)
            ),
            None,
        )


async def pause(gate: Gate, call: CallState, wait_s: float) -> None:
    """Wait before the next attempt."""
    if not wait_s:
        return
    began_ns = gate.clock.monotonic_ns()
    try:
        await asyncio.sleep(wait_s)
    finally:
        call.waited_ns += gate.clock.monotonic_ns() - began_ns


def in_the_end(call: CallState, error: UpstreamError) -> PosternError:
    """What the client is told when the last attempt failed too: of one attempt its own error, of several what became of each."""
    told = _told(call)
    if len(told) <= 1:
        return error
    route = call.decision.route if call.decision is not None else None
    return AllTargetsFailed(f"None of {len(told)} attempts succeeded ({'; '.join(told)}).", param=route, status=error.status)


def _told(call: CallState) -> list[str]:
    """What became of each attempt."""
    return [f"{one.endpoint.target.name}: {one.error_type}" for one in call.attempts if one.fault is not None]
