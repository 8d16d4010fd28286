"""A client can't tell Postern from the provider: byte for byte, both ways, except for x-postern-* fields."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest

from tests.functional.gate import RunningGate, running_gate
from tests.functional.raw_http import Connection, Reply, chunked, exchange, head, post
from tests.functional.scripted_provider import SSE_HEAD, Gate, ScriptedProvider, Step, chunk, plain
from tests.streams import STREAMS, StreamCase

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from backports import zstd

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "gemini": "/v1beta/models/gemini-2:streamGenerateContent",
}
CHAT_REPLY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}}'
)
PIECES = 6
DOWNLOAD_BYTES = 20 << 20


def config(provider: ScriptedProvider, *providers: str, more: str = "") -> str:
    """A target for each provider family, chosen by a header."""
    targets = "".join(f'  {name}: {{provider: {name}, base_url: "{provider.url}/v1", credential: passthrough}}\n' for name in providers)
    routes = "".join(f"  - {{name: {name}, match: {{header: {{x-test-provider: {name}}}}}, to: [{name}]}}\n" for name in providers[1:])
    return f"targets:\n{targets}routes:\n{routes}  - {{name: rest, to: [{providers[0]}]}}\n{more}"


@pytest.fixture(scope="module")
def gate(provider: ScriptedProvider) -> Iterator[RunningGate]:
    families = ["openai", *sorted({case.provider for case in STREAMS.values()} - {"openai"})]
    with running_gate(config(provider, *families)) as running:
        yield running


def framed(stream: bytes, offset: int) -> list[bytes]:
    """The stream's bytes in chunks that begin to differ from events at `offset`."""
    size = max(1, len(stream) // PIECES)
    cuts = [0, *range(1 + offset % size, len(stream), size), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(cuts) if end > start]
    return [SSE_HEAD, *(chunk(piece) for piece in pieces), b"0\r\n\r\n"]


def own(reply: Reply) -> list[tuple[str, str]]:
    """The reply's fields but Postern's and those of framing."""
    return [
        pair for pair in reply.headers if not pair[0].startswith("x-postern-") and pair[0] not in ("transfer-encoding", "content-length")
    ]


@pytest.mark.parametrize("name", STREAMS)
async def test_stream_passes_byte_for_byte_wherever_it_is_split(name: str, gate: RunningGate, provider: ScriptedProvider) -> None:
    case: StreamCase = STREAMS[name]
    body = b'{"model":"gpt-4o-mini","stream":true,"messages":[]}'
    for offset in range(0, 60, 7):
        provider.script(framed(case.asked, offset))
        request = post(body, b"x-test-provider: " + case.provider.encode(), target=PATHS[case.kind])
        reply = await exchange(gate.port, request)
        injected = b'"include_usage":true' in provider.last.body
        expected = case.unasked if injected else case.asked
        is_whole = case.ended or case.error_code is not None
        assert reply.body.startswith(expected), f"offset {offset}"
        assert (reply.whole, reply.body == expected) == (is_whole, is_whole)  # of one that was cut, only the cut is told


async def test_request_arrives_as_it_was_sent(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    fields = [
        b"X-Custom: one", b"x-custom: two", b"UPPER-case: Kept", b"X-Bytes: caf\xc3\xa9", b"Authorization: Bearer sk-client",
        b"User-Agent: mine/1", b"Accept-Encoding: zstd, br", b"Cookie: a=b",
        b"Content-Type: application/octet-stream", b"Content-Length: 5",
    ]  # fmt: skip
    target = "/v1/unknown/%2Fpath%20x?q=a%2Bb&q=c&empty="
    await exchange(gate.port, head(*fields, target=target, method="PATCH") + b"\x00\xff{}\n", "PATCH")
    assert provider.last.request_line == b"PATCH " + target.encode() + b" HTTP/1.1"
    assert provider.last.body == b"\x00\xff{}\n"
    sent = [line.partition(b":") for line in fields]
    kept = [field for field in provider.last.fields() if field[0].lower() not in (b"host", b"content-length")]
    # A second field of one name takes the first one's spelling: aiohttp can't send two.
    spelling = {b"x-custom": b"X-Custom"}
    assert kept == [(spelling.get(name, name), value.strip()) for name, _, value in sent if name != b"Content-Length"]
    assert provider.last.field(b"host") == [f"127.0.0.1:{provider.port}".encode()]


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "PROPFIND", "PURGE", "QUERY", "TRACE"])
async def test_any_method_passes(method: str, gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    assert (await exchange(gate.port, head(target="/v1/odd", method=method), method)).status == 200
    assert provider.last.request_line == method.encode() + b" /v1/odd HTTP/1.1"


@pytest.mark.parametrize(
    "target",
    [
        "/v1//a//b", "/v1/a;b=c", "/v1/a%2fb%2F", "/v1/%zz", '/v1/a|b^c"d{}', "/v1/a?x=%zz&y={}|", "/", "/v1/", "/v1/a%20b+c",
        "/v1/%C3%A9?q=%E9", "/v1/a:b@c", "/v1/a%00b", "/v1/x?next=/../..", "/v1?a=b", "/v1", "/api/tags",
    ],
)  # fmt: skip
async def test_path_and_query_keep_their_spelling(target: str, gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    assert (await exchange(gate.port, head(target=target, method="GET"), "GET")).status == 200
    assert provider.last.request_line == b"GET " + target.encode() + b" HTTP/1.1"


async def test_request_body_keeps_its_framing(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    fields = (b"Content-Type: audio/wav",)
    await exchange(gate.port, head(b"Transfer-Encoding: chunked", *fields, target="/v1/odd") + chunked(b"one", b"two"))
    assert (provider.last.body, provider.last.field(b"transfer-encoding")) == (b"onetwo", [b"chunked"])
    assert provider.last.field(b"content-length") == []
    await exchange(gate.port, head(b"Content-Length: 3", *fields, target="/v1/odd", method="GET") + b"abc", "GET")
    assert (provider.last.body, provider.last.field(b"content-length")) == (b"abc", [b"3"])
    assert provider.last.field(b"transfer-encoding") == []


async def test_field_that_isnt_utf8_arrives_as_text(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    await exchange(gate.port, head(b"X-Bytes: caf\xe9", target="/v1/odd", method="GET"), "GET")
    assert provider.last.field(b"x-bytes") == [b"caf\xc3\xa9"]


async def test_body_nobody_has_a_rule_about_keeps_every_byte(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(CHAT_REPLY)])
    body = b' {"b":1.0,"a":"\\u00e9\\/", "model" :"gpt-4o-mini","messages":[ ],\n"unknown":{"z":1e2}}\r\n'
    await exchange(gate.port, post(body))
    assert provider.last.body == body


async def test_reply_arrives_as_it_was_sent(gate: RunningGate, provider: ScriptedProvider) -> None:
    fields = [
        b"X-Request-Id: r1",
        b"Set-Cookie: a=1",
        b"set-cookie: b=2",
        b"Server: provider",
        b"openai-processing-ms: 12",
        b"Content-Type: text/x-odd; a=b",
    ]
    provider.script([plain(b"odd \xff\x00 bytes", b"207 Quite Odd", *fields)])
    reply = await exchange(gate.port, head(target="/v1/odd", method="GET"), "GET")
    assert (reply.status, reply.reason, reply.body) == (207, "Quite Odd", b"odd \xff\x00 bytes")
    assert own(reply) == [(name.lower(), value) for name, value in (field.decode().split(": ") for field in fields)]


REPLY_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n"


@pytest.mark.parametrize(
    ("script", "length"),
    [
        ([REPLY_HEAD + b"Content-Length: 5\r\n\r\n", b"he", b"llo"], "5"),
        ([REPLY_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk(b"he"), chunk(b"llo"), b"0\r\n\r\n"], None),
        ([REPLY_HEAD + b"\r\nhello", "close"], None),
    ],
    ids=["length", "chunks", "until the end"],
)
async def test_reply_body_of_any_framing_passes(
    script: list[Step], length: str | None, gate: RunningGate, provider: ScriptedProvider
) -> None:
    provider.script(script)
    reply = await exchange(gate.port, head(target="/v1/odd", method="GET"), "GET")
    assert (reply.whole, reply.body, reply.header("content-length")) == (True, b"hello", length)
    assert reply.header("transfer-encoding") == (None if length else "chunked")


async def test_nothing_is_added_to_a_reply_without_fields(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])
    reply = await exchange(gate.port, head(target="/v1/odd", method="GET"), "GET")
    assert own(reply) == []
    assert reply.body == b"ok"


@pytest.mark.parametrize(
    ("coding", "compressed"),
    [
        (b"gzip", gzip.compress(CHAT_REPLY)),
        (b"deflate", zlib.compress(CHAT_REPLY)),
        (b"br", brotli.compress(CHAT_REPLY)),
        (b"zstd", zstd.compress(CHAT_REPLY)),
    ],
)
async def test_compressed_reply_passes_unchanged_and_is_metered(coding: bytes, compressed: bytes, provider: ScriptedProvider) -> None:
    provider.script([plain(compressed, b"200 OK", b"Content-Encoding: " + coding)])
    with running_gate(config(provider, "openai")) as gate:
        reply = await exchange(gate.port, post(b'{"model":"gpt-4o-mini","messages":[]}', b"Accept-Encoding: " + coding))
        assert reply.body == compressed
        assert reply.header("content-encoding") == coding.decode()
        (row,) = gate.rows(1)
        assert (row["input_tokens"], row["output_tokens"]) == (11, 2)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_reply_without_body_passes(status: bytes, gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"])
    async with Connection(gate.port) as connection:
        for _ in range(2):  # the connection goes on
            await connection.send(head(target="/v1/odd", method="GET"))
            reply = await connection.reply()
            assert (reply.status, reply.header("etag"), reply.body) == (int(status[:3]), "x", b"")


async def test_head_passes_with_its_length(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nContent-Type: application/json\r\n\r\n"])
    async with Connection(gate.port) as connection:
        for _ in range(2):
            await connection.send(head(target="/v1/models", method="HEAD"))
            reply = await connection.reply("HEAD")
            assert (reply.status, reply.header("content-length")) == (200, "1234")
    assert provider.last.request_line.startswith(b"HEAD ")


async def test_what_is_postern_own_goes_no_further(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    context = (b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", b"tracestate: a=b", b"baggage: user=1")
    reply = await exchange(
        gate.port, head(b"x-postern-tags: a=b", b"X-Postern-No-Cache: 1", *context, target="/v1/odd", method="GET"), "GET"
    )
    assert not [name for name, _ in provider.last.fields() if name.lower().startswith((b"x-postern", b"trace", b"baggage"))]
    assert reply.header("x-postern-trace-id") == "0af7651916cd43dd8448eb211c80319c"


async def test_trusted_target_becomes_a_child_of_the_attempts_span(provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    with running_gate(config(provider, "openai", more="telemetry: {trust_upstream_context: [openai]}\n")) as gate:
        sent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await exchange(gate.port, head(b"traceparent: " + sent, b"baggage: user=1", target="/v1/odd", method="GET"), "GET")
    (traceparent,) = provider.last.field(b"traceparent")
    assert traceparent.startswith(b"00-0af7651916cd43dd8448eb211c80319c-")
    assert traceparent != sent
    assert provider.last.field(b"baggage") == [b"user=1"]


async def test_transparent_gate_adds_nothing_at_all(provider: ScriptedProvider) -> None:
    provider.script([plain(CHAT_REPLY, b"200 OK", b"X-A: b")])
    with running_gate(config(provider, "openai", more="transparent: true\n")) as gate:
        reply = await exchange(gate.port, post(b'{"model":"gpt-4o-mini","messages":[]}'))
    assert [name for name, _ in reply.headers] == ["x-a", "content-type", "content-length"]


async def test_targets_credential_replaces_every_credential_of_the_client(provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    target = f'targets: {{one: {{provider: openai, base_url: "{provider.url}/v1", credential: sk-team}}}}\n'
    with running_gate(target) as gate:
        keys = (b"Authorization: Bearer sk-client", b"api-key: sk-client", b"x-goog-api-key: sk-client")
        fields = (*keys, b"OpenAI-Organization: org-client")
        await exchange(gate.port, head(*fields, target="/v1/odd?key=sk-client&a=b", method="GET"), "GET")
    assert b"-client" not in provider.last.head
    assert provider.last.field(b"authorization") == [b"Bearer sk-team"]
    assert provider.last.request_line == b"GET /v1/odd?a=b HTTP/1.1"


async def test_expected_continue_is_said_before_the_body_is_sent(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    async with Connection(gate.port) as connection:
        await connection.send(
            head(b"Expect: 100-continue", b"Content-Length: 4", b"Content-Type: application/octet-stream", target="/v1/odd")
        )
        assert (await connection.reply()).status == 100
        await connection.send(b"body")
        assert (await connection.reply()).status == 200
    assert provider.last.body == b"body"
    assert provider.last.field(b"expect") == []


async def test_upload_is_passed_on_as_it_comes(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b"{}")])
    async with Connection(gate.port) as connection:
        fields = (b"Content-Type: multipart/form-data; boundary=x", b"Content-Length: 20")
        await connection.send(head(*fields, target="/v1/files") + b"first half")
        async with asyncio.timeout(10):
            while not provider.exchanges:
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(provider.last.has_body.wait, 10)
        assert provider.last.body == b"first half"
        await connection.send(b"other half")
        assert (await connection.reply()).status == 200
    assert provider.last.body == b"first halfother half"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc")
async def test_large_download_passes_in_bounded_memory(gate: RunningGate, provider: ScriptedProvider) -> None:
    content = bytes(range(256)) * (DOWNLOAD_BYTES >> 8)
    provider.script([plain(content, b"200 OK", b"Content-Type: audio/mpeg")])
    Path(f"/proc/{gate.process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before_mb = memory_mb(gate, "VmRSS")
    async with Connection(gate.port, receive_buffer_bytes=4096) as connection:  # a slow client: what it doesn't take piles up somewhere
        await connection.send(head(target="/v1/files/f/content", method="GET"))
        reply = await connection.reply("GET")
    assert reply.body == content
    assert memory_mb(gate, "VmHWM") - before_mb < 8


def memory_mb(gate: RunningGate, kind: str) -> float:
    """A line of the gate's own /proc/PID/status (Linux)."""
    lines = Path(f"/proc/{gate.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


async def test_first_event_isnt_held_back(gate: RunningGate, provider: ScriptedProvider) -> None:
    pause = Gate()
    provider.script(
        [SSE_HEAD, chunk(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'), pause, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]
    )
    async with Connection(gate.port) as connection:
        await connection.send(post(b'{"model":"gpt-4o-mini","stream":true,"messages":[]}'))
        async with asyncio.timeout(5):
            assert b'"content":"a"' in (await connection.reader.readuntil(b'"a"}}]}\n\n'))
        pause.open()
        async with asyncio.timeout(5):
            await connection.reader.readuntil(b"0\r\n\r\n")
