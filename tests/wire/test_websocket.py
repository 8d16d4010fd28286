"""Text messages out of WebSocket frames, and deafness in place of exceptions."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.websocket import MAX_MESSAGE_BYTES, FrameReader, negotiated_deflate

TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9


def frame(payload: bytes, opcode: int = TEXT, *, last: bool = True, compressed: bool = False, mask: bytes = b"") -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    first = (0x80 if last else 0) | (0x40 if compressed else 0) | opcode
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        length = bytes([length[0] | 0x80]) + length[1:]
    return bytes([first]) + length + mask + payload


class Deflater:
    """The sender's side of permessage-deflate."""

    def __init__(self, fresh: bool) -> None:
        self._fresh = fresh
        self._compressor = zlib.compressobj(wbits=-15)

    def frame(self, payload: bytes, opcode: int = TEXT) -> bytes:
        if self._fresh:
            self._compressor = zlib.compressobj(wbits=-15)
        raw = self._compressor.compress(payload) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return frame(raw.removesuffix(b"\x00\x00\xff\xff"), opcode, compressed=True)


def read(*pieces: bytes, inflate: bool = False, fresh: bool = False) -> list[bytes]:
    reader = FrameReader(inflate, fresh)
    return [message for piece in pieces for message in reader.feed(piece)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
@pytest.mark.parametrize("mask", [b"", b"\x01\x02\xfe\xff"])
def test_text_of_every_length(size: int, mask: bytes) -> None:
    payload = bytes(i * 7 % 251 for i in range(size))
    assert read(frame(payload, mask=mask)) == [payload]


def test_fragments_are_joined_around_control_frames() -> None:
    raw = frame(b"a", last=False) + frame(b"ping", PING) + frame(b"b", CONTINUATION, last=False) + frame(b"c", CONTINUATION) + frame(b"d")
    assert read(raw) == [b"abc", b"d"]


def test_binary_messages_are_passed_over() -> None:
    assert read(frame(b"x", BINARY) + frame(b"y")) == [b"y"]


def test_frames_cut_at_every_byte() -> None:
    deflater = Deflater(fresh=False)
    raw = (
        frame(b"one", mask=b"abcd")
        + frame(b"t", last=False)
        + frame(b"wo", CONTINUATION)
        + deflater.frame(b"three" * 9)
        + deflater.frame(b"three")
    )
    expected = [b"one", b"two", b"three" * 9, b"three"]
    for cut in range(len(raw) + 1):
        assert read(raw[:cut], raw[cut:], inflate=True) == expected
    assert read(*[raw[i : i + 1] for i in range(len(raw))], inflate=True) == expected


@pytest.mark.parametrize("size", [(1 << 20) + extra for extra in (-1, 0, 1, 100, 257, 300)])
def test_inflating_in_pieces_loses_nothing_at_their_borders(size: int) -> None:
    assert read(Deflater(fresh=True).frame(b"a" * size), inflate=True) == [b"a" * size]


@pytest.mark.parametrize("fresh", [False, True])
def test_deflate_with_and_without_context(fresh: bool) -> None:
    deflater = Deflater(fresh)
    messages = [b'{"type":"response.done","usage":1}' * n for n in (1, 1, 3)]
    raw = [
        deflater.frame(messages[0]),
        deflater.frame(b"binary", BINARY),
        deflater.frame(messages[1]),
        frame(b"plain"),
        deflater.frame(messages[2]),
    ]
    assert read(*raw, inflate=True, fresh=fresh) == [messages[0], messages[1], b"plain", messages[2]]


def test_deflated_message_in_fragments() -> None:
    whole = Deflater(fresh=True).frame(b"hello " * 50)[2:]
    raw = frame(whole[:5], last=False, compressed=True) + frame(whole[5:], CONTINUATION)
    assert read(raw, inflate=True) == [b"hello " * 50]


def test_messages_over_the_cap_are_skipped_and_framing_stays_right() -> None:
    huge = frame(b"x" * (MAX_MESSAGE_BYTES + 1))
    assert read(*[huge[i : i + (1 << 20)] for i in range(0, len(huge), 1 << 20)], frame(b"next")) == [b"next"]
    half = b"y" * (MAX_MESSAGE_BYTES // 2 + 1)
    assert read(frame(half, last=False), frame(half, CONTINUATION), frame(b"next")) == [b"next"]


def test_a_bomb_is_not_inflated_beyond_the_cap() -> None:
    reader = FrameReader(True, True)
    deflater = Deflater(fresh=True)
    assert reader.feed(deflater.frame(b"\x00" * (MAX_MESSAGE_BYTES + 1))) == []
    assert reader.feed(deflater.frame(b"next")) == [b"next"]


def test_without_its_window_only_compressed_messages_are_lost() -> None:
    reader = FrameReader(True, False)
    deflater = Deflater(fresh=False)
    assert reader.feed(deflater.frame(b"\x00" * (MAX_MESSAGE_BYTES + 1))) == []
    assert reader.feed(deflater.frame(b"lost") + frame(b"plain")) == [b"plain"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x83\x00",  # reserved opcode
        b"\x8b\x00",  # reserved control opcode
        b"\xa1\x00",  # RSV2
        b"\xc1\x00",  # RSV1 without the extension
        b"\xc9\x00",  # RSV1 on a control frame
        b"\x80\x00",  # a continuation of nothing
        b"\x01\x00\x81\x00",  # a message within a message
        b"\x09\x00",  # a fragmented ping
        b"\x89\x7e\x00\x7e" + b"x" * 126,  # a ping that is too large
        b"\x81\x7f" + b"\xff" * 8,  # a length of more than 63 bits
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_nonsense_turns_the_reader_deaf(raw: bytes) -> None:
    reader = FrameReader(False, False)
    assert reader.feed(frame(b"before") + raw) == [b"before"]
    assert reader.deaf
    assert reader.feed(frame(b"after")) == []


def test_broken_deflate_turns_the_reader_deaf() -> None:
    reader = FrameReader(True, True)
    assert reader.feed(frame(b"\xff\xff\xff\xff", compressed=True)) == []
    assert reader.deaf


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=5), st.booleans(), st.booleans())
def test_garbage_never_raises(pieces: list[bytes], inflate: bool, fresh: bool) -> None:
    read(*pieces, inflate=inflate, fresh=fresh)


@pytest.mark.parametrize(
    ("value", "side", "agreed"),
    [
        (b"permessage-deflate", "server", (True, False)),
        (b"Permessage-Deflate; Server_No_Context_Takeover", "server", (True, True)),
        (b"permessage-deflate; server_no_context_takeover", "client", (True, False)),
        (b"permessage-deflate; client_no_context_takeover; server_max_window_bits=12", "client", (True, True)),
        (b"x-other, permessage-deflate;server_no_context_takeover", "server", (True, True)),
        (b"x-webkit-deflate-frame", "server", (False, False)),
        (b"", "server", (False, False)),
    ],
)
def test_what_was_agreed_on_deflate(value: bytes, side: str, agreed: tuple[bool, bool]) -> None:
    assert negotiated_deflate([(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Extensions", value)], side) == agreed


def test_no_extension_means_no_deflate() -> None:
    assert negotiated_deflate([(b"upgrade", b"websocket")]) == (False, False)
