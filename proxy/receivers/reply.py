"""One request's body and its reply, on aiohttp's connection: the body comes from its parser, the reply is our own bytes.

Here: the ports RequestBody and ClientReply. Not here: the listener (http.py), framing's rules (wire/http1.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_request import BaseRequest

from proxy.call import HeaderList
from proxy.errors import BadRequest, BodyTooLarge, ClientGone
from proxy.wire.http1 import LAST_CHUNK, chunk, has_body, reply_head

STALLED_S = 300.0  # a client that takes nothing of its reply for so long is gone
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Sent(web.StreamResponse):
    """Tells aiohttp that the reply is already on the wire, and whether the connection can serve another request."""

    reusable = False

    @property
    def keep_alive(self) -> bool:
        """aiohttp asks this when the reply is over."""
        return self.reusable

    async def prepare(self, request: BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Body:
    """The request's body. Port: RequestBody."""

    def __init__(self, request: BaseRequest) -> None:
        self._request = request
        self._expects_continue = request.headers.get("Expect", "").lower() == "100-continue"
        length = request.headers.get("Content-Length")
        self.declared_bytes: int | None = int(length) if length else (None if request.body_exists else 0)

    async def read(self, limit: int) -> bytes:
        """See the port."""
        content = self._request.content
        if content.is_eof() and content.total_bytes <= limit and content.exception() is None:  # it came together with the head
            return content.read_nowait()
        pieces = [piece async for piece in self.stream(limit)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        """See the port."""
        if self.declared_bytes == 0:
            return
        if (self.declared_bytes or 0) > limit:
            raise BodyTooLarge(limit)
        self._say_continue()
        content, received = self._request.content, 0
        while piece := await self._next(content.readany):
            received += len(piece)
            if received > limit:
                raise BodyTooLarge(limit)
            yield piece

    def _say_continue(self) -> None:
        transport = self._request.transport
        if self._expects_continue and transport is not None:
            self._expects_continue = False
            transport.write(CONTINUE)

    async def _next(self, readany: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            return await readany()
        except (web.RequestPayloadError, HttpProcessingError) as error:
            raise BadRequest(f"The request body is broken: {str(error)[:200]}. Nothing of it was used.") from error


async def drained(request: BaseRequest) -> None:
    """Wait until the client has taken what was sent. Raises ClientGone if it takes nothing more."""
    try:
        async with asyncio.timeout(STALLED_S):
            await request.writer.drain()
    except (TimeoutError, ConnectionError) as error:
        if request.transport is not None:
            request.transport.abort()
        raise ClientGone from error


class Reply:
    """The reply to one request. Port: ClientReply."""

    def __init__(self, request: BaseRequest) -> None:
        self._request = request
        self._protocol = request.protocol
        self._head = b""
        self._chunked = False
        self._bodyless = False
        self.begun = False  # its head is on the wire
        self.sent = Sent()

    async def start(self, status: int, reason: str, headers: HeaderList) -> None:
        """See the port."""
        request = self._request
        keep_alive = request.keep_alive and not self._request_unread()
        framing = b"" if keep_alive else b"connection: close\r\n"
        self._bodyless = not has_body(request.method, status)
        if not self._bodyless and not any(len(name) == 14 and name.lower() == b"content-length" for name, _ in headers):
            if request.version.minor == 0:
                keep_alive, framing = False, b"connection: close\r\n"
            else:
                self._chunked = True
                framing += b"transfer-encoding: chunked\r\n"
        if keep_alive and request.version.minor == 0:
            framing += b"connection: keep-alive\r\n"
        self.sent.reusable = keep_alive
        self._head = reply_head(status, reason, headers, framing)

    def _request_unread(self) -> bool:
        # An upload that was refused half-way is not drained for long: the connection can't be used again.
        content = self._request.content
        return self._request.body_exists and (not content.is_eof() or content.exception() is not None)

    def flush(self) -> None:
        """See the port."""
        if self._head:
            self._send(b"")

    async def write(self, data: bytes) -> None:
        """See the port."""
        if self._bodyless or not data:
            return
        self._send(chunk(data) if self._chunked else data)
        if self._protocol.writing_paused:
            await drained(self._request)

    async def finish(self) -> None:
        """See the port."""
        if self._chunked:
            self._send(LAST_CHUNK)
        elif self._head:
            self._send(b"")

    def abort(self) -> None:
        """See the port."""
        self.sent.reusable = False
        if self._head:
            self._send(b"")
        transport = self._request.transport
        if transport is not None:
            transport.close()

    def _send(self, data: bytes) -> None:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        if self._head:
            data, self._head = self._head + data, b""
            self.begun = True
        transport.write(data)
