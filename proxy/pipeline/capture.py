"""Bounded copies of a reply body that is passed on as it comes.

Here: head and tail of what went by, for usage; its beginning, for content. Not here: what it means.
"""

from __future__ import annotations

WHOLE_BYTES = 1 << 20
EDGE_BYTES = 64 << 10


class Capture:
    """Keeps a body of up to 1 MiB whole, of a longer one the first and the last 64 KiB: usage stands at one of the ends."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._tail: bytearray | None = None

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        if self._tail is None:
            self._kept += data
            if len(self._kept) > WHOLE_BYTES:
                self._tail = self._kept[-EDGE_BYTES:]
                del self._kept[EDGE_BYTES:]
            return
        self._tail += data
        if len(self._tail) > 4 * EDGE_BYTES:
            del self._tail[:-EDGE_BYTES]

    def head_and_tail(self) -> tuple[bytes, bytes]:
        """The whole body and b"", or its first and last bytes."""
        return bytes(self._kept), bytes(self._tail[-EDGE_BYTES:]) if self._tail is not None else b""


class Kept:
    """Keeps the first 1 MiB of a stream whose content is recorded."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_cut = False

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        room = WHOLE_BYTES - len(self.data)
        if len(data) > room:
            self.is_cut = True
            data = data[:room]
        self.data += data
