"""Hostile and broken requests against the running gate: each gets a clear answer where one is possible, none reaches the upstream
that shouldn't, and the same gate goes on serving.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from proxy.receivers.http import LINGER_S
from tests.functional.hostile import ANSWER, ASKED, ASKED_STREAM, GOOD, Ground, begun, broken_ground, content
from tests.functional.raw_http import CHAT, Connection, Reply, chunked, exchange, head, post
from tests.functional.scripted_provider import Exchange, Gate, Step, chunk, plain

JSON = b"Content-Type: application/json"
LENGTH = b"Content-Length: %d" % len(ASKED)
CHUNKED = b"Transfer-Encoding: chunked"
MIB = 1 << 20
QUIET_S = 0.9  # longer than timeouts.idle_s and its tick

CONFIG = """
max_body_mib: 1
targets:
  up:
    provider: openai
    base_url: http://127.0.0.1:{upstream}/v1
    credential: passthrough
    timeouts: {idle_s: 0.5}
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Ground]:
    with broken_ground(CONFIG) as ground:
        yield ground


@pytest_asyncio.fixture
async def ground(running: Ground) -> AsyncIterator[Ground]:
    """Whatever a test did to the gate: afterwards it serves a good call."""
    running.provider.script([plain(ANSWER)])
    yield running
    await running.check_good_call()


async def refused(ground: Ground, request: bytes, status: int = 400, code: str = "bad_request") -> Reply:
    """Send a request that must be answered with our own error and go nowhere."""
    reply = await exchange(ground.gate.port, request)
    assert (reply.status, reply.error()["code"]) == (status, code), reply
    assert reply.error()["type"] == "invalid_request_error"
    assert ground.seen == []
    return reply


async def passes(ground: Ground, request: bytes, method: str = "POST") -> Exchange:
    """Send a request that must go on; what the upstream got of it."""
    reply = await exchange(ground.gate.port, request, method)
    assert (reply.status, reply.body) == (200, ANSWER)
    (got,) = ground.seen
    return got


# -- bodies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "what"),
    [
        pytest.param(b'{"model":', "invalid_json", "line 1, column 10", id="broken"),
        pytest.param(b"", "invalid_json", "line 1, column 1", id="empty"),
        pytest.param(b'{"model":"gpt-4o","temperature":NaN}', "invalid_json", "NaN", id="nan"),
        pytest.param(b'{"model":"gpt-4o\xff"}', "invalid_json", "UTF-8", id="invalid-utf-8"),
        pytest.param(b"\xef\xbb\xbf" + ASKED, "invalid_json", "BOM", id="byte-order-mark"),
        pytest.param(ASKED.decode().encode("utf-16"), "invalid_json", "UTF-8", id="utf-16"),
        pytest.param(b"[" * 100_000, "invalid_json", "nested", id="open-brackets"),
        pytest.param(b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", "nested", id="nested"),
        pytest.param(b"[]", "invalid_type", "object, not an array", id="array"),
        pytest.param(b"42", "invalid_type", "object, not a number", id="number"),
        pytest.param(b"null", "invalid_type", "object, not null", id="null"),
        pytest.param(b'{"model":42}', "invalid_type", '"model" must be a string', id="model-a-number"),
    ],
)
async def test_a_body_no_rule_can_read_is_refused_with_the_reason(ground: Ground, body: bytes, code: str, what: str) -> None:
    reply = await refused(ground, post(body), code=code)
    assert what in reply.error()["message"]
    row = ground.row_of(reply)
    assert (row.status, row.outcome, row.error, row.attempts, row.cost_nusd) == (400, "rejected", code, 0, None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":null,"messages":[]}',
        b'{"model":"gpt-4o","stream":"yes","messages":[]}',
        b'{"model":"gpt-4o","messages":"hi"}',
        b'{"model":"gpt-4o","model":"gpt-5","messages":[]}',
        b'{"model":42,"model":"gpt-4o","messages":[]}',
    ],
)
async def test_a_wrong_field_is_the_providers_to_refuse(ground: Ground, body: bytes) -> None:
    assert (await passes(ground, post(body))).body == body


async def test_a_declared_body_over_the_limit_is_refused_before_it_is_read(ground: Ground) -> None:
    reply = await refused(ground, head(JSON, b"Content-Length: 209715200"), 413, "body_too_large")
    assert reply.header("connection") == "close"
    assert reply.error()["param"] == "max_body_mib"


