"""The ledger's file: SQLite in WAL mode, opened, created, written in transactions, moved aside when it can't be read.

Here: SQL that writes. Not here: threads and retries (writer.py), reading (read.py). One thread owns a LedgerFile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from proxy.observer.ledger.rows import COLUMNS, CONTENT_COLUMN, SqlRow
from proxy.sqlite_files import is_unreadable, transaction

LEDGER_NAME = "ledger.db"
SCHEMA_VERSION = 2
MIGRATIONS = {1: f"ALTER TABLE calls ADD COLUMN {CONTENT_COLUMN} TEXT"}
"""By version: what makes it the next one. No row is touched, so that it takes no time whatever the ledger's size."""

BUSY_TIMEOUT_S = 1.0

_COLUMNS = COLUMNS | {CONTENT_COLUMN: "TEXT"}
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_DECLARATIONS = ", ".join(f'"{name}" {kind}' for name, kind in _COLUMNS.items())
_CREATE = f"CREATE TABLE calls (id INTEGER PRIMARY KEY, {_DECLARATIONS})"
_INSERT = f"INSERT OR IGNORE INTO calls ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names from our own table


class LedgerUnreadable(Exception):
    """The file isn't a ledger this version can write: it has to be moved aside."""


class LedgerFile:
    """An open ledger. Its methods raise LedgerUnreadable, or sqlite3.OperationalError and OSError for what may pass (full, locked)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        try:
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version not in (0, *MIGRATIONS, SCHEMA_VERSION):
                raise LedgerUnreadable(f"its schema is version {version}, this is {SCHEMA_VERSION}")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            if version == 0:
                self._write_schema(_CREATE)
            elif version < SCHEMA_VERSION:
                self._write_schema(*(MIGRATIONS[step] for step in range(version, SCHEMA_VERSION)))
        except sqlite3.DatabaseError as error:
            raise _translated(error) from error

    def _write_schema(self, *statements: str) -> None:
        with transaction(self._database):
            for statement in statements:
                self._database.execute(statement)
            self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def insert(self, rows: Sequence[SqlRow]) -> int:
        """Write rows in one transaction; calls already there are left as they are. Returns how many were new."""
        try:
            with transaction(self._database):
                return self._database.executemany(_INSERT, rows).rowcount
        except sqlite3.DatabaseError as error:
            raise _translated(error) from error

    def close(self) -> None:
        """Close the file; the write-ahead log is folded in."""
        self._database.close()


def _translated(error: sqlite3.DatabaseError) -> Exception:
    return LedgerUnreadable(str(error)) if is_unreadable(error) else error
