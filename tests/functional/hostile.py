"""A gate on broken ground: the running program between a raw client and a provider that says anything, and the ledger's word on each call.

Here: what both sides' tests share. Not here: starting the gate (gate.py), scripts (scripted_provider.py), what a test expects.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from proxy.observer.ledger.read import read_calls
from proxy.observer.ledger.rows import Row
from tests.functional.gate import RunningGate, running_gate
from tests.functional.raw_http import Connection, Reply, post
from tests.functional.scripted_provider import Exchange, ScriptedProvider, Step, chunk, plain, scripted_provider

ASKED = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
ASKED_STREAM = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}'
ANSWER = (
    b'{"id":"c1","object":"chat.completion","model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}'
)
GOOD = post(ASKED)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


class Ground(NamedTuple):
    """A gate and the provider behind it."""

    gate: RunningGate
    provider: ScriptedProvider

    @property
    def seen(self) -> list[Exchange]:
        """What reached the provider since it got its last script."""
        return self.provider.exchanges

    def says(self, *steps: Step) -> None:
        """Play these steps to every request and end the connection, unless they end it themselves."""
        self.provider.script([*steps, "close"])

    async def ask(self, body: bytes = ASKED) -> Reply:
        """Send a call and read its reply, on a connection of their own."""
        async with Connection(self.gate.port) as connection:
            await connection.send(post(body, b"Accept-Encoding: gzip"))
            return await connection.reply()

    async def check_good_call(self) -> None:
        """The gate still serves, and the provider sees what was sent."""
        self.provider.script([plain(ANSWER)])
        reply = await self.ask()
        assert (reply.status, reply.body, reply.whole) == (200, ANSWER, True)
        assert self.provider.last.body == ASKED

    def bad_requests(self) -> int:
        """How many requests never became calls."""
        return int(self.gate.status()["calls"]["bad_requests"])

    def memory_mib(self) -> int:
        """The most memory the gate had so far."""
        lines = Path(f"/proc/{self.gate.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10

    def forget_memory_peak(self) -> int:
        """Begin to measure `memory_mib` anew; what it is now."""
        Path(f"/proc/{self.gate.process.pid}/clear_refs").write_text("5")
        return self.memory_mib()

    def row(self, is_it: Callable[[Row], bool]) -> Row:
        """The newest row that fits, awaited."""
        ledger = self.gate.state_dir / "ledger.db"

        def found() -> list[Row]:
            with contextlib.suppress(FileNotFoundError, sqlite3.OperationalError):  # it begins with the first call
                return [row for row in read_calls(ledger, None, 50) if is_it(row)]
            return []

        rows: list[Row] = self.gate.until(found, "in the ledger")
        return rows[-1]

    def row_of(self, reply: Reply) -> Row:
        """The row of the call that got this reply."""
        call_id = reply.header("x-postern-call-id")
        return self.row(lambda row: row.call_id == call_id)


@contextlib.contextmanager
def broken_ground(config: str) -> Iterator[Ground]:
    """A gate with this configuration, in whose text {upstream} is the provider's port. At its end nothing may have gone wrong inside it."""
    with scripted_provider() as provider, running_gate(config.replace("{upstream}", str(provider.port))) as gate:
        yield Ground(gate, provider)


def content(text: bytes) -> bytes:
    """An event of a streamed chat."""
    return b'data: {"id":"c1","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % text


LAST = (
    b'data: {"id":"c1","model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}\n\ndata: [DONE]\n\n'
)


def begun(*events: bytes, fields: bytes = b"") -> bytes:
    """A streamed reply whose framing has no end yet."""
    return STREAM_HEAD + fields + b"\r\n" + b"".join(map(chunk, events))


def whole(*events: bytes, fields: bytes = b"") -> bytes:
    """A streamed reply, with the end of its framing."""
    return begun(*events, fields=fields) + b"0\r\n\r\n"
