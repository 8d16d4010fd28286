"""An upstream that answers byte for byte what a test wrote down, and remembers byte for byte what it was sent.

Here: scripts and what plays them. Not here: the server's life (threaded_server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, cycle, repeat
from typing import Literal

from tests.functional.threaded_server import WAIT_S, ThreadedServer

SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
Cut = Literal["close", "reset", "stall"]


class Gate:
    """A point of a script where the provider waits for the test."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        """Let the script go on."""
        self._open.set()

    async def passed(self) -> None:
        """Wait until the test opened it."""
        assert await asyncio.to_thread(self._open.wait, WAIT_S), "a script's gate was never opened"


Step = bytes | Gate | Cut


@dataclass
class Exchange:
    """One request, as it came, and what became of its connection."""

    head: bytes
    body: bytes = b""
    arrived: list[bytes] = field(default_factory=list)  # pieces of the body
    gone_at_s: float | None = None  # monotonic time at which the client was seen to be gone
    gone: threading.Event = field(default_factory=threading.Event)
    has_body: threading.Event = field(default_factory=threading.Event)  # some of it

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Header fields in wire order, names as they were written."""
        pairs = [line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line]
        return [(name, value.strip()) for name, _, value in pairs]

    def field(self, name: bytes) -> list[bytes]:
        """All values of a field, by its lower-case name."""
        return [value for key, value in self.fields() if key.lower() == name]

    @property
    def request_line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]


def sse(*events: bytes) -> list[bytes]:
    """The head of a stream and each event as a chunk of its own, with the end of the framing."""
    return [SSE_HEAD, *(chunk(event) for event in events), b"0\r\n\r\n"]


def chunk(data: bytes) -> bytes:
    """One chunk of chunked framing."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def plain(body: bytes, status: bytes = b"200 OK", *fields: bytes) -> bytes:
    """A whole reply with a length; JSON unless a field says otherwise."""
    lines = list(fields)
    if not any(line.lower().startswith(b"content-type:") for line in lines):
        lines.append(b"Content-Type: application/json")
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


class ScriptedProvider(ThreadedServer):
    """Answers each request with the next script; the last one serves all that follow."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._scripts: Iterator[Sequence[Step]] = repeat([plain(b"{}")])
        self._connections: set[asyncio.Task[None]] = set()
        super().__init__()

    def script(self, *scripts: Sequence[Step]) -> None:
        """What the next requests are answered with; forgets the requests so far."""
        self._scripts = chain(scripts, repeat(scripts[-1]))
        self.exchanges = []

    def script_in_turn(self, *scripts: Sequence[Step]) -> None:
        """What the next requests are answered with, over and over; forgets the requests so far."""
        self._scripts = cycle(scripts)
        self.exchanges = []

    def leave(self) -> None:
        """Break every connection and refuse new ones, as a process that was killed does."""

        async def end() -> None:
            self._server.close()
            for connection in self._connections:
                connection.cancel()

        self._do(end())

    def come_back(self) -> None:
        """Listen again, at the same port."""
        self._server = self._listening(self.port)

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                exchange = Exchange(head)
                self.exchanges.append(exchange)
                await _read_body(reader, exchange)
                script = next(self._scripts)
                watcher = asyncio.ensure_future(_watch(reader, exchange))
                try:
                    if not await _play(script, watcher, writer):
                        return
                finally:
                    watcher.cancel()
                    await asyncio.gather(watcher, return_exceptions=True)
        writer.close()


async def _read_body(reader: asyncio.StreamReader, exchange: Exchange) -> None:
    length, coding = exchange.field(b"content-length"), exchange.field(b"transfer-encoding")
    if coding:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            _arrived(exchange, (await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
    elif length:
        left = int(length[0])
        while left:
            piece = await reader.read(left)
            if not piece:
                raise ConnectionResetError
            left -= len(piece)
            _arrived(exchange, piece)


def _arrived(exchange: Exchange, piece: bytes) -> None:
    exchange.arrived.append(piece)
    exchange.body += piece
    exchange.has_body.set()


async def _watch(reader: asyncio.StreamReader, exchange: Exchange) -> None:
    """Notice the moment the client closes. Nothing more is read from a client that stays: the gate never pipelines."""
    with contextlib.suppress(ConnectionError):
        while not reader.at_eof():
            if reader._buffer:  # type: ignore[attr-defined]
                return
            await reader._wait_for_data("watch")  # type: ignore[attr-defined]
    exchange.gone_at_s = time.monotonic()
    exchange.gone.set()


async def _play(script: Sequence[Step], watcher: asyncio.Future[None], writer: asyncio.StreamWriter) -> bool:
    """Write the script; whether the connection goes on. `watcher` ends when the client is gone."""
    for step in script:
        match step:
            case bytes():
                writer.write(step)
                await writer.drain()
            case Gate():
                await step.passed()
            case "close":
                writer.close()
                return False
            case "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            case "stall":
                await asyncio.wait([watcher], timeout=WAIT_S)
                writer.close()
                return False
    return True


@contextlib.contextmanager
def scripted_provider() -> Iterator[ScriptedProvider]:
    """A scripted provider for one test or one module."""
    provider = ScriptedProvider()
    try:
        yield provider
    finally:
        provider.close()
