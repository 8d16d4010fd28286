"""Where a budget is heading: what it will have come to at the window's end, and the warnings that are due on the way.

Here: the straight line, the thresholds that are reached. Not here: who is told (pipeline/, observer/).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from proxy.policy.budgets import Draw
from proxy.spending import Period, Unit

EARLIEST_SHARE = 0.05
"""So much of a window must be over: the first minutes of a month say nothing about its end."""

MAX_WARNED = 10_000
"""Accounts that are remembered as told about; the one that was told first is forgotten first, and would be told about again."""


def forecast(spent: int, period: Period, now_ms: int) -> int | None:
    """What a calendar window's spending will come to if it goes on as so far; None early in the window, and for a rolling one."""
    length_ms, over_ms = period.end_ms - period.start_ms, now_ms - period.start_ms
    if period.counts_from_ms != period.start_ms or over_ms < length_ms * EARLIEST_SHARE:
        return None
    return spent if over_ms >= length_ms else spent * length_ms // over_ms


class BudgetWarning(msgspec.Struct, frozen=True):
    """A threshold of `warn_at` that a budget has reached."""

    rule: str
    unit: Unit
    scope: str
    share: float  # the threshold
    spent: int
    limit: int
    period: Period


class _Warned:
    """What was told of one account."""

    __slots__ = ("limit", "share", "since_ms", "spent")

    def __init__(self, since_ms: int, limit: int) -> None:
        self.since_ms = since_ms
        self.limit = limit
        self.share = 0.0  # the highest told
        self.spent = 0  # when it was last looked at


class Warnings:
    """Tells each threshold once for each account and window, of a rolling one once in its length, however the spending goes up and down."""

    def __init__(self, max_accounts: int = MAX_WARNED) -> None:
        self._warned: OrderedDict[str, _Warned] = OrderedDict()
        self._max_accounts = max_accounts

    def reached(self, draw: Draw, spent: int) -> Sequence[BudgetWarning]:
        """The thresholds that are to be told, the lowest first, now that `spent` is what the draw's account has spent in its period."""
        thresholds, period = draw.measure.warn_at, draw.line.window
        if not thresholds or not isinstance(period, Period):
            return ()
        warned = self._warned.get(draw.line.account)
        if warned is None and spent < thresholds[0].amount:
            return ()  # by far the most
        if warned is None or period.counts_from_ms > warned.since_ms:
            warned = self._begin(draw, period)
        elif period.start_ms < warned.since_ms:
            return ()  # a window that is over: the next one has been told about
        self._follow_limit(draw, warned)
        warned.spent = spent
        due = [one for one in thresholds if one.share > warned.share and one.amount <= spent]
        warned.share = due[-1].share if due else warned.share
        return [BudgetWarning(draw.rule.name, draw.unit, draw.scope, one.share, spent, warned.limit, period) for one in due]

    def _begin(self, draw: Draw, period: Period) -> _Warned:
        account = draw.line.account
        self._warned.pop(account, None)
        warned = self._warned[account] = _Warned(period.start_ms, draw.measure.limit)
        if len(self._warned) > self._max_accounts:
            self._warned.popitem(last=False)
        return warned

    def _follow_limit(self, draw: Draw, warned: _Warned) -> None:
        """Of a limit that was changed, those thresholds count as told that were, and that its spending had reached of the new one too."""
        limit = draw.measure.limit
        if limit != warned.limit:
            told = [one.share for one in draw.measure.warn_at if one.share <= warned.share and one.amount <= warned.spent]
            warned.limit, warned.share = limit, max(told, default=0.0)
