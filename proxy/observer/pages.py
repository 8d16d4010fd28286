"""The observer's end of the second socketpair: one thread that makes the pages the gate's admin listener shows.

Here: answering, one question after the other. Not here: what stands on a page (its maker), who may see it (the admin listener).
"""

from __future__ import annotations

import gzip
import logging
import re
import socket
from collections.abc import Callable, Mapping
from threading import Thread

import msgspec

from proxy.pages import Page, PageRequest, decode_page_request, encode_page_reply, text_page
from proxy.records import FrameReader

READ_BYTES = 64 << 10
MIN_GZIP_BYTES = 1400  # what fits into a packet anyway
GZIP_LEVEL = 2  # level 9 takes seven times as long, for a tenth less

_TAKES_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?:1|0?\.0*[1-9])[\d.]*\s*)?(?:,|$)", re.IGNORECASE)

MakePage = Callable[[PageRequest], Page]

_log = logging.getLogger(__name__)


def start_pages(connection: socket.socket, makers: Mapping[str, MakePage]) -> Thread:
    """Answer questions by path until the gate closes its end. The thread ends with the process."""
    thread = Thread(target=_answer_all, args=(connection, makers), name="pages", daemon=True)
    thread.start()
    return thread


def _answer_all(connection: socket.socket, makers: Mapping[str, MakePage]) -> None:
    frames = FrameReader()
    with connection:
        while data := _receive(connection):
            for payload in frames.feed(data):
                try:
                    request = decode_page_request(payload)
                except (msgspec.DecodeError, ValueError):
                    _log.exception("the gate's question can't be read: no more are answered")
                    return
                if not _send(connection, encode_page_reply(request.number, compressed(answer(request, makers), request))):
                    return


def answer(request: PageRequest, makers: Mapping[str, MakePage]) -> Page:
    """The page; a 404 if there is none at the path, a 500 if it can't be made."""
    maker = makers.get(request.path)
    if maker is None:
        return text_page(404, f"The observer has no {request.path[:200]}.")
    try:
        return maker(request)
    except Exception:
        _log.exception("the page %s can't be made", request.path)
        return text_page(500, f"{request.path} can't be made; the log says why.")


def compressed(page: Page, request: PageRequest) -> Page:
    """The page, gzipped if it is large and who asks takes that: the gate then holds and copies a fraction of it."""
    if len(page.body) < MIN_GZIP_BYTES or not _TAKES_GZIP.search(request.headers.get("accept-encoding", "")):
        return page
    body = gzip.compress(page.body, GZIP_LEVEL, mtime=0)
    return msgspec.structs.replace(page, body=body, content_encoding="gzip")


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(READ_BYTES)
    except OSError:
        return b""


def _send(connection: socket.socket, frame: bytes) -> bool:
    try:
        connection.sendall(frame)
    except OSError:
        return False
    return True
