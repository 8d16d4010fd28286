"""Periods of windows: the calendar in any time zone, and rolling."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import BudgetWindow
from proxy.policy.windows import ROLLING_PARTS, CalendarWindow, RollingWindow, Window, window_of
from proxy.spending import Period

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YEARS_MS = (0, 2_240_000_000_000)  # 1970 to 2040
EVERY = ("minute", "hour", "day", "week", "month")
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/Havana", "Asia/Beirut", "Pacific/Apia",
    "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca", "America/Sao_Paulo", "Pacific/Kwajalein", "Asia/Tehran",
    "Antarctica/Troll", "America/Asuncion", "Africa/Monrovia", "Asia/Gaza", "Pacific/Chatham", "Europe/Lisbon",
)  # fmt: skip

windows = st.builds(CalendarWindow, st.sampled_from(EVERY), st.sampled_from(ZONES))
rolling_windows = st.builds(RollingWindow, st.one_of(st.integers(1000, 5000), st.integers(1000, 31 * DAY_MS)))
moments = st.integers(*YEARS_MS)


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """The Unix milliseconds of a time as the clock on the wall shows it."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()) * 1000


def told(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def hours_of(zone: str, day: str) -> float:
    """How long a day is there."""
    period = CalendarWindow("day", zone).period(at(f"{day}T12:00", zone))
    return (period.end_ms - period.start_ms) / HOUR_MS


def following(window: Window, period: Period, count: int) -> Iterator[Period]:
    for _ in range(count):
        period = window.period(period.end_ms)
        yield period


@given(windows, moments)
def test_a_moment_is_within_its_period(window: CalendarWindow, now_ms: int) -> None:
    period = window.period(now_ms)
    assert period.start_ms <= now_ms < period.end_ms
    assert period.counts_from_ms == period.start_ms


@given(windows, moments)
def test_periods_follow_each_other_without_gap_or_overlap(window: CalendarWindow, now_ms: int) -> None:
    period = window.period(now_ms)
    for later in following(window, period, 3):
        assert later.start_ms == period.end_ms
        assert later.end_ms > later.start_ms
        assert window.period(later.start_ms - 1) == period
        assert window.period(later.end_ms - 1) == later
        period = later


@given(st.sampled_from(EVERY), st.sampled_from(ZONES), moments, moments)
def test_what_was_asked_before_changes_nothing(every: str, zone: str, before_ms: int, now_ms: int) -> None:
    window = CalendarWindow(every, zone)
    window.period(before_ms)
    assert window.period(now_ms) == CalendarWindow(every, zone).period(now_ms)


@given(st.sampled_from(("day", "week", "month")), st.sampled_from(ZONES), moments)
def test_a_period_of_days_begins_when_the_wall_first_shows_its_midnight(every: str, zone: str, now_ms: int) -> None:
    start_ms = CalendarWindow(every, zone).period(now_ms).start_ms
    begun, before = (datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)) for ms in (start_ms, start_ms - 1000))
    assert begun.date() > before.date()
    assert every != "week" or before.date().isocalendar()[:2] != begun.date().isocalendar()[:2]
    assert every != "month" or before.month != begun.month


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("every", ["hour", "day"])
def test_each_period_of_two_years_of_changes_follows_the_one_before(zone: str, every: str) -> None:
    window = CalendarWindow(every, zone)
    period = window.period(at("2011-01-01"))
    ends_ms = at("2011-03-01") if every == "hour" else at("2013-01-01")
    while period.end_ms < ends_ms:
        later = window.period(period.end_ms)
        assert later.start_ms == period.end_ms < later.end_ms
        period = later


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-06-01", 24),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("America/Havana", "2026-03-08", 23),  # its midnight doesn't come
        ("America/Havana", "2026-11-01", 25),  # its midnight comes twice
        ("Asia/Beirut", "2026-03-29", 23),
        ("Asia/Beirut", "2026-10-24", 25),
        ("America/St_Johns", "2010-11-07", 25),  # set back at 00:01, to the evening before: it goes on
        ("Asia/Kolkata", "2026-03-29", 24),
    ],
)
def test_a_day_is_as_long_as_the_clock_on_the_wall_makes_it(zone: str, day: str, hours: float) -> None:
    assert hours_of(zone, day) == hours


def test_a_day_that_is_skipped_is_no_period() -> None:
    before = CalendarWindow("day", "Pacific/Apia").period(at("2011-12-29T12:00", "Pacific/Apia"))
    after = CalendarWindow("day", "Pacific/Apia").period(before.end_ms)
    assert told(before.end_ms) == "2011-12-30T10:00:00Z"
    assert datetime.fromtimestamp(after.start_ms / 1000, ZoneInfo("Pacific/Apia")).isoformat() == "2011-12-31T00:00:00+14:00"
    assert after.end_ms - after.start_ms == DAY_MS


