"""Which routes can never match, because an earlier one takes everything they would take.

Here: when one route's conditions are wider than another's; sound, not complete: what is reported is dead, what is not may still be.
Not here: matching a call.
"""

from __future__ import annotations

import re
from functools import lru_cache

from proxy.config.schema import Match

_STARS = re.compile(r"[*?]*\*[*?]*")


def shadows(earlier: Match, later: Match) -> bool:
    """Whether every call that `later` matches is matched by `earlier` too: as wide or wider, field by field."""
    return (
        (earlier.stream is None or earlier.stream is later.stream)
        and _globs_cover(earlier.model, later.model)
        and _globs_cover(earlier.path, later.path)
        and _methods_cover(earlier.method, later.method)
        and _headers_cover(earlier.header, later.header)
    )


def _globs_cover(wide: str | list[str] | None, narrow: str | list[str] | None) -> bool:
    if wide is None:
        return True
    if narrow is None:
        return False  # even `*` asks for a value to be there
    return all(any(glob_covers(one, other) for one in listed(wide)) for other in listed(narrow))


def _methods_cover(wide: str | list[str] | None, narrow: str | list[str] | None) -> bool:
    if wide is None:
        return True
    return narrow is not None and {method.upper() for method in listed(narrow)} <= {method.upper() for method in listed(wide)}


def _headers_cover(wide: dict[str, str | list[str]], narrow: dict[str, str | list[str]]) -> bool:
    return all(
        any(name.lower() == other.lower() and _globs_cover(globs, narrow[other]) for other in narrow)  # names are without case
        for name, globs in wide.items()
    )


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
