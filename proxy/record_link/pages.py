"""The gate's end of the second socketpair: pages of the observer, asked for one by one.

Here: asking, and giving up. Not here: records (link.py), which paths are the observer's (receivers/admin.py), what stands on a page.
Nothing here waits for the observer but the one who asked: a hung observer costs its askers TIMEOUT_S, and no call anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping

import msgspec

from proxy.pages import Page, PageRequest, decode_page_reply, encode_page_request, text_page
from proxy.records import FrameReader

TIMEOUT_S = 5.0
MAX_UNANSWERED = 16  # questions the observer hasn't answered, given up ones too; so many fit into the socket's buffer at any time
READ_BYTES = 256 << 10

AWAY = "The observer is away: it is being started. Ask again in a moment."
SLOW = f"The observer didn't answer within {TIMEOUT_S:g} s."
BUSY = f"The observer hasn't answered {MAX_UNANSWERED} earlier questions yet."


class PageLink:
    """Asks whichever observer there is."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._frames = FrameReader()
        self._asked = 0
        self._unanswered: dict[int, asyncio.Future[Page]] = {}

    def connect(self, end: socket.socket) -> None:
        """Ask this observer from now on."""
        self.disconnect()
        end.setblocking(False)
        self._socket = end
        self._frames = FrameReader()
        asyncio.get_running_loop().add_reader(end.fileno(), self._on_readable)

    def disconnect(self) -> None:
        """The observer is gone: so are its answers."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        for answer in self._unanswered.values():
            _settle(answer, text_page(503, AWAY))
        self._unanswered.clear()

    async def fetch(self, path: str, headers: Mapping[str, str]) -> Page:
        """The page at `path`; a 503 that says why if there is none to be had now. Never raises."""
        if self._socket is None:
            return text_page(503, AWAY)
        if len(self._unanswered) >= MAX_UNANSWERED:
            return text_page(503, BUSY)
        self._asked += 1
        answer: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        self._unanswered[self._asked] = answer
        self._send(self._socket, encode_page_request(PageRequest(self._asked, path, dict(headers))))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                return await answer
        return text_page(503, SLOW)

    def _send(self, end: socket.socket, frame: bytes) -> None:
        try:
            sent = end.send(frame)
        except OSError:
            sent = 0
        if sent < len(frame):  # the observer is gone, or a question was too large for any buffer
            self.disconnect()

    def _on_readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.disconnect()
            return
        try:
            for payload in self._frames.feed(data):
                reply = decode_page_reply(payload)
                answer = self._unanswered.pop(reply.number, None)
                if answer is not None:
                    _settle(answer, reply.page)
        except (ValueError, msgspec.DecodeError):
            self.disconnect()


def _settle(answer: asyncio.Future[Page], page: Page) -> None:
    if not answer.done():  # who asked may have given up
        answer.set_result(page)
