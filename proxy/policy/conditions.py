"""What a rule may ask about a call, and whether a call is as it asks.

Here: the facts of a call, a rule's conditions compiled from YAML; the moment is one of the facts. Not here: which rule wins (routing.py),
reading bodies (wire/), which rule can't match (config/shadows.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from fnmatch import translate

import msgspec

from proxy.call import LABELS, HeaderList
from proxy.config.schema import Bounds, BudgetUsed, Match, TimeOfDay

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_PER_HOUR = 60


UsedShare = Callable[[str], float | None]
"""By budget: a share of its limit, from 0 on; None: not known."""


def not_known(_: str) -> None:
    """A UsedShare where no rule asks for one."""


class RouteFacts(msgspec.Struct, frozen=True):
    """What a rule may ask about a call. What no rule of the configuration asks for (`Router.asks`) may be left at its default."""

    method: str
    path: str
    model: str | None
    headers: HeaderList
    stream: bool
    metadata: dict[str, str] = {}
    tools: bool = False  # the request offers some
    images: bool = False  # one stands in the prompt
    response_format: str | None = None  # text | json_object | json_schema; None where a reply is no text
    input_tokens: int | None = None  # estimated; None without a JSON body
    max_tokens: int | None = None  # as the client asked
    now_unix_s: float = 0.0
    labels: dict[str, str] = {}  # see call.LABELS
    budget_used: UsedShare = not_known

    def __repr__(self) -> str:
        return f"RouteFacts({self.method!r}, {self.path!r}, {self.model!r})"  # never the headers


class Condition(msgspec.Struct, frozen=True):
    """One condition of a rule."""

    key: str  # below `match`, e.g. `model` or `header.x-team`
    holds: Callable[[RouteFacts], bool]


Test = Callable[[RouteFacts], bool]


def conditions_of(match: Match) -> tuple[Condition, ...]:
    """The conditions of a rule, all of which must hold, in the order they are asked: what is cheap comes first."""
    conditions = [Condition(key, test_of(value)) for key, test_of in _TESTS.items() if (value := getattr(match, key)) is not None]
    conditions += [Condition(f"metadata.{name}", _metadata(name, globs)) for name, globs in match.metadata.items()]
    conditions += [Condition(f"header.{name}", _header(name, globs)) for name, globs in match.header.items()]
    return tuple(conditions)


def _methods(methods: str | list[str]) -> Test:
    wanted = frozenset(method.upper() for method in _listed(methods))
    return lambda facts: facts.method in wanted


def _formats(formats: str | list[str]) -> Test:
    wanted = frozenset(_listed(formats))
    return lambda facts: facts.response_format in wanted


def _models(globs: str | list[str]) -> Test:
    matches = _glob(globs)
    return lambda facts: facts.model is not None and matches(facts.model) is not None


def _paths(globs: str | list[str]) -> Test:
    matches = _glob(globs)
    return lambda facts: matches(facts.path) is not None


def _metadata(name: str, globs: str | list[str]) -> Test:
    matches = _glob(globs)

    def holds(facts: RouteFacts) -> bool:
        value = facts.metadata.get(name)
        return value is not None and matches(value) is not None

    return holds


def _header(name: str, globs: str | list[str]) -> Test:
    matches, wanted = _glob(globs), name.lower().encode()
    length = len(wanted)

    def holds(facts: RouteFacts) -> bool:
        for key, value in facts.headers:  # any() would take twice as long
            if len(key) == length and key.lower() == wanted and matches(value.decode("latin-1")) is not None:
                return True
        return False

    return holds


def _label(name: str) -> Callable[[str | list[str]], Test]:
    def test_of(globs: str | list[str]) -> Test:
        matches = _glob(globs)

        def holds(facts: RouteFacts) -> bool:
            value = facts.labels.get(name)
            return value is not None and matches(value) is not None

        return holds

    return test_of


def _budget_used(wanted: BudgetUsed) -> Test:
    return lambda facts: _within(wanted, facts.budget_used(wanted.budget))


def _within(bounds: Bounds | BudgetUsed, value: float | None) -> bool:
    if value is None:
        return False
    return (bounds.over is None or value > bounds.over) and (bounds.under is None or value < bounds.under)


def _time(part: TimeOfDay) -> Test:
    """By the clock on the wall there: an hour that is left out in spring matches nothing, one that comes twice in autumn matches twice."""
    from zoneinfo import ZoneInfo  # only for who asks for the time

    zone = ZoneInfo(part.time_zone)
    after, before = _minute(part.after), _minute(part.before)
    begins_on = frozenset(WEEKDAYS.index(day) for day in part.days or WEEKDAYS)

    def holds(facts: RouteFacts) -> bool:
        local = datetime.fromtimestamp(facts.now_unix_s, zone)
        minute, weekday = local.hour * MINUTES_PER_HOUR + local.minute, local.weekday()
        if after < before:
            return after <= minute < before and weekday in begins_on
        if minute >= after:
            return weekday in begins_on
        return minute < before and (weekday - 1) % len(WEEKDAYS) in begins_on  # it began the day before

    return holds


def _minute(time: str) -> int:
    """The minute of the day that HH:MM means; 24:00 is its end."""
    hours, _, minutes = time.partition(":")
    return int(hours) * MINUTES_PER_HOUR + int(minutes)


def _glob(globs: str | list[str]) -> Callable[[str], object]:
    """What is not None for a text that one of the globs matches: a pattern's own method, as this is asked for every rule of every call."""
    return re.compile("|".join(translate(glob) for glob in _listed(globs))).match


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


_TESTS: dict[str, Callable[..., Test]] = {
    "method": _methods,
    "stream": lambda wanted: lambda facts: facts.stream is wanted,
    "tools": lambda wanted: lambda facts: facts.tools is wanted,
    "images": lambda wanted: lambda facts: facts.images is wanted,
    "response_format": _formats,
    "input_tokens": lambda bounds: lambda facts: _within(bounds, facts.input_tokens),
    "max_tokens": lambda bounds: lambda facts: _within(bounds, facts.max_tokens),
    "model": _models,
    "path": _paths,
    "time": _time,
    **{name: _label(name) for name in LABELS},
    "budget_used": _budget_used,
}
"""By key of `match`; those that name a header or a key of the metadata are compiled one by one."""
