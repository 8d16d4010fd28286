"""Checks of a route's `match`: conditions that no call can meet, and such as say nothing.

Here: what is wrong, as paths and messages, which never repeat a value: it may be secret. Not here: types and ranges (convert.py,
values.py), one route against another (shadows.py), how problems are reported (check.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

from proxy.call import LABELS
from proxy.config.endpoints import header_name_message
from proxy.config.nodes import join_key
from proxy.config.schema import Bounds, BudgetUsed, Config, Match, TimeOfDay
from proxy.config.shadows import listed

RESPONSE_FORMATS = ("text", "json_object", "json_schema")
KNOWN_AFTER_ROUTING = frozenset({"model", "provider", "target"})
"""Scopes of a budget that only an attempt has."""

MIDNIGHT, END_OF_DAY = "00:00", "24:00"

_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")


def match_problems(path: str, match: Match, sound: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Each path below `path` at which something is wrong, and what; `sound` tells whether the conversion left a path as it was written."""
    yield from _header_names(path, match)
    for at, value in _conditions(path, match).items():
        if "" in (listed(value) or [""]) and sound(at):
            yield at, "is empty and matches nothing: leave the key out instead"
    if any(not pattern.startswith(("/", "*", "?", "[")) for pattern in listed(match.path or [])):
        yield f"{path}.path", "never matches: a path starts with '/'"
    if not set(listed(match.response_format or [])) <= {*RESPONSE_FORMATS, ""}:
        yield f"{path}.response_format", f"never matches: there are {', '.join(RESPONSE_FORMATS)}"
    for at, bounds in ((f"{path}.input_tokens", match.input_tokens), (f"{path}.max_tokens", match.max_tokens)):
        if bounds is not None and sound(at) and (message := _bounds_message(bounds)):
            yield at, message
    if match.time is not None and sound(f"{path}.time"):
        yield from _time(f"{path}.time", match.time)


def missing_facts(path: str, match: Match, config: Config, sound: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """What a match goes by that this configuration doesn't read or count, or not before a route is chosen."""
    for label in LABELS:
        if getattr(match, label) is not None and (message := _unread(label, config)):
            yield f"{path}.{label}", message
    if match.budget_used is not None and sound(f"{path}.budget_used"):
        yield from _budget_used(f"{path}.budget_used", match.budget_used, config, sound)


def _unread(label: str, config: Config) -> str | None:
    if label == "key":
        return None if config.needs_keys else "never matches: there are no `keys`"
    return None if getattr(config.identity, label) else f"never matches: `identity.{label}` is empty, so no call has one"


def _budget_used(path: str, used: BudgetUsed, config: Config, sound: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    if used.over is None and used.under is None:
        yield path, "says nothing: give `over`, `under`, or both"
    elif used.under is not None and used.under <= (0 if used.over is None else used.over):
        yield path, "never matches: no share is over and under what it says"
    if not sound("budgets"):
        return
    budget = next((budget for budget in config.budgets if budget.name == used.budget), None)
    if budget is None:
        yield f"{path}.budget", "is the name of no budget"
    elif known_later := sorted(KNOWN_AFTER_ROUTING.intersection(budget.per)):
        yield f"{path}.budget", f"names a budget per {known_later[0]}, which isn't known before a route is chosen"


def _header_names(path: str, match: Match) -> Iterator[tuple[str, str]]:
    for name in match.header:
        if message := header_name_message(name):
            yield join_key(f"{path}.header", name), message


def _conditions(path: str, match: Match) -> dict[str, str | list[str]]:
    """The conditions that name values, by path."""
    named = {"model": match.model, "path": match.path, "method": match.method, "response_format": match.response_format}
    named |= {label: getattr(match, label) for label in LABELS}
    conditions = {f"{path}.{name}": value for name, value in named.items() if value is not None}
    conditions |= {join_key(f"{path}.header", name): value for name, value in match.header.items()}
    return conditions | {join_key(f"{path}.metadata", name): value for name, value in match.metadata.items()}


def _bounds_message(bounds: Bounds) -> str | None:
    if bounds.over is None and bounds.under is None:
        return "says nothing: give `over`, `under`, or both"
    fewest = 0 if bounds.over is None else math.floor(bounds.over) + 1
    if bounds.under is not None and bounds.under <= fewest:
        return "never matches: no number of tokens is over and under what it says"
    return None


def _time(path: str, time: TimeOfDay) -> Iterator[tuple[str, str]]:
    for at, value in ((f"{path}.after", time.after), (f"{path}.before", time.before)):
        if not _TIME.fullmatch(value):
            yield at, "must be a time of day as HH:MM, 00:00 to 24:00"
    if time.after == END_OF_DAY:
        yield f"{path}.after", "is the end of the day: the day begins at 00:00"
    elif time.after == time.before:
        yield f"{path}.before", "is the same as `after`: the whole day is 00:00 to 24:00"
    elif (time.after, time.before, time.days) == (MIDNIGHT, END_OF_DAY, []):
        yield path, "is every minute of every day: give `after`, `before` or `days`, or leave the key out"
    if len(set(time.days)) < len(time.days):
        yield f"{path}.days", "names a day twice"
    if not is_zone(time.time_zone):
        yield f"{path}.time_zone", "is no time zone that this machine knows: a name such as Europe/Berlin is wanted"


def is_zone(name: str) -> bool:
    """Whether this machine knows a time zone."""
    from zoneinfo import ZoneInfo  # only for who asks for the time

    try:
        return bool(ZoneInfo(name).key)
    except (KeyError, ValueError, OSError):  # unknown; no name of a zone; the name of a folder of zones
        return False
