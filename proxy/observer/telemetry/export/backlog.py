"""What waits to be exported of one signal: on disk first, then in memory, in the order it came.

Here: what is next, when it is due, when it has to go to disk, whom it still holds up. Not here: threads, sending (outbox.py), files.
Records are held until their data is delivered, on disk, or counted as lost. Where there is no spool, or no disk that takes it, they are let
go after the same time: a dead collector must not fill the gate's queue.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from threading import Condition, Lock

import msgspec

from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.progress import Party, Progress
from proxy.observer.telemetry.export.spool import Spool, Stored
from proxy.observer.telemetry.plan import BatchLimits

SPOOL_AFTER_S = 1.0  # a batch that isn't delivered in this time goes to disk
MAX_GATHER_S = 5.0  # a longer OTEL_BSP_SCHEDULE_DELAY can't hold records up for longer
DISK_RETRY_S = 5.0
MAX_BATCH_BYTES = 3 << 20  # gRPC servers take 4 MiB unless they are told otherwise
MAX_WAITING_BYTES = 64 << 20
SETTLE_S = 0.5  # the ledger has this time to write a record first: then a batch is acknowledged with its export, or its way to disk
SETTLE_LOOK_S = 0.02

PARTIES = {"traces": Party.TRACES, "logs": Party.LOGS}

_log = logging.getLogger(__name__)


class Entry(msgspec.Struct):
    """The data of one record, not batched yet."""

    data: bytes
    items: int
    sequence: int | None  # of the record it holds; None: none, or no longer
    since_s: float


class Batch(msgspec.Struct, eq=False):
    """A request that is to be sent, and where it is kept meanwhile."""

    request: bytes
    items: int
    entries: list[Entry]  # what it was made of; empty if it was read from disk
    stored: Stored | None = None
    is_under_way: bool = False


class Backlog:
    """Safe for any thread. `put` never waits for the disk; everything else may. Times are monotonic seconds."""

    def __init__(
        self, signal: str, wrap: Callable[[bytes], bytes], limits: BatchLimits, spool: Spool | None, progress: Progress, totals: Counters
    ) -> None:
        self._signal = signal
        self._wrap = wrap  # makes the joined data of records one request
        self._limits = limits
        self._spool = spool
        self._progress = progress
        self._party = PARTIES[signal]
        self._counters = totals
        self._entries: deque[Entry] = deque()
        self._items = 0
        self._bytes = 0
        self._current: Batch | None = None  # what was last taken and isn't dealt with; always older than the entries
        self._is_away = False  # the collector, when it was last tried
        self._disk_retry_s = -inf
        self._is_disk_failing = False
        self._order = Lock()  # what is next: held while the disk is read or written, and taken before `changed`
        self.changed = Condition()  # the entries

    def put(self, data: bytes, items: int, sequence: int | None, now_s: float) -> None:
        """Queue a record's data. When too much waits, the oldest goes, and is counted."""
        if sequence is not None:
            self._progress.hold(sequence, self._party)
        lost: list[Entry] = []
        with self.changed:
            self._add(Entry(data, items, sequence, now_s))
            while (self._items > self._limits.queue_spans or self._bytes > MAX_WAITING_BYTES) and len(self._entries) > 1:
                lost.append(self._pop())
            if len(self._entries) == 1 or self._is_batch_full():
                self.changed.notify_all()
        if lost:
            self._lose(lost, counters.QUEUE_FULL)

    # -- delivering ---------------------------------------------------------------------------------------------------

    def due_in(self, now_s: float) -> float:
        """Seconds until there is a batch to send; inf if nothing waits. The caller holds `changed`."""
        if self._current is not None or self._has_stored():
            return 0.0
        if not self._entries:
            return inf
        due_in_s = 0.0 if self._is_batch_full() else self._entries[0].since_s + self._limits.delay_s - now_s
        return due_in_s if due_in_s > 0 or self._is_settled(self._entries[0], now_s) else SETTLE_LOOK_S

    def take(self, now_s: float, whole: bool = False) -> Batch | None:
        """The oldest batch to be sent; then one of `delivered`, `refused`, `keep` says what came of it.

        `whole`: it may hold what the ledger doesn't have yet.
        """
        with self._order:
            if self._current is None:
                self._current = self._read() or self._gather(now_s, whole)
            if self._current is not None:
                self._current.is_under_way = True
            return self._current

    def delivered(self, batch: Batch) -> bool:
        """The collector has the batch. False if it was given up meanwhile, and is counted as lost already."""
        with self._order:
            is_ours = self._finish(batch)
            held = _held(batch.entries)
        self._progress.release(held, self._party)
        return is_ours

    def refused(self, batch: Batch) -> None:
        """The collector will never take the batch: it is lost, and counted."""
        if self.delivered(batch):
            self._counters.drop(self._signal, counters.EXPORT_REFUSED, batch.items)

    def keep(self, batch: Batch) -> None:
        """The batch stays the oldest, to be sent again: the collector is away."""
        with self._order:
            self._is_away = True
            batch.is_under_way = False
            if batch.stored is not None and self._current is batch:
                self._current = None
        with self.changed:
            self.changed.notify_all()

    # -- spooling -----------------------------------------------------------------------------------------------------

    def spool_in(self, now_s: float) -> float:
        """Seconds until what is in memory has to go to disk; inf if nothing is. The caller holds `changed`."""
        oldest = self._oldest_in_memory()
        if oldest is None:
            return inf
        is_behind = self._is_away or self._has_stored()
        if self._is_pressed():
            return self._disk_retry_s - now_s
        due_s = oldest.since_s + min(self._limits.delay_s, MAX_GATHER_S) + (0.0 if is_behind else SPOOL_AFTER_S)
        if is_behind and self._is_batch_full():
            due_s = now_s
        due_in_s = max(due_s, self._disk_retry_s) - now_s
        return due_in_s if due_in_s > 0 or self._is_settled(oldest, now_s) else SETTLE_LOOK_S

    def spool(self, now_s: float, whole: bool = False) -> None:
        """Move what is in memory to disk, and let its records go. What the disk doesn't take stays in memory, and lets them go too."""
        with self._order:
            try:
                if self._spool is not None:
                    self._move_to(self._spool, now_s, whole or self._is_pressed())
                    self._tell_disk(None)
                    return
            except OSError as error:
                self._counters.add(counters.SPOOL_FAILED)
                self._tell_disk(error)
            self._let_go()
            self._disk_retry_s = now_s + DISK_RETRY_S

    def abandon(self, now_s: float) -> None:
        """The end: what is left goes to disk, or is counted as lost. What is under way may still arrive."""
        self.spool(now_s, whole=True)
        with self._order:
            batch, self._current = self._current, None
            left = batch.entries if batch is not None and batch.stored is None else []
            with self.changed:
                left.extend(self._entries)
                self._entries.clear()
                self._items = self._bytes = 0
        if left:
            self._lose(left, counters.SHUTDOWN)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _has_stored(self) -> bool:
        return self._spool is not None and self._spool.has(self._signal)

    def _is_batch_full(self) -> bool:
        return self._items >= self._limits.batch_spans or self._bytes >= MAX_BATCH_BYTES

    def _is_pressed(self) -> bool:
        return self._items * 2 >= self._limits.queue_spans or self._bytes * 2 >= MAX_WAITING_BYTES

    def _is_settled(self, entry: Entry, now_s: float) -> bool:
        """Whether nobody but outboxes holds the record, or any before it; or the ledger had its time."""
        return entry.sequence is None or entry.sequence < self._progress.settled or now_s - entry.since_s >= SETTLE_S

    def _oldest_in_memory(self) -> Entry | None:
        batch = self._current
        if batch is not None and batch.stored is None:
            return batch.entries[0]
        return self._entries[0] if self._entries else None

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._items += entry.items
        self._bytes += len(entry.data)

    def _pop(self) -> Entry:
        entry = self._entries.popleft()
        self._items -= entry.items
        self._bytes -= len(entry.data)
        return entry

    def _put_back(self, entries: list[Entry]) -> None:
        with self.changed:
            self._entries.extendleft(reversed(entries))
            self._items += sum(entry.items for entry in entries)
            self._bytes += sum(len(entry.data) for entry in entries)

    def _read(self) -> Batch | None:
        """The oldest batch on disk."""
        stored = None if self._spool is None else self._spool.head(self._signal)
        return None if stored is None else Batch(stored.frame.request, stored.frame.items, [], stored)

    def _gather(self, now_s: float, whole: bool) -> Batch | None:
        """A batch of the oldest entries, however few."""
        entries: list[Entry] = []
        items = size = 0
        with self.changed:
            while self._entries and (not entries or self._fits(items, size, self._entries[0])):
                if not whole and not self._is_settled(self._entries[0], now_s):
                    break
                entry = self._pop()
                entries.append(entry)
                items += entry.items
                size += len(entry.data)
        return Batch(self._wrap(b"".join(entry.data for entry in entries)), items, entries) if entries else None

    def _fits(self, items: int, size: int, entry: Entry) -> bool:
        return items + entry.items <= self._limits.batch_spans and size + len(entry.data) <= MAX_BATCH_BYTES

    def _finish(self, batch: Batch) -> bool:
        self._is_away = False
        if self._current is not batch:
            return False
        self._current = None
        return batch.stored is None or self._spool is None or self._spool.advance(self._signal, batch.stored)

    def _move_to(self, spool: Spool, now_s: float, whole: bool) -> None:
        """Raises OSError; what wasn't written by then is in memory as before."""
        current = self._current
        if current is not None and current.stored is None:
            self._store(spool, current)
            if not current.is_under_way:
                self._current = None
        while (batch := self._gather(now_s, whole)) is not None:
            try:
                self._store(spool, batch)
            except OSError:
                self._put_back(batch.entries)
                raise

    def _store(self, spool: Spool, batch: Batch) -> None:
        batch.stored = spool.append(self._signal, batch.request, batch.items)
        self._progress.release(_held(batch.entries), self._party)

    def _let_go(self) -> None:
        """Hold no record up any more, though its data is in memory only."""
        with self.changed:
            held = _held(self._entries)
        if self._current is not None:
            held += _held(self._current.entries)
        self._progress.release(held, self._party)

    def _lose(self, entries: list[Entry], cause: str) -> None:
        self._counters.drop(self._signal, cause, sum(entry.items for entry in entries))
        self._progress.release(_held(entries), self._party)

    def _tell_disk(self, error: OSError | None) -> None:
        if error is not None and not self._is_disk_failing:
            _log.error("the spool can't be written: %s. At most %d items wait in memory", error, self._limits.queue_spans)
        self._is_disk_failing = error is not None


def _held(entries: Iterable[Entry]) -> list[int]:
    """The records that entries hold; they don't from now on."""
    held = []
    for entry in entries:
        if entry.sequence is not None:
            held.append(entry.sequence)
            entry.sequence = None
    return held
