"""An account of what is spent in periods: a calendar's window, or the last so many slices of a rolling one.

Here: sums, whether a line fits, when it will. Not here: I/O, several accounts at once (books.py).
"""

from __future__ import annotations

from proxy.spending import FOREVER_MS, Fit, Line, Period


def keep_until_ms(window: Period) -> int:
    """How long a period is remembered: twice its window beyond its end, so that a clock that jumps ahead and back forgets nothing."""
    return min(window.end_ms + 2 * (window.end_ms - window.counts_from_ms), FOREVER_MS)


class PeriodBook:
    """One account. Keys of `spent`, `held` and `keep_until` are the periods' beginnings, Unix milliseconds."""

    __slots__ = ("_held_since", "_since_ms", "_spent_since", "held", "keep_until", "spent")

    def __init__(self) -> None:
        self.spent: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.keep_until: dict[int, int] = {}
        self._since_ms = FOREVER_MS  # what began at this time or later is summed up: a rolling window has 60 parts
        self._spent_since = 0
        self._held_since = 0

    def standing(self, window: Period) -> tuple[int, int]:
        """What is spent and held in the window."""
        if window.counts_from_ms != self._since_ms:
            self._sum_up(window.counts_from_ms)
        return self._spent_since, self._held_since

    def _sum_up(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self._spent_since = sum(spent for start_ms, spent in self.spent.items() if start_ms >= since_ms)
        self._held_since = sum(held for start_ms, held in self.held.items() if start_ms >= since_ms)

    def take(self, line: Line, window: Period) -> bool:
        """Hold the line's amount, if it fits."""
        if window.counts_from_ms != self._since_ms:
            self._sum_up(window.counts_from_ms)
        amount, fit, spent = line.amount, line.fit, self._spent_since
        if fit is Fit.WHOLE:
            if spent + self._held_since + amount > line.limit:
                return False
        elif (fit is Fit.ANY and spent + self._held_since >= line.limit) or (fit is Fit.SETTLED and spent >= line.limit):
            return False
        if amount:
            start_ms = window.start_ms
            self.held[start_ms] = self.held.get(start_ms, 0) + amount
            self._held_since += amount
        return True

    def settle(self, window: Period, amount: int, spent: int) -> None:
        """Let go what was held, and book what was spent of it, in a period that may be over."""
        start_ms = window.start_ms
        if amount:
            self.held[start_ms] -= amount
            if not self.held[start_ms]:
                del self.held[start_ms]
            if start_ms >= self._since_ms:
                self._held_since -= amount
        if spent:
            self.put(start_ms, self.spent.get(start_ms, 0) + spent, keep_until_ms(window))

    def put(self, start_ms: int, spent: int, until_ms: int) -> None:
        """Set what was spent in a period."""
        if start_ms >= self._since_ms:
            self._spent_since += spent - self.spent.get(start_ms, 0)
        self.spent[start_ms] = spent
        self.keep_until[start_ms] = until_ms

    def retry_after_ms(self, line: Line, window: Period, now_ms: int) -> int | None:
        """When enough of what is spent has left the window for the line to fit. None: never, or when calls that run are settled."""
        return retry_after_ms(self.spent, line, window, now_ms)

    def forget(self, now_ms: int) -> bool:
        """Drop periods that count nowhere any more. True: nothing is left."""
        old = [start_ms for start_ms, until_ms in self.keep_until.items() if until_ms < now_ms and start_ms not in self.held]
        for start_ms in old:
            del self.spent[start_ms], self.keep_until[start_ms]
            self._since_ms = FOREVER_MS
        return not self.spent and not self.held


def retry_after_ms(spent_by_start: dict[int, int], line: Line, window: Period, now_ms: int) -> int | None:
    """As `PeriodBook.retry_after_ms`, of spending by the periods' beginnings."""
    room = line.limit - (line.amount if line.fit is Fit.WHOLE else 1)
    spent = sorted((start_ms, amount) for start_ms, amount in spent_by_start.items() if start_ms >= window.counts_from_ms)
    left = sum(amount for _, amount in spent)
    if room < 0 or left <= room:
        return None
    slice_ms = window.end_ms - window.start_ms
    leaves_ms = window.end_ms
    for start_ms, amount in spent:
        if left <= room:
            break
        left -= amount
        slices = (start_ms - window.counts_from_ms) // slice_ms + 1
        leaves_ms = window.start_ms + slices * slice_ms
    return None if leaves_ms >= FOREVER_MS else max(0, leaves_ms - now_ms)
