"""Copies of calls: a part of a route's calls goes to further targets too. Nobody waits for what they answer.

Here: which calls are copied, and what a copy is. Not here: how many at a time (background.py), how an attempt goes (live_attempt.py).
A copy is a call of its own: it is paid for, and has a record, with the id of the client's call.
"""

from __future__ import annotations

from proxy.call import HeaderList
from proxy.errors import PosternError
from proxy.pipeline.attempts import run_attempts
from proxy.pipeline.known import may_be_paid, takes_calls
from proxy.pipeline.refuse import send_error
from proxy.pipeline.reserve import admit
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.settle import settle
from proxy.pipeline.state import CallState
from proxy.policy.order import Candidate
from proxy.policy.plan import Plan
from proxy.policy.routing import RouteDecision

BUSY, UNAVAILABLE = "busy", "unavailable"
"""Why a copy wasn't sent: too many are under way; its target takes no calls."""


def mirror_call(gate: Gate, runtime: Runtime, call: CallState) -> None:
    """Begin to send copies of the call, where its route has a `mirror`. Returns at once."""
    assert call.decision is not None
    rule = runtime.mirrors.get(call.decision.route) if runtime.mirrors else None
    if rule is None or not call.may_be_copied or gate.chance() >= rule.ratio:
        return
    for choice in rule.to:
        step = Candidate(choice.target, choice.model)
        if not gate.mirrors.has_room:
            gate.unmirrored[BUSY] += 1
        elif not takes_calls(gate, runtime, step.target) or not may_be_paid(runtime, call, step):
            gate.unmirrored[UNAVAILABLE] += 1
        else:
            gate.mirrors.start(_sent(gate, runtime, _copy(gate, call, step)))


def _copy(gate: Gate, call: CallState, step: Candidate) -> CallState:
    assert call.decision is not None
    copy = call.below(gate.random_bits)
    copy.decision = RouteDecision(call.decision.route, Plan((step,)))
    copy.mirror_of = call.call_id
    copy.began_ns = gate.clock.monotonic_ns()
    copy.target_path, copy.fields, copy.body, copy.plain = call.target_path, call.fields, call.body, call.plain
    copy.request_bytes, copy.billable = call.request_bytes, call.billable
    return copy


async def _sent(gate: Gate, runtime: Runtime, copy: CallState) -> None:
    """The path of a copy, from its attempt to its record."""
    try:
        await admit(gate, runtime, copy, may_wait=False)
        await run_attempts(gate, runtime, copy, NOBODY)
    except PosternError as error:
        await send_error(copy, NOBODY, error, runtime)
    finally:
        settle(gate, runtime, copy)


class _Nobody:
    """Port: ClientReply. Takes everything, and keeps nothing."""

    async def start(self, status: int, reason: str, headers: HeaderList) -> None:
        """See the port."""

    def flush(self) -> None:
        """See the port."""

    async def write(self, data: bytes) -> None:
        """See the port."""

    async def finish(self) -> None:
        """See the port."""

    def abort(self) -> None:
        """See the port."""


NOBODY = _Nobody()
