"""Pages that the observer makes and the gate's admin listener shows: what goes over the second socketpair between them.

Here: the question, the answer, their framing. Not here: sockets, what pages there are.
"""

from __future__ import annotations

import msgspec

from proxy.records import MAX_FRAME_BYTES, framed

TEXT_TYPE = "text/plain; charset=utf-8"
MAX_BODY_BYTES = MAX_FRAME_BYTES - (1 << 10)

ASKED_HEADERS = ("accept", "accept-encoding")
"""The request headers that a page may depend on, in lower case: no other is handed over."""


class PageRequest(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A page somebody asks for."""

    number: int  # of the question, for its answer to name
    path: str  # without query
    headers: dict[str, str] = {}


class Page(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An answer, whole."""

    status: int
    content_type: str
    body: bytes
    content_encoding: str = ""  # of the body; "": none


class PageReply(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The page that was asked for."""

    number: int
    page: Page


_encode = msgspec.msgpack.Encoder().encode
decode_page_request = msgspec.msgpack.Decoder(PageRequest).decode
decode_page_reply = msgspec.msgpack.Decoder(PageReply).decode


def text_page(status: int, text: str) -> Page:
    """A page of plain text: a reason, as a rule."""
    return Page(status, TEXT_TYPE, f"{text}\n".encode())


def encode_page_request(request: PageRequest) -> bytes:
    """The question as one frame: 4 bytes of big-endian length, then msgpack."""
    return framed(_encode(request))


def encode_page_reply(number: int, page: Page) -> bytes:
    """The answer as one frame. A page that no frame holds becomes a 500 that says so."""
    if len(page.body) > MAX_BODY_BYTES:
        page = text_page(500, f"The page has {len(page.body)} bytes, and {MAX_BODY_BYTES} are the most there may be.")
    return framed(_encode(PageReply(number, page)))
