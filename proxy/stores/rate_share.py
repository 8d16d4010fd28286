"""A sidecar's share of a rate: what it has drawn of it, and what it gives back.

Here: what fits what was drawn. Not here: the rate itself (lua/rate.lua), its arithmetic (rate_book.py), I/O.
A draw that was made without its answer arriving is lost: a rate makes up for it by itself, as time passes.
"""

from __future__ import annotations

from proxy.spending import FOREVER_MS, Fit, Line, Rate, Standing
from proxy.stores.rate_book import US_PER_MS, cost_us, used
from proxy.stores.redis_link import Reply, Script, ScriptCall
from proxy.stores.share import NEVER_S, Share, ShareHold, Told, Verdict, numbers

RATE = Script("rate.lua")
CORRECTION = 2  # which argument it is
US_PER_S = 1_000_000
SURELY_SHORT_S = 0.05
"""For so long after Redis said how long to wait, a line that would have to wait longer than that isn't asked for."""


class RateShare(Share):
    """`_empty_s`: when nothing of the burst would be in use, by the event loop's time."""

    def __init__(self, key: str, line: Line, rate: Rate, now_s: float) -> None:
        super().__init__(key, line, now_s)
        self.rate = rate
        self._drawn = 0
        self._correction_us = 0
        self._sent_correction_us = 0
        self._empty_s = 0.0

    def decide(self, line: Line, now_s: float, has_waited: bool) -> Verdict:
        if line.fit is Fit.NOTHING:
            return Verdict.FITS
        if (has_waited or not self.waiters) and self.decide_alone(line, now_s) is Verdict.FITS:
            return Verdict.FITS
        if line.amount > line.limit:
            return Verdict.SHORT
        is_sure = now_s - self.synced_s <= SURELY_SHORT_S and self._wait_us(line, now_s) > 2 * SURELY_SHORT_S * US_PER_S
        return Verdict.SHORT if is_sure else Verdict.ASK

    def decide_alone(self, line: Line, now_s: float) -> Verdict:
        fits = line.fit is Fit.NOTHING or (line.amount <= self._drawn and line.amount <= line.limit)
        return Verdict.FITS if fits else Verdict.SHORT

    def hold(self, line: Line) -> ShareHold:
        was_drawn = line.amount <= self._drawn
        if was_drawn:
            self._drawn -= line.amount
        else:  # let through all the same: Redis is told afterwards
            self._correction_us += cost_us(self.rate, line.amount)
        if line.fit is not Fit.NOTHING:
            self._demand += line.amount
            self._last_amount = line.amount
        return ShareHold(line, self, self._empty_s, was_drawn)

    def undo(self, hold: ShareHold) -> None:
        if hold.was_drawn:
            self._drawn += hold.line.amount
        else:
            self._correction_us -= cost_us(self.rate, hold.line.amount)
        if hold.line.fit is not Fit.NOTHING:
            self._demand -= hold.line.amount

    def settle(self, hold: ShareHold, spent: int, now_s: float) -> None:
        change_us = cost_us(self.rate, spent) - cost_us(self.rate, hold.line.amount)
        if change_us < 0:
            change_us = -min(-change_us, max(0, round((hold.given_back_s - now_s) * US_PER_S)))
        self._correction_us += change_us

    def standing(self, now_s: float) -> Standing | None:
        if self.synced_s == NEVER_S:
            return None
        return Standing(max(0, used(self.rate, self._in_use_us(now_s), 0) - self._drawn), 0)

    def _in_use_us(self, now_s: float) -> int:
        return max(0, max(0, round((self._empty_s - now_s) * US_PER_S)) + self._correction_us)

    def _wait_us(self, line: Line, now_s: float) -> int:
        return self._in_use_us(now_s) + cost_us(self.rate, line.amount) - cost_us(self.rate, line.limit)

    def retry_after_ms(self, line: Line, now_ms: int, now_s: float) -> int | None:
        if line.amount > line.limit or self.synced_s == NEVER_S:
            return None
        return max(0, -(-self._wait_us(line, now_s) // US_PER_MS))

    @property
    def idle(self) -> int:
        return self._drawn

    def may_fit(self, line: Line, now_s: float) -> bool:
        return self._wait_us(line, now_s) <= cost_us(self.rate, self._drawn)

    @property
    def is_busy(self) -> bool:
        return bool(self._correction_us or self._drawn)

    def is_done(self, now_ms: int, now_s: float) -> bool:
        return self.is_unused(now_s)

    # -- asking -------------------------------------------------------------------------------------------------------

    def request(self, now_s: float) -> ScriptCall:
        waiting = [line for line in self._ask_for_waiters() if line.fit is not Fit.NOTHING]
        needs = [number for line in waiting for number in (line.amount, line.limit)]
        ahead = self._wanted_ahead(now_s)
        kept = 0 if needs else min(self._drawn, ahead)
        self._sent_correction_us = self._correction_us - cost_us(self.rate, self._drawn - kept)
        self._correction_us, self._drawn = 0, kept
        rate = self.rate
        limit = min(self.ordinary_limit, FOREVER_MS)
        arguments: list[str | int] = [
            rate.burst,
            rate.period_ms,
            self._sent_correction_us,
            ahead - kept,
            max(1, self._last_amount),
            limit,
            *needs,
        ]
        return ScriptCall(RATE, [self.key], arguments)

    def again(self, call: ScriptCall) -> ScriptCall:
        """The same, but nothing is given back twice."""
        arguments = list(call.arguments)
        arguments[CORRECTION] = max(0, self._sent_correction_us)
        return ScriptCall(call.script, call.keys, arguments)

    def fail(self) -> None:
        self._correction_us += max(0, self._sent_correction_us)
        self._sent_correction_us = 0
        super().fail()

    def take(self, reply: Reply, sent_s: float, now_s: float) -> bool:
        _, drawn, ahead, empty_in_us, is_low = numbers(reply)
        self._drawn += drawn + ahead
        self._sent_correction_us = 0
        self._empty_s = now_s + empty_in_us / US_PER_S
        self.synced_s, self.is_lost, self.is_low = now_s, False, bool(is_low)
        self._tell_waiters(Told.ASKED)
        return False
