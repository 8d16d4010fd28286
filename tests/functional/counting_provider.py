"""An upstream that answers every chat alike, after a known time, and counts what it began and what it served to the last byte.

Here: the provider that money is counted by. Not here: one that answers as a test wrote down (scripted_provider.py), the server's life
(threaded_server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from tests.functional.scripted_provider import plain, sse
from tests.functional.threaded_server import ThreadedServer

USAGE = b'"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}'
TOKENS = 15
MESSAGE = b'{"role":"assistant","content":"Hello"}'
ANSWER = plain(
    b'{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"message":%b,"finish_reason":"stop"}],%b}'
    % (MESSAGE, USAGE)
)
_HEAD_AND_FIRST, _REST = (
    b"".join(pieces)
    for pieces in (
        sse(b'data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n')[:-1],
        sse(
            b'data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}\n\n',
            b'data: {"id":"c","model":"gpt-4o-mini","choices":[],%b}\n\ndata: [DONE]\n\n' % USAGE,
        )[1:],
    )
)


class CountingProvider(ThreadedServer):
    """Answers after `latency_s`, streams with as long a pause after their first event; streams that are held wait for `let_go`."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.began = 0
        self.served = 0
        self.under_way = 0
        self.most_at_once = 0
        self._latency_s = latency_s
        self._flows = asyncio.Event()
        self._flows.set()
        super().__init__()

    def hold(self) -> None:
        """From now on, streams stop after their first event."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def let_go(self) -> None:
        """Streams go on."""
        self._loop.call_soon_threadsafe(self._flows.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                body = await reader.readexactly(length)
                self.began += 1
                self.under_way += 1
                self.most_at_once = max(self.most_at_once, self.under_way)
                try:
                    await self._answer(reader, writer, b'"stream":true' in body)
                finally:
                    self.under_way -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_stream: bool) -> None:
        if is_stream:
            writer.write(_HEAD_AND_FIRST)
            await self._flows.wait()
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        if reader.at_eof() or reader.exception() is not None or writer.is_closing():  # whoever asked has gone
            raise ConnectionResetError
        self.served += 1  # before it can be read: who has the reply may ask at once how many were served
        writer.write(_REST if is_stream else ANSWER)
        await writer.drain()


@contextlib.contextmanager
def counting_provider(latency_s: float = 0.0) -> Iterator[CountingProvider]:
    """A counting provider for one test."""
    provider = CountingProvider(latency_s)
    try:
        yield provider
    finally:
        provider.close()
