"""A client on a bare socket: it sends exactly the bytes it is given, and reads replies strictly enough to notice broken framing.

Here: one connection, one reply, a few ways to spell a request. Not here: the gate (gate.py), what a test expects.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

WAIT_S = 10.0
MAX_HEAD_BYTES = 256 << 10
CHAT = "/v1/chat/completions"


class Reply(NamedTuple):
    """A reply as it came; content coding is left alone."""

    status: int
    reason: str
    headers: list[tuple[str, str]]  # names in lower case
    body: bytes
    whole: bool = True  # False: the connection broke before the end its framing promised

    def header(self, name: str) -> str | None:
        """The only value of a field; None if it is absent."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    def error(self) -> dict[str, Any]:
        """The error in a body of OpenAI's envelope, whose four members are all there."""
        assert self.header("content-type") == "application/json", self
        document: dict[str, dict[str, Any]] = msgspec.json.decode(self.body)
        assert document["error"].keys() == {"message", "type", "param", "code"}
        return document["error"]


class Connection:
    """One TCP connection to the gate; use it in an `async with`."""

    def __init__(self, port: int, receive_buffer_bytes: int = 0) -> None:
        self._port = port
        self._receive_buffer_bytes = receive_buffer_bytes

    async def __aenter__(self) -> Self:
        opened = socket.socket()
        opened.setblocking(False)
        if self._receive_buffer_bytes:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", self._port))
        self.reader, self.writer = await asyncio.open_connection(sock=opened, limit=MAX_HEAD_BYTES)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """Send bytes; what the other side no longer wants to hear is left unsent."""
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(WAIT_S):
                await self.writer.drain()

    async def reply(self, method: str = "POST") -> Reply:
        """The next reply. Raises AssertionError if there is none or its framing is broken."""
        async with asyncio.timeout(WAIT_S):
            status, reason, headers = _parse_head(await self._read_head())
            reply = Reply(status, reason, headers, b"")
            if method == "HEAD" or status in (204, 304) or status < 200:
                return reply
            return await self._with_body(reply)

    async def is_closed(self) -> bool:
        """Wait until the other side ends the connection; whether it said nothing more before."""
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                return not await self.reader.read(1)
            return True

    def close(self) -> None:
        """End the connection in good order."""
        self.writer.close()

    def reset(self) -> None:
        """Break the connection: the other side sees a reset."""
        self.break_off(self.writer)

    @staticmethod
    def break_off(writer: asyncio.StreamWriter) -> None:
        """End a connection with a reset instead of in good order."""
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def _read_head(self) -> bytes:
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise AssertionError(f"the connection ended without a reply head: {error.partial!r}") from None

    async def _with_body(self, reply: Reply) -> Reply:
        length, coding = reply.header("content-length"), reply.header("transfer-encoding")
        assert length is None or coding is None, "two framings at once"
        try:
            if coding is not None:
                assert coding == "chunked"
                return await self._chunked(reply)
            body = await (self.reader.read() if length is None else self.reader.readexactly(int(length)))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            return reply._replace(body=getattr(error, "partial", b""), whole=False)
        return reply._replace(body=body)

    async def _chunked(self, reply: Reply) -> Reply:
        pieces: list[bytes] = []
        try:
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                pieces.append(await self.reader.readexactly(size))
                assert await self.reader.readexactly(2) == b"\r\n", "a chunk is longer than it says"
            assert await self.reader.readexactly(2) == b"\r\n", "trailers nobody asked for"
        except (asyncio.IncompleteReadError, ConnectionError):
            return reply._replace(body=b"".join(pieces), whole=False)
        return reply._replace(body=b"".join(pieces))


def _parse_head(head: bytes) -> tuple[int, str, list[tuple[str, str]]]:
    status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
    version, status, reason = status_line.split(" ", 2)
    assert version == "HTTP/1.1", status_line
    fields = [line.partition(":") for line in lines]
    assert all(colon and name == name.strip() for name, colon, _ in fields), lines
    return int(status), reason, [(name.lower(), value.strip()) for name, _, value in fields]


async def exchange(port: int, request: bytes, method: str = "POST") -> Reply:
    """Send bytes on a connection of their own and read one reply."""
    async with Connection(port) as connection:
        await connection.send(request)
        return await connection.reply(method)


def head(*fields: bytes, target: str = CHAT, method: str = "POST", version: str = "1.1") -> bytes:
    """The head of a request: a host, then the fields, whole lines without their end."""
    lines = [f"{method} {target} HTTP/{version}".encode("latin-1"), b"Host: gate", *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(body: bytes, *fields: bytes, target: str = CHAT) -> bytes:
    """A whole request with a JSON body and its length."""
    framing = (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
    return head(*framing, *fields, target=target) + body


def chunked(*pieces: bytes) -> bytes:
    """Pieces as a chunked body, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
