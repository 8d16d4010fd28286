"""Two targets at once: a call that waits too long for its reply's first byte is sent to the next one as well, and the faster answers.

Here: the race, and what becomes of the loser. Not here: when, and how often (policy/hedge.py), whom (failover.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from proxy.errors import PosternError
from proxy.pipeline.failover import Failover
from proxy.pipeline.live_attempt import LiveAttempt, Turn, ask
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.state import CallState
from proxy.policy.faults import Fault
from proxy.policy.hedge import Hedging

log = logging.getLogger("postern")

NS_PER_S = 1_000_000_000
Racer = asyncio.Task[LiveAttempt]


def hedging_of(runtime: Runtime, call: CallState) -> Hedging | None:
    """How the call is hedged; None: it isn't, or was."""
    if not runtime.hedges or call.decision is None or not call.may_be_copied:
        return None
    hedging = runtime.hedges.get(call.decision.route)
    if hedging is None or any(attempt.cause == "hedge" for attempt in call.attempts):
        return None
    return hedging


async def race(gate: Gate, runtime: Runtime, call: CallState, failover: Failover, hedging: Hedging, turn: Turn) -> LiveAttempt:
    """The answer to a turn, or that of a hedge which was faster. Where both failed: the hedge's, after which failover goes on.

    Raises what `ask` raises.
    """
    return await _Race(gate, runtime, call, failover, hedging).run(turn)


class _Race:
    """One turn that may get a second runner."""

    def __init__(self, gate: Gate, runtime: Runtime, call: CallState, failover: Failover, hedging: Hedging) -> None:
        self._gate = gate
        self._runtime = runtime
        self._call = call
        self._failover = failover
        self._hedging = hedging
        self._is_stream = call.fields is not None and call.fields.stream
        self._is_first_turn = not call.attempts

    async def run(self, turn: Turn) -> LiveAttempt:
        """See `race`."""
        rule, state, call = self._hedging.rule, self._hedging.state, self._call
        if self._is_first_turn:
            state.call_made(rule)
        began_ns, waited_ns = self._gate.clock.monotonic_ns(), call.waited_ns
        racers = [self._start(turn)]
        answer: LiveAttempt | None = None
        try:
            await asyncio.wait(racers, timeout=state.wait_s(rule, self._is_stream))
            if not racers[0].done() and (hedge := await self._hedge()) is not None:
                racers.append(self._start(hedge))
                await _until_won(*racers)
            answer = await _best(racers)
            return answer
        finally:
            await _let_go(racers, answer)
            if answer is not None:
                self._learn(racers[0], began_ns)
            call.waited_ns = waited_ns + (answer.arrived_ns if answer else self._gate.clock.monotonic_ns()) - began_ns

    def _start(self, turn: Turn) -> Racer:
        return asyncio.get_running_loop().create_task(self._asked(turn))

    async def _asked(self, turn: Turn) -> LiveAttempt:
        live = await ask(self._gate, self._runtime, self._call, turn, self._failover.is_possible)
        if live.attempt.fault is not None:
            live.stand_by()
        return live

    async def _hedge(self) -> Turn | None:
        """Whom to ask as well, if anybody may be, and enough is left for both."""
        if not self._failover.has_following or not self._hedging.state.spend():
            return None
        reservation, step = self._call.reservation, self._failover.following_step
        if reservation is not None and step is not None:
            is_short = await reservation.cover(step) is not None
            if is_short or self._failover.following_step != step:
                return None
        return self._failover.begin_hedge()

    def _learn(self, first: Racer, began_ns: int) -> None:
        """How long the turn's own target let wait. If it lost, at least so long: left out, this would make the next hedge come sooner."""
        live = _answer_of(first)
        if live is None or live.attempt.fault is None:
            until_ns = live.arrived_ns if live is not None else self._gate.clock.monotonic_ns()
            self._hedging.state.waited((until_ns - began_ns) / NS_PER_S, self._is_stream)


async def _until_won(first: Racer, hedge: Racer) -> None:
    """Wait until one of the two has an answer worth passing on, or both have failed."""
    running = {first, hedge}
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if any(_wins(racer, is_first=racer is first) for racer in done):
            return


async def _best(racers: list[Racer]) -> LiveAttempt:
    """The winner; where there is none, the last that was begun, unless it couldn't be asked. Raises what `ask` raised."""
    first, *hedges = racers
    winners = [racer for racer in racers if _wins(racer, is_first=racer is first)]
    failed = [racer for racer in hedges if _answer_of(racer) is not None]
    return await (winners or failed or racers)[0]


def _wins(racer: Racer, is_first: bool) -> bool:
    """Whether this answer is the call's: also one that says what any target would say, that the request is wrong; not from the hedge, which
    nobody has asked for.
    """
    live = _answer_of(racer)
    return live is not None and (live.attempt.fault is None or (is_first and live.attempt.fault is Fault.CLIENT))


def _answer_of(racer: Racer) -> LiveAttempt | None:
    """None while it runs, and if it couldn't be asked."""
    return racer.result() if racer.done() and not racer.cancelled() and racer.exception() is None else None


async def _let_go(racers: Iterable[Racer], answer: LiveAttempt | None) -> None:
    """End all others at once, and wait until they have ended. If the call is cancelled meanwhile, the answer is let go too."""
    running = {racer for racer in racers if not racer.done()}
    for racer in running:
        racer.cancel()
    leaving: asyncio.CancelledError | None = None
    while running:
        try:
            _, running = await asyncio.wait(running)
        except asyncio.CancelledError as error:
            leaving = error
    for racer in racers:
        live = _answer_of(racer)
        if live is not None and (live is not answer or leaving is not None):
            live.abandon()
        elif live is None and not racer.cancelled() and not isinstance(racer.exception(), PosternError):
            log.error("an attempt was broken off by a fault of Postern's own", exc_info=racer.exception())
    if leaving is not None:
        raise leaving
