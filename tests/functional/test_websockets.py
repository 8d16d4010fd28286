"""WebSockets through the gate: what either side says arrives as it was said, and the responses in it are metered.

The upstream is aiohttp's server on a runner of our own, or a scripted one where bytes matter.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web

from tests.functional.gate import RunningGate, free_port, running_gate
from tests.functional.raw_http import Connection, head
from tests.functional.scripted_provider import ScriptedProvider, scripted_provider

WAIT_S = 10.0
PATH = "/v1/realtime?model=gpt-realtime"
DONE = {
    "type": "response.done",
    "response": {
        "id": "resp_1",
        "status": "completed",
        "usage": {
            "total_tokens": 30,
            "input_tokens": 20,
            "output_tokens": 10,
            "input_token_details": {"text_tokens": 20, "audio_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": 10, "audio_tokens": 0},
        },
    },
}
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = head(
    b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Version: 13", target=PATH, method="GET"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    + b"\r\nX-Provider: one\r\n\r\n"
)
TEXT_FRAME = b"\x81\x05hello"


class Session:
    """A WebSocket at the upstream, and the handshake it began with. It is answered by the test."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket
        self.over = asyncio.Event()


class Provider:
    """Accepts every upgrade and hands it to the test."""

    def __init__(self) -> None:
        self._sessions: asyncio.Queue[Session] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[Provider]:
        app = web.Application()
        app.router.add_get("/v1/realtime", self._accept)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def session(self) -> Session:
        """The next session."""
        async with asyncio.timeout(WAIT_S):
            return await self._sessions.get()

    async def _accept(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False, autoclose=False, protocols=("realtime",), timeout=1)
        await socket.prepare(request)
        session = Session(request, socket)
        self._sessions.put_nowait(session)
        await session.over.wait()
        return socket


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def config(port: int, credential: str = "") -> str:
    return f'targets: {{up: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1"{credential}}}}}\n'


@pytest.fixture(scope="module")
def gate(port: int) -> Iterator[RunningGate]:
    with running_gate(config(port)) as running:
        yield running


@pytest_asyncio.fixture
async def provider(port: int) -> AsyncIterator[Provider]:
    async with Provider().running(port) as running:
        yield running


@contextlib.asynccontextmanager
async def connected(
    gate: RunningGate, provider: Provider, protocols: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, Session]]:
    """A client's WebSocket through the gate and the upstream's end of it."""
    async with aiohttp.ClientSession() as client:
        socket = await client.ws_connect(f"{gate.url}{PATH}", autoping=False, autoclose=False, protocols=protocols, **options)
        session = await provider.session()
        try:
            yield socket, session
        finally:
            session.over.set()
            await socket.close()


@pytest.mark.parametrize("compress", [0, 15])
async def test_messages_of_any_kind_and_size_arrive_in_order(gate: RunningGate, provider: Provider, compress: int) -> None:
    big = bytes(range(256)) * (1 << 12)
    async with connected(gate, provider, compress=compress, max_msg_size=0) as (client, session):
        assert client.compress == session.socket.compress == compress
        for sender, receiver in ((client, session.socket), (session.socket, client)):
            await sender.send_str("Grüße 🌍")
            await sender.send_bytes(big)
            await sender.send_str("")
            assert await receiver.receive_str(timeout=WAIT_S) == "Grüße 🌍"
            assert await receiver.receive_bytes(timeout=WAIT_S) == big
            assert await receiver.receive_str(timeout=WAIT_S) == ""


async def test_pings_are_answered_by_the_other_side_and_not_by_the_gate(gate: RunningGate, provider: Provider) -> None:
    async with connected(gate, provider) as (client, session):
        for sender, receiver in ((client, session.socket), (session.socket, client)):
            await sender.ping(b"are you there")
            heard = await receiver.receive(WAIT_S)
            assert (heard.type, heard.data) == (WSMsgType.PING, b"are you there")
            await receiver.pong(b"my own words")
            answer = await sender.receive(WAIT_S)
            assert (answer.type, answer.data) == (WSMsgType.PONG, b"my own words")


