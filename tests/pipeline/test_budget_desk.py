"""What operators ask of a running gate about its budgets, where there are as many accounts as users."""

from __future__ import annotations

import asyncio
from typing import cast

from proxy.budget_desk import AT_ONCE, BudgetDesk
from proxy.pipeline.budget_report import BudgetRow, budget_rows
from proxy.spending import Entry, Period
from proxy.stores.opening import OwnedStore
from tests.fake_time import FakeClock
from tests.policy.spending_support import NOW_MS, USD, spending

RULES = spending("""
budgets:
  - {name: day, per: [user], window: {every: day}, limit: {usd: 10, tokens: 1000}}
  - {name: days, per: [user], window: {rolling_s: 172800}, limit: {requests: 50}}
""")
DAY, ROLLING = (rule.window.period(NOW_MS) for rule in RULES.rules if rule.window is not None)
USERS = 10 * AT_ONCE


class FullStore:
    """What the desk asks of a store that knows an account of each user."""

    def __init__(self) -> None:
        self.entries = [entry for number in range(USERS) for entry in entries_of(number)]

    async def accounts(self) -> list[Entry]:
        return self.entries

    async def put_spent(self, account: str, period: Period, spent: int) -> None:
        self.entries = [entry for entry in self.entries if entry.account != account] + [Entry(account, period.start_ms, spent, 0)]

    def now_ms(self, now_ms: int) -> int:
        return NOW_MS


def entries_of(number: int) -> list[Entry]:
    """Spending in no order, several users with the same; of the rolling budget in two periods."""
    user, spent = f"user=u{number}", number * 7919 % 100
    return [
        Entry(f"day:usd:{user}", DAY.start_ms, spent * USD // 10, 0),
        Entry(f"day:tokens:{user}", DAY.start_ms, spent, spent),
        Entry(f"days:requests:{user}", ROLLING.start_ms, 1, 0),
        Entry(f"days:requests:{user}", ROLLING.counts_from_ms, spent % 9, 0),
    ]


def in_order(store: FullStore) -> list[BudgetRow]:
    """All rows made at once: rules as they are declared, then the fullest first."""
    return sorted(budget_rows(RULES, store.entries, NOW_MS), key=lambda row: (row.rule == "days", -row.share, row.unit, row.scope))


def desk(store: FullStore) -> BudgetDesk:
    return BudgetDesk(lambda: RULES, lambda: cast(OwnedStore, store), FakeClock())


def test_all_accounts_are_told_in_one_order_however_many_there_are() -> None:
    store = FullStore()
    assert asyncio.run(desk(store).rows()) == in_order(store)


def test_calls_have_their_turns_while_many_accounts_are_told() -> None:
    turns = 0

    async def calls() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def asked() -> int:
        beside = asyncio.create_task(calls())
        rows = await desk(FullStore()).rows()
        beside.cancel()
        return len(rows)

    assert turns_needed(asyncio.run(asked())) <= turns


def turns_needed(rows: int) -> int:
    """At no turn more than AT_ONCE are made, or put in order."""
    return 2 * rows // AT_ONCE


def test_setting_tells_the_accounts_of_that_budget_alone() -> None:
    store = FullStore()
    rows = asyncio.run(desk(store).set_spent(b'{"rule": "day", "scope": "user=u3", "unit": "usd", "spent": 9}'))
    assert {row.rule for row in rows} == {"day"}
    assert [row.used for row in rows if (row.scope, row.unit) == ("user=u3", "usd")] == [9]
    assert rows == [row for row in in_order(store) if row.rule == "day"]
