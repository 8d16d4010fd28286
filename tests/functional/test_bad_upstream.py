"""Broken and hostile providers behind the running gate: the client gets a clear answer or the provider's own bytes, never a hanging
connection; the ledger has one row with the right outcome, status and error; what isn't known of the cost is absent.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import brotli
import msgspec
import pytest
import pytest_asyncio

from proxy.observer.ledger.rows import Row
from tests.functional.hostile import ANSWER, ASKED, ASKED_STREAM, LAST, Ground, begun, broken_ground, content, whole
from tests.functional.raw_http import Reply, exchange, head
from tests.functional.scripted_provider import Gate, Step, plain

CONFIG = """
targets:
  up:
    provider: openai
    base_url: http://127.0.0.1:{upstream}/v1
    credential: passthrough
    timeouts: {connect_s: 0.3, first_byte_s: 0.5, idle_s: 0.5}
  slow: {provider: openai, base_url: "http://127.0.0.1:{upstream}/v1", timeouts: {total_s: 0.5}}
  dead: {provider: openai, base_url: "http://127.0.0.1:{dead}/v1"}
  hole: {provider: openai, base_url: "http://127.0.0.1:{hole}/v1", timeouts: {connect_s: 0.3}}
  nameless: {provider: openai, base_url: "http://no-such-host.invalid/v1"}
  plain: {provider: openai, base_url: "https://127.0.0.1:{plain}/v1"}
  self-signed: {provider: openai, base_url: "https://127.0.0.1:{signed}/v1"}
routes:
  - {name: slow, match: {model: slow}, to: [slow]}
  - {name: dead, match: {model: dead}, to: [dead]}
  - {name: hole, match: {model: hole}, to: [hole]}
  - {name: nameless, match: {model: nameless}, to: [nameless]}
  - {name: plain, match: {model: plain}, to: [plain]}
  - {name: self-signed, match: {model: self-signed}, to: [self-signed]}
  - {name: up, to: [up]}
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CUT = OK + b"Content-Length: 500\r\n\r\n" + ANSWER[:6]
MIB = 1 << 20
BOMB_MIB = 256
ANSWER_NUSD = 10 * 2500 + 5 * 10_000  # gpt-4o: $2.50 in, $10 out, a million


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port where each connection is handed to `serve` and then closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue of connections is full: a further one gets no answer at all."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


