"""What every store does, whatever it keeps its accounts in."""

from __future__ import annotations

import asyncio

import pytest

from proxy.spending import Fit, Line, Period, Rate, Reserved, Short, Standing
from proxy.stores.books import Books
from tests.stores.support import DAY_MS, HOUR_MS, at_once, holds, line, period, reserve, spend, unix_ms


@pytest.fixture
def now_ms() -> int:
    return unix_ms()


async def test_what_fits_is_held_and_what_does_not_is_refused(store, now_ms) -> None:
    today = period(now_ms)
    assert len(holds(await reserve(store, [line(today, 60, 100)], now_ms))) == 1
    answer = await reserve(store, [line(today, 41, 100)], now_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].standing == Standing(0, 60)
    assert len(holds(await reserve(store, [line(today, 40, 100)], now_ms))) == 1


async def test_all_lines_are_held_or_none(store, now_ms) -> None:
    today = period(now_ms)
    roomy, tight = line(today, 10, 100, "a:usd:"), line(today, 10, 5, "b:usd:")
    answer = await reserve(store, [roomy, tight], now_ms)
    assert isinstance(answer, Short)
    assert [shortage.index for shortage in answer.shortages] == [1]
    assert len(holds(await reserve(store, [line(today, 100, 100, "a:usd:")], now_ms))) == 1


async def test_all_that_is_short_is_named(store, now_ms) -> None:
    today = period(now_ms)
    lines = [line(today, 10, 5, "a:usd:"), line(today, 1, 5, "b:usd:"), line(today, 10, 5, "c:usd:")]
    answer = await reserve(store, lines, now_ms)
    assert isinstance(answer, Short)
    assert [shortage.index for shortage in answer.shortages] == [0, 2]


async def test_lines_on_one_account_count_together(store, now_ms) -> None:
    today = period(now_ms)
    assert isinstance(await reserve(store, [line(today, 60, 100), line(today, 60, 100)], now_ms), Short)
    assert len(holds(await reserve(store, [line(today, 60, 100), line(today, 40, 100)], now_ms))) == 2


async def test_a_hold_is_settled_once(store, now_ms) -> None:
    today = period(now_ms)
    (hold,) = holds(await reserve(store, [line(today, 50, 100)], now_ms))
    for _ in range(3):
        store.settle(hold, 30, now_ms)
    assert store.standing("day:usd:tenant=acme", today, now_ms) == Standing(30, 0)


async def test_what_was_not_spent_can_be_spent_by_others(store, now_ms) -> None:
    today = period(now_ms)
    await spend(store, line(today, 100, 100), 0, now_ms)
    await spend(store, line(today, 100, 100), 20, now_ms)
    assert len(holds(await reserve(store, [line(today, 80, 100)], now_ms))) == 1


async def test_spending_beyond_what_was_held_counts(store, now_ms) -> None:
    today = period(now_ms)
    await spend(store, line(today, 10, 100), 95, now_ms)
    assert isinstance(await reserve(store, [line(today, 10, 100)], now_ms), Short)
    assert len(holds(await reserve(store, [line(today, 5, 100)], now_ms))) == 1


@pytest.mark.parametrize(
    ("fit", "spent", "held", "lets_in"),
    [
        (Fit.ANY, 40, 50, True),
        (Fit.ANY, 40, 60, False),
        (Fit.SETTLED, 40, 60, True),
        (Fit.SETTLED, 100, 0, False),
        (Fit.NOTHING, 100, 60, True),
    ],
)
async def test_how_much_must_be_left(store, now_ms, fit, spent, held, lets_in) -> None:
    today = period(now_ms)
    await spend(store, line(today, 0, 100, fit=Fit.NOTHING), spent, now_ms)
    holds(await reserve(store, [line(today, held, 100, fit=Fit.NOTHING)], now_ms))
    answer = await reserve(store, [line(today, 1000, 100, fit=fit)], now_ms)
    assert isinstance(answer, Reserved) is lets_in


async def test_a_critical_call_may_go_beyond_and_leaves_nothing_to_others(store, now_ms) -> None:
    today = period(now_ms)
    holds(await reserve(store, [line(today, 90, 100)], now_ms))
    critical = line(today, 30, 150, ordinary_limit=100)
    holds(await reserve(store, [critical], now_ms))
    assert isinstance(await reserve(store, [line(today, 1, 100)], now_ms), Short)
    assert isinstance(await reserve(store, [line(today, 31, 150, ordinary_limit=100)], now_ms), Short)


@pytest.mark.parametrize("new_limit", [50, 200])
async def test_a_changed_limit_keeps_what_was_spent(store, now_ms, new_limit) -> None:
    today = period(now_ms)
    await spend(store, line(today, 60, 100), 60, now_ms)
    answer = await reserve(store, [line(today, 100, new_limit)], now_ms)
    assert isinstance(answer, Reserved) is (new_limit == 200)
    assert store.standing("day:usd:tenant=acme", today, now_ms).spent == 60


async def test_a_new_period_begins_with_nothing_and_late_spending_stays_in_the_old_one(store, now_ms) -> None:
    old = Period(now_ms - HOUR_MS, now_ms + 500, now_ms - HOUR_MS)
    new = Period(old.end_ms, old.end_ms + HOUR_MS, old.end_ms)
    (hold,) = holds(await reserve(store, [line(old, 100, 100)], now_ms))
    (other,) = holds(await reserve(store, [line(new, 100, 100)], now_ms))
    store.settle(hold, 90, now_ms)
    store.settle(other, 10, now_ms)
    assert len(holds(await reserve(store, [line(new, 90, 100)], now_ms))) == 1
    assert isinstance(await reserve(store, [line(new, 1, 100)], now_ms), Short)


