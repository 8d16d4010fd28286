"""aiohttp's connection with faults of our own choosing: OpenAI-shaped answers, no waiting for what never comes.

Here: what happens to bytes that are no request, and to heads that are dribbled. Not here: requests that are well formed (http.py).
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from aiohttp.web_request import BaseRequest

from proxy.call import HeaderList
from proxy.receivers.reply import Sent
from proxy.wire.error_bodies import error_body
from proxy.wire.http1 import reply_head

MAX_HEADER_BYTES = 64 << 10  # one line; providers themselves stop at 64 KiB for all


class ConnectionHost(Protocol):
    """What a connection needs of its server."""

    head_s: float  # from the first bytes of a request's head to its last
    bad_requests: int


class GateConnection(RequestHandler):
    """aiohttp's connection, but its errors are ours: OpenAI-shaped, and never a stack trace in the log for a client's mistake."""

    _head_timer: asyncio.TimerHandle | None = None
    _is_broken = False  # what still comes can't be read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._server = cast(ConnectionHost, self._manager)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """As aiohttp's; and a body that turns out broken ends the request it belongs to, a head that is dribbled its connection."""
        if self._is_broken:
            return
        super().data_received(data)
        if self._messages:
            self._stop_head_timer()
            if isinstance(self._messages[-1][0], _ErrInfo):
                self._break_body(self._messages[-1][0])
        elif self._waiter is not None and self._head_timer is None and data:
            self._head_timer = self._loop.call_later(self._server.head_s, self._give_up_on_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _break_body(self, fault: _ErrInfo) -> None:
        """aiohttp queues the fault behind the request whose body it is in, and that one would wait for its body for ever."""
        body = self._unfinished_body()
        if body is None:
            return
        self._messages.pop()
        self._is_broken = True
        self._server.bad_requests += 1
        body.set_exception(web.RequestPayloadError(_detail(fault.exc)))
        body.feed_eof()

    def _unfinished_body(self) -> StreamReader | None:
        if len(self._messages) > 1:
            body = self._messages[-2][1]
        elif self._current_request is not None:
            body = self._current_request.content
        else:
            return None
        return None if body.is_eof() else body

    def _give_up_on_head(self) -> None:
        if self._waiter is None or self._waiter.done() or self.transport is None:
            return
        self._server.bad_requests += 1
        text = f"The head of the request was not complete after {self._server.head_s:g} s. Nothing was sent on."
        self.transport.write(_error_reply(408, "request_timeout", text))
        self.force_close()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to bytes that are no request, or to a handler that threw."""
        if isinstance(exc, HttpProcessingError):
            self._server.bad_requests += 1
            status, code, text = _malformed(exc)
        else:
            self.logger.error("call failed inside the gate", exc_info=exc)
            status, code, text = (
                500,
                "internal_error",
                "Postern failed while handling this call. This is a fault of Postern; its log says more.",
            )
        if self.transport is None:
            raise ConnectionResetError("the client is gone")
        self.transport.write(_error_reply(status, code, text))
        return Sent(status=status)


def _error_reply(status: int, code: str, text: str) -> bytes:
    """A whole reply, the last on its connection."""
    body = error_body(text, "invalid_request_error" if status < 500 else "postern_unavailable", code, None)
    headers: HeaderList = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    return reply_head(status, "", headers) + body


def _malformed(exc: HttpProcessingError) -> tuple[int, str, str]:
    if isinstance(exc, LineTooLong):
        return 431, "header_too_large", f"A header line or the request target is over {MAX_HEADER_BYTES} bytes. Send a shorter one."
    return 400, "bad_request", f"This is not a valid HTTP/1.1 request ({_detail(exc)}). Nothing was sent on."


def _detail(exc: BaseException) -> str:
    """The parser's reason in one line, without the bytes it stumbled over."""
    reason = str(getattr(exc, "message", "")).strip()
    return reason.splitlines()[0][:200].rstrip(": ") if reason else "malformed request"
