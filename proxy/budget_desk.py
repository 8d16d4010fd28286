"""What operators ask of a running gate about its budgets: how they stand, and to set what is spent.

Here: the store's accounts told by the rules in force. Not here: HTTP (receivers/admin.py), the command line (budget_command.py).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice

import msgspec

from proxy.pipeline.budget_report import BudgetRow, SetSpent, budget_rows, changes_for
from proxy.policy.budgets import Spending
from proxy.ports import Clock
from proxy.spending import Entry
from proxy.stores.opening import OwnedStore

NS_PER_MS = 1_000_000
AT_ONCE = 50
"""Accounts that are told in one turn of the event loop, 1.5 ms: there may be one for each user, and calls don't wait for all of them."""


class BudgetDesk:
    """One gate's. `spending` tells the rules in force now, `store` what they are counted in; None: there are none."""

    def __init__(self, spending: Callable[[], Spending], store: Callable[[], OwnedStore | None], clock: Clock) -> None:
        self._spending = spending
        self._store = store
        self._clock = clock

    async def rows(self) -> list[BudgetRow]:
        """All accounts of the rules in force. Raises OSError where the store can't be reached."""
        store = self._store()
        return await self._told(store, await store.accounts()) if store is not None else []

    async def set_spent(self, body: bytes) -> list[BudgetRow]:
        """Do what a SetSpent in JSON asks for. Raises ValueError where it makes no sense, OSError where the store can't be reached."""
        asked = msgspec.json.decode(body, type=SetSpent)
        store = self._store()
        if store is None:
            raise ValueError("this configuration has no budgets")
        known = [entry.account for entry in await store.accounts()]
        for change in changes_for(self._spending(), asked, known, self._now_ms(store)):
            await store.put_spent(change.account, change.period, change.spent)
        return await self._told(store, [entry for entry in await store.accounts() if entry.account.startswith(f"{asked.rule}:")])

    async def _told(self, store: OwnedStore, entries: Iterable[Entry]) -> list[BudgetRow]:
        """The rows of these entries, in the order of the rules, the fullest scope first; between them, calls have their turns."""
        spending, now_ms = self._spending(), self._now_ms(store)
        position = {rule.name: rule.position for rule in spending.rules}

        def place(row: BudgetRow) -> tuple[int, float, str, str]:
            return position[row.rule], -row.share, row.unit, row.scope

        by_account: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            by_account[entry.account].append(entry)
        accounts, parts = iter(by_account.values()), list[list[BudgetRow]]()
        while some := list(islice(accounts, AT_ONCE)):
            parts.append(sorted(budget_rows(spending, [entry for one in some for entry in one], now_ms), key=place))
            await asyncio.sleep(0)
        merged = heapq.merge(*parts, key=place)
        rows: list[BudgetRow] = []
        while some_rows := list(islice(merged, AT_ONCE)):
            rows += some_rows
            await asyncio.sleep(0)
        return rows

    def _now_ms(self, store: OwnedStore) -> int:
        return store.now_ms(self._clock.time_ns() // NS_PER_MS)
