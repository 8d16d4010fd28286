"""The embedded store's file: SQLite in WAL mode, opened, created, written in transactions, moved aside when it can't be read.

Here: SQL. Not here: threads and retries (writer.py), what the numbers mean (books.py).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from proxy.sqlite_files import is_unreadable, transaction
from proxy.stores.journal import ID_BYTES

DATABASE_NAME = "store.db"
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 1.0

_SCHEMA = (
    "CREATE TABLE spent (account TEXT, start_ms INTEGER, keep_until_ms INTEGER, spent INTEGER, PRIMARY KEY (account, start_ms))",
    "CREATE TABLE rates (account TEXT PRIMARY KEY, empty_us INTEGER) WITHOUT ROWID",
    "CREATE TABLE state (id BLOB, applied INTEGER)",
)
_ADD = (
    "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET spent = spent + excluded.spent, keep_until_ms = excluded.keep_until_ms"
)

Row = tuple[str, int, int, int]
"""Account, period's beginning, time to keep it until (Unix milliseconds), amount."""


class StoreUnreadable(Exception):
    """The file isn't a store this version can use: it has to be moved aside."""


class StoreFile:
    """An open store. Its methods raise StoreUnreadable, or sqlite3.OperationalError and OSError for what may pass (full, locked).

    `database_id` tells databases apart; `applied` is the newest entry of the journal that is in it.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            with _translated():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise StoreUnreadable(f"its schema is version {version}, this is {SCHEMA_VERSION}")
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        if version == 0:
            with transaction(self._database):
                for statement in _SCHEMA:
                    self._database.execute(statement)
                self._database.execute("INSERT INTO state VALUES (?, 0)", (os.urandom(ID_BYTES),))
                self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self.database_id: bytes
        self.applied: int
        self.database_id, self.applied = self._database.execute("SELECT id, applied FROM state").fetchone()

    def rows(self) -> list[Row]:
        """Everything spent."""
        with _translated():
            return self._database.execute("SELECT account, start_ms, keep_until_ms, spent FROM spent").fetchall()

    def rates(self) -> list[tuple[str, int]]:
        """The rates as they were last written: account, `empty_us`."""
        with _translated():
            return self._database.execute("SELECT account, empty_us FROM rates").fetchall()

    def add(self, rows: Iterable[Row], applied: int) -> None:
        """Add spending, and remember how far the journal has been applied, in one transaction."""
        with _translated(), transaction(self._database):
            self._database.executemany(_ADD, rows)
            self._database.execute("UPDATE state SET applied = ?", (applied,))
        self.applied = applied

    def write_rates(self, rates: Iterable[tuple[str, int]]) -> None:
        """Replace all rates."""
        with _translated(), transaction(self._database):
            self._database.execute("DELETE FROM rates")
            self._database.executemany("INSERT INTO rates VALUES (?, ?)", rates)

    def forget(self, now_ms: int) -> None:
        """Drop periods that count nowhere any more."""
        with _translated(), transaction(self._database):
            self._database.execute("DELETE FROM spent WHERE keep_until_ms < ?", (now_ms,))

    def close(self) -> None:
        """Close the file; the write-ahead log is folded in."""
        self._database.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_unreadable(error):
            raise StoreUnreadable(str(error)) from error
        raise
