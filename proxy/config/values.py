"""What a single value may be: its type as the schema declares it, and its range as its key's name tells it.

Here: messages about one value, None where it is right. Not here: lists and sections.
"""

from __future__ import annotations

import math
from typing import TypeGuard

from msgspec import inspect

from proxy.config.key_tables import MATCHES, NOT_EMPTY
from proxy.config.problems import did_you_mean, shown
from proxy.config.scalars import Value, parse_percentage

KINDS: dict[type, str] = {
    inspect.StrType: "a string",
    inspect.LiteralType: "a word",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.CustomType: "a string",  # a Secret
    inspect.BoolType: "true or false",
    inspect.ListType: "a list",
    inspect.VarTupleType: "a list",
    inspect.DictType: "a mapping",
    inspect.StructType: "a mapping",
}

LARGEST = 1e9
"""Seconds, MiB and USD alike: what is beyond is a slip of the hand, and timers overflow."""

LARGEST_COUNT = 9e15
LARGEST_USD = LARGEST_COUNT / 1e9
"""Of what a budget counts, USD in nano-USD: up to 2**53, about, every store has exact integers."""

POSITIVE_ENDINGS = ("_s", "_ms", "_mib")
"""Every other number is a price, a weight or a bound, which may be 0, unless it has a row in RANGES."""

_BUDGET_USED = [f"{match}.budget_used.{bound}" for match in MATCHES for bound in ("over", "under")]

RATIOS = frozenset(
    {
        "telemetry.keep.ratio",
        "targets.*.breaker.ratio",
        "routes[].experiment.arms.*",
        "routes[].hedge.max_ratio",
        "routes[].mirror.ratio",
        "budgets[].warn_at[]",
        *_BUDGET_USED,
    }
)
"""Shares of a whole, 0 to 1: they may be written as 0.5 or as 50%."""

RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(RATIOS, (0, 1)),
    "telemetry.keep.slower_than_s": (0, LARGEST),
    "telemetry.max_chars": (1, LARGEST),
    "telemetry.spool.max_mib": (1, LARGEST),
    "targets.*.breaker.failures": (1, LARGEST),
    "targets.*.breaker.probes": (1, LARGEST),
    "targets.*.limits.concurrency": (1, LARGEST),
    "targets.*.context_window": (1, LARGEST),
    "targets.*.max_output_tokens": (1, LARGEST),
    "targets.*.request.clamp.*": (-LARGEST, LARGEST),
    "routes[].request.clamp.*": (-LARGEST, LARGEST),
    "routes[].failover.attempts": (1, 10),
    "budgets[].limit.usd": (1e-9, LARGEST_USD),
    "budgets[].limit.tokens": (1, LARGEST_COUNT),
    "budgets[].limit.requests": (1, LARGEST_COUNT),
    "budgets[].window.rolling_s": (1, 31 * 86_400),
    "budgets[].warn_at[]": (0, 10),  # more than all of it: of budgets that don't refuse
    "budgets[].critical_multiplier": (1, 1000),
    "limits[].concurrency": (1, LARGEST),
    "limits[].wait_ms": (1, 60_000),
    "store.timeout_ms": (1, 1000),
    "store.lease_s": (2, 3600),
}
"""Smallest and largest value, by key as the schema's tables write it."""


JSON_INTEGERS = range(-(1 << 63), 1 << 64)
"""Whole numbers that every reader of JSON on the way takes."""


def kind_of(wanted: inspect.Type) -> str:
    """A declared type in words, e.g. `a string or a list`."""
    members = wanted.types if isinstance(wanted, inspect.UnionType) else (wanted,)
    return " or ".join(KINDS[type(member)] for member in members if not isinstance(member, inspect.NoneType))


def is_any(wanted: inspect.Type) -> bool:
    """Whether a key takes whatever JSON can say."""
    return isinstance(wanted, inspect.CustomType) and wanted.cls is object


def type_message(value: Value, wanted: inspect.Type, secret: bool) -> str | None:
    """What is wrong with a value's type; a secret one is not shown."""
    match wanted:
        case inspect.LiteralType() if value in wanted.values:
            return None
        case inspect.LiteralType():
            words = [str(word) for word in wanted.values]
            hint = "" if secret else did_you_mean(str(value), words)
            return f"expected one of {', '.join(words)}; found {shown(value, secret=secret)}{hint}"
        case inspect.UnionType():
            messages = [type_message(value, member, secret) for member in wanted.types]
            return None if None in messages else messages[-1]
        case inspect.StrType() | inspect.CustomType() if isinstance(value, str):
            return None
        case inspect.IntType() if isinstance(value, int) and not isinstance(value, bool):
            return None
        case inspect.BoolType() if isinstance(value, bool):
            return None
        case inspect.FloatType() if _is_number(value):
            return None
        case _:
            hint = " (put it in quotes)" if isinstance(wanted, inspect.StrType | inspect.CustomType) and value is not None else ""
            return f"expected {kind_of(wanted)}, found {_described(value, secret)}{hint}"


def range_message(value: Value, shape: str, secret: bool) -> str | None:
    """What is wrong with a value of the right type; `shape` is its key as the schema's tables write it."""
    if value == "" and shape in NOT_EMPTY:
        return "must not be empty"
    if not _is_number(value):
        return None
    if shape in RANGES:
        low, high = RANGES[shape]
        return None if low <= value <= high else f"must be at least {low:.10g} and at most {high:.10g}, found {shown(value, secret=secret)}"
    positive = shape.endswith(POSITIVE_ENDINGS)
    if (value > 0 if positive else value >= 0) and value <= LARGEST:
        return None
    return f"must be {'more than' if positive else 'at least'} 0 and at most {LARGEST:.0f}, found {shown(value, secret=secret)}"


def read_ratio(value: Value, shape: str) -> Value:
    """A percentage as the share it is, where a ratio is wanted; anything else as it came."""
    share = parse_percentage(value) if shape in RATIOS and isinstance(value, str) else None
    return value if share is None else share


def json_message(value: Value, secret: bool) -> str | None:
    """Why a value can't stand in a JSON body; None if it can."""
    if not _is_number(value) or (math.isfinite(value) if isinstance(value, float) else value in JSON_INTEGERS):
        return None
    return f"is a number that JSON has no room for, found {shown(value, secret=secret)}"


def _is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _described(value: Value, secret: bool) -> str:
    if value is None:
        return "nothing"
    kind = "the word" if isinstance(value, bool) else "the string" if isinstance(value, str) else "the number"
    return f"{kind} {shown(value, secret=secret)}"
