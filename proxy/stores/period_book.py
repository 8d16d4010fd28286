"""An account of what is spent in periods: a calendar's window, or the last so many slices of a rolling one.

Here: sums, whether a line fits, when it will. Not here: I/O, several accounts at once (books.py).
"""

from __future__ import annotations

from proxy.spending import FOREVER_MS, Fit, Line, Period

NEVER_BEGAN_MS = -1


def keep_until_ms(window: Period) -> int:
    """How long a period is remembered: twice its window beyond its end, so that a clock that jumps ahead and back forgets nothing."""
    return min(window.end_ms + 2 * (window.end_ms - window.counts_from_ms), FOREVER_MS)


class PeriodBook:
    """One account. Keys of `spent`, `held` and `keep_until` are the periods' beginnings, Unix milliseconds."""

    __slots__ = ("_held_since", "_since_ms", "_spent_since", "held", "keep_until", "newest_ms", "spent")

    def __init__(self) -> None:
        self.spent: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.keep_until: dict[int, int] = {}
        self.newest_ms = NEVER_BEGAN_MS
        self._since_ms: int | None = None  # the sums of what began at this time or later are known: a rolling window has 60 parts
        self._spent_since = 0
        self._held_since = 0

    def standing(self, window: Period) -> tuple[int, int]:
        """What is spent and held in the window."""
        first = window.counts_from_ms
        if first == window.start_ms >= self.newest_ms:
            return self.spent.get(first, 0), self.held.get(first, 0)
        if first != self._since_ms:
            self._since_ms = first
            self._spent_since = sum(spent for start_ms, spent in self.spent.items() if start_ms >= first)
            self._held_since = sum(held for start_ms, held in self.held.items() if start_ms >= first)
        return self._spent_since, self._held_since

    def fits(self, line: Line, window: Period) -> bool:
        """Whether the line may be held."""
        spent, held = self.standing(window)
        match line.fit:
            case Fit.WHOLE:
                return spent + held + line.amount <= line.limit
            case Fit.ANY:
                return spent + held < line.limit
            case Fit.SETTLED:
                return spent < line.limit
            case Fit.NOTHING:
                return True

    def hold(self, window: Period, amount: int) -> None:
        """Hold an amount; a negative one lets it go."""
        start_ms = window.start_ms
        if self._since_ms is not None and start_ms >= self._since_ms:
            self._held_since += amount
        left = self.held.get(start_ms, 0) + amount
        if left:
            self.held[start_ms] = left
            if start_ms > self.newest_ms:
                self.newest_ms = start_ms
        else:
            self.held.pop(start_ms, None)

    def spend(self, window: Period, amount: int) -> None:
        """Book spending, under a period that may be over."""
        self.put(window.start_ms, self.spent.get(window.start_ms, 0) + amount, keep_until_ms(window))

    def put(self, start_ms: int, spent: int, until_ms: int) -> None:
        """Set what was spent in a period."""
        if self._since_ms is not None and start_ms >= self._since_ms:
            self._spent_since += spent - self.spent.get(start_ms, 0)
        self.spent[start_ms] = spent
        self.keep_until[start_ms] = until_ms
        if start_ms > self.newest_ms:
            self.newest_ms = start_ms

    def retry_after_ms(self, line: Line, window: Period, now_ms: int) -> int | None:
        """When enough of what is spent has left the window for the line to fit. None: never, or when calls that run are settled."""
        return retry_after_ms(self.spent, line, window, now_ms)

    def forget(self, now_ms: int) -> bool:
        """Drop periods that count nowhere any more. True: nothing is left."""
        old = [start_ms for start_ms, until_ms in self.keep_until.items() if until_ms < now_ms and start_ms not in self.held]
        for start_ms in old:
            del self.spent[start_ms], self.keep_until[start_ms]
            self._since_ms = None
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
