"""Spending that SQLite doesn't have yet, in a memory-mapped file: writing it is a copy in memory, and it outlives the process.

Here: the file's format, appending, reading what a process that was killed left. Not here: what the entries are added to.

The file is a header and two halves. Entries are appended to one half until it is full, then to the other, once SQLite has all of that. Each
has a sequence number and a checksum; a half ends where the numbers stop to count up. The kernel keeps the pages when the process is
killed; only a power cut may lose them.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

JOURNAL_NAME = "store.journal"
JOURNAL_BYTES = 4 << 20
MAGIC = b"postern1"
ID_BYTES = 16

_HEADER_BYTES = 64
_ENTRY = struct.Struct("<IIQqqq")  # checksum of all that follows, bytes of the account, sequence, start_ms, keep_until_ms, amount
_CHECKED = struct.Struct("<IQqqq")  # the same from there on; the account's bytes come last
_CHECKED_FROM = _ENTRY.size - _CHECKED.size


class Spending(msgspec.Struct, frozen=True, gc=False):
    """An amount booked in an account's period."""

    sequence: int
    account: str
    start_ms: int
    keep_until_ms: int
    amount: int


class Journal:
    """One process's journal; `applied` is the newest sequence number that SQLite has. Raises OSError without room for the file."""

    def __init__(self, path: Path, size: int = JOURNAL_BYTES) -> None:
        self._size = size
        self._half_bytes = (size - _HEADER_BYTES) // 2
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            _allocate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._half = self._at = self._end = 0
        self._enter(0)
        self._newest = [0, 0]  # sequence number in each half

    @property
    def database_id(self) -> bytes:
        """Which database the entries are meant for."""
        return bytes(self._map[len(MAGIC) : len(MAGIC) + ID_BYTES]) if self._map[: len(MAGIC)] == MAGIC else b""

    def entries(self) -> list[Spending]:
        """Everything legible, in the order of its sequence numbers."""
        found = [entry for half in (0, 1) for entry in self._read(half)]
        return sorted(found, key=lambda entry: entry.sequence)

    def clear(self, database_id: bytes) -> None:
        """Begin anew, for this database; its numbers must go on where the old ones ended."""
        for half in (0, 1):
            start = self._start(half)
            self._map[start : start + _ENTRY.size] = bytes(_ENTRY.size)
        self._map[: len(MAGIC) + ID_BYTES] = MAGIC + database_id
        self._enter(0)
        self._newest = [0, 0]

    def append(self, entry: Spending, applied: int) -> bool:
        """Write an entry; False: there is no room until SQLite has more of them."""
        account, sequence = entry.account.encode(), entry.sequence
        data = _CHECKED.pack(len(account), sequence, entry.start_ms, entry.keep_until_ms, entry.amount) + account
        start, size = self._at, _CHECKED_FROM + len(data)
        if start + size > self._end:
            other = 1 - self._half
            if self._newest[other] > applied or size > self._half_bytes:
                return False
            self._enter(other)
            start = self._at
        self._at = start + size
        self._map[start : self._at] = zlib.crc32(data).to_bytes(_CHECKED_FROM, "little") + data
        self._newest[self._half] = sequence
        return True

    def _enter(self, half: int) -> None:
        self._half = half
        self._at = self._start(half)
        self._end = self._at + self._half_bytes

    def close(self) -> None:
        """Close the file; its entries stay in it."""
        self._map.close()

    def _start(self, half: int) -> int:
        return _HEADER_BYTES + half * self._half_bytes

    def _read(self, half: int) -> Iterator[Spending]:
        at = self._start(half)
        end = at + self._half_bytes
        previous = 0
        while at + _ENTRY.size <= end:
            checksum, account_bytes, sequence, start_ms, keep_until_ms, amount = _ENTRY.unpack_from(self._map, at)
            last = at + _ENTRY.size + account_bytes
            if last > end or sequence <= previous or zlib.crc32(self._map[at + _CHECKED_FROM : last]) != checksum:
                return
            yield Spending(sequence, self._map[at + _ENTRY.size : last].decode("utf-8", "replace"), start_ms, keep_until_ms, amount)
            previous, at = sequence, last


def _allocate(descriptor: int, size: int) -> None:
    """Give the file its size on the disk: a hole that can't be filled later would kill the process."""
    if os.fstat(descriptor).st_size == size:
        return
    os.ftruncate(descriptor, 0)
    left = size
    while left:
        left -= os.write(descriptor, bytes(min(left, 1 << 20)))
