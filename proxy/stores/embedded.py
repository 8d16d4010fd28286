"""The embedded store: accounts in memory, written behind to SQLite in state_dir. Port: BudgetStore.

Here: opening, what a process that was killed left, closing. Not here: accounts (books.py), the files (journal.py, sqlite_file.py).
What is held dies with the process, and the calls with it; what was settled doesn't.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from proxy.ports import Clock
from proxy.spending import Answer, Entry, Hold, Line, Period, Rate, Reserved, Short, Standing
from proxy.sqlite_files import move_aside
from proxy.stores.books import Books
from proxy.stores.journal import JOURNAL_NAME, Journal, Spending
from proxy.stores.period_book import keep_until_ms
from proxy.stores.sqlite_file import DATABASE_NAME, Row, StoreFile, StoreUnreadable
from proxy.stores.writer import StoreWriter

LOCK_NAME = "store.lock"
CLOSE_S = 5.0
ANSWER_S = 5.0  # how long the writer waits for the loop
NS_PER_MS = 1_000_000

_log = logging.getLogger("postern.store")


class StateDirUnusable(OSError):
    """The embedded store can't be kept in state_dir; the message says what to do."""


class EmbeddedStore:
    """Memory is the truth. `start` and `close` belong to the event loop; everything else never waits."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self._folder = state_dir
        self._clock = clock
        self._books = Books()
        self._sequence = 0
        self.journal_full = 0  # entries that are safe only when SQLite has them

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Lock state_dir, load what it has. Raises StateDirUnusable."""
        self._loop = asyncio.get_running_loop()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self._folder / LOCK_NAME)
        except OSError as error:
            raise _unusable(self._folder, error) from error
        try:
            self._open()
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError | sqlite3.Error | StoreUnreadable):
                raise _unusable(self._folder, error) from error
            raise
        self._writer.start()

    def _open(self) -> None:
        path = self._folder / DATABASE_NAME
        file, rows, is_replaced = _open_file(path, self._now_ms())
        try:
            self._journal = Journal(self._folder / JOURNAL_NAME)
            left = self._journal.entries() if is_replaced or self._journal.database_id == file.database_id else []
            left = [entry for entry in left if entry.sequence > file.applied]
            self._sequence = max(file.applied, left[-1].sequence if left else 0)
            if left:
                replayed = [(entry.account, entry.start_ms, entry.keep_until_ms, entry.amount) for entry in left]
                file.add(replayed, self._sequence)
                rows += replayed
            self._journal.clear(file.database_id)
            for row in rows:
                self._books.add(*row)
            for account, empty_us in file.rates():
                self._books.set_rate(account, empty_us)
        except BaseException:
            file.close()
            raise
        self._writer = StoreWriter(file, path, self._everything, self._books.rates, self._now_ms)

    async def close(self) -> None:
        """Write what isn't written, unlock state_dir."""
        if not await asyncio.to_thread(self._writer.close, CLOSE_S):
            _log.error("the store in %s couldn't be written in time: the next start reads the rest from %s", self._folder, JOURNAL_NAME)
        self._journal.close()
        os.close(self._lock)

    # -- port ---------------------------------------------------------------------------------------------------------

    def now_ms(self, now_ms: int) -> int:
        return now_ms

    def reserve(self, lines: Sequence[Line], now_ms: int) -> Reserved | Short:
        return self._books.reserve(lines, now_ms)

    async def ask(self, lines: Sequence[Line], now_ms: int) -> Answer:
        return self._books.reserve(lines, now_ms)

    def settle(self, hold: Hold, spent: int, now_ms: int) -> None:
        if not hold.is_open:
            return
        self._books.settle(hold, spent, now_ms)
        if spent and isinstance(window := hold.line.window, Period):
            self._write(hold.line.account, window.start_ms, keep_until_ms(window), spent)

    def standing(self, account: str, window: Period | Rate, now_ms: int) -> Standing | None:
        return self._books.standing(account, window, now_ms)

    def health(self) -> dict[str, object]:
        """How it is doing, for /status: what isn't in SQLite yet, how often writing failed, how often the journal was full."""
        return {"kind": "embedded", "unwritten": self.unwritten, "failures": self.failures, "journal_full": self.journal_full}

    # -- what operators do --------------------------------------------------------------------------------------------

    async def accounts(self) -> list[Entry]:
        """Every account, period by period."""
        return self._books.entries()

    async def put_spent(self, account: str, period: Period, spent: int) -> None:
        """Set what counts as spent in the period's window."""
        changes = [(start_ms, until_ms, -amount) for start_ms, until_ms, amount in self._books.in_window(account, period)]
        for start_ms, until_ms, change in [*changes, (period.start_ms, keep_until_ms(period), spent)]:
            self._books.add(account, start_ms, until_ms, change)
            self._write(account, start_ms, until_ms, change)

    @property
    def unwritten(self) -> int:
        """How many entries SQLite doesn't have yet."""
        return self._writer.unwritten

    @property
    def failures(self) -> int:
        """How often the disk didn't do what it was told."""
        return self._writer.failures

    # -- inside -------------------------------------------------------------------------------------------------------

    def _write(self, account: str, start_ms: int, until_ms: int, amount: int) -> None:
        self._sequence += 1
        entry = Spending(self._sequence, account, start_ms, until_ms, amount)
        if not self._journal.append(entry, self._writer.applied):
            self.journal_full += 1
        self._writer.put(entry)

    def _now_ms(self) -> int:
        return self._clock.time_ns() // NS_PER_MS

    def _everything(self) -> tuple[int, list[Row]]:
        """Asked by the writer's thread, answered by the loop: nothing is settled meanwhile."""
        answer: Future[tuple[int, list[Row]]] = Future()
        self._loop.call_soon_threadsafe(lambda: answer.set_result((self._sequence, list(self._books.spending()))))
        return answer.result(ANSWER_S)


def _open_file(path: Path, now_ms: int) -> tuple[StoreFile, list[Row], bool]:
    """The database, what it has, and whether it stands in for one that couldn't be read."""
    try:
        return *_read_file(path), False
    except StoreUnreadable as error:
        aside = move_aside(path, now_ms)
        _log.error(
            "the store %s can't be read (%s): moved to %s, budgets begin at what its journal still has. Set what was spent with "
            "`postern budgets set`.",
            path, error, aside.name,
        )  # fmt: skip
        return *_read_file(path), True


def _read_file(path: Path) -> tuple[StoreFile, list[Row]]:
    file = StoreFile(path)
    try:
        return file, file.rows()
    except BaseException:
        file.close()
        raise


def _lock(path: Path) -> int:
    """Hold the folder's lock until the process ends. Raises BlockingIOError if another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _unusable(folder: Path, error: Exception) -> StateDirUnusable:
    if isinstance(error, BlockingIOError):
        return StateDirUnusable(
            f"Another Postern keeps its budgets in '{folder}'. Give each a `state_dir` of its own, or let them share budgets: "
            "`store: {kind: redis, url: …}`."
        )
    return StateDirUnusable(
        f"Budgets and limits can't be kept in '{folder}': {error}. Make `state_dir` a folder that can be written, with some room."
    )
