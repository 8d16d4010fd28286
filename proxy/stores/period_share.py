"""A sidecar's share of an account that is spent in periods.

Here: what fits under what was drawn, what is reported, what is drawn ahead. Not here: the account itself (lua/sync.lua), I/O.

`spent + held <= ceiling` is what the sidecar may do without asking: both count from the sidecar's beginning, so that the ceiling stays true
while spending that was held becomes spending that is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from proxy.spending import FOREVER_MS, Fit, Line, Period, Standing
from proxy.stores.account_memory import SETTLE_MS, AccountMemory, Known
from proxy.stores.period_book import retry_after_ms
from proxy.stores.redis_link import Reply, Script, ScriptCall
from proxy.stores.share import FRESH_S, NEVER_S, Share, ShareHold, Told, Verdict, numbers

SYNC = Script("sync.lua")
MAX_PERIODS_AT_ONCE = 8
EPOCH_KEPT_MS = 40 * 24 * 3_600_000
"""How long Redis keeps the time at which it began, after an account was made last: more than a month."""
MARGIN_MS = 120_000  # how long Redis keeps what counts no more: for reports that are late
DONE_MS = 60_000  # so long before Redis forgets a period, its share does: or it would take that for a loss


def keep_until_ms(window: Period) -> int:
    """Until when Redis keeps a period: as long as it counts in its window, and a little."""
    return min(window.end_ms + window.start_ms - window.counts_from_ms + MARGIN_MS, FOREVER_MS)


class _Asked(msgspec.Struct, frozen=True):
    """What the request under way said."""

    held: int
    kept: int
    total: int
    spent: dict[int, int]


class PeriodShare(Share):
    """Amounts by period have its `start_ms` as their key. `epoch_keys`: where Redis says when it began, if it can in the same script."""

    ahead_s = 1.0  # it outlasts SETTLE_MS
    notices_loss = True

    def __init__(
        self, key: str, sidecar: str, line: Line, window: Period, lease_s: float, now_s: float, epoch_keys: Sequence[str] = ()
    ) -> None:
        super().__init__(key, line, now_s)
        self._epoch_keys = epoch_keys
        self._sidecar = sidecar  # its name in this account
        self._lease_s = lease_s
        self.window = window
        self._total = self._held = self._ceiling = 0
        self._others = 0  # what Redis knows of others, less what it knows of us: negated, a limit plus it is ours
        self._lease_until_s = NEVER_S
        self._spent: dict[int, int] = {}
        self._keep_until: dict[int, int] = {}
        self._memory = AccountMemory()
        self._unreported: set[int] = set()
        self._request = 0
        self._known_spent = self._known_total = self._others_held = self._others_idle = 0
        self._by_period: dict[int, int] = {}
        self._under_way = _Asked(0, 0, 0, {})

    # -- deciding -----------------------------------------------------------------------------------------------------

    def decide(self, line: Line, now_s: float, has_waited: bool) -> Verdict:
        if line.fit is Fit.NOTHING:
            return Verdict.FITS
        is_fresh = now_s - self.synced_s <= FRESH_S
        if line.fit is not Fit.WHOLE:
            return self._decide_by_what_is_known(line) if is_fresh else Verdict.ASK
        if (has_waited or not self.waiters) and self._fits_what_was_drawn(line, now_s):
            return Verdict.FITS
        is_calendar = self.window.counts_from_ms == self.window.start_ms
        if line.amount > line.limit or (is_fresh and is_calendar and self._spent_now + line.amount > line.limit):
            return Verdict.SHORT
        return Verdict.ASK

    def decide_alone(self, line: Line, now_s: float) -> Verdict:
        if line.fit is Fit.NOTHING:
            return Verdict.FITS
        if line.fit is Fit.WHOLE:
            return Verdict.FITS if self._fits_what_was_drawn(line, now_s) else Verdict.SHORT
        return self._decide_by_what_is_known(line) if self.synced_s > NEVER_S else Verdict.SHORT

    def _fits_what_was_drawn(self, line: Line, now_s: float) -> bool:
        used = self._total + self._held + line.amount
        return used <= self._ceiling and used + self._others <= line.limit and now_s < self._lease_until_s

    def _decide_by_what_is_known(self, line: Line) -> Verdict:
        used = self._spent_now + (self._others_held + self._held if line.fit is Fit.ANY else 0)
        return Verdict.FITS if used < line.limit else Verdict.SHORT

    @property
    def _spent_now(self) -> int:
        return self._known_spent + self._total - self._known_total

    def standing(self, now_s: float) -> Standing | None:
        if self.synced_s == NEVER_S and not self._total and not self._held:
            return None
        return Standing(self._spent_now, self._others_held - self._others_idle + self._held)

    def retry_after_ms(self, line: Line, now_ms: int, now_s: float) -> int | None:
        by_period = self._by_period
        if self.window.counts_from_ms == self.window.start_ms:
            by_period = {self.window.start_ms: self._spent_now}
        return retry_after_ms(by_period, line, self.window, now_ms)

    # -- holding ------------------------------------------------------------------------------------------------------

    def enter(self, window: Period) -> None:
        """A rolling window has moved on."""
        if window.start_ms > self.window.start_ms:
            self.window = window

    def hold(self, line: Line) -> ShareHold:
        self._held += line.amount
        if line.fit is Fit.WHOLE:
            self._demand += line.amount
            self._last_amount = line.amount
        return ShareHold(line, self)

    def undo(self, hold: ShareHold) -> None:
        self._held -= hold.line.amount
        if hold.line.fit is Fit.WHOLE:
            self._demand -= hold.line.amount

    def settle(self, hold: ShareHold, spent: int, now_s: float) -> None:
        self._held -= hold.line.amount
        window = hold.line.window
        if spent and isinstance(window, Period):
            self._total += spent
            self._spent[window.start_ms] = self._spent.get(window.start_ms, 0) + spent
            self._keep_until[window.start_ms] = keep_until_ms(window)
            self._unreported.add(window.start_ms)

    @property
    def idle(self) -> int:
        return max(0, self._ceiling - self._total - self._held)

    def may_fit(self, line: Line, now_s: float) -> bool:
        in_use = self._spent_now + self._others_held - self._others_idle + self._held
        return line.fit is not Fit.WHOLE or self.is_settling or in_use + line.amount <= line.limit

    @property
    def is_busy(self) -> bool:
        return bool(self._held or self._unreported or self.idle)

    def is_done(self, now_ms: int, now_s: float) -> bool:
        return self.is_unused(now_s) and (not self._spent or keep_until_ms(self.window) - DONE_MS < now_ms)

    # -- asking -------------------------------------------------------------------------------------------------------

    def request(self, now_s: float) -> ScriptCall:
        needs = [number for line in self._ask_for_waiters() if line.fit is Fit.WHOLE for number in (line.amount, line.limit)]
        ahead = self._wanted_ahead(now_s)
        is_leased = now_s < self._lease_until_s
        kept = (self.idle if needs else min(self.idle, ahead)) if is_leased else 0
        self._ceiling = min(self._ceiling, self._total + self._held + (0 if needs else kept))
        self.is_unconfirmed = False
        self._request += 1
        reports = self._reports()
        self._under_way = _Asked(self._held, kept, self._total, {start_ms: self._spent.get(start_ms, 0) for start_ms in reports})
        window, memory = self.window, self._memory
        arguments: list[str | int] = [
            self._sidecar, self._request, round(self._lease_s * 1000), memory.incarnation, memory.known.version,
            window.start_ms, window.end_ms, window.counts_from_ms, keep_until_ms(window), self._held, kept,
            ahead, max(1, self._last_amount), min(self.ordinary_limit, FOREVER_MS), memory.known.spent, memory.known.others_held,
            len(reports), SETTLE_MS, EPOCH_KEPT_MS, memory.seen,
        ]  # fmt: skip
        for start_ms in reports:
            arguments += [start_ms, self._keep_until[start_ms], self._spent[start_ms], *memory.told(start_ms)]
        keys = [self.key, *(f"{self.key}:{start_ms}" for start_ms in reports), *self._epoch_keys]
        return ScriptCall(SYNC, keys, [*arguments, *needs])

    def _reports(self) -> list[int]:
        """The periods to tell of: the one that runs in any case, and those of which something isn't told."""
        others = [start_ms for start_ms in self._unreported if start_ms != self.window.start_ms]
        current = [self.window.start_ms] if self.window.start_ms in self._spent else []
        return [*current, *others[:MAX_PERIODS_AT_ONCE]]

    def take(self, reply: Reply, sent_s: float, now_s: float) -> bool:
        status, incarnation = bytes(reply[0]), bytes(reply[2]).decode()
        if status == b"old":
            self._tell_waiters(Told.ASKED)
            return False
        if status == b"lost":
            self._memory.begin_anew(incarnation)
            self._ceiling = self._under_way.total + self._under_way.held + self._under_way.kept
            self._unreported |= {start_ms for start_ms in self._spent if start_ms >= self.window.counts_from_ms}
            self.is_lost, self.is_settling = False, True
            return True
        _, version, granted, self._known_spent, self._others_held, self._others_idle, is_low, is_needed, settled_in_ms = numbers(reply)
        told = self._under_way.spent
        has_forgotten = self._memory.take(incarnation, version, told)
        self._memory.keep(Known(version, self._known_spent, self._others_held), settled_in_ms)
        self._unreported -= {start_ms for start_ms, spent in told.items() if self._spent[start_ms] == spent}
        if has_forgotten:
            self._unreported |= {start_ms for start_ms in self._spent if start_ms >= self.window.counts_from_ms} - told.keys()
        self._known_total = self._under_way.total
        self._ceiling = granted + self._known_total
        self._others = self._known_spent + self._others_held - self._known_total
        self._lease_until_s = sent_s + self._lease_s
        by_period = reply[-1]
        self._by_period = dict(zip(by_period[::2], by_period[1::2], strict=True)) if isinstance(by_period, list) else {}
        self.synced_s, self.is_lost = now_s, False
        self.is_low, self.is_needed, self.is_settling = bool(is_low), bool(is_needed), settled_in_ms > 0
        self.is_unconfirmed = granted > self._under_way.held
        self._tell_waiters(Told.OTHER_TIME if status == b"time" else Told.ASKED)
        self._forget_old()
        return has_forgotten

    def _forget_old(self) -> None:
        if len(self._spent) < MAX_PERIODS_AT_ONCE:
            return
        window = self.window
        oldest_ms = 2 * window.counts_from_ms - window.end_ms - MARGIN_MS
        for start_ms in [start_ms for start_ms in self._spent if start_ms < oldest_ms and start_ms not in self._unreported]:
            del self._spent[start_ms], self._keep_until[start_ms]
        self._memory.forget(lambda start_ms: start_ms not in self._spent)
