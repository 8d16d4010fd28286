"""What a plain word in the file means: the scalars of YAML 1.2's core schema.

Here: text to null, bool, int, float or string, and percentages. Not here: quoted text, which is a string always; what a key wants.
"""

from __future__ import annotations

import math
import re

Value = str | int | float | bool | None

WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{"-" + word: -math.inf for word in (".inf", ".Inf", ".INF")},
}

_INTEGER = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*")  # underscores are ours: 2_000_000 reads better
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")

_PERCENTAGE = re.compile(r"([-+]?[0-9]+(?:\.[0-9]+)?)%")

MAX_DIGITS = 300
"""Longer integers would not fit a float, and int() refuses the longest: they count as infinite."""


def parse_scalar(text: str) -> Value:
    """The value of a plain scalar: `no` is a string, `010` is 10, `0o10` is 8, `1:30` is a string. Source: YAML 1.2.2, 10.3.2."""
    if text in WORDS:
        return WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    for pattern, base in ((_INTEGER, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            return _integer(text, base)
    return float(text) if _FLOAT.fullmatch(text) else text


def parse_percentage(text: str) -> float | None:
    """The share that a percentage stands for: `12.5%` is 0.125; None if the text is none."""
    match = _PERCENTAGE.fullmatch(text)
    return float(match[1]) / 100 if match else None


def _integer(text: str, base: int) -> int | float:
    if len(text) <= MAX_DIGITS:
        return int(text, base)
    return -math.inf if text.startswith("-") else math.inf
