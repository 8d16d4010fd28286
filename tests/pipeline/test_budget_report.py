"""How budgets and limits stand, as operators see it: by the rules in force, in the units people write."""

from __future__ import annotations

import pytest

from proxy.pipeline.budget_report import BudgetRow, Change, SetSpent, budget_rows, changes_for
from proxy.policy.budgets import Spending
from proxy.spending import ENDLESS, Entry, Period
from tests.pipeline.spending_scripts import USD, budget
from tests.policy.spending_support import NOW_MS, spending

DAY = Period(1_795_219_200_000, 1_795_305_600_000, 1_795_219_200_000)  # 2026-11-21
HOUR_MS = 3_600_000
RULES = """
identity: {tenant: [{header: x-tenant}]}
budgets:
  - {name: tenant-day, per: [tenant], window: {every: day}, limit: {usd: 10, tokens: 1000}}
  - {name: rolling, mode: shadow, window: {rolling_s: 3600}, limit: {requests: 50}}
limits:
  - {name: pace, concurrency: 4, requests: 10/min}
"""


def rows(entries: list[Entry], rules: Spending | None = None) -> list[BudgetRow]:
    return budget_rows(rules or spending(RULES), entries, NOW_MS)


def rolling(rules: Spending) -> Period:
    window = rules.rules[1].window
    assert window is not None
    return window.period(NOW_MS)


def test_usd_are_told_in_usd_and_the_forecast_goes_to_the_end_of_the_window() -> None:
    (row,) = rows([Entry("tenant-day:usd:tenant=acme", DAY.start_ms, 4 * USD, USD // 2)])
    assert row == BudgetRow(
        "tenant-day", "budget", "tenant=acme", "usd", 10.0, 4.0, 0.5, 5.5, 0.45, "day (UTC)", "2026-11-22T00:00:00Z", forecast=8.0
    )


def test_other_units_are_told_as_they_are_and_nothing_left_is_never_below_0() -> None:
    (row,) = rows([Entry("tenant-day:tokens:tenant=acme", DAY.start_ms, 1500, 20)])
    assert (row.limit, row.used, row.held, row.left, row.share) == (1000, 1500, 20, 0, 1.52)


def test_of_a_calendar_window_only_the_current_period_counts_as_used() -> None:
    (row,) = rows(
        [
            Entry("tenant-day:usd:tenant=acme", DAY.start_ms - 24 * HOUR_MS, 9 * USD, 0),
            Entry("tenant-day:usd:tenant=acme", DAY.start_ms, USD, 0),
        ]
    )
    assert row.used == 1.0


def test_an_account_of_which_only_older_periods_are_known_has_nothing_used() -> None:
    (row,) = rows([Entry("tenant-day:usd:tenant=acme", DAY.start_ms - 24 * HOUR_MS, 9 * USD, 0)])
    assert (row.used, row.left) == (0.0, 10.0)


def test_of_a_rolling_window_all_parts_in_it_count_and_it_has_no_end_and_no_forecast() -> None:
    rules = spending(RULES)
    period = rolling(rules)
    part_ms = period.end_ms - period.start_ms
    starts = (period.counts_from_ms - part_ms, period.counts_from_ms, period.start_ms)
    (row,) = rows([Entry("rolling:requests:all", start_ms, 2, 0) for start_ms in starts], rules)
    assert (row.used, row.ends, row.forecast, row.window, row.mode) == (4, None, None, "3600 s", "shadow")


def test_calls_at_a_time_are_told_and_rates_are_not() -> None:
    told = rows([Entry("pace:concurrency:all", ENDLESS.start_ms, 0, 3), Entry("pace:requests:all", 0, 3, 0)])
    assert [(row.unit, row.held, row.left, row.window, row.ends) for row in told] == [("concurrency", 3, 1, None, None)]


def test_rules_that_are_gone_are_not_told() -> None:
    assert rows([Entry("before:usd:all", DAY.start_ms, USD, 0), Entry("tenant-day:requests:all", DAY.start_ms, 1, 0)]) == []


def test_rows_are_in_the_order_of_the_rules_the_fullest_scope_first() -> None:
    entries = [
        Entry("pace:concurrency:all", 0, 0, 1),
        Entry("tenant-day:usd:tenant=low", DAY.start_ms, USD, 0),
        Entry("tenant-day:usd:tenant=high", DAY.start_ms, 2 * USD, 0),
        Entry("tenant-day:tokens:tenant=low", DAY.start_ms, 999, 0),
    ]
    assert [(row.rule, row.unit, row.scope) for row in rows(entries)] == [
        ("tenant-day", "tokens", "tenant=low"),
        ("tenant-day", "usd", "tenant=high"),
        ("tenant-day", "usd", "tenant=low"),
        ("pace", "concurrency", "all"),
    ]


# -------------------------------------------------------------------------------------------------------- set by hand

KNOWN = ["tenant-day:usd:tenant=acme", "tenant-day:tokens:tenant=acme", "tenant-day:usd:tenant=beta", "rolling:requests:all"]


def changed(asked: SetSpent) -> list[Change]:
    return changes_for(spending(RULES), asked, KNOWN, NOW_MS)


def test_a_reset_without_a_scope_is_for_all_that_are_known() -> None:
    assert changed(SetSpent("tenant-day")) == [Change(name, DAY, 0) for name in (KNOWN[0], KNOWN[2], KNOWN[1])]


def test_one_unit_of_one_scope_may_be_set_also_where_it_was_never_used() -> None:
    assert changed(SetSpent("tenant-day", "tenant=new", "usd", 2.5)) == [Change("tenant-day:usd:tenant=new", DAY, 5 * USD // 2)]
    assert changed(SetSpent("tenant-day", "tenant=acme", "tokens", 12)) == [Change("tenant-day:tokens:tenant=acme", DAY, 12)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (SetSpent("nobody"), "there is no budget named 'nobody'"),
        (SetSpent("pace"), "there is no budget named 'pace'"),
        (SetSpent("tenant-day", unit="requests"), "budget 'tenant-day' has no limit of requests"),
        (SetSpent("tenant-day", "all", "usd"), "has no scope 'all': write it as `postern budgets` lists it, as tenant=…"),
        (SetSpent("rolling", "tenant=acme"), "has no scope 'tenant=acme': .* as all"),
        (SetSpent("tenant-day", "tenant=a b"), "has no scope 'tenant=a b'"),
        (SetSpent("tenant-day", spent=1.0), "say which unit is set: usd, tokens or requests"),
        (SetSpent("tenant-day", unit="tokens", spent=1.5), "1.5 tokens: they are counted in whole numbers"),
        (SetSpent("tenant-day", unit="usd", spent=-1.0), "-1.0 is no amount that can be spent"),
        (SetSpent("tenant-day", unit="usd", spent=float("inf")), "inf is no amount that can be spent"),
    ],
)
def test_what_can_not_be_set_is_said(asked: SetSpent, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(asked)


def test_a_name_that_begins_like_another_budgets_is_not_set_with_it() -> None:
    rules = spending(budget() + "  - {name: day-two, window: {every: day}, limit: {usd: 1}}\n")
    known = ["day:usd:all", "day-two:usd:all"]
    assert [one.account for one in changes_for(rules, SetSpent("day"), known, NOW_MS)] == ["day:usd:all"]
