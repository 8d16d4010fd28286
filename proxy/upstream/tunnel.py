"""Raw upstream connections for upgraded protocols (WebSocket): after the handshake, bytes both ways.

Here: dialling and the handshake's answer. Not here: frames; they are read on a copy, in wire/.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

from proxy.call import HeaderList, Target
from proxy.upstream.translate import FOREIGN, translate
from proxy.wire.http1 import MAX_HEAD_BYTES, header, parse_reply_head

READ_BYTES = 64 << 10


class TcpTunnelDialer:
    """Opens one connection per upgrade. Port: TunnelDialer."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None

    async def dial(self, target: Target, url: str, headers: HeaderList) -> TcpTunnel:
        """See the port."""
        parts = urlsplit(url)
        request_target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [b"GET %b HTTP/1.1\r\nHost: %b\r\n" % (request_target.encode(), parts.netloc.encode())]
        lines += [b"%b: %b\r\n" % field for field in headers]
        try:
            async with asyncio.timeout(target.timeouts.connect_s):
                reader, writer = await asyncio.open_connection(
                    parts.hostname,
                    parts.port or (443 if parts.scheme == "https" else 80),
                    ssl=self._context(parts.scheme),
                    limit=MAX_HEAD_BYTES,
                )
        except FOREIGN as error:
            raise translate(error, target) from error
        return await _shake_hands(TcpTunnel(target, reader, writer), b"".join(lines) + b"\r\n")

    def _context(self, scheme: str) -> ssl.SSLContext | None:
        if scheme != "https":
            return None
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


async def _shake_hands(tunnel: TcpTunnel, head: bytes) -> TcpTunnel:
    try:
        async with asyncio.timeout(tunnel.target.timeouts.first_byte_s):
            await tunnel.send_handshake(head)
    except FOREIGN as error:
        tunnel.close()
        raise translate(error, tunnel.target) from error
    except asyncio.CancelledError:
        tunnel.close()
        raise
    return tunnel


class TcpTunnel:
    """An upgraded connection. Port: UpstreamTunnel."""

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.target = target
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.reason = ""
        self.headers: HeaderList = []

    async def send_handshake(self, head: bytes) -> None:
        """Write the request's head, read the answer's. Raises what FOREIGN lists."""
        self._writer.write(head)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        self.status, self.reason, self.headers = parse_reply_head(answer)

    async def read(self) -> bytes:
        """See the port."""
        try:
            return await self._reader.read(READ_BYTES)
        except FOREIGN as error:
            raise translate(error, self.target) from error

    async def write(self, data: bytes) -> None:
        """See the port."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except FOREIGN as error:
            raise translate(error, self.target) from error

    def close(self) -> None:
        """See the port."""
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._writer.close()

    async def read_refusal(self, limit: int) -> bytes:
        """See the port."""
        try:
            async with asyncio.timeout(self.target.timeouts.first_byte_s):
                if b"chunked" in header(self.headers, b"transfer-encoding").lower():
                    return await self._read_chunked(limit)
                length = header(self.headers, b"content-length")
                return await self._reader.readexactly(min(int(length), limit)) if length else await self._reader.read(limit)
        except FOREIGN as error:
            raise translate(error, self.target) from error

    async def _read_chunked(self, limit: int) -> bytes:
        body = b""
        while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            if len(body) + size > limit:
                break
            body += (await self._reader.readexactly(size + 2))[:-2]
        return body
