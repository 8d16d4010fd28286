"""What a call holds of budgets and limits: reserved before anything is sent, settled when it is known what was spent.

Here: one call's reservation, from its admission to its end. Not here: which rules apply and what follows where one is short
(policy/budgets.py, policy/refusals.py), the most an attempt can cost (bound.py), what it did cost (spent.py), where all of it is
remembered (stores/).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from proxy.errors import SpendingRefused
from proxy.pipeline.bound import Bounds
from proxy.pipeline.cut import OutputLimit, can_be_cut, output_limit
from proxy.pipeline.known import may_be_paid, who_calls
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.spent import NOTHING, Spent, spent_by
from proxy.pipeline.state import AttemptState, Booking, CallState
from proxy.policy.budgets import Bound, Draw, Subject, settled_amount
from proxy.policy.order import Candidate
from proxy.policy.plan import Dropped, Plan
from proxy.policy.refusals import Degrade, Refusal, cut_to_fit, refusal
from proxy.policy.standings import rate_limit_headers, remaining_nusd, shadow_refusals
from proxy.spending import Answer, Fit, Rate, Reserved, Short, Standing

NOTHING_KNOWN = Bound(None, None)
UNKNOWN = Spent(None, None)
READS_RESPONSE = "fetch_response"
LOOK_AGAIN_S, LOOKS_AT_ONCE = 0.01, 8
"""How often a call that waits for one of those under way looks whether its turn has come. Where more than so many wait, each looks less
often: all together they look 800 times a second, which the other calls don't notice."""


async def know_budgets(gate: Gate, runtime: Runtime, call: CallState) -> None:
    """Ask the store how the budgets stand that rules ask about, where that isn't known here."""
    if "budget_used" not in runtime.asks:
        return
    now_ms = gate.store_now_ms()
    subject = who_calls(call)
    lines = [draw.line for budget in runtime.asked_budgets for draw in runtime.spending.budget_draws(budget, subject, now_ms)]
    if any(gate.store.standing(line.account, line.window, now_ms) is None for line in lines):
        answer = await gate.store.ask([msgspec.structs.replace(line, amount=0, fit=Fit.NOTHING) for line in lines], now_ms)
        for hold in answer.holds if isinstance(answer, Reserved) else ():
            gate.store.settle(hold, 0, now_ms)


async def admit(gate: Gate, runtime: Runtime, call: CallState, may_wait: bool = True) -> None:
    """Reserve what the call and its first attempt may use, where a budget or limit is for it. Raises SpendingRefused."""
    if not runtime.spending.is_empty:
        call.reservation = Reservation(gate, runtime, call)
        await call.reservation.admit(may_wait)


