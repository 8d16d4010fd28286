"""Plain words mean what YAML 1.2's core schema says."""

from __future__ import annotations

import math

import pytest

from proxy.config.scalars import Value, parse_percentage, parse_scalar


@pytest.mark.parametrize(
    "word",
    [
        "no",
        "yes",
        "on",
        "off",
        "y",
        "n",
        "No",
        "1:30",
        "2001-01-01",
        "1.2.3",
        "0b11",
        "0o9",
        "0xg",
        "1__0",
        "_1",
        "1_",
        "+",
        "-",
        ".",
        "e3",
        "1e",
        "nan",
        "inf",
        "tRue",
        "nuLL",
        "+0x1",
    ],
)
def test_words_of_yaml_1_1_are_strings(word: str) -> None:
    assert parse_scalar(word) == word


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7), ("2_000_000", 2_000_000), ("0", 0),
        ("1e3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-1.5E-1", -0.15), (".inf", math.inf), ("-.INF", -math.inf), ("+.Inf", math.inf),
        ("true", True), ("TRUE", True), ("False", False), ("", None), ("~", None), ("null", None), ("NULL", None),
    ],
)  # fmt: skip
def test_core_schema_values(word: str, value: Value) -> None:
    parsed = parse_scalar(word)
    assert parsed == value
    assert type(parsed) is type(value)


def test_not_a_number_is_a_float() -> None:
    parsed = parse_scalar(".nan")
    assert isinstance(parsed, float)
    assert math.isnan(parsed)


@pytest.mark.parametrize(("word", "value"), [("9" * 5000, math.inf), ("-" + "9" * 5000, -math.inf), ("1e999", math.inf)])
def test_endless_numbers_are_infinite_and_raise_nothing(word: str, value: float) -> None:
    assert parse_scalar(word) == value


@pytest.mark.parametrize(("text", "share"), [("50%", 0.5), ("0.5%", 0.005), ("+5%", 0.05), ("-5%", -0.05), ("1000%", 10.0)])
def test_percentage_is_a_share(text: str, share: float) -> None:
    assert parse_percentage(text) == share


@pytest.mark.parametrize("text", ["", "%", "5", "5 %", "5%%", ".5%", "1e1%", "５%", "5%\n"])
def test_what_is_no_percentage_is_no_share(text: str) -> None:
    assert parse_percentage(text) is None
