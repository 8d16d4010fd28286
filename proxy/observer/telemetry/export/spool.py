"""OTLP requests kept on disk while the collector is away, in the order they were made, within a bound over all signals.

Here: which segment is written, read, given up; counting. Not here: when to spool (backlog.py), a file's format (segment.py).
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.telemetry.export.segment import HEADER, Frame, Segment
from proxy.observer.telemetry.export.spool_folder import SIGNALS, ClaimedFolder

SPOOL_NAME = "spool"
SEGMENTS = 64  # about so many make up the bound: what is given up at once is a small part of it
MIN_SEGMENT_BYTES = 64 << 10

_log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """A request that is on disk."""

    segment: Segment
    frame: Frame


class Spool:
    """Safe for any thread. The disk is touched by `append`, `head` and `advance`; whoever calls them has the time."""

    def __init__(self, root: Path, limit_bytes: int, totals: Counters) -> None:
        """Take over what is there. A disk that won't is counted, and tried again by `append`."""
        self._root = root
        self._limit_bytes = limit_bytes
        self._segment_bytes = max(MIN_SEGMENT_BYTES, limit_bytes // SEGMENTS)
        self._counters = totals
        self._folder: ClaimedFolder | None = None
        self._segments: dict[str, list[Segment]] = {signal: [] for signal in SIGNALS}  # oldest first
        self._written: dict[str, Segment] = {}  # by signal: the one that is appended to
        self._next_number = 0
        self._lock = Lock()
        try:
            self._open()
        except OSError as error:
            totals.add(counters.SPOOL_FAILED)
            _log.error("the spool %s can't be used: %s", root, error)

    def append(self, signal: str, request: bytes, items: int) -> Stored:
        """Keep a request; the oldest segments make room for it. Raises OSError, also if it is larger than the whole spool."""
        needed_bytes = HEADER.size + len(request)
        if needed_bytes > self._limit_bytes:
            raise OSError(errno.EFBIG, f"a batch of {needed_bytes} bytes is larger than the whole spool")
        with self._lock:
            self._open()
            self._make_room(needed_bytes)
            segment = self._segment_for(signal, needed_bytes)
            offset = segment.size
            segment.append(request, items)
            self._tell()
            return Stored(segment, Frame(offset, segment.size, items, request))

    def has(self, signal: str) -> bool:
        """Whether anything of the signal is left to deliver."""
        return bool(self._segments[signal])

    def head(self, signal: str) -> Stored | None:
        """The signal's oldest request. What is damaged is passed, and counted."""
        with self._lock:
            while self._segments[signal]:
                segment = self._segments[signal][0]
                frame, damaged = segment.next_frame()
                if damaged:
                    self._tell_damage(segment, damaged)
                if frame is not None:
                    return Stored(segment, frame)
                self._remove(signal, segment, counters.SPOOL_CORRUPT)
            return None

    def advance(self, signal: str, stored: Stored) -> bool:
        """Go on behind a request. False if it was given up meanwhile, and counted as lost."""
        with self._lock:
            if stored.segment not in self._segments[signal]:
                return False
            try:
                stored.segment.mark_delivered(stored.frame)
            except OSError as error:
                self._counters.add(counters.SPOOL_FAILED)
                _log.error("%s: what was delivered can't be marked, and may be sent twice: %s", stored.segment.path, error)
            if stored.segment.is_done:
                self._remove(signal, stored.segment, counters.SPOOL_CORRUPT)
            self._tell()
            return True

    def close(self) -> None:
        """Leave everything to the next observer."""
        with self._lock:
            for segment in self._all():
                segment.close()
            self._segments = {signal: [] for signal in SIGNALS}
            self._written.clear()
            if self._folder is not None:
                self._folder.close()
                self._folder = None

    def _open(self) -> None:
        """Claim a folder and look through what is in it. Raises OSError."""
        if self._folder is not None:
            return
        self._folder = ClaimedFolder(self._root)
        self._next_number = self._folder.next_number()
        for signal in SIGNALS:
            for number in self._folder.segment_numbers(signal):
                self._take_over(signal, self._folder.segment_path(signal, number))
        self._make_room(0)
        self._tell()

    def _take_over(self, signal: str, path: Path) -> None:
        try:
            segment = Segment(path)
        except OSError as error:
            self._counters.add(counters.SPOOL_FAILED)
            _log.error("%s: can't be read: %s", path, error)
            return
        self._segments[signal].append(segment)
        if segment.is_torn:
            self._tell_damage(segment, 1)

    def _make_room(self, needed_bytes: int) -> None:
        """Give the oldest segments up, of whatever signal, until there is room."""
        while (segments := self._all()) and sum(segment.size for segment in segments) + needed_bytes > self._limit_bytes:
            oldest = min(segments, key=lambda segment: segment.path.name)
            signal = next(signal for signal, listed in self._segments.items() if oldest in listed)
            self._remove(signal, oldest, counters.SPOOL_FULL)

    def _segment_for(self, signal: str, needed_bytes: int) -> Segment:
        """The signal's segment that has room, or a new one. Raises OSError."""
        segment = self._written.get(signal)
        if segment is None or segment.size + needed_bytes > self._segment_bytes:
            assert self._folder is not None
            segment = Segment(self._folder.segment_path(signal, self._next_number))
            self._next_number += 1
            self._segments[signal].append(segment)
            self._written[signal] = segment
        return segment

    def _remove(self, signal: str, segment: Segment, cause: str) -> None:
        """Let go of a segment; what wasn't delivered of it is counted as lost."""
        if segment.pending_items > 0:
            self._counters.drop(signal, cause, segment.pending_items)
        self._segments[signal].remove(segment)
        if self._written.get(signal) is segment:
            del self._written[signal]
        segment.close()
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            self._counters.add(counters.SPOOL_FAILED)
            _log.error("%s: can't be removed: %s", segment.path, error)
        self._tell()

    def _all(self) -> list[Segment]:
        return [segment for listed in self._segments.values() for segment in listed]

    def _tell_damage(self, segment: Segment, places: int) -> None:
        self._counters.add(counters.SPOOL_CORRUPT_PLACES, places)
        _log.warning("%s: %d damaged place(s), skipped", segment.path, places)

    def _tell(self) -> None:
        segments = self._all()
        self._counters.set(counters.SPOOL_BYTES, sum(segment.size for segment in segments))
        self._counters.set(counters.SPOOL_ITEMS, sum(segment.pending_items for segment in segments))


def open_spool(state_dir: str, limit_bytes: int, totals: Counters) -> Spool | None:
    """The spool of a state folder; None if its bound leaves no room for any."""
    return Spool(Path(state_dir) / SPOOL_NAME, limit_bytes, totals) if limit_bytes > 0 else None
