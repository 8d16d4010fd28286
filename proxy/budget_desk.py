"""What operators ask of a running gate about its budgets: how they stand, and to set what is spent.

Here: the store's accounts told by the rules in force. Not here: HTTP (receivers/admin.py), the command line (budget_command.py).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from proxy.pipeline.budget_report import BudgetRow, SetSpent, budget_rows, changes_for
from proxy.policy.budgets import Spending
from proxy.ports import Clock
from proxy.stores.opening import OwnedStore

NS_PER_MS = 1_000_000


class BudgetDesk:
    """One gate's. `spending` tells the rules in force now, `store` what they are counted in; None: there are none."""

    def __init__(self, spending: Callable[[], Spending], store: Callable[[], OwnedStore | None], clock: Clock) -> None:
        self._spending = spending
        self._store = store
        self._clock = clock

    async def rows(self) -> list[BudgetRow]:
        """All accounts of the rules in force. Raises OSError where the store can't be reached."""
        store = self._store()
        return budget_rows(self._spending(), await store.accounts(), self._now_ms(store)) if store is not None else []

    async def set_spent(self, body: bytes) -> list[BudgetRow]:
        """Do what a SetSpent in JSON asks for. Raises ValueError where it makes no sense, OSError where the store can't be reached."""
        asked = msgspec.json.decode(body, type=SetSpent)
        store = self._store()
        if store is None:
            raise ValueError("this configuration has no budgets")
        known = [entry.account for entry in await store.accounts()]
        for change in changes_for(self._spending(), asked, known, self._now_ms(store)):
            await store.put_spent(change.account, change.period, change.spent)
        return [row for row in await self.rows() if row.rule == asked.rule]

    def _now_ms(self, store: OwnedStore) -> int:
        return store.now_ms(self._clock.time_ns() // NS_PER_MS)