def test_an_hour_that_comes_twice_is_two() -> None:
    window = CalendarWindow("hour", "Europe/Berlin")
    first = window.period(at("2026-10-25T02:30", "Europe/Berlin"))
    second = window.period(at("2026-10-25T02:30", "Europe/Berlin", fold=1))
    assert first.end_ms == second.start_ms
    assert (first.end_ms - first.start_ms, second.end_ms - second.start_ms) == (HOUR_MS, HOUR_MS)


def test_an_hour_during_which_the_clock_is_set_back_ends_there() -> None:
    window = CalendarWindow("hour", "Australia/Lord_Howe")
    first = window.period(at("2026-04-05T01:45", "Australia/Lord_Howe"))
    again = window.period(first.end_ms)
    assert (first.end_ms - first.start_ms, again.end_ms - again.start_ms) == (HOUR_MS, HOUR_MS // 2)


def test_an_hour_during_which_the_clock_is_set_back_in_its_first_minute_is_that_minute() -> None:
    window = CalendarWindow("hour", "America/St_Johns")
    minute = window.period(at("2010-11-07T00:00:30", "America/St_Johns"))
    evening = window.period(minute.end_ms)
    assert (minute.end_ms - minute.start_ms, evening.end_ms - evening.start_ms) == (60_000, 59 * 60_000)


def test_a_day_whose_midnight_is_jumped_over_begins_with_the_jump() -> None:
    before = CalendarWindow("day", "America/Toronto").period(at("1919-03-30T12:00", "America/Toronto"))
    assert told(before.end_ms) == "1919-03-31T04:30:00Z"  # 23:30 became 00:30
    after = CalendarWindow("day", "America/Toronto").period(before.end_ms)
    assert (after.start_ms, after.end_ms) == (before.end_ms, at("1919-04-01T00:00", "America/Toronto"))


def test_hours_begin_where_the_wall_shows_them() -> None:
    assert told(CalendarWindow("hour", "Asia/Kolkata").period(at("2026-05-01T12:10")).start_ms) == "2026-05-01T11:30:00Z"
    assert told(CalendarWindow("hour").period(at("2026-05-01T12:10")).start_ms) == "2026-05-01T12:00:00Z"


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2026-01-31T23:59:59", "2026-01-01", "2026-02-01"),
        ("2026-02-28T12:00", "2026-02-01", "2026-03-01"),
        ("2028-02-29T12:00", "2028-02-01", "2028-03-01"),
        ("2026-12-31T12:00", "2026-12-01", "2027-01-01"),
    ],
)
def test_a_month_ends_with_its_last_day(now: str, start: str, end: str) -> None:
    assert CalendarWindow("month").period(at(now)) == Period(at(start), at(end), at(start))


def test_a_week_begins_on_monday() -> None:
    sunday, monday = at("2026-11-22T23:00"), at("2026-11-23T00:00")
    assert CalendarWindow("week").period(sunday) == Period(monday - 7 * DAY_MS, monday, monday - 7 * DAY_MS)
    assert CalendarWindow("week").period(monday).start_ms == monday


@given(st.one_of(windows, rolling_windows), moments)
def test_a_period_is_the_same_object_as_long_as_it_lasts(window: Window, now_ms: int) -> None:
    period = window.period(now_ms)
    assert window.period(period.start_ms) is period
    assert window.period(period.end_ms - 1) is period


# ------------------------------------------------------------------------------------------------------------- rolling


@given(st.integers(1000, 31 * DAY_MS), moments, st.integers(0, 31 * DAY_MS))
def test_no_amount_leaves_a_rolling_window_early(length_ms: int, spent_ms: int, later_ms: int) -> None:
    window = RollingWindow(length_ms)
    booked = window.period(spent_ms)
    counts = booked.start_ms >= window.period(spent_ms + later_ms).counts_from_ms
    part_ms = booked.end_ms - booked.start_ms
    assert counts or later_ms >= length_ms
    assert not counts or later_ms < length_ms + 2 * part_ms


@given(rolling_windows, moments)
def test_rolling_periods_follow_each_other(window: RollingWindow, now_ms: int) -> None:
    period = window.period(now_ms)
    assert period.start_ms <= now_ms < period.end_ms
    assert [later.start_ms for later in following(window, period, 1)] == [period.end_ms]
    parts = (period.start_ms - period.counts_from_ms) // (period.end_ms - period.start_ms)
    assert parts <= ROLLING_PARTS


def test_windows_are_made_from_the_configuration() -> None:
    noon = at("2026-11-21T12:00", "Europe/Berlin")
    daily = window_of(BudgetWindow(every="day", time_zone="Europe/Berlin")).period(noon)
    assert told(daily.start_ms) == "2026-11-20T23:00:00Z"
    rolling = window_of(BudgetWindow(rolling_s=60.0)).period(noon)
    assert (rolling.end_ms - rolling.start_ms, rolling.start_ms - rolling.counts_from_ms) == (1000, 60_000)
