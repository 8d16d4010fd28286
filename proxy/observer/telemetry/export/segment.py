"""One file of the spool: framed requests one after another, each with a mark that says whether it was delivered.

Here: the framing, and reading what a crash or a bad disk left of it. Not here: which file is next, bounds, counting (spool.py).
A frame: mark (1 byte), items, length, crc32 of the two and the request (4 bytes each, big-endian), request. The mark is rewritten in
place, so what was delivered is known after kill -9 and needs no room on a full disk. No fsync: a process's death loses nothing that was
written, a power failure may.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

PENDING = b"P"
DELIVERED = b"D"
HEADER = struct.Struct(">cIII")
FILE_MODE = 0o600  # spans may hold what was said in a call

_CHECKED = struct.Struct(">II")


class Frame(NamedTuple):
    """A request as it stands in a segment."""

    offset: int
    end: int
    items: int
    request: bytes


class _Header(NamedTuple):
    mark: bytes
    items: int
    length: int
    checksum: int


class Segment:
    """A file that is appended to until it is full, and removed when all of it was delivered. Not safe for several threads."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, and look through its frames' headers. Raises OSError."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        self.size = 0  # of whole frames
        self._position = 0  # of the first frame that wasn't delivered
        self.pending_items = 0
        for offset, header in self._headers():
            self.size = offset + HEADER.size + header.length
            if header.mark == PENDING:
                self.pending_items += header.items
        self.is_torn = os.fstat(self._file).st_size > self.size

    @property
    def is_done(self) -> bool:
        """Whether nothing in it is left to deliver."""
        return self._position >= self.size

    def append(self, request: bytes, items: int) -> None:
        """Write a request after the others. Raises OSError, and is as before then."""
        frame = HEADER.pack(PENDING, items, len(request), _checksum(items, request)) + request
        written = 0
        try:
            while written < len(frame):
                written += os.pwrite(self._file, frame[written:], self.size + written)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(frame)
        self.pending_items += items

    def next_frame(self) -> tuple[Frame | None, int]:
        """The first frame that is whole and wasn't delivered, and how many damaged places were passed on the way to it."""
        damaged = 0
        for offset, header in self._headers(self._position):
            self._position = offset
            if header.mark == PENDING:
                request = self._read(offset + HEADER.size, header.length)
                if len(request) == header.length and _checksum(header.items, request) == header.checksum:
                    return Frame(offset, offset + HEADER.size + header.length, header.items, request), damaged
                damaged += 1
            self._position = offset + HEADER.size + header.length
        if self._position < self.size:  # a header is damaged: where the next frame begins can't be known
            damaged += 1
            self._position = self.size
        return None, damaged

    def mark_delivered(self, frame: Frame) -> None:
        """Go on behind the frame, now and after a restart. Raises OSError if a restart won't know."""
        self._position = frame.end
        self.pending_items -= frame.items
        os.pwrite(self._file, DELIVERED, frame.offset)

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._file)

    def _headers(self, offset: int = 0) -> Iterator[tuple[int, _Header]]:
        """The frames' headers from `offset` on, up to the first that can't be one."""
        file_size = os.fstat(self._file).st_size
        while (header := self._header(offset, file_size)) is not None:
            yield offset, header
            offset += HEADER.size + header.length

    def _header(self, offset: int, file_size: int) -> _Header | None:
        raw = self._read(offset, HEADER.size)
        if len(raw) < HEADER.size:
            return None
        header = _Header(*HEADER.unpack(raw))
        is_sane = header.mark in (PENDING, DELIVERED) and header.items <= header.length
        return header if is_sane and offset + HEADER.size + header.length <= file_size else None

    def _read(self, offset: int, length: int) -> bytes:
        """What can be read; short at the end of the file and where the disk fails."""
        try:
            return os.pread(self._file, length, offset)
        except OSError:
            return b""


def _checksum(items: int, request: bytes) -> int:
    return crc32(request, crc32(_CHECKED.pack(items, len(request))))
