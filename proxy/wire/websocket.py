"""Text messages out of one direction of a WebSocket, read as they pass (RFC 6455, RFC 7692).

Here: frames, fragments, permessage-deflate. Not here: answering, closing, what messages mean.
Bytes that make no sense turn the reader deaf.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from proxy.call import HeaderList

MAX_MESSAGE_BYTES = 16 << 20
_CONTINUATION, _TEXT, _BINARY = 0, 1, 2
_CONTROL = frozenset({8, 9, 10})
_MAX_CONTROL_BYTES = 125
_FIN, _RSV1, _RSV2_AND_3, _OPCODE = 0x80, 0x40, 0x30, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
_LENGTH_16, _LENGTH_64 = 126, 127
_DEFLATE_TAIL = b"\x00\x00\xff\xff"
_EXTENSIONS = b"sec-websocket-extensions"
_DEFLATE = b"permessage-deflate"
_INFLATE_PIECE = 1 << 20


class _Head(NamedTuple):
    is_last: bool
    is_compressed: bool
    opcode: int
    mask: bytes
    size: int  # of the payload
    head_size: int


class _Nonsense(Exception):
    """What came isn't WebSocket as negotiated."""


def negotiated_deflate(headers: HeaderList, side: str = "server") -> tuple[bool, bool]:
    """Whether the 101 reply agreed on permessage-deflate, and whether that side (server or client) starts each message afresh."""
    agreed = b",".join(value for name, value in headers if name.lower() == _EXTENSIONS)
    for offer in agreed.split(b","):
        name, *parameters = [part.strip().lower() for part in offer.split(b";")]
        if name == _DEFLATE:
            return True, side.encode() + b"_no_context_takeover" in parameters
    return False, False


class FrameReader:
    """Reads one direction. Messages over MAX_MESSAGE_BYTES are skipped; binary ones too. Never raises."""

    def __init__(self, inflate: bool, no_context_takeover: bool) -> None:
        self.deaf = False  # nothing more will be read
        self._inflate = inflate
        self._fresh_each_time = no_context_takeover
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if inflate else None
        self._buffer = bytearray()
        self._to_skip = 0  # payload bytes of a frame too large to keep
        self._parts: list[bytes] = []  # of a message whose last fragment is still to come
        self._size = 0
        self._opcode = _CONTINUATION  # of that message; continuation: there is none
        self._is_compressed = False

    def feed(self, data: bytes) -> list[bytes]:
        """The text messages completed by `data`, unmasked and inflated, oldest first."""
        if self.deaf:
            return []
        self._buffer += data
        messages: list[bytes] = []
        try:
            self._read_frames(messages)
        except _Nonsense:
            self.deaf = True
            self._buffer.clear()
            self._parts.clear()
        return messages

    def _read_frames(self, messages: list[bytes]) -> None:
        while self._skipped() and (head := _read_head(self._buffer)) is not None:
            if head.size > MAX_MESSAGE_BYTES:
                self._to_skip = head.size
                del self._buffer[: head.head_size]
                self._take(head, None, messages)
                continue
            end = head.head_size + head.size
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[head.head_size : end])
            del self._buffer[:end]
            self._take(head, payload, messages)

    def _skipped(self) -> bool:
        """Drop what is left of a frame too large to keep; whether that is done and there is more."""
        dropped = min(self._to_skip, len(self._buffer))
        if dropped:
            del self._buffer[:dropped]
            self._to_skip -= dropped
        return bool(self._buffer) and not self._to_skip

    def _take(self, head: _Head, payload: bytes | None, messages: list[bytes]) -> None:
        """One frame; a payload of None was too large to keep."""
        if head.opcode in _CONTROL:
            if not head.is_last or head.size > _MAX_CONTROL_BYTES:
                raise _Nonsense
            return
        self._begin_or_continue(head)
        self._size += head.size
        if payload is not None and self._size <= MAX_MESSAGE_BYTES:
            self._parts.append(_unmasked(payload, head.mask))
        if head.is_last:
            message = self._finish()
            if message is not None:
                messages.append(message)

    def _begin_or_continue(self, head: _Head) -> None:
        if (head.opcode == _CONTINUATION) == (self._opcode == _CONTINUATION):
            raise _Nonsense  # a continuation of nothing, or a message within a message
        if head.is_compressed and (not self._inflate or head.opcode == _CONTINUATION):
            raise _Nonsense
        if head.opcode == _CONTINUATION:
            return
        if head.opcode not in (_TEXT, _BINARY):
            raise _Nonsense
        self._opcode, self._is_compressed = head.opcode, head.is_compressed

    def _finish(self) -> bytes | None:
        message = b"".join(self._parts) if self._size <= MAX_MESSAGE_BYTES else None
        opcode, is_compressed = self._opcode, self._is_compressed
        self._parts, self._size, self._opcode = [], 0, _CONTINUATION
        if is_compressed:
            message = self._inflated(message)
        return message if opcode == _TEXT else None

    def _inflated(self, message: bytes | None) -> bytes | None:
        """The message inflated; None if it is too large. Without its window the messages after it are lost too, and only they."""
        if self._fresh_each_time:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        if self._inflater is None:
            return None
        inflated = _inflate(self._inflater, message) if message is not None else None
        if inflated is None:
            self._inflater = None
        elif self._inflater.eof:  # the sender closed its deflate stream with this message
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        return inflated


def _read_head(buffer: bytearray) -> _Head | None:
    """The frame's head, or None if it isn't whole. Raises _Nonsense."""
    if len(buffer) < 2:
        return None
    first, second = buffer[0], buffer[1]
    opcode = first & _OPCODE
    if first & _RSV2_AND_3 or (opcode > _BINARY and opcode not in _CONTROL) or (first & _RSV1 and opcode in _CONTROL):
        raise _Nonsense
    size, width = second & _LENGTH, 0
    if size >= _LENGTH_16:
        width = 2 if size == _LENGTH_16 else 8
        size = int.from_bytes(buffer[2 : 2 + width], "big")
    mask_start = 2 + width
    head_size = mask_start + (4 if second & _MASKED else 0)
    if len(buffer) < head_size:
        return None
    if size >> 63:
        raise _Nonsense
    return _Head(bool(first & _FIN), bool(first & _RSV1), opcode, bytes(buffer[mask_start:head_size]), size, head_size)


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    if not mask or not payload:
        return payload
    size = len(payload)
    stretched = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(stretched, "little")).to_bytes(size, "little")


def _inflate(inflater: zlib._Decompress, message: bytes) -> bytes | None:
    """None if the result is over MAX_MESSAGE_BYTES. Raises _Nonsense."""
    out = bytearray()
    rest = message + _DEFLATE_TAIL
    try:
        while len(out) <= MAX_MESSAGE_BYTES:
            piece = inflater.decompress(rest, _INFLATE_PIECE)
            out += piece
            rest = inflater.unconsumed_tail
            if len(piece) < _INFLATE_PIECE:  # a full one may have more behind it, also with all input taken
                break
    except zlib.error as error:
        raise _Nonsense from error
    return bytes(out) if len(out) <= MAX_MESSAGE_BYTES else None
