"""Content codings, undone on a copy so that usage can be read from compressed replies.

Here: incremental, bounded decoders for gzip, deflate, br and zstd. Not here: what the decoded bytes mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

MAX_DECODED_BYTES = 64 << 20
"""A reply that unpacks to more is a bomb, or nothing we meter: reading stops there."""


class Decoder(Protocol):
    """One reply's decoder: whole codings only, fed in pieces."""

    def feed(self, data: bytes) -> bytes:
        """What `data` decodes to; b"" for ever after an error or past the bound."""
        ...


class _Bounded:
    def __init__(self, decompress: Callable[[bytes], bytes]) -> None:
        self._decompress: Callable[[bytes], bytes] | None = decompress
        self._produced = 0

    def feed(self, data: bytes) -> bytes:
        if self._decompress is None:
            return b""
        try:
            decoded = self._decompress(data)
        except Exception:  # each library has its own error class, and some raise several
            self._decompress = None
            return b""
        self._produced += len(decoded)
        if self._produced >= MAX_DECODED_BYTES:
            self._decompress = None
        return decoded


class _Deflate:
    """HTTP's "deflate" is zlib by RFC 9110 and raw deflate by some servers: the first bytes tell."""

    def __init__(self) -> None:
        self._inflater: Any = None
        self._first = b""

    def __call__(self, data: bytes) -> bytes:
        if self._inflater is None:
            data = self._first = self._first + data
            if len(data) < 2:
                return b""
            is_zlib = data[0] & 0x0F == 8 and (data[0] * 256 + data[1]) % 31 == 0
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        return bytes(self._inflater.decompress(data, MAX_DECODED_BYTES))


def _gzip() -> Callable[[bytes], bytes]:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    return lambda data: inflater.decompress(data, MAX_DECODED_BYTES)


def _brotli() -> Callable[[bytes], bytes]:
    import brotli  # loaded only when a provider answers with it

    decompressor: Any = brotli.Decompressor()
    return lambda data: bytes(decompressor.process(data, output_buffer_limit=MAX_DECODED_BYTES))


def _zstd() -> Callable[[bytes], bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        from backports import zstd
    decompressor: Any = zstd.ZstdDecompressor()
    return lambda data: bytes(decompressor.decompress(data, MAX_DECODED_BYTES))


_CODINGS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _Deflate,
    "br": _brotli,
    "zstd": _zstd,
}


def decoder_for(content_encoding: bytes) -> Decoder | None:
    """A decoder for the value of Content-Encoding; None for identity and for what can't be undone (several codings, unknown ones)."""
    make = _CODINGS.get(content_encoding.decode("latin-1").strip().lower())
    return _Bounded(make()) if make else None


def is_identity(content_encoding: bytes) -> bool:
    """True if the body is as the media type says."""
    return content_encoding.strip().lower() in (b"", b"identity")
