"""Accounts in memory: bounded, and right on the days on which clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from proxy.policy.windows import CalendarWindow
from proxy.spending import Fit, Period, Rate, Reserved, Short, Standing
from proxy.stores.books import Books
from tests.stores.support import DAY_MS, HOUR_MS, at_once, holds, line, period

NOW_MS = 1_790_000_000_000


def test_accounts_that_count_no_more_are_forgotten() -> None:
    books = Books()
    for number in range(100_000):
        now_ms = NOW_MS + number * 60
        minute = Period(now_ms // 60_000 * 60_000, now_ms // 60_000 * 60_000 + 60_000, now_ms // 60_000 * 60_000)
        lines = [line(minute, 5, 10, f"minute:usd:user={number}"), line(Rate(10, 1000), 1, 10, f"calls:requests:user={number}")]
        for hold in holds(books.reserve(lines, now_ms)):
            books.settle(hold, 3, now_ms)
    assert len(books) < 20_000


def test_what_is_held_is_never_forgotten() -> None:
    books = Books()
    (hold,) = holds(books.reserve([line(period(NOW_MS), 5, 10)], NOW_MS))
    late_ms = NOW_MS + 1000 * DAY_MS
    for number in range(100):
        books.reserve([at_once(1, f"a{number}")], late_ms + number * 2000)
    books.settle(hold, 5, late_ms)
    assert books.standing("day:usd:tenant=acme", period(NOW_MS), late_ms) == Standing(5, 0)


def test_free_calls_settle_even_on_a_forgotten_account() -> None:
    books = Books()
    (hold,) = holds(books.reserve([line(period(NOW_MS), 0, 10)], NOW_MS))
    for number in range(100):
        books.reserve([at_once(1, f"a{number}")], NOW_MS + number * 2000)
    books.settle(hold, 4, NOW_MS)
    assert books.standing("day:usd:tenant=acme", period(NOW_MS), NOW_MS) == Standing(4, 0)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("America/New_York", (2026, 3, 8), 23),
        ("America/New_York", (2026, 11, 1), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
    ],
)
def test_a_day_on_which_the_clock_changes_is_one_budget(zone, day, hours) -> None:
    window = CalendarWindow("day", zone)

    def unix_ms(hour: int, minute: int) -> int:
        year, month, date = day
        return int(datetime(year, month, date, hour, minute, tzinfo=ZoneInfo(zone)).timestamp() * 1000)

    books = Books()
    morning_ms, night_ms = unix_ms(0, 1), unix_ms(23, 59)
    (hold,) = holds(books.reserve([line(window.period(morning_ms), 60, 100)], morning_ms))
    books.settle(hold, 60, morning_ms)
    answer = books.reserve([line(window.period(night_ms), 41, 100)], night_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].retry_after_ms == 60_000
    today, tomorrow = window.period(night_ms), window.period(night_ms + 60_000)
    assert today.end_ms - today.start_ms == hours * HOUR_MS
    assert tomorrow.start_ms == today.end_ms
    assert isinstance(books.reserve([line(tomorrow, 100, 100)], night_ms + 60_000), Reserved)


def test_a_rate_comes_back_evenly() -> None:
    books, rate = Books(), Rate(10, 1000)
    one = [line(rate, 1, 10, "calls:requests:")]
    now_ms = NOW_MS
    for _ in range(10):
        holds(books.reserve(one, now_ms))
    answer = books.reserve(one, now_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].retry_after_ms == 100
    for _ in range(20):
        now_ms += 100
        holds(books.reserve(one, now_ms))
        assert isinstance(books.reserve(one, now_ms), Short)


def test_a_rate_gives_nothing_back_twice() -> None:
    books, rate = Books(), Rate(10, 1000)
    (early,) = holds(books.reserve([line(rate, 10, 10, "calls:requests:")], NOW_MS))
    holds(books.reserve([line(rate, 10, 10, "calls:requests:")], NOW_MS + 1000))  # time has given the first back
    books.settle(early, 0, NOW_MS + 1000)
    assert isinstance(books.reserve([line(rate, 1, 10, "calls:requests:")], NOW_MS + 1000), Short)


def test_a_clock_that_was_ahead_closes_no_rate_for_long() -> None:
    books, rate = Books(), Rate(10, 1000)
    holds(books.reserve([line(rate, 10, 10, "calls:requests:")], NOW_MS + DAY_MS))
    answer = books.reserve([line(rate, 1, 10, "calls:requests:")], NOW_MS)
    assert isinstance(answer, Short)
    assert answer.shortages[0].retry_after_ms in range(2001)


def test_a_window_that_changes_counts_what_it_covers() -> None:
    books = Books()
    day = period(NOW_MS, DAY_MS)
    (hold,) = holds(books.reserve([line(day, 60, 100)], NOW_MS))
    books.settle(hold, 60, NOW_MS)
    week = Period(day.start_ms - 2 * DAY_MS, day.end_ms + 4 * DAY_MS, day.start_ms - 2 * DAY_MS)
    assert isinstance(books.reserve([line(week, 41, 100, fit=Fit.WHOLE)], NOW_MS), Short)
