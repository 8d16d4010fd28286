"""Which period a moment belongs to: the calendar's windows, in a time zone, and the last so many seconds.

Here: windows compiled from YAML; the moment is an argument, in Unix milliseconds. Not here: what is counted in them (stores/), how often a
client may call (limits.py).
A day may have 23 or 25 hours, or never come. It begins when the clock on the wall first reaches its midnight, and ends where the next one
begins: periods of one window follow each other without gap or overlap, whatever the clock does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from typing import Protocol

from proxy.config.schema import BudgetWindow
from proxy.spending import Period

MS = 1000  # of a second
CLOCK_MS = {"minute": 60 * MS, "hour": 3600 * MS}
"""Windows that are cut by the clock; the others are cut by the date."""

FIRST_DAY: dict[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.weekday()),  # ISO 8601: Monday
    "month": lambda day: day.replace(day=1),
}
NEXT_FIRST_DAY: dict[str, Callable[[date], date]] = {
    "day": lambda first: first + timedelta(days=1),
    "week": lambda first: first + timedelta(days=7),
    "month": lambda first: (first + timedelta(days=31)).replace(day=1),
}

ROLLING_PARTS = 60
"""How many periods a rolling window is cut into: an amount counts for up to a 60th longer than the window, never shorter."""


class Window(Protocol):
    """A window of YAML, compiled."""

    def period(self, now_ms: int) -> Period:
        """The period that `now_ms` is in; the same object for as long as it lasts."""
        ...


def window_of(config: BudgetWindow) -> Window:
    """The window of a budget."""
    if config.rolling_s is not None:
        return RollingWindow(round(config.rolling_s * MS))
    assert config.every is not None
    return CalendarWindow(config.every, config.time_zone)


class CalendarWindow:
    """A minute, hour, day, week or month of the clock on the wall somewhere."""

    __slots__ = ("_cut", "_last")

    def __init__(self, every: str, time_zone: str = "UTC") -> None:
        zone = _zone(time_zone)
        self._cut: Callable[[int], Period] = (
            partial(_by_clock, zone, CLOCK_MS[every]) if every in CLOCK_MS else partial(_by_date, zone, every)
        )
        self._last = Period(0, 0, 0)  # no moment is in it

    def period(self, now_ms: int) -> Period:
        last = self._last
        if last.start_ms <= now_ms < last.end_ms:
            return last
        self._last = self._cut(now_ms)
        return self._last


class RollingWindow:
    """The last `length_ms`, as periods of a 60th of it."""

    __slots__ = ("_last", "_part_ms", "_reach_ms")

    def __init__(self, length_ms: int) -> None:
        self._part_ms = -(-length_ms // ROLLING_PARTS)
        self._reach_ms = -(-length_ms // self._part_ms) * self._part_ms  # so far back, what was spent last in a part still counts
        self._last = Period(0, 0, 0)

    def period(self, now_ms: int) -> Period:
        last = self._last
        if last.start_ms <= now_ms < last.end_ms:
            return last
        start_ms = now_ms // self._part_ms * self._part_ms
        self._last = Period(start_ms, start_ms + self._part_ms, start_ms - self._reach_ms)
        return self._last


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # only for who asks for a zone

    return ZoneInfo(name)


# ----------------------------------------------------------------------------------------------------------- calendar


def _by_clock(zone: tzinfo, length_ms: int, now_ms: int) -> Period:
    """An hour that comes twice in autumn is two, one after the other; one during which the clock is changed ends there."""
    offset_ms = _offset_ms(zone, now_ms)
    start_ms = (now_ms + offset_ms) // length_ms * length_ms - offset_ms
    end_ms = start_ms + length_ms
    if _offset_ms(zone, end_ms - 1) != offset_ms:
        end_ms = _change_ms(zone, now_ms, end_ms - 1)
    if _offset_ms(zone, start_ms) != offset_ms:
        start_ms = _change_ms(zone, start_ms, now_ms)
    return Period(start_ms, end_ms, start_ms)


def _by_date(zone: tzinfo, every: str, now_ms: int) -> Period:
    """Where the clock is set back over midnight, the day that has begun goes on."""
    first = FIRST_DAY[every](datetime.fromtimestamp(now_ms // MS, zone).date())
    following = NEXT_FIRST_DAY[every](first)
    while (end_ms := _begins_ms(zone, following)) <= now_ms:
        first, following = following, NEXT_FIRST_DAY[every](following)
    start_ms = _begins_ms(zone, first)
    return Period(start_ms, end_ms, start_ms)


def _begins_ms(zone: tzinfo, day: date) -> int:
    """When the clock on the wall first reaches the day's midnight, or jumps over it."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    at_ms = _unix_ms(midnight)
    if datetime.fromtimestamp(at_ms // MS, zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return at_ms
    return _change_ms(zone, _unix_ms(midnight.replace(fold=1)), at_ms)  # in a gap, fold 1 is before the change, and fold 0 at it or after


def _unix_ms(time: datetime) -> int:
    return int(time.timestamp()) * MS


def _offset_ms(zone: tzinfo, at_ms: int) -> int:
    offset = datetime.fromtimestamp(at_ms // MS, zone).utcoffset()
    assert offset is not None
    return offset // timedelta(milliseconds=1)


def _change_ms(zone: tzinfo, before_ms: int, after_ms: int) -> int:
    """When the clock is changed, by bisection: the first moment with the offset of `after_ms`, which that of `before_ms` isn't."""
    wanted = _offset_ms(zone, after_ms)
    while after_ms - before_ms > 1:
        middle_ms = (before_ms + after_ms) // 2
        if _offset_ms(zone, middle_ms) == wanted:
            after_ms = middle_ms
        else:
            before_ms = middle_ms
    return after_ms
