"""The listener apps talk to: aiohttp's server parses, our own bytes answer.

Here: the server, and its requests as the pipeline's plain values. Not here: decisions; aiohttp's types stay in this folder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web
from aiohttp.http import HttpVersion10
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from proxy.call import HeaderList
from proxy.pipeline.request import ClientRequest
from proxy.ports import ClientReply, ClientTunnel, Clock
from proxy.receivers.connection import MAX_HEADER_BYTES, GateConnection
from proxy.receivers.reply import Body, Reply
from proxy.receivers.tunnel import Tunnel

MAX_PORT_DIGITS = 5
HEAD_S = 30.0  # from the first bytes of a request's head to its last
LINGER_S = 3.0  # a refused upload is read on for so long: a reset would overtake the answer
Handle = Callable[[ClientRequest, ClientReply, ClientTunnel], Awaitable[None]]


class GateServer(web.Server):
    """Makes one GateConnection per TCP connection; `bad_requests` counts what never became a call."""

    def __init__(self, handle: Handle, clock: Clock, head_s: float = HEAD_S) -> None:
        super().__init__(
            self._respond,
            handler_cancellation=True,  # a client that leaves ends its call at once
            access_log=None,
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            tcp_keepalive=True,
            lingering_time=LINGER_S,
        )
        self._handle = handle
        self._clock = clock
        self.head_s = head_s
        self.bad_requests = 0

    def __call__(self) -> RequestHandler:
        return GateConnection(self, loop=self._loop, **self._kwargs)

    async def _respond(self, request: BaseRequest) -> web.StreamResponse:
        _refuse_what_cannot_pass(request)
        reply = Reply(request)
        try:
            await self._handle(self._client_request(request), reply, Tunnel(request, reply))
        except Exception:
            if not reply.begun:
                raise
            request.protocol.logger.exception("call failed inside the gate")
            reply.abort()  # no second head may follow the first
        return reply.sent

    def _client_request(self, request: BaseRequest) -> ClientRequest:
        host, port = _split_host(request.headers.get("Host") or "")
        sockname = request.protocol.sockname
        local_port = sockname[1] if isinstance(sockname, tuple) else 0
        peer = request.protocol.peername
        return ClientRequest(
            request.method,
            request._message.path,
            cast(HeaderList, list(request.raw_headers)),
            "1.0" if request.version.minor == 0 else "1.1",
            "http",
            host,
            local_port if port is None else port,
            peer[0] if isinstance(peer, tuple) else "",
            Body(request),
            self._clock.time_ns(),
            self._clock.monotonic_ns(),
            request._message.upgrade and request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket",
        )


def _refuse_what_cannot_pass(request: BaseRequest) -> None:
    """Raises BadHttpMessage for what the parser takes and a gate can't pass on as it was meant."""
    if request.version < HttpVersion10:
        raise BadHttpMessage("HTTP/0.9 is not spoken here")
    if request.method == "CONNECT":
        raise BadHttpMessage("CONNECT is for forward proxies")
    if request._message.chunked and request.headers["Transfer-Encoding"].lower() != "chunked":
        raise BadHttpMessage("chunked is the only transfer coding known here")


def _split_host(value: str) -> tuple[str, int | None]:
    """The host and the port of a Host field; port None if there is none that makes sense."""
    host, _, port = value.rpartition(":")
    if len(port) <= MAX_PORT_DIGITS and port.isascii() and port.isdigit():
        return host, int(port)
    return value, None
