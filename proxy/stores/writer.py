"""The thread that writes the embedded store: sums up what was spent, commits it in batches, tries again when the disk won't.

Here: batches, retries, a new file in place of a broken one. Not here: SQL (sqlite_file.py), what else holds the spending (journal.py).
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from time import monotonic

from proxy.sqlite_files import move_aside
from proxy.stores.journal import Spending
from proxy.stores.sqlite_file import Row, StoreFile, StoreUnreadable

BATCH_S = 0.15
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 5.0
HOUSEKEEPING_S = 5.0
SLOW_RATE_MS = 60_000  # a rate that has recovered by then isn't worth writing down

_log = logging.getLogger("postern.store")


class StoreWriter:
    """Writes on a thread of its own. `everything` tells what all accounts have spent, up to which entry, for a file that is made anew."""

    def __init__(
        self,
        file: StoreFile,
        path: Path,
        everything: Callable[[], tuple[int, list[Row]]],
        rates: Callable[[int], list[tuple[str, int]]],
        now_ms: Callable[[], int],
    ) -> None:
        self._file: StoreFile | None = file
        self._path = path
        self._everything = everything
        self._rates = rates
        self._now_ms = now_ms
        self._queue: deque[Spending] = deque()
        self._sums: dict[tuple[str, int], tuple[int, int]] = {}  # account, start_ms: keep_until_ms, amount
        self._summed_up_to = self.applied = file.applied
        self._closing = Event()
        self._tidied_s = monotonic()
        self._wrote_rates = True
        self._is_failing = False
        self.failures = 0
        self._thread = Thread(target=self._run, name="store", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, spending: Spending) -> None:
        """Take an entry, in the order of sequence numbers. Never waits."""
        self._queue.append(spending)

    @property
    def unwritten(self) -> int:
        """How many entries and sums wait for the disk."""
        return len(self._queue) + len(self._sums)

    def close(self, timeout_s: float) -> bool:
        """Write what is left, within `timeout_s`; whether all of it was written. Waits."""
        self._closing.set()
        self._thread.join(timeout_s)
        return not self.unwritten

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            closing = self._closing.wait(BATCH_S)
            if self._flush():
                retry_s = FIRST_RETRY_S
                if closing:
                    break
                continue
            if closing:
                break
            self._closing.wait(retry_s)
            retry_s = min(LAST_RETRY_S, retry_s * 2)
        if self._file is not None:
            self._file.close()

    def _flush(self) -> bool:
        try:
            if self._file is None:
                self._make_anew()
            self._write()
            self._tidy()
        except StoreUnreadable as error:
            self._replace(error)
            return False
        except (sqlite3.Error, OSError, TimeoutError) as error:
            self._tell(error)
            return False
        if self._is_failing:
            self._is_failing = False
            _log.warning("the store %s is written again; nothing was lost", self._path)
        return True

    def _write(self) -> None:
        """Commit what is queued."""
        self._sum_up()
        if not self._sums or self._file is None:
            return
        rows = [(account, start_ms, until_ms, amount) for (account, start_ms), (until_ms, amount) in self._sums.items()]
        self._file.add(rows, self._summed_up_to)
        self._sums.clear()
        self.applied = self._summed_up_to

    def _sum_up(self) -> None:
        while self._queue:
            entry = self._queue.popleft()
            key = (entry.account, entry.start_ms)
            self._sums[key] = (entry.keep_until_ms, self._sums.get(key, (0, 0))[1] + entry.amount)
            self._summed_up_to = entry.sequence

    def _tidy(self) -> None:
        """Now and then, and at the end: write the slow rates, drop old periods."""
        is_last = self._closing.is_set()
        if self._file is None or (monotonic() - self._tidied_s < HOUSEKEEPING_S and not is_last):
            return
        self._tidied_s = monotonic()
        now_ms = self._now_ms()
        rates = self._rates((now_ms + SLOW_RATE_MS) * 1000)
        if rates or self._wrote_rates:
            self._file.write_rates(rates)
            self._wrote_rates = bool(rates)
        self._file.forget(now_ms)

    def _replace(self, error: StoreUnreadable) -> None:
        """Move a file that broke aside; a new one is made of what memory has."""
        self.failures += 1
        if self._file is not None:
            self._file.close()
            self._file = None
        aside = move_aside(self._path, self._now_ms())
        _log.error("the store %s can't be read (%s): moved to %s; a new one is written from memory", self._path, error, aside.name)

    def _make_anew(self) -> None:
        file = StoreFile(self._path)
        try:
            up_to, rows = self._everything()
            file.add(rows, up_to)
        except BaseException:
            file.close()
            raise
        self._file, self.applied = file, up_to
        self._sums.clear()
        while self._queue and self._queue[0].sequence <= up_to:
            self._queue.popleft()
        self._summed_up_to = up_to

    def _tell(self, error: Exception) -> None:
        self.failures += 1
        if not self._is_failing:
            self._is_failing = True
            _log.error("the store %s can't be written (%s): spending is kept in memory and written when it can be", self._path, error)