async def test_a_chunked_body_is_refused_once_past_the_limit(ground: Ground) -> None:
    memory_mib = ground.memory_mib()
    async with Connection(ground.gate.port) as connection:
        await connection.send(head(JSON, CHUNKED))
        flood = asyncio.create_task(_flood(connection, 200 * MIB))
        reply = await connection.reply()
        sent_on_s = time.monotonic()
        assert (reply.status, reply.error()["code"], reply.header("connection")) == (413, "body_too_large", "close")
        await flood
        assert await connection.is_closed()
        assert time.monotonic() - sent_on_s < LINGER_S + 2, "the connection is left hanging"
    assert ground.memory_mib() - memory_mib < 20
    assert ground.seen == []


async def _flood(connection: Connection, size: int) -> None:
    piece = chunked(b"a" * 65536).removesuffix(b"0\r\n\r\n")
    for _ in range(size // 65536):
        await connection.send(piece)


@pytest.mark.parametrize(
    "request_bytes",
    [head(JSON, LENGTH) + ASKED[:5], head(JSON, CHUNKED) + chunked(ASKED)[:-5], head(JSON, CHUNKED) + b"3d\r\n{"],
    ids=["short", "no-final-chunk", "cut-in-a-chunk"],
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_body_that_never_ends_goes_nowhere(ground: Ground, request_bytes: bytes, how: str) -> None:
    started_ns = time.time_ns()
    async with Connection(ground.gate.port) as connection:
        await connection.send(request_bytes)
        getattr(connection, how)()
    row = ground.row(lambda row: row.time_ns > started_ns)
    assert (row.status, row.outcome, row.attempts, row.cost_nusd) == (None, "abandoned", 0, None)
    assert ground.seen == []


FAULTY_CHUNKS = [
    b"zz\r\n{}\r\n",
    b"-1\r\n{}\r\n",
    b"f" * 17 + b"\r\n",
    b"2\n{}\n0\n\n",
    b"2\r\n{}xx\r\n",
    b"2;" + b"a=b;" * 500_000 + b"\r\n",
]
FAULTY_CHUNK_NAMES = ["not-hex", "negative", "overflow", "bare-lf", "longer-than-said", "extension-flood"]


@pytest.mark.parametrize("fault", FAULTY_CHUNKS, ids=FAULTY_CHUNK_NAMES)
async def test_bad_chunks_behind_the_head_are_refused(ground: Ground, fault: bytes) -> None:
    reply = await refused(ground, head(JSON, CHUNKED) + fault)
    assert reply.header("connection") == "close"


@pytest.mark.parametrize(("target", "uploads"), [(CHAT, 0), ("/v1/files", 1)], ids=["read-whole", "passed-on"])
async def test_a_chunk_that_turns_out_bad_ends_the_call_that_waits_for_it(ground: Ground, target: str, uploads: int) -> None:
    bad = ground.bad_requests()
    async with Connection(ground.gate.port) as connection:
        await connection.send(head(JSON, CHUNKED, b"Expect: 100-continue", target=target))
        assert (await connection.reply()).status == 100  # the call is running, and waits
        await connection.send(b"2\r\n{}\r\nzz\r\n")
        reply = await connection.reply()
        assert (reply.status, reply.error()["code"], reply.header("connection")) == (400, "bad_request", "close")
        assert "chunk size" in reply.error()["message"]
        assert await connection.is_closed()
    assert ground.bad_requests() == bad + 1
    assert len(ground.seen) == uploads  # begun before the fault came
    assert (ground.row_of(reply).outcome, ground.row_of(reply).error) == ("rejected", "bad_request")


async def test_chunk_extensions_are_let_go(ground: Ground) -> None:
    request = head(JSON, CHUNKED) + b"%x;" % len(ASKED) + b"a=b;" * 100_000 + b"c\r\n" + ASKED + b"\r\n0\r\n\r\n"
    assert (await passes(ground, request)).body == ASKED


# -- framing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param((LENGTH, CHUNKED), id="length-and-coding"),
        pytest.param((CHUNKED, LENGTH), id="coding-and-length"),
        pytest.param((LENGTH, b"Content-Length: 3"), id="two-lengths"),
        pytest.param((LENGTH, LENGTH), id="a-length-twice"),
        pytest.param((b"Content-Length: 61, 61",), id="a-list-of-lengths"),
        pytest.param((b"Content-Length: +61",), id="signed-length"),
        pytest.param((b"Content-Length: -1",), id="negative-length"),
        pytest.param((b"Content-Length: " + b"9" * 30,), id="endless-length"),
        pytest.param((b"Content-Length:",), id="no-length"),
        pytest.param((b"Transfer-Encoding: chunked, identity",), id="chunked-not-last"),
        pytest.param((b"Transfer-Encoding: gzip, chunked",), id="two-codings"),
        pytest.param((b"Transfer-Encoding: xchunked",), id="unknown-coding"),
        pytest.param((b"Transfer-Encoding: \x0bchunked",), id="hidden-coding"),
        pytest.param((CHUNKED, CHUNKED), id="a-coding-twice"),
        pytest.param((LENGTH, b"X-A: a\r\n b"), id="folded-line"),
        pytest.param((LENGTH, b"X-A : a"), id="space-before-colon"),
        pytest.param((b"Content-Length : 61",), id="space-before-the-lengths-colon"),
        pytest.param((LENGTH, b"X-A: a\rX-B: b"), id="bare-cr"),
        pytest.param((LENGTH, b"X-A: a\nX-B: b"), id="bare-lf"),
        pytest.param((LENGTH, b"X-A: a\0b"), id="nul"),
        pytest.param((LENGTH, b"X\0A: a"), id="nul-in-a-name"),
        pytest.param((LENGTH, b"X-A"), id="no-colon"),
        pytest.param((LENGTH, b": a"), id="no-name"),
        pytest.param((LENGTH, b"Host: other"), id="two-hosts"),
        pytest.param((LENGTH, *[b"X-%d: a" % number for number in range(10_000)]), id="ten-thousand-fields"),
    ],
)
async def test_a_head_that_two_parsers_may_read_differently_is_refused(ground: Ground, fields: tuple[bytes, ...]) -> None:
    bad = ground.bad_requests()
    smuggled = b"GET /v1/smuggled HTTP/1.1\r\nHost: gate\r\n\r\n"
    body = chunked(ASKED) if any(b"ncoding" in field for field in fields) else ASKED
    reply = await refused(ground, head(JSON, *fields) + body + smuggled)
    assert reply.header("connection") == "close"
    assert ground.bad_requests() == bad + 1


