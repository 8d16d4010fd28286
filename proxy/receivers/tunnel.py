"""A client's connection after an upgrade: raw bytes both ways.

Here: the port ClientTunnel. Not here: frames (wire/websocket.py).
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp.http import WebSocketReader
from aiohttp.web_request import BaseRequest

from proxy.call import HeaderList
from proxy.errors import ClientGone
from proxy.receivers.reply import Reply, drained
from proxy.wire.http1 import reply_head

HELD_BYTES = 64 << 10  # of what the client sent and the upstream hasn't taken


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
        if self._held_bytes > HELD_BYTES:
            self._transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp calls this when the client is gone."""
        self.arrived.put_nowait(b"")

    async def read(self) -> bytes:
        """The next bytes, b"" at the end."""
        data = await self.arrived.get()
        self._held_bytes -= len(data)
        if self._held_bytes <= HELD_BYTES and not self._transport.is_closing():
            self._transport.resume_reading()
        return data


class Tunnel:
    """The client's connection after an upgrade: bytes both ways. Port: ClientTunnel."""

    def __init__(self, request: BaseRequest, reply: Reply) -> None:
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
        protocol.set_parser(cast(WebSocketReader, self._reader))

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
            await drained(self._request)

    def close(self) -> None:
        """See the port."""
        if self._request.transport is not None:
            self._request.transport.close()
