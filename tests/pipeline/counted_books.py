"""The embedded store's own accounts, with what must hold of every amount in them written down beside.

Here: a store that counts what it holds, settles and gives back. Not here: the accounts themselves (proxy/stores/books.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from proxy.pipeline.held_responses import HeldResponses
from proxy.spending import Hold, Line, Period, Reserved, Short
from proxy.stores.books import Books


class CountedBooks(Books):
    """Port: BudgetStore. Every hold is settled once, and each account's lines fit it at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Hold] = []
        self.reserved: Counter[str] = Counter()  # by account: what was ever held of it
        self.settled: Counter[str] = Counter()  # what of it was spent
        self.released: Counter[str] = Counter()  # and what was given back; below 0 where more was spent than was held
        self.asked: list[Sequence[Line]] = []  # what was to be held, in order
        self.is_strict = False  # after each step, what is held and spent must be within the limit of whoever took that step

    def reserve(self, lines: Sequence[Line], now_ms: int) -> Reserved | Short:
        self.asked.append(lines)
        answer = super().reserve(lines, now_ms)
        if isinstance(answer, Reserved):
            self.open += answer.holds
            for line in lines:
                self.reserved[line.account] += line.amount
                self._check(line)
        return answer

    def settle(self, hold: Hold, spent: int, now_ms: int) -> None:
        mine = [one for one in self.open if one is hold]
        super().settle(hold, spent, now_ms)
        if mine:
            self.open = [one for one in self.open if one is not hold]
            self.settled[hold.line.account] += spent
            self.released[hold.line.account] += hold.line.amount - spent
            self._check(hold.line)

    def spent(self, account: str) -> int:
        """What was ever spent of a budget's account, whatever window it was in."""
        return sum(entry.spent for entry in self.entries() if entry.account == account)

    def held(self, account: str) -> int:
        """What is held of it now."""
        return sum(entry.held for entry in self.entries() if entry.account == account)

    def _check(self, line: Line) -> None:
        if not self.is_strict or not isinstance(line.window, Period):
            return
        standing = self.standing(line.account, line.window, 0)
        if standing is not None:
            assert standing.spent + standing.held <= line.limit, f"{line.account}: {standing} passes {line.limit}"


def check_nothing_is_held(store: CountedBooks, background: HeldResponses) -> None:
    """When no call is under way, everything that was reserved is settled or released, but for Responses in the background."""
    expected: Counter[str] = Counter()
    in_background = [hold for kept in background._kept.values() for _, hold in kept.held]
    for hold in in_background:
        expected[hold.line.account] += hold.line.amount
    for account in {*store.reserved, *(entry.account for entry in store.entries())}:
        assert store.held(account) == expected[account], (
            f"{account}: {store.held(account)} held, {expected[account]} of it in the background"
        )
        told = store.settled[account] + store.released[account] + expected[account]
        assert store.reserved[account] == told, f"{account}: reserved {store.reserved[account]}, settled and released {told}"
    assert len(store.open) == len(in_background), f"held by no call: {[one.line for one in store.open]}"
