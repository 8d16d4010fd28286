"""What our SQLite files have in common: one transaction at a time, telling a file that can't be used, moving it aside.

Here: what the ledger and the embedded store do alike. Not here: their tables.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_UNREADABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})  # ERROR: its tables aren't ours


def is_unreadable(error: sqlite3.DatabaseError) -> bool:
    """Whether it says that the file isn't one this version can use."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNREADABLE


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Everything or nothing is written."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # on a full disk SQLite may have rolled back by itself
            database.execute("ROLLBACK")
        raise


def move_aside(path: Path, unix_ms: int) -> Path:
    """Rename a file and its logs to `NAME.corrupt-<Unix milliseconds>…`; returns the new name. Raises OSError."""
    aside = path.with_name(f"{path.name}.corrupt-{unix_ms}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
