"""The thread that writes the ledger: gathers rows, commits them in batches, tries again when the disk won't, and says how far it got.

Here: the bounded queue, retries, letting records go. Not here: SQL (store.py), who else holds a record (proxy.observer.progress).
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Thread
from time import monotonic, time_ns

from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.ledger.rows import SqlRow
from proxy.observer.ledger.store import LedgerFile, LedgerUnreadable
from proxy.observer.progress import Party, Progress
from proxy.sqlite_files import move_aside

BATCH_ROWS = 500
BATCH_WAIT_S = 0.1
IDLE_REPORT_S = 1.0  # counters of the export still move when no calls come
QUEUE_ROWS = 10_000
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 5.0

_log = logging.getLogger(__name__)


class LedgerWriter:
    """Takes rows from any thread without ever waiting for the disk. `report` is called on its own thread, after each batch."""

    def __init__(self, path: Path, totals: Counters, progress: Progress, report: Callable[[], None], queue_rows: int = QUEUE_ROWS) -> None:
        self._path = path
        self._counters = totals
        self._progress = progress
        self._report = report
        self._queue_rows = queue_rows
        self._items: deque[tuple[int, SqlRow]] = deque()
        self._changed = Condition()
        self._closing_until: float | None = None  # monotonic
        self._file: LedgerFile | None = None
        self._failing = False
        self._thread = Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def put(self, sequence: int, row: SqlRow) -> None:
        """Queue the row of record number `sequence`, which is held until it is written or lost. When the queue is full, the oldest goes."""
        self._progress.hold(sequence, Party.LEDGER)
        lost: list[int] = []
        with self._changed:
            self._items.append((sequence, row))
            if len(self._items) > self._queue_rows:
                lost.append(self._items.popleft()[0])
                self._counters.add(counters.DROPPED_ROWS_QUEUE_FULL)
            if len(self._items) in (1, BATCH_ROWS):
                self._changed.notify()
        if lost:
            self._progress.release(lost, Party.LEDGER)

    def close(self, timeout_s: float) -> None:
        """Write what is left, within `timeout_s`; what isn't written by then is counted as lost."""
        with self._changed:
            self._closing_until = monotonic() + timeout_s
            self._changed.notify()
        self._thread.join(timeout_s + BATCH_WAIT_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._items:
                    self._changed.wait_for(self._has_work, IDLE_REPORT_S)
                if self._items:
                    self._changed.wait_for(self._is_due, BATCH_WAIT_S)
                batch = [self._items.popleft() for _ in range(min(len(self._items), BATCH_ROWS))]
                closing = self._closing_until is not None
            if batch:
                self._settle(batch)
            self._report()
            if closing and not batch:
                break
        if self._file is not None:
            self._file.close()

    def _has_work(self) -> bool:
        return bool(self._items) or self._closing_until is not None

    def _is_due(self) -> bool:
        return len(self._items) >= BATCH_ROWS or self._closing_until is not None

    def _settle(self, batch: list[tuple[int, SqlRow]]) -> None:
        """Write a batch, however long it takes, or count it as lost when the process has to end."""
        if not self._write([row for _, row in batch]):
            self._counters.add(counters.DROPPED_ROWS_SHUTDOWN, len(batch))
        self._progress.release((sequence for sequence, _ in batch), Party.LEDGER)

    def _write(self, rows: list[SqlRow]) -> bool:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                self._try_write(rows)
                return True
            except LedgerUnreadable as error:
                self._replace(error)
            except (sqlite3.OperationalError, OSError) as error:
                self._tell(error)
            except Exception:
                _log.exception("a row isn't fit for the ledger")
                if len(rows) == 1:
                    self._counters.add(counters.DROPPED_ROWS_INVALID)
                    return True
                return sum(self._write([row]) for row in rows) == len(rows)
            self._counters.add(counters.LEDGER_FAILURES)
            self._report()
            if not self._may_retry(retry_s):
                return False
            retry_s = min(LAST_RETRY_S, retry_s * 2)

    def _try_write(self, rows: list[SqlRow]) -> None:
        if self._file is None:
            self._file = LedgerFile(self._path)
        self._counters.add(counters.LEDGER_ROWS, self._file.insert(rows))
        if self._failing:
            self._failing = False
            _log.warning("the ledger %s is written again", self._path)

    def _tell(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            _log.error("the ledger %s can't be written: %s. Calls are kept in memory, up to %d", self._path, error, self._queue_rows)

    def _replace(self, error: LedgerUnreadable) -> None:
        """Move a ledger that can't be read out of the way; the next try makes a new one."""
        if self._file is not None:
            self._file.close()
            self._file = None
        try:
            aside = move_aside(self._path, time_ns() // 1_000_000)
        except OSError as cause:
            self._tell(cause)
        else:
            _log.error("the ledger %s can't be read (%s): moved to %s, a new one begins", self._path, error, aside.name)

    def _may_retry(self, retry_s: float) -> bool:
        """Wait for the next try; False when the process has to end first."""
        with self._changed:
            if self._closing_until is None:
                self._changed.wait_for(lambda: self._closing_until is not None, retry_s)
                return True
            left_s = self._closing_until - monotonic()
            self._changed.wait_for(lambda: False, max(0.0, min(retry_s, left_s)))
            return left_s > 0
