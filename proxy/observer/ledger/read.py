"""Reading the ledger while the observer writes it, from any process.

Here: read-only queries. Not here: writing (store.py), showing (show.py).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from proxy.observer.ledger.rows import COLUMNS, CONTENT_COLUMN, Row

READ_TIMEOUT_S = 5.0

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_AFTER = "SELECT id, {} FROM calls WHERE id > ? ORDER BY id LIMIT ?"
_LAST = "SELECT id, {} FROM calls ORDER BY id DESC LIMIT ?"


def read_calls(path: Path, after_rowid: int | None, limit: int, with_content: bool = False) -> list[Row]:
    """At most `limit` calls, oldest first: those after `after_rowid`, or with None the last ones.

    Without `with_content` what was said in them isn't read.
    Raises FileNotFoundError if there is no ledger, sqlite3.Error if it can't be read.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    with _reading(path) as database:
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'calls'").fetchone() is None:
            return []  # its observer is just starting
        names = f"{_NAMES}, {CONTENT_COLUMN}" if with_content and _has_content(database) else _NAMES
        if after_rowid is not None:
            return [Row(*values) for values in database.execute(_AFTER.format(names), (after_rowid, limit))]
        rows = [Row(*values) for values in database.execute(_LAST.format(names), (limit,))]
    return rows[::-1]


def _has_content(database: sqlite3.Connection) -> bool:
    """Whether the column is there: its observer may not have opened an older ledger yet."""
    return any(name == CONTENT_COLUMN for _, name, *_ in database.execute("PRAGMA table_info(calls)"))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(_address(path, "mode=ro"), uri=True, timeout=READ_TIMEOUT_S)) as database:
        if _is_open(database):
            yield database
            return
    # A WAL database nobody has open needs its directory writable even to be read; on a read-only one it can't change either.
    with contextlib.closing(sqlite3.connect(_address(path, "immutable=1"), uri=True)) as database:
        yield database


def _address(path: Path, option: str) -> str:
    return f"file:{quote(str(path.absolute()))}?{option}"


def _is_open(database: sqlite3.Connection) -> bool:
    try:
        database.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return False
        raise
    return True
