"""Rates as they are written: `100/min`.

Here: text to a Rate. Not here: which limits a call is under (budgets.py), whether a text is a rate at all (config/spending.py), counting
(stores/).
"""

from __future__ import annotations

from proxy.spending import Rate

PERIODS_MS = {"s": 1000, "sec": 1000, "min": 60_000, "h": 3_600_000, "hour": 3_600_000, "day": 86_400_000}
"""What may stand behind the slash."""


def parse_rate(text: str) -> Rate:
    """The rate that a text says: so many at once, and as many again over each period. Raises ValueError for what is none."""
    count, slash, period = text.partition("/")
    if not slash or period not in PERIODS_MS or not count.isascii() or not count.replace("_", "").isdecimal() or int(count) < 1:
        raise ValueError(f"{text!r} is no rate such as 100/min")
    return Rate(int(count), PERIODS_MS[period])