@pytest.mark.parametrize("who", ["client", "provider"])
async def test_close_code_and_reason_reach_the_other_side(gate: RunningGate, provider: Provider, who: str) -> None:
    async with connected(gate, provider) as (client, session):
        sender, receiver = (client, session.socket) if who == "client" else (session.socket, client)
        closing = asyncio.get_running_loop().create_task(sender.close(code=4321, message=b"had enough"))
        heard = await receiver.receive(WAIT_S)
        assert (heard.type, heard.data, heard.extra) == (WSMsgType.CLOSE, 4321, "had enough")
        await receiver.close(code=4321)
        await closing


async def test_subprotocol_and_fields_of_the_handshake_pass(gate: RunningGate, provider: Provider) -> None:
    async with connected(gate, provider, ("realtime", "other"), headers={"X-Mine": "1", "x-postern-tags": "a=b"}) as (client, session):
        assert client.protocol == "realtime"
        sent = session.request.headers
        assert sent["Sec-WebSocket-Protocol"] == "realtime,other"
        assert sent["X-Mine"] == "1"
        assert "x-postern-tags" not in sent
        assert session.request.path_qs == PATH


async def test_targets_credential_replaces_the_clients_in_a_handshake(provider: Provider, port: int) -> None:
    with running_gate(config(port, ", credential: sk-team")) as gate:
        secret = ("realtime", "openai-insecure-api-key.sk-client")
        async with connected(gate, provider, secret, headers={"Authorization": "Bearer sk-client"}) as (client, session):
            sent = session.request.headers
            assert sent["Authorization"] == "Bearer sk-team"
            assert "sk-client" not in str(sent)
            assert client.protocol == "realtime"


@pytest.mark.parametrize("compress", [0, 15])
async def test_response_is_metered_at_the_moment_it_is_done(provider: Provider, port: int, compress: int) -> None:
    with running_gate(config(port)) as gate:
        async with connected(gate, provider, compress=compress) as (client, session):
            await session.socket.send_str("just words about usage")
            await session.socket.send_json(DONE)
            assert await client.receive_str(timeout=WAIT_S) == "just words about usage"
            assert await client.receive_json(timeout=WAIT_S) == DONE
            (row,) = await asyncio.to_thread(gate.rows, 1)  # while the session goes on
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (20, 10, "provider")
    assert row["cost_usd"] > 0


async def test_websocket_session_passes_and_each_response_in_it_is_metered() -> None:
    with running_gate("targets: {sim: {provider: simulated}}\n") as gate:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{gate.url}/v1/realtime?model=sim/gpt-realtime") as ws:
            seen: list[str] = []
            done: dict[str, Any] = {}
            for _ in range(2):
                await ws.send_json(
                    {
                        "type": "conversation.item.create",
                        "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
                    }
                )
                await ws.send_json({"type": "response.create"})
                done = {}
                while done.get("type") != "response.done":
                    done = await asyncio.wait_for(ws.receive_json(), 10)
                    seen.append(done["type"])
            await ws.ping()
            await ws.close(code=1000)
            assert ws.close_code == 1000
        first, second, whole = sorted(gate.rows(3), key=lambda row: "input_tokens" not in row)
    assert seen[0] == "session.created"
    assert done["response"]["usage"]["input_tokens"] == second["input_tokens"]
    assert first["cost_usd"] > 0
    assert first["trace_id"] == second["trace_id"] == whole["trace_id"]
    assert (whole["status"], whole["outcome"]) == (101, "succeeded")
    assert "cost_usd" not in whole
    assert all(row["overhead_ms"] < row["duration_ms"] for row in (first, second, whole))  # a session's length is not ours


