"""Rates as they are written."""

from __future__ import annotations

import pytest

from proxy.policy.limits import PERIODS_MS, parse_rate
from proxy.spending import Rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/min", Rate(100, 60_000)),
        ("200_000/min", Rate(200_000, 60_000)),
        ("1/s", Rate(1, 1000)),
        ("5/sec", Rate(5, 1000)),
        ("7/h", Rate(7, 3_600_000)),
        ("7/hour", Rate(7, 3_600_000)),
        ("5000/day", Rate(5000, 86_400_000)),
    ],
)
def test_rate_is_so_many_at_once_and_again_over_each_period(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "/min", "100/", "0/min", "-1/min", "1.5/s", "x/min", "100/week", "100/min/s", "_/s", "1_/s", "²/s"]
)
def test_anything_else_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rate(text)


def test_periods_are_those_of_the_clock() -> None:
    assert sorted(set(PERIODS_MS.values())) == [1000, 60_000, 3_600_000, 86_400_000]
