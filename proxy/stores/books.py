"""Accounts in memory: what is spent and held in each, lines held all or none, each hold settled once. Port: BudgetStore.

Here: several accounts at once, and forgetting them. Not here: one account's arithmetic (period_book.py, rate_book.py), I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.spending import Answer, Entry, Hold, Line, Period, Rate, Reserved, Short, Shortage, Standing
from proxy.stores.period_book import PeriodBook
from proxy.stores.rate_book import US_PER_MS, RateBook, retry_after_ms, used, wait_us

FORGET_EVERY_MS = 1000
FORGET_AT_A_TIME = 8  # accounts looked at in a reservation: forgetting never takes long at once


class BookHold(Hold):
    """A hold, and of a rate the time at which what it took has been given back."""

    __slots__ = ("given_back_us",)

    def __init__(self, line: Line, given_back_us: int = 0) -> None:
        self.line = line
        self.is_open = True
        self.given_back_us = given_back_us


class Books:
    """All accounts of one process. Nothing here waits."""

    def __init__(self) -> None:
        self._periods: dict[str, PeriodBook] = {}
        self._rates: dict[str, RateBook] = {}
        self._to_look_at: list[str] = []
        self._look_again_ms = 0

    # -- port ---------------------------------------------------------------------------------------------------------

    def now_ms(self, now_ms: int) -> int:
        return now_ms

    def reserve(self, lines: Sequence[Line], now_ms: int) -> Reserved | Short:
        holds: list[Hold] = []
        shortages: list[Shortage] = []
        for index, line in enumerate(lines):
            window = line.window
            if isinstance(window, Period):
                book = self._periods.get(line.account) or self._open(line.account)
                if book.take(line, window):
                    holds.append(BookHold(line))
                else:
                    shortages.append(Shortage(index, Standing(*book.standing(window)), book.retry_after_ms(line, window, now_ms)))
            else:
                self._take(index, line, window, now_ms, holds, shortages)
        if shortages:
            for hold in holds:
                self.settle(hold, 0, now_ms)
            return Short(shortages)
        if self._to_look_at or now_ms >= self._look_again_ms:
            self._forget_some(now_ms)
        return Reserved(holds)

    async def ask(self, lines: Sequence[Line], now_ms: int) -> Answer:
        return self.reserve(lines, now_ms)

    def settle(self, hold: Hold, spent: int, now_ms: int) -> None:
        if not hold.is_open or not isinstance(hold, BookHold):
            return
        hold.is_open = False
        line = hold.line
        window = line.window
        if isinstance(window, Period):
            book = self._periods.get(line.account) or self._open(line.account)
            book.settle(window, line.amount, spent)
        else:
            rate_book = self._rates.get(line.account) or self._open_rate(line.account)
            rate_book.correct(window, line.amount, hold.given_back_us, spent, now_ms * US_PER_MS)

    def standing(self, account: str, window: Period | Rate, now_ms: int) -> Standing | None:
        if isinstance(window, Period):
            book = self._periods.get(account)
            return Standing(*book.standing(window)) if book else None
        rate_book = self._rates.get(account)
        return Standing(used(window, rate_book.empty_us, now_ms * US_PER_MS), 0) if rate_book else None

    # -- what operators and files do ----------------------------------------------------------------------------------

    def add(self, account: str, start_ms: int, keep_until_ms: int, amount: int) -> None:
        """Book an amount in a period, whatever its limit; a negative one takes it back."""
        book = self._periods.get(account) or self._open(account)
        book.put(start_ms, book.spent.get(start_ms, 0) + amount, keep_until_ms)

    def in_window(self, account: str, window: Period) -> list[tuple[int, int, int]]:
        """What counts in a window: each period's beginning, time to keep it until, amount."""
        book = self._periods.get(account)
        spent = book.spent.items() if book else ()
        return [(start_ms, book.keep_until[start_ms], amount) for start_ms, amount in spent if book and start_ms >= window.counts_from_ms]

    def spending(self) -> Iterator[tuple[str, int, int, int]]:
        """Everything spent: account, period's beginning, time to keep it until, amount."""
        for account, book in self._periods.items():
            for start_ms, spent in book.spent.items():
                yield account, start_ms, book.keep_until[start_ms], spent

    def rates(self, after_us: int) -> list[tuple[str, int]]:
        """The rates whose `empty_us` is after this: account, `empty_us`. May be called by another thread: copying a dict is one step."""
        return [(account, book.empty_us) for account, book in self._rates.copy().items() if book.empty_us > after_us]

    def set_rate(self, account: str, empty_us: int) -> None:
        """Set a rate as it was when it was last written down."""
        self._rates[account] = RateBook(empty_us)

    def entries(self) -> list[Entry]:
        """All accounts, period by period."""
        return [
            Entry(account, start_ms, book.spent.get(start_ms, 0), book.held.get(start_ms, 0))
            for account, book in self._periods.items()
            for start_ms in sorted(book.spent.keys() | book.held.keys())
        ]

    def __len__(self) -> int:
        return len(self._periods) + len(self._rates)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _open(self, account: str) -> PeriodBook:
        book = self._periods[account] = PeriodBook()
        return book

    def _open_rate(self, account: str) -> RateBook:
        book = self._rates[account] = RateBook()
        return book

    def _take(self, index: int, line: Line, rate: Rate, now_ms: int, holds: list[Hold], shortages: list[Shortage]) -> None:
        book = self._rates.get(line.account) or self._open_rate(line.account)
        now_us = now_ms * US_PER_MS
        if wait_us(rate, line, book.empty_us, now_us) <= 0:
            holds.append(BookHold(line, book.take(rate, line.amount, now_us)))
            return
        book.bound(rate, line.limit, now_us)
        standing = Standing(used(rate, book.empty_us, now_us), 0)
        shortages.append(Shortage(index, standing, retry_after_ms(rate, line, book.empty_us, now_us)))

    def _forget_some(self, now_ms: int) -> None:
        """Look at a few accounts: those that count nowhere any more are dropped."""
        if not self._to_look_at:
            self._to_look_at = [*self._periods, *self._rates]
            self._look_again_ms = now_ms + FORGET_EVERY_MS
        for account in self._to_look_at[-FORGET_AT_A_TIME:]:
            book = self._periods.get(account)
            if book is not None and book.forget(now_ms):
                del self._periods[account]
            rate_book = self._rates.get(account)
            if rate_book is not None and rate_book.empty_us < now_ms * US_PER_MS:
                del self._rates[account]
        del self._to_look_at[-FORGET_AT_A_TIME:]
