"""The receiver's own clocks and its last resort, in this process: no test waits for half a minute."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

import pytest

from proxy.errors import ClientGone
from proxy.pipeline.request import ClientRequest
from proxy.ports import ClientReply, ClientTunnel
from proxy.receivers import reply as receiver_reply
from proxy.receivers.http import GateServer
from tests.functional.raw_http import Connection, head

HEAD_S = 0.05
LATER_S = 0.15


class SystemClock:
    time_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)


async def answer_well(request: ClientRequest, reply: ClientReply, tunnel: ClientTunnel) -> None:
    await reply.start(200, "", [(b"content-length", b"2")])
    await reply.write(b"ok")
    await reply.finish()


async def answer_and_fail(request: ClientRequest, reply: ClientReply, tunnel: ClientTunnel) -> None:
    await reply.start(200, "", [])
    await reply.write(b"half")
    raise RuntimeError("a fault of ours")


async def answer_without_end(request: ClientRequest, reply: ClientReply, tunnel: ClientTunnel) -> None:
    await reply.start(200, "", [])
    while True:
        await reply.write(b"x" * 65536)


@contextlib.asynccontextmanager
async def receiver(server: GateServer) -> AsyncIterator[int]:
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.shutdown(0.1)


async def test_a_dribbled_head_is_given_up() -> None:
    server = GateServer(answer_well, SystemClock(), head_s=HEAD_S)
    async with receiver(server) as port, Connection(port) as connection:
        await connection.send(b"GET /v1/models HTTP/1.1\r\nHost:")
        reply = await connection.reply()
        assert (reply.status, reply.error()["code"], reply.header("connection")) == (408, "request_timeout", "close")
        assert await connection.is_closed()
        assert server.bad_requests == 1


async def dribble(connection: Connection) -> None:
    while True:
        await connection.send(b"a")
        await asyncio.sleep(HEAD_S / 4)


async def test_each_further_byte_of_a_head_buys_no_more_time() -> None:
    async with receiver(GateServer(answer_well, SystemClock(), head_s=HEAD_S)) as port, Connection(port) as connection:
        await connection.send(b"GET /v1/models HTTP/1.1\r\nX-A: ")
        dribbling = asyncio.get_running_loop().create_task(dribble(connection))
        assert (await connection.reply()).status == 408
        dribbling.cancel()


async def test_a_quiet_connection_and_one_with_a_call_are_not_given_up() -> None:
    async with receiver(GateServer(answer_well, SystemClock(), head_s=HEAD_S)) as port, Connection(port) as connection:
        request = head(method="GET", target="/v1/models")
        for _ in range(2):
            await connection.send(request[:9])
            await connection.send(request[9:])
            assert (await connection.reply()).body == b"ok"
            await asyncio.sleep(LATER_S)


async def test_a_fault_of_ours_in_mid_reply_adds_no_second_head(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, logger="aiohttp.server"):
        async with receiver(GateServer(answer_and_fail, SystemClock())) as port, Connection(port) as connection:
            await connection.send(head(method="GET", target="/v1/models"))
            reply = await connection.reply()
            assert (reply.status, reply.body, reply.whole) == (200, b"half", False)
            assert await connection.is_closed()


async def test_a_client_that_takes_nothing_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_reply, "STALLED_S", HEAD_S)
    left = asyncio.Event()

    async def handle(request: ClientRequest, reply: ClientReply, tunnel: ClientTunnel) -> None:
        try:
            await answer_without_end(request, reply, tunnel)
        except ClientGone:
            left.set()

    async with receiver(GateServer(handle, SystemClock())) as port, Connection(port, receive_buffer_bytes=4096) as connection:
        await connection.send(head(method="GET", target="/v1/models"))
        async with asyncio.timeout(5):
            await left.wait()
