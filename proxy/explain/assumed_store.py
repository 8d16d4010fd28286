"""Budgets as somebody assumes them to stand. Port: BudgetStore.

Here: a store whose accounts begin with an assumed share of their limit spent; all others with nothing. Not here: how an assumption is
written (ask.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.policy.budgets import Spending
from proxy.spending import Answer, Hold, Line, Period, Rate, Standing
from proxy.stores.books import Books
from proxy.stores.period_book import keep_until_ms


class AssumedStore:
    """Nothing in it outlives the question."""

    def __init__(self, spending: Spending) -> None:
        self.shares: dict[str, float] = {}  # by budget: what is spent of it, as a share of its limit
        self._spending = spending
        self._books = Books()
        self._begun: set[str] = set()

    def now_ms(self, now_ms: int) -> int:
        return now_ms

    def reserve(self, lines: Sequence[Line], now_ms: int) -> Answer:
        for line in lines:
            self._begin(line.account, line.window)
        return self._books.reserve(lines, now_ms)

    async def ask(self, lines: Sequence[Line], now_ms: int) -> Answer:
        return self.reserve(lines, now_ms)

    def settle(self, hold: Hold, spent: int, now_ms: int) -> None:
        self._books.settle(hold, spent, now_ms)

    def standing(self, account: str, window: Period | Rate, now_ms: int) -> Standing | None:
        self._begin(account, window)
        return self._books.standing(account, window, now_ms)

    def _begin(self, name: str, window: Period | Rate) -> None:
        account = self._spending.account(name)
        if name in self._begun or account is None or not isinstance(window, Period):
            return
        self._begun.add(name)
        spent = round(self.shares.get(account.rule.name, 0.0) * account.measure.limit)
        if spent:
            self._books.add(name, window.start_ms, keep_until_ms(window), spent)
