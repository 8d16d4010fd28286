"""Which routes can never match, because an earlier one takes everything they would take.

Here: when one route's conditions are wider than another's; sound, not complete: what is reported is dead, what is not may still be.
Not here: matching a call (policy/conditions.py), a route that no call can meet whatever the others are (matches.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache

from proxy.call import LABELS
from proxy.config.schema import Bounds, BudgetUsed, Match, TimeOfDay

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60  # minutes
_WEEK = len(_DAYS) * _DAY
_WHOLE_WEEK = (1 << _WEEK) - 1
_STARS = re.compile(r"[*?]*\*[*?]*")


def shadows(earlier: Match, later: Match) -> bool:
    """Whether every call that `later` matches is matched by `earlier` too: as wide or wider, field by field."""
    return (
        all(_flag_covers(getattr(earlier, key), getattr(later, key)) for key in ("stream", "tools", "images"))
        and _globs_cover(earlier.model, later.model)
        and _globs_cover(earlier.path, later.path)
        and _words_cover(earlier.method, later.method, str.upper)
        and _words_cover(earlier.response_format, later.response_format, str)
        and _headers_cover(earlier.header, later.header)
        and all(name in later.metadata and _globs_cover(globs, later.metadata[name]) for name, globs in earlier.metadata.items())
        and _bounds_cover(earlier.input_tokens, later.input_tokens)
        and _bounds_cover(earlier.max_tokens, later.max_tokens)
        and _time_covers(earlier.time, later.time)
        and all(_globs_cover(getattr(earlier, label), getattr(later, label)) for label in LABELS)
        and _use_covers(earlier.budget_used, later.budget_used)
    )


def _flag_covers(wide: bool | None, narrow: bool | None) -> bool:
    return wide is None or wide is narrow


def _globs_cover(wide: str | list[str] | None, narrow: str | list[str] | None) -> bool:
    if wide is None:
        return True
    if narrow is None:
        return False  # even `*` asks for a value to be there
    return all(any(glob_covers(one, other) for one in listed(wide)) for other in listed(narrow))


def _words_cover(wide: str | list[str] | None, narrow: str | list[str] | None, spelt: Callable[[str], str]) -> bool:
    if wide is None:
        return True
    return narrow is not None and {spelt(word) for word in listed(narrow)} <= {spelt(word) for word in listed(wide)}


def _headers_cover(wide: dict[str, str | list[str]], narrow: dict[str, str | list[str]]) -> bool:
    return all(
        any(name.lower() == other.lower() and _globs_cover(globs, narrow[other]) for other in narrow)  # names are without case
        for name, globs in wide.items()
    )


def _bounds_cover(wide: Bounds | None, narrow: Bounds | None) -> bool:
    if wide is None:
        return True
    return narrow is not None and _least(wide) <= _least(narrow) and _most(narrow) <= _most(wide)  # any bounds ask for a number to be there


def _least(bounds: Bounds) -> float:
    """The smallest number within; they are whole, and from 0."""
    return max(0, math.floor(bounds.over) + 1) if bounds.over is not None else 0


def _most(bounds: Bounds) -> float:
    return math.ceil(bounds.under) - 1 if bounds.under is not None else math.inf


def _use_covers(wide: BudgetUsed | None, narrow: BudgetUsed | None) -> bool:
    if wide is None:
        return True
    if narrow is None or narrow.budget != wide.budget:
        return False  # any bounds ask for the use to be known
    from_above = wide.over is None or (narrow.over is not None and narrow.over >= wide.over)
    from_below = wide.under is None or (narrow.under is not None and narrow.under <= wide.under)
    return from_above and from_below


def _time_covers(wide: TimeOfDay | None, narrow: TimeOfDay | None) -> bool:
    """Whole weeks are the same in every time zone; parts of them are compared within one."""
    if wide is None:
        return True
    covering = _week(wide)
    if covering == _WHOLE_WEEK:
        return True
    covered = None if narrow is None or narrow.time_zone != wide.time_zone else _week(narrow)
    return covering is not None and covered is not None and not covered & ~covering


def _week(part: TimeOfDay) -> int | None:
    """The minutes of the week on which it is that time, as bits from Monday's first on; None if it is no time."""
    after, before = _minute(part.after), _minute(part.before)
    if after is None or before is None:
        return None
    length = before - after if after < before else before + _DAY - after  # over midnight
    week = 0
    for day in part.days or _DAYS:
        week |= ((1 << length) - 1) << (_DAYS.index(day) * _DAY + after)
    return (week | week >> _WEEK) & _WHOLE_WEEK  # what goes beyond Sunday is Monday's


def _minute(time: str) -> int | None:
    hours, _, minutes = time.partition(":")
    return int(hours) * 60 + int(minutes) if hours.isdecimal() and minutes.isdecimal() else None


def listed(value: str | list[str]) -> list[str]:
    """A string or list of strings as a list."""
    return [value] if isinstance(value, str) else value


def glob_covers(wide: str, narrow: str) -> bool:
    """Whether each text that the glob `narrow` matches is matched by `wide`. Character classes are compared as text only."""
    if wide in (narrow, "*"):
        return True
    if "[" in wide or "[" in narrow:
        return False
    wide, beginning = _normal(wide)
    narrow, _ = _normal(narrow)
    return narrow.startswith(beginning) and _matches(wide, narrow)


@lru_cache(maxsize=4096)  # each route is compared with all before it
def _normal(glob: str) -> tuple[str, str]:
    """The glob, each run of wildcards with its `?` first and one `*` (`*?*` is `?*`), and what stands before the first wildcard."""
    return _STARS.sub(lambda run: "?" * run[0].count("?") + "*", glob), re.split(r"[*?]", glob, maxsplit=1)[0]


def _matches(wide: str, narrow: str) -> bool:
    """Whether `wide` matches `narrow` taken as text, in which `*` is a letter that only a `*` can match."""
    at, resume, star = 0, 0, -1
    position = 0
    while position < len(narrow):
        symbol = wide[at] if at < len(wide) else ""
        if symbol == "*":
            star, resume = at, position
            at += 1
        elif symbol and (symbol == narrow[position] or (symbol == "?" and narrow[position] != "*")):
            at, position = at + 1, position + 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return wide[at:].strip("*") == ""
