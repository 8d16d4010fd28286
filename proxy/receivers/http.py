"""The listener apps talk to: aiohttp's server parses, our own bytes answer.

Here: requests in, replies out, errors of the HTTP layer in the OpenAI envelope. Not here: decisions; aiohttp's types stay in this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from proxy.call import HeaderList
from proxy.errors import BadRequest, BodyTooLarge, ClientGone
from proxy.pipeline.request import ClientRequest
from proxy.ports import ClientReply, ClientTunnel, Clock
from proxy.wire.error_bodies import error_body
from proxy.wire.http1 import LAST_CHUNK, chunk, has_body, reply_head

MAX_HEADER_BYTES = 64 << 10  # one line; providers themselves stop at 64 KiB for all
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Handle = Callable[[ClientRequest, ClientReply, ClientTunnel], Awaitable[None]]


class GateServer(web.Server):
    """Makes one GateConnection per TCP connection; `bad_requests` counts what never became a call."""

    def __init__(self, handle: Handle, clock: Clock) -> None:
        super().__init__(
            self._respond,
            handler_cancellation=True,  # a client that leaves ends its call at once
            access_log=None,
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            tcp_keepalive=True,
        )
        self._handle = handle
        self._clock = clock
        self.bad_requests = 0

    def __call__(self) -> RequestHandler:
        return GateConnection(self, loop=self._loop, **self._kwargs)

    async def _respond(self, request: BaseRequest) -> web.StreamResponse:
        reply = _Reply(request)
        await self._handle(self._client_request(request), reply, _Tunnel(request, reply))
        return reply.sent

    def _client_request(self, request: BaseRequest) -> ClientRequest:
        host, _, port = (request.headers.get("Host") or "").rpartition(":")
        sockname = request.protocol.sockname
        local_port = sockname[1] if isinstance(sockname, tuple) else 0
        peer = request.protocol.peername
        return ClientRequest(
            request.method,
            request._message.path,
            cast(HeaderList, list(request.raw_headers)),
            "1.0" if request.version.minor == 0 else "1.1",
            "http",
            host if port.isdigit() else host + port,
            int(port) if port.isdigit() else local_port,
            peer[0] if isinstance(peer, tuple) else "",
            _Body(request),
            self._clock.time_ns(),
            self._clock.monotonic_ns(),
            request._message.upgrade and request.headers.get("Upgrade", "").lower() == "websocket",
        )


class GateConnection(RequestHandler):
    """aiohttp's connection, but its errors are ours: OpenAI-shaped, and never a stack trace in the log for a client's mistake."""

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to bytes that are no request, or to a handler that threw."""
        if isinstance(exc, HttpProcessingError):
            cast(GateServer, self._manager).bad_requests += 1
            status, code, text = _malformed(exc)
        else:
            self.logger.error("call failed inside the gate", exc_info=exc)
            status, code, text = (
                500,
                "internal_error",
                "Postern failed while handling this call. This is a fault of Postern; its log says more.",
            )
        if request.writer.output_size > 0 or self.transport is None:
            raise ConnectionResetError("the reply had begun")
        kind = "invalid_request_error" if status < 500 else "postern_unavailable"
        body = error_body(text, kind, code, None)
        headers: HeaderList = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        self.transport.write(reply_head(status, "", headers) + body)
        return _Sent(status=status)


def _malformed(exc: HttpProcessingError) -> tuple[int, str, str]:
    if isinstance(exc, LineTooLong):
        return 431, "header_too_large", f"A header line or the request target is over {MAX_HEADER_BYTES} bytes. Send a shorter one."
    detail = str(exc.message).splitlines()[0][:200].rstrip(": ") if exc.message else "malformed request"
    return 400, "bad_request", f"This is not a valid HTTP/1.1 request ({detail}). Nothing was sent on."


class _Sent(web.StreamResponse):
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


class _Body:
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


class _Reply:
    """The reply to one request. Port: ClientReply."""

    def __init__(self, request: BaseRequest) -> None:
        self._request = request
        self._protocol = request.protocol
        self._head = b""
        self._chunked = False
        self._bodyless = False
        self.sent = _Sent()

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
        return not self._request.content.is_eof() and self._request.body_exists

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
            await self._request.writer.drain()

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
        transport.write(data)


class _TunnelReader:
    """Stands where aiohttp expects a WebSocket parser: it gets the connection's raw bytes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._held_bytes = 0

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """aiohttp calls this with what the client sent."""
        self.arrived.put_nowait(bytes(data))
        self._held_bytes += len(data)
        if self._held_bytes > MAX_HEADER_BYTES:
            self._transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp calls this when the client is gone."""
        self.arrived.put_nowait(b"")

    async def read(self) -> bytes:
        """The next bytes, b"" at the end."""
        data = await self.arrived.get()
        self._held_bytes -= len(data)
        if self._held_bytes <= MAX_HEADER_BYTES and not self._transport.is_closing():
            self._transport.resume_reading()
        return data


class _Tunnel:
    """The client's connection after an upgrade: bytes both ways. Port: ClientTunnel."""

    def __init__(self, request: BaseRequest, reply: _Reply) -> None:
        self._request = request
        self._reply = reply
        self._reader: _TunnelReader | None = None

    def open(self, status: int, reason: str, headers: HeaderList) -> None:
        """Send the 101 head, exactly these fields, and take the connection over."""
        protocol, transport = self._request.protocol, self._request.transport
        if transport is None:
            raise ClientGone
        self._reply.sent.reusable = False
        transport.write(reply_head(status, reason, headers))
        self._reader = _TunnelReader(transport)
        protocol.set_parser(cast("web.WebSocketReader", self._reader))  # type: ignore[name-defined]

    async def read(self) -> bytes:
        """See the port."""
        assert self._reader is not None
        return await self._reader.read()

    async def write(self, data: bytes) -> None:
        """See the port."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(data)
        if self._request.protocol.writing_paused:
            await self._request.writer.drain()

    def close(self) -> None:
        """See the port."""
        if self._request.transport is not None:
            self._request.transport.close()
