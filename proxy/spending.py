"""The nouns of budgets and limits: accounts, what a call draws on them, and what a store answers.

Here: values that policy makes and stores take and give. Not here: I/O, decisions, what rule asks for them (policy/).
An account counts one thing in integers: nano-USD, tokens, requests, or calls at a time. A budget of USD and tokens has two for each
value of its scope.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

FOREVER_MS = 1 << 53
"""An end that never comes; Lua's numbers are exact up to here."""

Unit = Literal["usd", "tokens", "requests", "concurrency"]
"""What an account counts; `usd` in nano-USD."""

OnStoreLost = Literal["open", "closed", "local"]


class Period(msgspec.Struct, frozen=True, gc=False):
    """The time that amounts are booked under, and what counts beside it. Unix milliseconds.

    A calendar window is one period. A rolling one is cut into periods: those that began at `counts_from_ms` or later count together.
    """

    start_ms: int
    end_ms: int  # left out
    counts_from_ms: int  # of a calendar window its own start


ENDLESS = Period(0, FOREVER_MS, 0)
"""Of what is held and never spent: calls at a time."""


class Rate(msgspec.Struct, frozen=True, gc=False):
    """A rate by GCRA: `burst` at once, and as many again over each `period_ms`, evenly."""

    burst: int
    period_ms: int


class Fit(StrEnum):
    """What must be left in an account for a call to be let through."""

    WHOLE = "whole"  # all of its upper bound: `strict`, limits
    ANY = "any"  # something, what is held counted: `headroom`
    SETTLED = "settled"  # something, what is held not counted: `posthoc`
    NOTHING = "nothing"  # it is let through and counted: rules in shadow, `allow`


class Line(msgspec.Struct, frozen=True, gc=False):
    """What a call draws on one account."""

    account: str  # the same for all calls and sidecars that share it, whatever the limit and the window: see `account_name`
    window: Period | Rate
    amount: int  # upper bound, in the account's unit; held until it is settled
    limit: int  # what spent and held may come to for this call; of a Rate its burst
    ordinary_limit: int  # the same for calls that aren't critical: what a critical call leaves over is not theirs
    fit: Fit = Fit.WHOLE
    on_store_lost: OnStoreLost = "local"


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How an account stands, over all sidecars as far as this one knows."""

    spent: int
    held: int


class Shortage(msgspec.Struct, frozen=True, gc=False):
    """A line that doesn't fit."""

    index: int  # of the line, among those that were asked for
    standing: Standing
    retry_after_ms: int | None  # when it may fit; None: not known; 0: its window is another by the time of the store, which is now known
    is_store_lost: bool = False  # the shared store doesn't answer: only what was drawn ahead can be spent


class Hold:
    """An amount held in an account, until its store is told what was spent of it. Made by stores only."""

    __slots__ = ("is_open", "line")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.is_open = True


class Reserved(msgspec.Struct, frozen=True):
    """Every line fits and is held."""

    holds: list[Hold]  # in the order of the lines


class Short(msgspec.Struct, frozen=True):
    """Nothing is held: these lines don't fit."""

    shortages: list[Shortage]


class StoreLost(msgspec.Struct, frozen=True):
    """Nothing is held: the shared store doesn't answer, and the line's rule says `closed`."""

    index: int  # of the line


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An account in one period, as an operator sees it."""

    account: str
    start_ms: int
    spent: int
    held: int
    limit: int | None = None  # where it is known


Answer = Reserved | Short | StoreLost


def account_name(rule: str, unit: Unit, scope: str) -> str:
    """The account's name, e.g. `tenant-day:usd:tenant=acme`. `scope` is made by policy and has no spaces or control characters."""
    return f"{rule}:{unit}:{scope}"