def shake_hands(folder: Path) -> Callable[[socket.socket], object]:
    """A TLS server's part with a certificate nobody vouches for; without the openssl command, with none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if shutil.which("openssl"):
        name = folder / "self"
        command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout {name}.key -out {name}.pem"
        subprocess.run(command.split(), check=True, capture_output=True)
        context.load_cert_chain(f"{name}.pem", f"{name}.key")
    return lambda connection: context.wrap_socket(connection, server_side=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with contextlib.ExitStack() as stack:
        ports = {
            "hole": stack.enter_context(black_hole()),
            "plain": stack.enter_context(listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))),
            "signed": stack.enter_context(listening(shake_hands(tmp_path_factory.mktemp("certificate")))),
        }
        with socket.create_server(("127.0.0.1", 0)) as closed:
            ports["dead"] = int(closed.getsockname()[1])
        config = CONFIG
        for name, port in ports.items():
            config = config.replace("{" + name + "}", str(port))
        yield stack.enter_context(broken_ground(config))


@pytest_asyncio.fixture
async def ground(running: Ground) -> AsyncIterator[Ground]:
    """Whatever the provider did to the gate: afterwards it serves a good call."""
    yield running
    await running.check_good_call()


def asked_of(model: str) -> bytes:
    return ASKED.replace(b"gpt-4o", model.encode())


def check_failed(reply: Reply, row: Row, status: int, code: str, error: str, may_be_billed: bool = False) -> None:
    """The client was told whose fault it was, and the ledger knows no cost, but where the provider may have generated for nobody."""
    told = reply.error()
    assert (reply.status, told["type"], told["code"], told["param"]) == (status, "postern_unavailable", code, row.target)
    assert (row.status, row.outcome, row.error, row.attempts) == (status, "failed", error, 1)
    assert row.usage_source == ("tokenizer" if may_be_billed else None)
    assert (row.input_tokens is not None, row.output_tokens is not None) == (may_be_billed, may_be_billed)
    assert may_be_billed or row.cost_nusd is None


def check_unknown(row: Row) -> None:
    """All went well as far as HTTP goes, and nobody can say what it cost."""
    assert (row.outcome, row.error) == ("succeeded", None)
    assert (row.cost_nusd, row.input_tokens, row.output_tokens, row.usage_source) == (None, None, None, None)


# -- replies that are none ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0\1\2noise\r\n\r\n", id="noise"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another-protocol"),
        pytest.param(b"\0\0\x12\x04\0\0\0\0\0", id="http-2"),
        pytest.param(b"HTTP/1.1 2x0 OK\r\n\r\n", id="status-no-number"),
        pytest.param(b"HTTP/1.1 1000 OK\r\n\r\n", id="status-too-long"),
        pytest.param(b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", id="status-nought"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="unasked-upgrade"),
        pytest.param(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", id="two-lengths"),
        pytest.param(OK + b"Content-Length: -2\r\n\r\n{}", id="negative-length"),
        pytest.param(OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", id="length-and-coding"),
        pytest.param(OK + b"Content-Length: 10\r\n\r\n" + ANSWER, id="longer-than-announced"),
        pytest.param(OK + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n", id="nul-in-a-field"),
        pytest.param(OK + b"X-A: a\rX-B: b\r\nContent-Length: 0\r\n\r\n", id="cr-in-a-field"),
        pytest.param(OK + b"X-A: " + b"a" * MIB + b"\r\n\r\n", id="a-mebibyte-of-field"),
        pytest.param(OK + b"X-A: a\r\n" * 100_000, id="endless-head"),
    ],
)
async def test_a_reply_that_is_no_http_is_a_502(ground: Ground, data: bytes) -> None:
    ground.says(data)
    reply = await ground.ask()
    check_failed(reply, ground.row_of(reply), 502, "upstream_invalid_reply", "invalid_reply")


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([], id="not-a-byte"),
        pytest.param(["reset"], id="reset-at-once"),
        pytest.param([b"HTTP/1.1 200 OK\r\nSet-Cookie: planted-cookie"], id="cut-in-the-head"),
        pytest.param([OK + b"Transfer-Encoding: chunked\r\n\r\n5"], id="cut-in-a-chunk-head"),
        pytest.param([CUT], id="cut-in-the-body"),
        pytest.param([CUT, "reset"], id="reset-in-the-body"),
    ],
)
async def test_a_reply_that_breaks_off_is_a_502(ground: Ground, steps: list[Step]) -> None:
    ground.says(*steps)
    reply = await ground.ask()
    has_begun = any(isinstance(step, bytes) and b"\r\n\r\n" in step for step in steps)
    check_failed(reply, ground.row_of(reply), 502, "upstream_closed", "closed", has_begun)
    assert reply.header("x-should-retry") == "true"
    assert "planted-cookie" not in reply.error()["message"]


async def test_bytes_behind_a_reply_never_become_the_next_ones(ground: Ground) -> None:
    late, planted = Gate(), plain(b'{"planted":true}')
    ground.provider.script([plain(ANSWER), late, planted, "stall"])
    assert (await ground.ask()).body == ANSWER
    exchange = ground.provider.last
    late.open()
    assert exchange.gone.wait(2), "the gate keeps a connection on which it was told more than it asked for"


# -- phases that take too long --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "steps", "key"),
    [
        pytest.param("gpt-4o", ["stall"], "first_byte_s", id="no-head"),
        pytest.param("gpt-4o", [b"HTTP/1.1 200 OK\r\nX-", "stall"], "first_byte_s", id="half-a-head"),
        pytest.param("gpt-4o", [CUT, "stall"], "idle_s", id="half-a-body"),
        pytest.param("slow", [CUT, "stall"], "total_s", id="total"),
        pytest.param("hole", [], "", id="connect"),
    ],
)
async def test_a_phase_over_its_time_is_a_504_that_names_the_setting(ground: Ground, model: str, steps: list[Step], key: str) -> None:
    ground.says(*steps)
    reply = await ground.ask(asked_of(model))
    check_failed(reply, ground.row_of(reply), 504, "upstream_timeout", "timeout", may_be_billed=model != "hole")
    assert key in reply.error()["message"]


async def test_interim_replies_without_end_do_not_stretch_the_time_to_the_head(ground: Ground) -> None:
    ground.provider.script([*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000, "stall"])
    reply = await ground.ask()
    check_failed(reply, ground.row_of(reply), 504, "upstream_timeout", "timeout", may_be_billed=True)


@pytest.mark.parametrize("model", ["dead", "nameless", "plain", "self-signed"])
async def test_no_connection_is_a_502_and_nothing_was_sent(ground: Ground, model: str) -> None:
    ground.provider.script([plain(ANSWER)])
    reply = await ground.ask(asked_of(model))
    check_failed(reply, ground.row_of(reply), 502, "upstream_connect_failed", "connect")
    assert reply.header("x-should-retry") == "true"
    assert ground.seen == []


# -- replies that are odd, and pass ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n", plain(ANSWER)], id="100-continue-first"),
        pytest.param([b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + plain(ANSWER)], id="103-first"),
        pytest.param([b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + ANSWER, "close"], id="http-1.0"),
        pytest.param([plain(ANSWER)[:-1], plain(ANSWER)[-1:]], id="in-pieces"),
    ],
)
async def test_an_unusual_framing_is_understood_and_metered(ground: Ground, steps: list[Step]) -> None:
    ground.provider.script(steps)
    reply = await ground.ask()
    assert (reply.status, reply.body, reply.whole) == (200, ANSWER, True)
    assert ground.row_of(reply).cost_nusd == ANSWER_NUSD


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        pytest.param(plain(ANSWER, b"200 OK", b"Content-Encoding: gzip"), 200, ANSWER, id="gzip-that-is-none"),
        pytest.param(plain(ANSWER, b"200 OK", b"Content-Encoding: odd"), 200, ANSWER, id="unknown-coding"),
        pytest.param(plain(b"hello"), 200, b"hello", id="not-json"),
        pytest.param(plain(b"<p>", b"200 OK", b"Content-Type: text/html"), 200, b"<p>", id="html"),
        pytest.param(plain(b""), 200, b"", id="nothing"),
        pytest.param(plain(b"[" * 100_000), 200, b"[" * 100_000, id="brackets"),
        pytest.param(plain(b"", b"302 Found", b"Location: http://127.0.0.1:1/"), 302, b"", id="redirect"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="no-content"),
    ],
)
async def test_a_reply_nobody_can_read_passes_and_its_cost_is_absent(ground: Ground, data: bytes, status: int, body: bytes) -> None:
    ground.provider.script([data])
    reply = await ground.ask()
    assert (reply.status, reply.body, reply.whole) == (status, body, True)
    check_unknown(ground.row_of(reply))


@pytest.mark.parametrize("count", [b"9" * 30, b"-10", b'"x"', b"1e400", b"null"])
async def test_a_senseless_count_is_unknown(ground: Ground, count: bytes) -> None:
    ground.provider.script([plain(ANSWER.replace(b'"prompt_tokens":10', b'"prompt_tokens":' + count))])
    row = ground.row_of(await ground.ask())
    assert (row.outcome, row.input_tokens, row.cost_nusd) == ("succeeded", None, None)


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(BOMB_MIB)) + packer.flush()


def brotli_bomb() -> bytes:
    packer = brotli.Compressor(quality=5)
    return b"".join(bytes(packer.process(bytes(MIB))) for _ in range(BOMB_MIB)) + bytes(packer.finish())


@pytest.mark.parametrize(("coding", "bomb"), [("gzip", gzip_bomb), ("br", brotli_bomb)], ids=["gzip", "br"])
async def test_a_bomb_passes_unopened_as_far_as_memory_goes(ground: Ground, coding: str, bomb: Callable[[], bytes]) -> None:
    body, before_mib = bomb(), ground.forget_memory_peak()
    ground.provider.script([plain(body, b"200 OK", b"Content-Encoding: " + coding.encode())])
    reply = await ground.ask()
    assert (reply.status, reply.body == body) == (200, True)
    check_unknown(ground.row_of(reply))
    assert ground.memory_mib() - before_mib < BOMB_MIB * 0.75


# -- errors inside a 200 --------------------------------------------------------------------------------------------------


async def test_an_error_in_a_200_passes_and_is_a_failure(ground: Ground) -> None:
    body = b'{"error":{"message":"busy","type":"server_error","code":"overloaded"}}'
    ground.provider.script([plain(body)])
    reply = await ground.ask()
    row = ground.row_of(reply)
    assert (reply.status, reply.body) == (200, body)
    assert (row.status, row.outcome, row.error, row.cost_nusd) == (200, "failed", "overloaded", None)


async def test_a_first_event_that_is_an_error_passes_and_is_a_failure(ground: Ground) -> None:
    event = b'data: {"error":{"message":"busy","type":"server_error","code":"overloaded"}}\n\n'
    ground.provider.script([whole(event)])
    reply = await ground.ask(ASKED_STREAM)
    row = ground.row_of(reply)
    assert (reply.status, reply.body, reply.whole) == (200, event, True)
    assert (row.status, row.outcome, row.error, row.cost_nusd) == (200, "failed", "overloaded", None)


# -- streams --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "steps", "code", "error"),
    [
        pytest.param("gpt-4o", [begun(content(b"one")), "close"], "upstream_closed", "closed", id="cut"),
        pytest.param("gpt-4o", [begun(content(b"one")), "reset"], "upstream_closed", "closed", id="reset"),
        pytest.param("gpt-4o", [begun(content(b"one")) + b"5", "close"], "upstream_closed", "closed", id="cut-in-a-chunk-head"),
        pytest.param("gpt-4o", [whole(content(b"one"))], "upstream_closed", "closed", id="no-end-marker"),
        pytest.param("gpt-4o", [begun(content(b"one")), "stall"], "upstream_timeout", "timeout", id="silent"),
        pytest.param("slow", [begun(content(b"one")), "stall"], "upstream_timeout", "timeout", id="endless"),
    ],
)
async def test_a_stream_that_breaks_is_told_in_band_and_counted(
    ground: Ground, model: str, steps: list[Step], code: str, error: str
) -> None:
    ground.provider.script(steps)
    reply = await ground.ask(ASKED_STREAM.replace(b"gpt-4o", model.encode()))
    assert (reply.status, reply.whole) == (200, False), "the client can't see that the reply is cut"
    assert reply.body.startswith(content(b"one"))
    told = msgspec.json.decode(reply.body.strip().rpartition(b"data: ")[2])["error"]
    assert (told["type"], told["code"]) == ("postern_unavailable", code)
    row = ground.row_of(reply)
    assert (row.status, row.outcome, row.error, row.usage_source) == (200, "interrupted", error, "tokenizer")
    if model == "gpt-4o":
        assert row.cost_nusd, "what was received has its price"


@pytest.mark.parametrize(
    "event",
    [
        content(b"x" * (5 * MIB)),
        content(b"\xff\xfe\xc3"),
        b'data: {"choices":' + b"[" * 100_000 + b"}\n\n",
        b": ping\n\n" * 1000,
        b"\0\1\2\n\n",
    ],
    ids=["five-mebibytes", "invalid-utf-8", "brackets", "comments", "noise"],
)
async def test_an_odd_event_passes_and_usage_is_still_read(ground: Ground, event: bytes) -> None:
    ground.provider.script([whole(event, content(b"one"), LAST)])
    reply = await ground.ask(ASKED_STREAM)
    assert (reply.body == event + content(b"one") + LAST, reply.whole) == (True, True)
    row = ground.row_of(reply)
    assert (row.outcome, row.usage_source, row.cost_nusd) == ("succeeded", "provider", ANSWER_NUSD)


async def test_a_stream_cut_after_its_end_marker_is_whole(ground: Ground) -> None:
    ground.provider.script([begun(content(b"one"), LAST), "close"])
    reply = await ground.ask(ASKED_STREAM)
    assert (reply.body, reply.whole) == (content(b"one") + LAST, True)
    assert ground.row_of(reply).outcome == "succeeded"


async def test_a_stream_that_was_to_be_edited_and_cannot_be_unpacked_is_no_clean_end(ground: Ground) -> None:
    ground.provider.script([whole(content(b"one"), LAST, fields=b"Content-Encoding: gzip\r\n")])
    reply = await ground.ask(ASKED_STREAM)
    assert (reply.whole, b'"code":"upstream_closed"' in reply.body) == (False, True)
    assert ground.row_of(reply).outcome == "interrupted"


async def test_a_handshake_answered_with_neither_yes_nor_no_is_a_failure(ground: Ground) -> None:
    fields = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    ground.provider.script([plain(b"{}")])
    reply = await exchange(ground.gate.port, head(*fields, method="GET", target="/v1/realtime"))
    row = ground.row_of(reply)
    assert (reply.status, reply.body, row.outcome, row.error, row.cost_nusd) == (200, b"{}", "failed", "200", None)
