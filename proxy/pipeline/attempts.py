"""Attempts: the plan's targets are asked, one after the other, until a reply is passed on.

Here: their order. Not here: whether another follows (failover.py), two at a time (hedge.py), going on with a stream that broke
(continuation.py), how one of them goes (live_attempt.py).
"""

from __future__ import annotations

from proxy.pipeline.continuation import go_on, told_stream
from proxy.pipeline.failover import Failover, in_the_end, pause
from proxy.pipeline.hedge import hedging_of, race
from proxy.pipeline.live_attempt import ask
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.state import CallState
from proxy.ports import ClientReply


async def run_attempts(gate: Gate, runtime: Runtime, call: CallState, reply: ClientReply) -> None:
    """Ask until a reply can be passed on, and pass it on. Raises what the client is to be told otherwise, and ClientGone."""
    failover, told = Failover(gate, runtime, call), told_stream(call)
    while True:
        if call.attempts and call.reservation is not None:
            await failover.cover(call.reservation)
        hedging = hedging_of(runtime, call)
        turn = failover.begin_turn()
        if hedging is None:
            live = await ask(gate, runtime, call, turn, failover.is_possible)
        else:
            live = await race(gate, runtime, call, failover, hedging, turn)
        try:
            if not failover.leaves(live):
                if live.error is not None:
                    raise in_the_end(call, live.take_error())
                if await live.pass_on(reply, told):
                    return
                break
        finally:
            live.end()
        await pause(gate, call, failover.wait_s)
    assert told is not None, "only then is a stream that breaks left to be gone on with"
    await go_on(gate, runtime, call, reply, failover, told, live)