class Reservation:
    """One call's. `admit` before its first attempt, `cover` before each further one, `end` in the call's `finally`."""

    def __init__(self, gate: Gate, runtime: Runtime, call: CallState) -> None:
        assert call.facts is not None
        assert call.decision is not None
        self._store = gate.store
        self._gate = gate
        self._runtime = runtime
        self._call = call
        self._facts = call.facts
        self._critical = call.decision.critical
        self._bounds = Bounds(runtime, call)
        self._of_call: list[Booking] = []
        self._next: list[Booking] = []  # of the attempt that is about to begin
        self._next_limit: OutputLimit | None = None  # its own, where less is held than it may use
        self._asked: list[Draw] = []  # what was to be held last, until it is settled
        self._left_nusd: int | None = None  # of the USD budgets among it, when it was settled
        self.is_used_up = False  # what was charged has used a budget up

    # ------------------------------------------------------------------------------------------------------- reserving

    async def admit(self, may_wait: bool = True) -> None:
        """Hold what the call and its first attempt may use; other targets take the plan's place where a rule says so.

        Raises SpendingRefused.
        """
        began_ns, degraded = self._gate.clock.monotonic_ns(), frozenset[str]()
        has_asked = False
        while True:
            step, now_ms = self._first_step(), self._gate.store_now_ms()
            subject = self._subject(step)
            draws = self._runtime.spending.call_draws(self._facts, subject, now_ms, self._critical)
            of_call = len(draws)
            draws += self._attempt_draws(step, subject, now_ms)
            draws, answer = await self._held(draws, step, now_ms)
            self._asked = draws
            if isinstance(answer, Reserved):
                bookings = list(zip(draws, answer.holds, strict=True))
                self._of_call, self._next = bookings[:of_call], bookings[of_call:]
                self._tell_shadows(draws, now_ms)
                return
            if not has_asked and _is_other_time(answer):
                has_asked = True
                continue
            decided = refusal(draws, answer, now_ms, degraded)
            if isinstance(decided, Degrade):
                degraded |= {decided.rule}
                if self._degrade(decided):
                    continue
                decided = decided.instead_of
            left_s = (began_ns - self._gate.clock.monotonic_ns()) / 1e9 + decided.may_wait_ms / 1000
            if not may_wait or left_s <= 0:
                raise self._refused(decided, draws, now_ms)
            await self._wait(min(left_s, _nap_s(decided, self._gate.waiting)))

    async def _wait(self, seconds: float) -> None:
        """Let others have their turn; that isn't our own time."""
        began_ns = self._gate.clock.monotonic_ns()
        self._gate.waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._gate.waiting -= 1
            self._call.waited_ns += self._gate.clock.monotonic_ns() - began_ns

    async def cover(self, step: Candidate) -> str | None:
        """Hold what an attempt at a step may use, beside what the call holds; why not, if too little is left."""
        self._release_next()
        now_ms, subject = self._gate.store_now_ms(), self._subject(step)
        draws, answer = await self._held(self._attempt_draws(step, subject, now_ms), step, now_ms)
        if _is_other_time(answer):
            now_ms = self._gate.store_now_ms()
            draws, answer = await self._held(self._attempt_draws(step, subject, now_ms), step, now_ms)
        self._asked = draws
        if isinstance(answer, Reserved):
            self._next = list(zip(draws, answer.holds, strict=True))
            return None
        decided = refusal(draws, answer, now_ms)
        return f"{decided.rule}: too little is left"

    def _release_next(self) -> None:
        """Give back what was held for an attempt that wasn't made."""
        unused, self._next = self._next, []
        for _, hold in unused:
            self._store.settle(hold, 0, self._gate.store_now_ms())

    async def _held(self, draws: list[Draw], step: Candidate, now_ms: int) -> tuple[list[Draw], Answer]:
        """The draws, made smaller where a rule cuts streams, and the store's answer to them."""
        self._next_limit = None
        answer = await self._ask(draws, now_ms)
        if isinstance(answer, Short) and can_be_cut(self._call.api.kind, self._call.fields):
            least = self._bounds.of_input(step)
            cut = cut_to_fit(draws, answer, least)
            if cut is not None and (limit := output_limit(draws, cut, self._bounds.of(step), least)) is not None:
                self._next_limit = limit
                return cut, await self._ask(cut, now_ms)
        return draws, answer

    async def _ask(self, draws: Sequence[Draw], now_ms: int) -> Answer:
        lines = [draw.line for draw in draws]
        answer = self._store.reserve(lines, now_ms)
        return await self._store.ask(lines, now_ms) if answer is None else answer

    def _attempt_draws(self, step: Candidate, subject: Subject, now_ms: int) -> list[Draw]:
        if not self._call.api.billable:
            return []
        return self._runtime.spending.attempt_draws(self._facts, subject, self._bounds.of(step), now_ms, self._critical)

    def _subject(self, step: Candidate) -> Subject:
        target = self._runtime.endpoints[step.target].target
        call = self._call
        return Subject(call.labels, call.headers, step.model or call.model, target.provider, target.name)

    def _first_step(self) -> Candidate:
        assert self._call.decision is not None
        return self._call.decision.plan.steps[0]

    def standings(self) -> list[tuple[Draw, Standing]]:
        """How the accounts stand that the call was to be admitted to, without what it holds itself."""
        standings = zip(self._asked, self._gate.standings(self._asked, self._gate.store_now_ms()), strict=True)
        is_held = bool(self._of_call or self._next)
        return [(draw, _before(draw, standing) if is_held else standing) for draw, standing in standings if standing is not None]

    # ------------------------------------------------------------------------------------------------ when too little is left

    def _degrade(self, decided: Degrade) -> bool:
        """Other targets take the plan's place. False: none of them may be paid."""
        decision = self._call.decision
        assert decision is not None
        named = dict.fromkeys(self._runtime.router.candidates(decided.to))
        steps = tuple(step for step in named if may_be_paid(self._runtime, self._call, step))
        if not steps:
            return False
        now_ns = self._gate.clock.monotonic_ns()
        ready = tuple(step for step in steps if self._runtime.states[step.target].breaker.admits(now_ns))
        why = f"budget '{decided.rule}' has too little left"
        dropped = tuple(Dropped(step.target, step.model, why) for step in decision.plan.steps)
        plan = Plan(ready or steps, decision.plan.dropped + dropped)
        self._call.decision = msgspec.structs.replace(decision, plan=plan, degraded_by=decided.rule)
        return True

    def _refused(self, decided: Refusal, draws: Sequence[Draw], now_ms: int) -> SpendingRefused:
        headers = rate_limit_headers(draws, self._gate.standings(draws, now_ms))
        if decided.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % decided.retry_after_s))
        return SpendingRefused(decided.message, decided.rule, decided.kind, decided.status, decided.retry, headers)

    def _tell_shadows(self, draws: Sequence[Draw], now_ms: int) -> None:
        lenient = [draw for draw in draws if draw.rule.lets_through] if self._runtime.spending.lets_through else []
        if lenient:
            let_through = shadow_refusals(lenient, self._gate.standings(lenient, now_ms))
            self._call.shadow_refusals = list(dict.fromkeys(one.rule for one in let_through))

    def remaining_nusd(self) -> int | None:
        """What the tightest USD budget that the call is under has left; None if there is none, or nothing is known of it."""
        draws = [draw for draw in self._asked if draw.measure.unit == "usd"]
        return remaining_nusd(draws, self._gate.standings(draws, self._gate.store_now_ms())) if draws else self._left_nusd

    # -------------------------------------------------------------------------------------------------------- settling

    def begin(self, attempt: AttemptState) -> None:
        """What was held for the next attempt is this one's."""
        attempt.bookings, self._next = self._next, []
        attempt.output_limit, self._next_limit = self._next_limit, None

    def repeat(self, attempt: AttemptState) -> None:
        """The attempt is made once more, and what it held is the next one's."""
        self._next, attempt.bookings = attempt.bookings, []
        self._next_limit = attempt.output_limit

    def settle_attempt(self, attempt: AttemptState) -> None:
        """What the attempt spent counts, and what it didn't is given back. A second time does nothing."""
        bookings, attempt.bookings = attempt.bookings, []
        facts, call = attempt.facts, self._call
        if bookings and facts is not None and facts.background_pending and facts.response_id is not None:
            forgotten = self._gate.budget_watch.background.keep(facts.response_id, bookings, call.request.started_ns)
            self._settle(forgotten, UNKNOWN, call)
        elif bookings:
            spent = spent_by(self._runtime, call, attempt)
            if spent.is_estimate:
                spent = spent.at_most(self._bounds.of(Candidate(attempt.endpoint.target.name, attempt.model)))
            self._left_nusd = self._settle(bookings, spent, call)
            self._asked = []

    def end(self) -> None:
        """Settle what is still held: a call counts if anything was sent for it."""
        call = self._call
        for attempt in call.attempts:
            self.settle_attempt(attempt)
        if call.api.operation == READS_RESPONSE and call.attempts:
            self._end_background(call.attempts[-1])
        of_call, unused = self._of_call, self._next
        self._of_call, self._next = [], []
        now_ms = self._gate.store_now_ms()
        if not any(attempt.sent for attempt in call.attempts):
            unused, of_call = unused + of_call, []
        for _, hold in unused:
            self._store.settle(hold, 0, now_ms)
        if of_call:
            self._settle(of_call, NOTHING, call)
        if given_up := self._gate.budget_watch.background.give_up_old(call.request.started_ns):
            self._settle(given_up, UNKNOWN, call)

    def _end_background(self, attempt: AttemptState) -> None:
        """A read tells what was generated in the background: that is settled, or it is charged for where nothing was held."""
        call, facts = self._call, attempt.facts
        if facts is None or facts.response_id is None or facts.background_pending:
            return
        held = self._gate.budget_watch.background.take(facts.response_id)
        if held:
            self._left_nusd = self._settle(held, spent_by(self._runtime, call, attempt), call)
        elif held is None and call.billable:
            self.charge(call, attempt)

    def charge(self, call: CallState, attempt: AttemptState) -> None:
        """Count what was spent without having been held: by a response in a session, which is a call of its own, or in the background."""
        spent, now_ms = spent_by(self._runtime, call, attempt), self._gate.store_now_ms()
        model = attempt.model or (attempt.facts.response_model if attempt.facts is not None else None)
        step = Candidate(attempt.endpoint.target.name, model)
        draws = self._runtime.spending.attempt_draws(self._facts, self._subject(step), NOTHING_KNOWN, now_ms, self._critical)
        free = [msgspec.structs.replace(draw.line, fit=Fit.NOTHING) for draw in draws]
        answer = self._store.reserve(free, now_ms)
        if isinstance(answer, Reserved):
            self._left_nusd = self._settle(list(zip(draws, answer.holds, strict=True)), spent, call)
        standings = self._gate.standings(draws, now_ms)
        self.is_used_up = any(_is_used_up(draw, standing) for draw, standing in zip(draws, standings, strict=True))

    def _settle(self, bookings: list[Booking], spent: Spent, call: CallState) -> int | None:
        """End holds; what the tightest USD budget among them has left."""
        now_ms, store, watch = self._gate.store_now_ms(), self._store, self._gate.budget_watch
        usd_draws: list[Draw] = []
        usd_standings: list[Standing | None] = []
        for draw, hold in bookings:
            store.settle(hold, settled_amount(draw, spent.cost_nusd, spent.tokens), now_ms)
            line = hold.line
            if draw.rule.kind != "budget" or (standing := store.standing(line.account, line.window, now_ms)) is None:
                continue
            call.warnings += watch.settled(draw, standing)
            if draw.measure.unit == "usd":
                usd_draws.append(draw)
                usd_standings.append(standing)
        return remaining_nusd(usd_draws, usd_standings) if usd_draws else None


def _before(draw: Draw, standing: Standing) -> Standing:
    """An account as it stood before a call held something of it; a rate knows no holding."""
    amount = draw.line.amount
    if isinstance(draw.line.window, Rate):
        return msgspec.structs.replace(standing, spent=max(0, standing.spent - amount))
    return msgspec.structs.replace(standing, held=max(0, standing.held - amount))


def _is_other_time(answer: Answer) -> bool:
    """Whether a shared store says that a window is over, or hasn't begun: by now its time is known, and the right one is asked for."""
    return isinstance(answer, Short) and any(shortage.retry_after_ms == 0 for shortage in answer.shortages)


def _is_used_up(draw: Draw, standing: Standing | None) -> bool:
    return draw.line.fit is not Fit.NOTHING and standing is not None and standing.spent >= draw.line.limit


def _nap_s(decided: Refusal, waiting: int) -> float:
    """Rates say when there is room again; calls under way end when they end. `waiting`: how many calls wait beside this one."""
    least_s = LOOK_AGAIN_S * waiting / LOOKS_AT_ONCE
    if decided.unit == "concurrency" or decided.retry_after_ms is None:
        return max(LOOK_AGAIN_S, least_s)
    return max(decided.retry_after_ms / 1000, least_s)
