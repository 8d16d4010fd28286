"""Faults on demand, accounting and process of the simulated provider, really running, asked by the real clients."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import anthropic
import msgspec
import openai
import pytest

from proxy.simulated.sample_traffic import SAMPLE_CALLS, send_sample_traffic
from proxy.simulated.server import SimulatedServer, start_simulated
from tests.functional.simulated.asking import HELLO, PATIENCE_S, raw_stream


async def stats_of(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.get("_sim/stats") as reply:
        return msgspec.json.decode(await reply.read(), type=dict[str, Any])


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await check():
            await asyncio.sleep(0)


async def read_into(received: bytearray, reply: aiohttp.ClientResponse) -> None:
    async for data in reply.content.iter_any():
        received += data


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (418, openai.APIStatusError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
async def test_status_directive_gives_the_clients_own_error(
    client: openai.AsyncOpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        await client.chat.completions.create(model=f"sim/m@status={status}", messages=HELLO)
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body.keys() == {"message", "type", "param", "code"}


async def test_rate_limit_carries_retry_after_and_limit_headers(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="sim/m@status=429,retry_after=2", messages=HELLO)
    headers = caught.value.response.headers
    assert (headers["retry-after"], headers["x-ratelimit-remaining-requests"]) == ("2", "0")
    assert caught.value.code == "rate_limit_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_connection_breaks_before_a_byte(http: aiohttp.ClientSession, stream: bool) -> None:
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await raw_stream(http, "fault=reset", stream=stream)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await raw_stream(http, "fault=close", stream=stream)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await raw_stream(http, "fault=stall,stall=10", stream=stream)


@pytest.mark.parametrize("fault", ["cut", "cutreset", "midstall,stall=10"])
@pytest.mark.parametrize("after", [0, 2])
async def test_stream_breaks_after_so_many_content_chunks(http: aiohttp.ClientSession, fault: str, after: int) -> None:
    body = {"model": f"sim/m@n=6,after={after},fault={fault}", "messages": HELLO, "stream": True}
    received = bytearray()
    async with http.post("v1/chat/completions", json=body) as reply:
        assert reply.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await read_into(received, reply)
    assert received.count(b'"obfuscation"') == after
    assert bool(received) == (after > 0)


@pytest.mark.parametrize("fault", ["cut", "cutreset", "midstall,stall=10"])
async def test_whole_reply_breaks_in_the_middle(http: aiohttp.ClientSession, fault: str) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await raw_stream(http, f"fault={fault}", stream=False)


async def test_fault_happens_at_the_end_of_a_reply_that_is_too_short_for_it(http: aiohttp.ClientSession) -> None:
    wire = await raw_stream(http, "fault=nodone,n=2,after=50")
    assert wire.count(b"data: ") == 3
    assert b'finish_reason":"stop' not in wire


async def test_stream_without_done_ends_in_good_order(http: aiohttp.ClientSession) -> None:
    wire = await raw_stream(http, "fault=nodone,n=6,after=2")
    assert wire.count(b"data: ") == 3
    assert b"[DONE]" not in wire


async def test_error_frame_comes_first_or_after_so_many_chunks(client: openai.AsyncOpenAI, http: aiohttp.ClientSession) -> None:
    assert (await raw_stream(http, "fault=sseerror,after=0")).startswith(b'data: {"error":')
    assert (await raw_stream(http, "fault=sseerror,after=2,n=6")).count(b"data: ") == 4
    stream = await client.chat.completions.create(model="sim/m@fault=sseerror,after=1", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError):
        [chunk async for chunk in stream]


async def test_error_frames_have_their_dialects_shape(client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic) -> None:
    stream = await client.responses.create(model="sim/m@fault=sseerror,after=1", input="Hello", stream=True)
    last = [event async for event in stream][-1]
    assert (last.type, last.sequence_number) == ("error", 5)
    with pytest.raises(anthropic.APIStatusError):
        async with claude.messages.stream(model="sim/c@fault=sseerror,after=1", max_tokens=50, messages=HELLO) as messages:
            await messages.get_final_message()


async def test_spoiled_json_is_one_frame_of_a_stream_and_half_of_a_body(http: aiohttp.ClientSession) -> None:
    def readable(data: bytes) -> bool:
        try:
            msgspec.json.decode(data)
        except msgspec.DecodeError:
            return False
        return True

    frames = (await raw_stream(http, "fault=badjson,n=4,after=2")).split(b"\n\n")[:-2]
    assert [readable(frame.removeprefix(b"data: ")) for frame in frames] == [True, True, False, True, True, True]
    assert not readable(await raw_stream(http, "fault=badjson", stream=False))


@pytest.mark.parametrize("stream", [False, True])
async def test_error_inside_200(http: aiohttp.ClientSession, stream: bool) -> None:
    body = {"model": "sim/m@fault=error200", "messages": HELLO, "stream": stream}
    async with http.post("v1/chat/completions", json=body) as reply:
        assert (reply.status, reply.content_type) == (200, "application/json")
        assert (await reply.json())["error"]["type"] == "server_error"


async def test_only_the_first_n_requests_with_the_same_directives_fail(client: openai.AsyncOpenAI) -> None:
    async def fails(model: str) -> bool:
        try:
            await client.chat.completions.create(model=model, messages=HELLO)
        except openai.InternalServerError:
            return True
        return False

    assert [await fails("sim/m@status=500,first=2") for _ in range(4)] == [True, True, False, False]
    assert await fails("sim/m@status=500,first=1")


async def test_model_suffix_wins_over_header_and_single_header_over_the_whole(http: aiohttp.ClientSession) -> None:
    body = {"model": "sim/m", "messages": HELLO}
    headers = {"x-sim": "status=500;retry_after=7", "x-sim-status": "503"}
    async with http.post("v1/chat/completions", json=body, headers=headers) as reply:
        assert (reply.status, reply.headers["retry-after"]) == (503, "7")
    async with http.post("v1/chat/completions", json=body | {"model": "sim/m@status=429"}, headers=headers) as reply:
        assert (reply.status, reply.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize("wrong", ["nonsense=1", "fault=boom", "lat=soon", "n=-1", "status=200", "lat=1,oops"])
async def test_unknown_directive_is_400_and_names_the_allowed_ones(client: openai.AsyncOpenAI, wrong: str) -> None:
    with pytest.raises(openai.BadRequestError, match=r"retry_after.*midstall") as caught:
        await client.chat.completions.create(model=f"sim/m@{wrong}", messages=HELLO)
    assert caught.value.code == "invalid_directive"


async def test_faults_apply_to_endpoints_without_a_model(http: aiohttp.ClientSession) -> None:
    async with http.get("v1/models", headers={"x-sim": "status=401"}) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (401, "invalid_api_key")


# ------------------------------------------------------------------------------------------------------- accounting


async def test_client_that_leaves_stops_the_stream_and_is_counted(http: aiohttp.ClientSession) -> None:
    body = {"model": "sim/m@n=1000,d=1000", "messages": HELLO, "stream": True}
    async with http.post("v1/chat/completions", json=body) as reply:
        await reply.content.readany()
        reply.close()

    async def noticed() -> bool:
        stats = await stats_of(http)
        return bool(stats["aborted"] == 1)

    await until(noticed)
    assert (await stats_of(http))["completed"] == 0


async def test_client_that_leaves_a_stalled_request_is_counted(server: SimulatedServer, http: aiohttp.ClientSession) -> None:
    body = {"model": "sim/m@fault=stall", "messages": HELLO}
    asking = asyncio.create_task(http.post("v1/chat/completions", json=body))

    async def has_come() -> bool:
        return bool((await stats_of(http))["requests"] == 1)

    async def noticed() -> bool:
        return bool((await stats_of(http))["aborted"] == 1)

    await until(has_come)
    asking.cancel()
    await until(noticed)


async def test_stats_tell_how_requests_ended_and_reset_forgets(http: aiohttp.ClientSession) -> None:
    await raw_stream(http)
    await raw_stream(http, "status=500", stream=False)
    with pytest.raises(aiohttp.ClientPayloadError):
        await raw_stream(http, "fault=cut,after=1")
    stats = await stats_of(http)
    counters = {name: stats[name] for name in ("requests", "streams", "completed", "aborted", "broken_off", "faults")}
    assert counters == {"requests": 3, "streams": 2, "completed": 2, "aborted": 0, "broken_off": 1, "faults": 2}
    assert stats["by_path"] == {"/v1/chat/completions": 3}
    async with http.post("_sim/reset") as reply:
        assert (await reply.json())["requests"] == 0


async def test_close_ends_running_streams(http: aiohttp.ClientSession) -> None:
    running = await start_simulated()
    body = {"model": "sim/m@n=1000,d=1000", "messages": HELLO, "stream": True}
    async with http.post(f"{running.base_url}/chat/completions", json=body) as reply:
        await reply.content.readany()
        async with asyncio.timeout(PATIENCE_S):
            await running.close()
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.content.read()


async def test_taken_port_is_an_error(server: SimulatedServer) -> None:
    port = int(server.base_url.removesuffix("/v1").rpartition(":")[2])
    with pytest.raises(OSError, match="address"):
        await start_simulated(port=port)


# ---------------------------------------------------------------------------------------------- process and samples


async def test_module_serves_until_sigterm() -> None:
    command = [sys.executable, "-m", "proxy.simulated", "--listen", "127.0.0.1:0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        found = re.search(rb"http://127\.0\.0\.1:(\d+)/v1", await process.stdout.readline())
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found.group(1)))):
            process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


async def test_sample_traffic_shows_every_ending(
    server: SimulatedServer, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []
    await send_sample_traffic(server.base_url, lines.append)
    assert len(lines) == len(SAMPLE_CALLS)
    for words in ("429,", "500,", "broke off after", "left after"):
        assert sum(words in line for line in lines) == 1
    assert sum("200," in line for line in lines) == len(lines) - 2

    async def all_over() -> bool:
        stats = await stats_of(http)
        return bool(stats["completed"] + stats["aborted"] + stats["broken_off"] == stats["requests"])

    await until(all_over)
    assert (await stats_of(http))["aborted"] == 1
    assert caplog.records == []  # faults make no noise in the server's log


async def test_sample_traffic_reports_a_server_that_is_not_there() -> None:
    lines: list[str] = []
    await send_sample_traffic("http://127.0.0.1:9/v1", lines.append)
    assert len(lines) == len(SAMPLE_CALLS)
    assert all("no reply" in line for line in lines)
