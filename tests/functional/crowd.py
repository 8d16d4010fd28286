"""Many clients at once, each on a connection of its own; what each was answered, and how long that took.

Here: crowds of calls. Not here: one connection (raw_http.py), what the answers should be.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

from tests.functional.raw_http import Connection, Reply, post

BODY = b'{"model":"gpt-4o-mini","max_tokens":5,"messages":[{"role":"user","content":"Hello"}]}'
STREAM_BODY = BODY[:-1] + b',"stream":true}'
CONNECTS_AT_ONCE = 200  # more would overrun a listener's backlog on a busy machine


class Answered(NamedTuple):
    """One call's reply; None if the connection broke before its head had come."""

    reply: Reply | None
    took_s: float
    began_s: float  # monotonic

    @property
    def status(self) -> int:
        """0: none came, or the reply broke off."""
        return self.reply.status if self.reply is not None and self.reply.whole else 0


async def burst(ports: Sequence[int], calls_each: int, body: bytes = BODY, *fields: bytes) -> list[Answered]:
    """`calls_each` calls to each port, all at once: every connection is open before the first call is sent."""
    connecting, ready = asyncio.Semaphore(CONNECTS_AT_ONCE), asyncio.Barrier(len(ports) * calls_each)

    async def one(port: int) -> Answered:
        async with AsyncExitStack() as stack:
            async with connecting:
                connection = await stack.enter_async_context(Connection(port))
            await ready.wait()
            return await ask(connection, post(body, *fields))

    return await asyncio.gather(*(one(port) for port in ports for _ in range(calls_each)))


async def keep_asking(port: int, clients: int, is_over: Callable[[], bool], bodies: Sequence[bytes] = (BODY,)) -> list[list[Answered]]:
    """Clients that ask again and again, until it is over or their connection breaks: of each what it was answered."""

    async def one(number: int) -> list[Answered]:
        answered: list[Answered] = []
        async with Connection(port) as connection:
            while not is_over() and (not answered or answered[-1].status):
                answered.append(await ask(connection, post(bodies[(number + len(answered)) % len(bodies)])))
        return answered

    return await asyncio.gather(*(one(number) for number in range(clients)))


async def ask(connection: Connection, request: bytes) -> Answered:
    """One call on an open connection."""
    began_s = time.monotonic()
    await connection.send(request)
    try:
        reply = await connection.reply()
    except (AssertionError, OSError):
        reply = None
    return Answered(reply, time.monotonic() - began_s, began_s)


def statuses(answered: Iterable[Answered]) -> Counter[int]:
    """How many calls had which status."""
    return Counter(one.status for one in answered)
