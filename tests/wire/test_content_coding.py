"""Content codings are undone on a copy: in pieces, within bounds, and never with an error."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable

import brotli
import pytest

from proxy.wire import content_coding
from proxy.wire.content_coding import decoder_for, is_identity

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b'{"usage":{"prompt_tokens":5}}' * 50


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACK: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "gzip by its old name": (b" X-GZip ", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "deflate without zlib's frame": (b"deflate", raw_deflate),
    "brotli": (b"br", brotli.compress),
    "zstd": (b"zstd", zstd.compress),
}


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_coding_is_undone_in_pieces_of_any_size(name: str, size: int) -> None:
    coding, pack = PACK[name]
    decoder, packed = decoder_for(coding), pack(TEXT)
    assert decoder
    assert b"".join(decoder.feed(packed[start : start + size]) for start in range(0, len(packed), size)) == TEXT


def test_what_was_flushed_can_be_read_before_the_end() -> None:
    packer, decoder = zlib.compressobj(wbits=16 + zlib.MAX_WBITS), decoder_for(b"gzip")
    assert decoder
    assert decoder.feed(packer.compress(b"data: 1\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)) == b"data: 1\n\n"
    assert decoder.feed(packer.compress(b"data: 2\n\n") + packer.flush()) == b"data: 2\n\n"


@pytest.mark.parametrize("name", PACK)
def test_a_bomb_is_not_unpacked_beyond_the_bound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_coding, "MAX_DECODED_BYTES", 10_000)
    coding, pack = PACK[name]
    decoder, bomb = decoder_for(coding), pack(bytes(8 << 20))
    assert decoder
    decoded = [decoder.feed(piece) for piece in (bomb[:100], bomb[100:], bomb, b"")]
    assert sum(map(len, decoded)) <= 64 << 10, "brotli may fill its last block"
    assert decoded[-1] == b""


@pytest.mark.parametrize("name", PACK)
def test_after_garbage_a_decoder_says_nothing_more(name: str) -> None:
    coding, pack = PACK[name]
    decoder = decoder_for(coding)
    assert decoder
    decoder.feed(b"\xff\xff\xff garbage that is no coding at all")
    assert decoder.feed(pack(TEXT)) == b""


@pytest.mark.parametrize("coding", [b"", b"identity", b"gzip, br", b"snappy", b"\xff"])
def test_what_cannot_be_undone_has_no_decoder(coding: bytes) -> None:
    assert decoder_for(coding) is None


@pytest.mark.parametrize(("coding", "expected"), [(b"", True), (b" Identity ", True), (b"gzip", False), (b"gzip, identity", False)])
def test_identity_is_no_coding(coding: bytes, expected: bool) -> None:
    assert is_identity(coding) is expected
