"""What is wrong with a configuration, and where.

Here: a problem with its place, the list that collects them, the error that carries them, how names and values are shown.
Not here: what counts as wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import msgspec

HIDDEN = "'***'"
"""How a value is shown that may be a secret."""

SHOWN_CHARACTERS = 60
COMPARED_CHARACTERS = 64
"""Longer names are not compared: nobody mistypes them, and comparing is quadratic."""


class Place(msgspec.Struct, frozen=True):
    """Where something stands in the file."""

    line: int  # 1-based
    column: int  # 1-based, in characters


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    file: str  # as given on the command line
    message: str
    path: str = ""  # of keys, e.g. routes[2].to; "" for the file as a whole
    place: Place | None = None  # None: the file could not be read

    def __str__(self) -> str:
        where = f"{self.file}:{self.place.line}:{self.place.column}" if self.place else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigError(Exception):
    """A configuration that can't be used: every problem of it, one a line, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Problems:
    """Collects the problems of one file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[Problem, None] = {}  # a set that keeps order: what is reached twice through an alias is told once

    def add(self, place: Place | None, path: str, message: str) -> None:
        """Note a problem and go on."""
        self._found[Problem(self._file, message, path, place)] = None

    def stop(self, place: Place | None, path: str, message: str) -> ConfigError:
        """A problem after which the file can't be read on: the error to raise, with this problem alone."""
        return ConfigError([Problem(self._file, message, path, place)])

    def paths(self) -> frozenset[str]:
        """Where problems were found so far."""
        return frozenset(problem.path for problem in self._found)

    def raise_any(self) -> None:
        """Raises ConfigError if there is a problem."""
        if self._found:
            raise ConfigError(sorted(self._found, key=_position))


def _position(problem: Problem) -> tuple[int, int]:
    return (problem.place.line, problem.place.column) if problem.place else (0, 0)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known name that is nearest; "" if none is near."""
    if len(name) > COMPARED_CHARACTERS:
        return ""
    near = get_close_matches(name, [other for other in known if len(other) <= COMPARED_CHARACTERS], n=1)
    return f" (did you mean {shown(near[0])}?)" if near else ""


def shown(value: object, *, secret: bool = False) -> str:
    """A value as it may stand in a message: shortened, or hidden if it is secret."""
    if secret:
        return HIDDEN
    text = repr(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
