"""How the budgets of a gate stand, for its reports: of each the scope that is fullest, and the warnings that are due.

Here: what is noticed as calls are settled. Not here: who is warned (the record tells the observer), all accounts (stores/).
"""

from __future__ import annotations

import logging

import msgspec

from proxy.pipeline.held_responses import HeldResponses
from proxy.policy.budgets import Draw
from proxy.policy.forecast import Warnings, forecast
from proxy.policy.refusals import amount_text
from proxy.ports import BudgetStore
from proxy.records import BudgetWarning
from proxy.spending import Period, Standing

log = logging.getLogger("postern")


class _Fullest(msgspec.Struct, gc=False):
    draw: Draw
    share: float


class BudgetWatch:
    """One gate's."""

    def __init__(self) -> None:
        self.background = HeldResponses()
        self._warnings = Warnings()
        self._fullest: dict[tuple[str, str], _Fullest] = {}  # by rule and unit

    def settled(self, draw: Draw, standing: Standing) -> list[BudgetWarning]:
        """A budget's account has changed. Returns the warnings that are due, and says them in the log."""
        share = standing.spent / draw.measure.limit
        key = (draw.rule.name, draw.measure.unit)
        known = self._fullest.get(key)
        if known is None:
            self._fullest[key] = _Fullest(draw, share)
        elif share >= known.share or known.draw.line.account == draw.line.account or _is_over(known.draw, draw):
            known.draw, known.share = draw, share
        due = self._warnings.reached(draw, standing.spent)
        if not due:
            return []
        for one in due:
            told = f"{amount_text(one.unit, one.spent)} of {amount_text(one.unit, one.limit)}"
            log.warning("budget '%s' (%s) has reached %g%%: %s are spent", one.rule, one.scope, one.share * 100, told)
        return [BudgetWarning(one.rule, one.scope, one.unit, one.share) for one in due]

    def shares(self, store: BudgetStore, now_ms: int) -> tuple[dict[str, float], dict[str, float]]:
        """By rule: the share that is used of its fullest scope now, and the share that it is heading for at the end of its window."""
        used: dict[str, float] = {}
        heading_for: dict[str, float] = {}
        for (rule, _), one in self._fullest.items():
            line, limit = one.draw.line, one.draw.measure.limit
            window = one.draw.rule.window.period(now_ms) if one.draw.rule.window is not None else line.window
            standing = store.standing(line.account, window, now_ms)
            if standing is None or not isinstance(window, Period):
                continue
            used[rule] = max(used.get(rule, 0.0), (standing.spent + standing.held) / limit)
            expected = forecast(standing.spent, window, now_ms)
            if expected is not None:
                heading_for[rule] = max(heading_for.get(rule, 0.0), expected / limit)
        return used, heading_for

    def keep(self, rules: set[str]) -> None:
        """Forget the rules that a new configuration doesn't have."""
        self._fullest = {key: one for key, one in self._fullest.items() if key[0] in rules}


def _is_over(known: Draw, new: Draw) -> bool:
    """Whether what was fullest belongs to a window before this one."""
    window, now = known.line.window, new.line.window
    return isinstance(window, Period) and isinstance(now, Period) and window.start_ms < now.counts_from_ms