async def test_parts_of_a_rolling_window_count_together(store, now_ms) -> None:
    part_ms = HOUR_MS
    parts = [
        Period(now_ms - 500 - part_ms * back, now_ms - 500 - part_ms * (back - 1), now_ms - 500 - part_ms * (back + 3))
        for back in (3, 2, 0)
    ]
    for part in parts[:2]:
        await spend(store, line(part, 0, 100, fit=Fit.NOTHING), 30, now_ms)
    answer = await reserve(store, [line(parts[2], 50, 100)], now_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].standing.spent == 60
    assert answer.shortages[0].retry_after_ms == parts[2].start_ms + part_ms - now_ms  # then the oldest part is out
    assert len(holds(await reserve(store, [line(parts[2], 40, 100)], now_ms))) == 1


@pytest.mark.parametrize("hours", [23, 24, 25])
async def test_a_calendar_window_is_over_when_its_day_is(store, now_ms, hours) -> None:
    today = period(now_ms, hours * HOUR_MS)
    await spend(store, line(today, 90, 100), 90, now_ms)
    answer = await reserve(store, [line(today, 20, 100)], now_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].retry_after_ms == today.end_ms - now_ms


async def test_nobody_says_when_running_calls_will_be_over(store, now_ms) -> None:
    today = period(now_ms)
    holds(await reserve(store, [line(today, 90, 100)], now_ms))
    for amount in (20, 101):  # may fit before the window's end; never will
        answer = await reserve(store, [line(today, amount, 100)], now_ms)
        assert isinstance(answer, Short)
        assert answer.shortages[0].retry_after_ms is None


async def test_calls_at_a_time(store, now_ms) -> None:
    first, _ = [holds(await reserve(store, [at_once(2)], now_ms))[0] for _ in range(2)]
    answer = await reserve(store, [at_once(2)], now_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].retry_after_ms is None
    store.settle(first, 0, now_ms)
    assert len(holds(await reserve(store, [at_once(2)], now_ms))) == 1


async def test_a_rate_gives_a_burst_and_then_its_pace(store, now_ms) -> None:
    rate = Rate(10, 100 * HOUR_MS)
    for _ in range(10):
        holds(await reserve(store, [line(rate, 1, 10, "calls:requests:")], now_ms))
    answer = await reserve(store, [line(rate, 1, 10, "calls:requests:")], now_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].retry_after_ms == pytest.approx(10 * HOUR_MS, abs=10_000)


async def test_a_rate_gets_back_what_was_not_used(store, now_ms) -> None:
    rate = Rate(100, 100 * HOUR_MS)
    (hold,) = holds(await reserve(store, [line(rate, 100, 100, "tokens:tokens:")], now_ms))
    store.settle(hold, 30, now_ms)
    assert isinstance(await reserve(store, [line(rate, 71, 100, "tokens:tokens:")], now_ms), Short)
    assert len(holds(await reserve(store, [line(rate, 69, 100, "tokens:tokens:")], now_ms))) == 1


async def test_more_than_a_burst_never_fits(store, now_ms) -> None:
    answer = await reserve(store, [line(Rate(10, 1000), 11, 10, "calls:requests:")], now_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].retry_after_ms is None


async def test_exactly_what_fits_gets_in_at_once(store, now_ms) -> None:
    today = period(now_ms, DAY_MS)
    lines = [line(today, 7, 70), line(today, 1, 1000, "all:requests:")]
    answers = await asyncio.gather(*(reserve(store, lines, now_ms) for _ in range(60)))
    assert sum(isinstance(answer, Reserved) for answer in answers) == 10


async def test_nothing_is_known_of_an_account_that_nobody_used(store, now_ms) -> None:
    assert store.standing("day:usd:tenant=nobody", period(now_ms), now_ms) is None


async def test_odd_names_are_accounts_like_others(store, now_ms) -> None:
    today = period(now_ms)
    names = ["day:usd:user=}{a", "day:usd:user={b}", "day:usd:user=%7B*?[ü]"]
    for name in names:
        await spend(store, line(today, 100, 100, name), 100, now_ms)
        assert isinstance(await reserve(store, [line(today, 1, 100, name)], now_ms), Short)


async def test_operators_see_and_set_what_was_spent(store, now_ms, kind) -> None:
    if isinstance(store, Books):
        pytest.skip("memory alone is a part of the embedded store")
    today = period(now_ms)
    account = "day:usd:user={ada}"
    await spend(store, line(today, 60, 100, account), 60, now_ms)
    (hold,) = holds(await reserve(store, [line(today, 10, 100, account)], now_ms))
    await store.put_spent(account, today, 95)
    assert isinstance(await fresh(store, line(today, 20, 100, account), now_ms), Short)
    await store.put_spent(account, today, 0)
    store.settle(hold, 5, now_ms)
    assert len(holds(await fresh(store, line(today, 95, 100, account), now_ms))) == 1
    entries = [entry for entry in await store.accounts() if entry.account == account]
    assert [(entry.start_ms, entry.spent) for entry in entries] == [(today.start_ms, 5)]


async def fresh(store, one: Line, now_ms: int):
    """An answer for which the store was asked."""
    await store.ask([line(one.window, one.limit + 1, one.limit + 1, one.account)], now_ms)
    return await store.ask([one], now_ms)


async def test_who_asks_hears_how_an_account_stands(store, now_ms) -> None:
    today = period(now_ms)
    (hold,) = holds(await store.ask([line(today, 0, 100, fit=Fit.NOTHING)], now_ms))
    store.settle(hold, 0, now_ms)
    assert store.standing("day:usd:tenant=acme", today, now_ms) == Standing(0, 0)
