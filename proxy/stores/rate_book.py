"""A rate by GCRA: one number says how much of the burst is in use, the time at which none of it would be.

Here: the arithmetic, in microseconds. Not here: I/O, several accounts at once (books.py).
"""

from __future__ import annotations

from proxy.spending import Fit, Line, Rate

US_PER_MS = 1000


def cost_us(rate: Rate, amount: int) -> int:
    """How long the rate takes to give an amount back, rounded up: rounding never lets more through."""
    return -(-amount * rate.period_ms * US_PER_MS // rate.burst)


def used(rate: Rate, empty_us: int, now_us: int) -> int:
    """How much of the burst is in use, rounded up."""
    return max(0, -(-(empty_us - now_us) * rate.burst // (rate.period_ms * US_PER_MS)))


def wait_us(rate: Rate, line: Line, empty_us: int, now_us: int) -> int:
    """How long until the line fits; 0 or less: it does now."""
    wanted = line.amount if line.fit is Fit.WHOLE else 1
    if line.fit is Fit.NOTHING:
        return 0
    return max(empty_us, now_us) + cost_us(rate, wanted) - cost_us(rate, line.limit) - now_us


def retry_after_ms(rate: Rate, line: Line, empty_us: int, now_us: int) -> int | None:
    """When the line fits; None: never, it asks for more than the burst."""
    if line.fit is Fit.WHOLE and line.amount > line.limit:
        return None
    return max(0, -(-wait_us(rate, line, empty_us, now_us) // US_PER_MS))


class RateBook:
    """One account; `empty_us` is the Unix time at which nothing of the burst is in use (GCRA's theoretical arrival time)."""

    __slots__ = ("empty_us",)

    def __init__(self, empty_us: int = 0) -> None:
        self.empty_us = empty_us

    def take(self, rate: Rate, amount: int, now_us: int) -> int:
        """Take an amount; returns when it will have been given back, for `correct`."""
        self.empty_us = max(self.empty_us, now_us) + cost_us(rate, amount)
        return self.empty_us

    def correct(self, rate: Rate, taken: int, given_back_us: int, spent: int, now_us: int) -> None:
        """Turn what was taken into what was spent. What time has given back already isn't given back twice."""
        change_us = cost_us(rate, spent) - cost_us(rate, taken)
        if change_us > 0:
            self.empty_us = max(self.empty_us, now_us) + change_us
        else:
            self.empty_us -= min(-change_us, max(0, given_back_us - now_us))

    def bound(self, rate: Rate, burst: int, now_us: int) -> None:
        """Nobody waits longer than for two bursts: a clock that was ahead for a while would close the account for as long."""
        self.empty_us = min(self.empty_us, now_us + 2 * cost_us(rate, burst))
