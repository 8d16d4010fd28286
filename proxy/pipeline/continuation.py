"""A streamed chat that breaks after text was passed on is gone on with by the next attempt, where the route's `failover` says so.

Here: which calls, the attempts that go on. Not here: chunks and requests (wire/continuation.py), whom (failover.py).
"""

from __future__ import annotations

from proxy.call import Outcome
from proxy.errors import PosternError, UpstreamGarbage
from proxy.pipeline.failover import Failover, pause
from proxy.pipeline.live_attempt import LiveAttempt, ask
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.state import CallState
from proxy.policy.faults import Fault
from proxy.ports import ClientReply
from proxy.wire.continuation import ToldStream
from proxy.wire.error_event import error_event

TEXT_FORMATS = (None, "text")


def told_stream(call: CallState) -> ToldStream | None:
    """What the client is told is noted down here, where the call's stream may be gone on with; None: it isn't."""
    rule, fields = call.decision.failover if call.decision is not None else None, call.fields
    if rule is None or not rule.continue_midstream or fields is None or call.plain is None:
        return None
    is_one_text = fields.facts.choice_count is None and fields.response_format in TEXT_FORMATS
    return ToldStream() if call.api.kind == "chat" and fields.stream and is_one_text else None


async def go_on(
    gate: Gate, runtime: Runtime, call: CallState, reply: ClientReply, failover: Failover, told: ToldStream, broken: LiveAttempt
) -> None:
    """Ask who comes next to go on from the text so far, until a stream comes to its end. If none does, the client is told, in band."""
    last = broken
    while failover.leaves(last):
        await pause(gate, call, failover.wait_s)
        following = await _asked(gate, runtime, call, failover, told)
        if following is None:
            break
        last = following
        try:
            if last.attempt.fault is None and await last.pass_on(reply, told):
                return
        finally:
            last.end()
        if last.error is not None and last.attempt.outcome is Outcome.INTERRUPTED:
            broken = last
    await _tell_break(call, reply, told, broken)


async def _tell_break(call: CallState, reply: ClientReply, told: ToldStream, broken: LiveAttempt) -> None:
    """The error that the stream itself told, as it came; else ours, and a broken connection."""
    if told.last_words:
        await reply.write(told.last_words)
        call.response_bytes += len(told.last_words)
        await reply.finish()
        return
    error = broken.error
    assert error is not None, "it broke"
    await reply.write(error_event(call.api.kind, error.message, error.type, error.code))
    reply.abort()


async def _asked(gate: Gate, runtime: Runtime, call: CallState, failover: Failover, told: ToldStream) -> LiveAttempt | None:
    """The next attempt; None if it can't be asked to go on."""
    try:
        if call.reservation is not None:
            await failover.cover(call.reservation)
        turn = failover.begin_turn()._replace(cause="continuation", goes_on_from=told.text)
        live = await ask(gate, runtime, call, turn, is_held=True)
    except PosternError:
        return None
    if live.attempt.fault is None and not live.is_stream:
        live.attempt.fail(Outcome.FAILED, UpstreamGarbage.error_type, "The reply is no stream of events.", Fault.SERVER_ERROR)
    return live