@pytest.mark.parametrize("line_end", [b"\r", b"\n"], ids=["cr", "lf"])
async def test_bare_line_ends_are_refused(ground: Ground, line_end: bytes) -> None:
    await refused(ground, GOOD.replace(b"\r\n", line_end))


@pytest.mark.parametrize(
    "request_bytes",
    [head(JSON, LENGTH, b"X-A: " + b"a" * MIB) + ASKED, head(target="/v1/" + "a" * MIB, method="GET")],
    ids=["field", "target"],
)
async def test_a_line_of_a_mebibyte_is_too_large(ground: Ground, request_bytes: bytes) -> None:
    await refused(ground, request_bytes, 431, "header_too_large")


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(head(JSON, LENGTH, method="post") + ASKED, id="lower-case-method"),
        pytest.param(head(JSON, LENGTH, method="BREW") + ASKED, id="unknown-method"),
        pytest.param(b"GET /v1/models\r\n\r\n", id="http-0.9"),
        pytest.param(head(method="GET", version="3.0"), id="http-3"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http-2-preface"),
        pytest.param(b"\x16\x03\x01\x00\xca\x01\x00\x00\xc6\x03\x03" + b"\x5a" * 191, id="tls-hello"),
        pytest.param(b"\x00\x01\x02" * 1000, id="noise"),
        pytest.param(b"GET /v1/mod els HTTP/1.1\r\nHost: gate\r\n\r\n", id="space-in-target"),
        pytest.param(b"GET /v1/models HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n", id="connect"),
        pytest.param(b"CONNECT /v1/models HTTP/1.1\r\nHost: gate\r\n\r\n", id="connect-to-a-path"),
        pytest.param(head(method="OPTIONS", target="*"), id="options-of-everything"),
        pytest.param(head(method="GET", target="*"), id="everything"),
        pytest.param(head(method="GET", target="ftp://host/v1/models"), id="another-scheme"),
    ],
)
async def test_what_is_no_request_to_a_gate_is_refused(ground: Ground, request_bytes: bytes) -> None:
    await refused(ground, request_bytes)


# -- targets and fields ---------------------------------------------------------------------------------------------------


async def test_the_host_of_an_absolute_target_is_not_followed(ground: Ground) -> None:
    got = await passes(ground, head(target="http://127.0.0.1:1/v1/models", method="GET"), "GET")
    assert got.head.startswith(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % ground.provider.port)