async def test_client_that_breaks_off_ends_the_session_upstream(provider: Provider, port: int) -> None:
    with running_gate(config(port)) as gate:
        async with connected(gate, provider) as (client, session):
            assert client._response.connection is not None
            transport = client._response.connection.transport
            assert transport is not None
            transport.abort()
            heard = await session.socket.receive(WAIT_S)
            assert heard.type in (WSMsgType.CLOSED, WSMsgType.ERROR, WSMsgType.CLOSING)
            (row,) = await asyncio.to_thread(gate.rows, 1)
    assert row["status"] == 101


async def test_session_that_outlives_the_drain_is_cut_and_accounted_for(provider: Provider, port: int) -> None:
    with running_gate(config(port) + "drain_s: 0.2\n") as gate:
        async with connected(gate, provider) as (client, _session):
            gate.process.send_signal(signal.SIGTERM)
            heard = await client.receive(WAIT_S)
            assert heard.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
            await asyncio.to_thread(gate.stop)
        (row,) = await asyncio.to_thread(gate.ledger)
    assert row["status"] == 101


@pytest.fixture
def scripted() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


async def test_frames_that_come_with_the_handshake_arent_lost(scripted: ScriptedProvider) -> None:
    scripted.script([SWITCHED + TEXT_FRAME, "stall"])
    with running_gate(config(scripted.port)) as gate:
        async with Connection(gate.port) as connection:
            await connection.send(HANDSHAKE)
            async with asyncio.timeout(WAIT_S):
                answer = await connection.reader.readuntil(b"\r\n\r\n")
                frame = await connection.reader.readexactly(len(TEXT_FRAME))
    lines = answer.split(b"\r\n")
    assert frame == TEXT_FRAME
    assert lines[: 1 + SWITCHED.count(b": ")] == SWITCHED.split(b"\r\n")[: 1 + SWITCHED.count(b": ")]
    assert all(line.startswith(b"x-postern-") for line in lines[1 + SWITCHED.count(b": ") :] if line)


async def test_transparent_gate_adds_nothing_to_a_handshake(scripted: ScriptedProvider) -> None:
    scripted.script([SWITCHED, "stall"])
    with running_gate(config(scripted.port) + "transparent: true\n") as gate:
        async with Connection(gate.port) as connection:
            await connection.send(HANDSHAKE)
            async with asyncio.timeout(WAIT_S):
                assert await connection.reader.readuntil(b"\r\n\r\n") == SWITCHED


async def test_upstream_that_resets_a_session_is_an_interruption(scripted: ScriptedProvider) -> None:
    scripted.script([SWITCHED + TEXT_FRAME, "reset"])
    with running_gate(config(scripted.port)) as gate:
        async with Connection(gate.port) as connection:
            await connection.send(HANDSHAKE)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(WAIT_S):
                    assert await connection.reader.read() != b""
        (row,) = await asyncio.to_thread(gate.rows, 1)
    assert (row["status"], row["outcome"]) == (101, "interrupted")


async def test_refused_upgrade_answers_with_the_providers_words(scripted: ScriptedProvider) -> None:
    body = msgspec.json.encode({"error": {"message": "no", "type": "t", "param": None, "code": "invalid_api_key"}})
    refusal = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nTransfer-Encoding: chunked\r\n\r\n"
    scripted.script([refusal + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)])
    with running_gate(config(scripted.port)) as gate:
        async with Connection(gate.port) as connection:
            for _ in range(2):  # the connection goes on
                await connection.send(HANDSHAKE)
                reply = await connection.reply("GET")
                assert (reply.status, reply.body, reply.header("www-authenticate")) == (401, body, "Bearer")
        row = (await asyncio.to_thread(gate.rows, 2))[0]
    assert scripted.last.field(b"sec-websocket-key") == [KEY]
    assert (row["status"], row["outcome"], row["error"]) == (401, "rejected", "invalid_api_key")