@pytest.mark.parametrize("target", ["//evil.example/v1/models", "/@evil.example/v1/models", "/\\evil.example/v1/models"])
async def test_no_target_names_another_host(ground: Ground, target: str) -> None:
    got = await passes(ground, head(target=target, method="GET"), "GET")
    assert got.head.startswith(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % (target.encode(), ground.provider.port))


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../admin",
        "/v1/./models",
        "/v1/..",
        "/v1/..%2fadmin",
        "/v1/.%2e/admin",
        "/v1/%2e%2e/admin",
        "/v1/%2E%2E%2Fadmin",
    ],
)
async def test_dot_segments_are_refused(ground: Ground, target: str) -> None:
    await refused(ground, head(target=target, method="GET"))


@pytest.mark.parametrize("host", ["gate:99999999", "gate:²", "gate:" + "9" * 5000, "a b/c@d:x"])
async def test_a_senseless_host_fails_no_call(ground: Ground, host: str) -> None:
    await passes(ground, f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), "GET")


@pytest.mark.parametrize("protocol", [b"foo/2", b"h2c", b"websocket"])
async def test_an_upgrade_that_is_no_websocket_handshake_is_a_plain_call(ground: Ground, protocol: bytes) -> None:
    got = await passes(ground, post(ASKED, b"Connection: Upgrade", b"Upgrade: " + protocol))
    assert got.head.startswith(b"POST ")
    assert got.body == ASKED
    assert b"pgrade" not in got.head


async def test_connection_takes_out_the_fields_it_names_and_no_framing(ground: Ground) -> None:
    named = b"Connection: authorization, x-hop, content-length, host"
    got = await passes(ground, post(ASKED, b"Authorization: Bearer sk-1", b"X-Hop: 1", b"X-End: 2", named))
    assert got.body == ASKED
    fields = {name.lower() for name, _ in got.fields()}
    assert fields >= {b"host", b"content-length", b"x-end"}
    assert not fields & {b"authorization", b"x-hop", b"connection"}


async def test_bytes_beyond_ascii_in_a_field_pass_as_they_are(ground: Ground) -> None:
    got = await passes(ground, post(ASKED, "X-A: é".encode()))
    assert "X-A: é\r\n".encode() in got.head


# -- connections ----------------------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order(ground: Ground) -> None:
    async with Connection(ground.gate.port) as connection:
        await connection.send(GOOD + post(b"{") + head(method="GET", target="/v1/models") + GOOD)
        replies = [await connection.reply() for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 400, 200, 200]
    assert [seen.request_line.split()[1] for seen in ground.seen] == [CHAT.encode(), b"/v1/models", CHAT.encode()]


async def test_noise_behind_a_request_does_not_spoil_its_reply(ground: Ground) -> None:
    late = Gate()
    ground.provider.script([late, plain(ANSWER)])
    async with Connection(ground.gate.port) as connection:
        await connection.send(GOOD)
        ground.gate.until(lambda: ground.seen, "passed on")
        await connection.send(b"\0\1\2\r\n\r\n")
        late.open()
        assert [(await connection.reply()).status, (await connection.reply()).status] == [200, 400]
        assert await connection.is_closed()


class Counted(list[Step]):
    """A script that counts what the provider got rid of."""

    sent_bytes = 0

    def __iter__(self) -> Iterator[Step]:
        for step in super().__iter__():
            yield step
            self.sent_bytes += len(step) if isinstance(step, bytes) else 0


async def test_a_client_that_does_not_read_pauses_the_upstream_and_is_not_blamed_on_it(ground: Ground) -> None:
    memory_mib = ground.memory_mib()
    script = Counted([begun(), *[chunk(content(b"x" * 65536))] * (64 * MIB // 65536), chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"])
    ground.provider.script(script)
    async with Connection(ground.gate.port, receive_buffer_bytes=4096) as connection:
        await connection.send(post(ASKED_STREAM))
        paused_at = -1
        while paused_at != script.sent_bytes:  # until nothing has moved for longer than idle_s
            paused_at = script.sent_bytes
            await asyncio.sleep(QUIET_S)
        assert 0 < script.sent_bytes < 32 * MIB
        assert ground.memory_mib() - memory_mib < 20
        reply = await connection.reply()
    assert (reply.whole, reply.body.endswith(b"data: [DONE]\n\n")) == (True, True)
    assert ground.row_of(reply).outcome == "succeeded"


async def test_a_client_that_leaves_without_reading_frees_the_upstream(ground: Ground) -> None:
    ground.provider.script([begun(content(b"a")), "stall"])
    async with Connection(ground.gate.port) as connection:
        await connection.send(post(ASKED_STREAM))
        await connection.reader.readuntil(b"\n\n")
        connection.reset()
    assert await asyncio.to_thread(ground.provider.last.gone.wait, 1)
