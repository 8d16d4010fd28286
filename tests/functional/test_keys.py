"""Virtual keys at the running gate: the real clients, WebSockets, reloads; and that a key turns up nowhere."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from tests.functional.gate import RunningGate, postern, running_gate
from tests.functional.hostile import ANSWER, ASKED
from tests.functional.raw_http import Connection, exchange, head, post
from tests.functional.scripted_provider import ScriptedProvider, plain, scripted_provider
from tests.functional.test_secrets import bytes_below
from tests.otlp_receiver import OtlpReceiver

WEB, BATCH, OLD = (f"pk-postern-{name}-planted-0123456789" for name in ("web", "batch", "old"))
UNKNOWN = "pk-postern-nobody-planted-0123456789"
TARGET_KEY = "sk-planted-in-the-configuration-0123456789"
HELLO: Any = [{"role": "user", "content": "Hello"}]
MODEL = "sim/gpt-4o-mini"


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


KEYS = f"""
keys:
  - {{name: web, sha256: {digest(WEB)}, tenant: shop}}
  - {{name: batch, sha256: {digest(BATCH)}, models: ["sim/o*"], routes: [all]}}
  - {{name: old, sha256: {digest(OLD)}, expires: 2001-01-01}}
"""
SIMULATED = "targets: {sim: {provider: simulated}}\nroutes: [{name: all, to: [sim]}]\n"


@pytest.fixture(scope="module")
def gate() -> Iterator[RunningGate]:
    with running_gate(SIMULATED + KEYS) as running:
        yield running


def openai_client(gate: RunningGate, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gate.url}/v1", api_key=key, timeout=10, default_headers={"x-sim": "lat=0,d=0"})


def anthropic_client(gate: RunningGate, **credential: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gate.url, timeout=10, default_headers={"x-sim": "lat=0,d=0"}, **credential)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------- the real clients


def test_openai_client_with_a_key_is_answered_and_its_call_is_labelled() -> None:
    with running_gate(SIMULATED + KEYS) as gate:
        with openai_client(gate, WEB) as client:
            assert client.chat.completions.create(model=MODEL, messages=HELLO, user="bob").choices
            assert client.models.list().data
        row, read = gate.rows(2)
    assert (row["key"], row["tenant"], row["user"], row["outcome"]) == ("web", "shop", "bob", "succeeded")
    assert (read["key"], read["path"]) == ("web", "/v1/models")


@pytest.mark.parametrize(("key", "param"), [(UNKNOWN, None), ("sk-ordinary", None), (OLD, "old")])
def test_openai_client_without_a_good_key_is_told_so_once(gate: RunningGate, key: str, param: str | None) -> None:
    with openai_client(gate, key) as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (401, "key_invalid", param)
    assert key not in str(caught.value)


def test_openai_client_that_asks_for_another_model_is_denied(gate: RunningGate) -> None:
    with openai_client(gate, BATCH) as client:
        assert client.chat.completions.create(model="sim/o3", messages=HELLO).choices
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(model=MODEL, messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_allowed", "batch")


@pytest.mark.parametrize("credential", ["api_key", "auth_token"])
def test_anthropic_client_may_send_its_key_either_way(gate: RunningGate, credential: str) -> None:
    with anthropic_client(gate, **{credential: WEB}) as client:
        assert client.messages.create(model="sim/claude-sonnet-5", max_tokens=50, messages=HELLO).content


def test_anthropic_client_without_a_good_key_is_told_so(gate: RunningGate) -> None:
    with anthropic_client(gate, api_key=UNKNOWN) as client, pytest.raises(anthropic.AuthenticationError) as caught:
        client.messages.create(model="sim/claude-sonnet-5", max_tokens=50, messages=HELLO)
    told: Any = caught.value.body
    assert (told["type"], told["error"]["type"]) == ("error", "authentication_error")
    with anthropic_client(gate, api_key=BATCH) as client, pytest.raises(anthropic.PermissionDeniedError):
        client.messages.create(model="sim/claude-sonnet-5", max_tokens=50, messages=HELLO)


async def test_a_refused_upload_is_answered_before_it_is_sent(gate: RunningGate) -> None:
    reply = await exchange(gate.port, head(b"Content-Length: 52428800", b"Content-Type: application/json", b"Expect: 100-continue"))
    assert reply.status == 401


async def test_the_connection_of_a_refused_call_still_serves(gate: RunningGate) -> None:
    body = ASKED.replace(b"gpt-4o", MODEL.encode())
    async with Connection(gate.port) as connection:
        for key, status in ((UNKNOWN, 401), (WEB, 200), (OLD, 401), (WEB, 200)):
            await connection.send(post(body, b"x-sim: lat=0,d=0", b"Authorization: Bearer " + key.encode()))
            assert (await connection.reply()).status == status


# ---------------------------------------------------------------------------------------------------------- WebSockets

REALTIME = "/v1/realtime?model=sim/o-realtime"


async def socket_status(gate: RunningGate, path: str = REALTIME, **options: Any) -> int:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(f"{gate.url}{path}", **options):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


def subprotocols(key: str) -> tuple[str, ...]:
    return ("realtime", f"openai-insecure-api-key.{key}", "openai-beta.realtime-v1")


async def test_a_websocket_needs_a_key_as_any_call_does(gate: RunningGate) -> None:
    assert await socket_status(gate) == 401
    assert await socket_status(gate, headers={"Authorization": f"Bearer {UNKNOWN}"}) == 401
    assert await socket_status(gate, protocols=subprotocols(UNKNOWN)) == 401
    assert await socket_status(gate, headers={"Authorization": f"Bearer {WEB}"}) == 101
    assert await socket_status(gate, protocols=subprotocols(WEB)) == 101
    assert await socket_status(gate, f"{REALTIME}&key={WEB}") == 101


async def test_a_websocket_opens_the_models_of_its_key_only(gate: RunningGate) -> None:
    fields = {"Authorization": f"Bearer {BATCH}"}
    assert await socket_status(gate, headers=fields) == 101
    assert await socket_status(gate, "/v1/realtime?model=sim/gpt-realtime", headers=fields) == 403
    assert await socket_status(gate, "/v1/responses?model=sim/o3", headers=fields) == 403  # each message in it may name another
    assert await socket_status(gate, "/v1/responses", headers={"Authorization": f"Bearer {WEB}"}) == 101


async def test_each_response_of_a_websocket_is_recorded_under_its_key() -> None:
    with running_gate(SIMULATED + KEYS) as gate:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{gate.url}{REALTIME}", protocols=subprotocols(WEB)) as ws:
            await ws.send_json({"type": "response.create"})
            while (await ws.receive_json(timeout=10))["type"] != "response.done":
                pass
        rows = gate.rows(2)
    assert [(row["key"], row["tenant"]) for row in rows] == [("web", "shop")] * 2


# -------------------------------------------------------------------------------------------------------------- reloads


def answered(gate: RunningGate, key: str) -> bool:
    with openai_client(gate, key) as client:
        try:
            return bool(client.models.list().data)
        except openai.AuthenticationError:
            return False


def test_a_revoked_key_is_refused_once_the_running_gate_has_read_its_file() -> None:
    with running_gate(SIMULATED + KEYS) as gate:
        assert answered(gate, WEB)
        done = postern("key", "revoke", "web", "--config", str(gate.config_file))
        assert done.returncode == 0, done.stderr
        gate.process.send_signal(signal.SIGHUP)
        gate.until(lambda: not answered(gate, WEB), "revoked")
        assert answered(gate, BATCH)


def test_a_key_that_was_made_opens_the_gate() -> None:
    made = postern("key", "new", "--name", "made", "--tenant", "a: b", "--models", "sim/*,gpt-*", "--expires", "2999-12-31")
    key, entry = made.stdout.splitlines()[0], made.stdout.rstrip().splitlines()[-1]
    with running_gate(f"{SIMULATED}keys:\n{entry}\n") as gate:
        assert answered(gate, key)
        assert not answered(gate, key + "x")
        assert {row["tenant"] for row in gate.rows(2) if "key" in row} == {"a: b"}
        assert (
            "made  yaml  a: b    -     -    sim/*, gpt-*  any     2999-12-31\n"
            in postern("key", "list", "--config", str(gate.config_file)).stdout
        )


# ------------------------------------------------------------------------------------------------------- where it must not be


NAMES = (b"Authorization: Bearer ", b"x-tenant: ", b"x-user: a ", b"x-postern-tags: a=")


async def test_a_virtual_key_reaches_no_provider_and_leaves_no_trace() -> None:
    places = [
        (post(ASKED, *(name + key for name in NAMES), target=target), status)
        for key, status in ((WEB.encode(), 200), (UNKNOWN.encode(), 401), (OLD.encode(), 401))
        for target in ("/v1/chat/completions", "/v1/chat/completions?key=" + key.decode(), "/v1/chat/completions?k%65y=" + key.decode())
    ]
    places += [(post(ASKED, name + b": " + WEB.encode()), 200) for name in (b"x-api-key", b"api-key", b"x-goog-api-key")]
    with OtlpReceiver() as collector, scripted_provider() as provider:
        with running_gate(recording(collector, provider)) as gate:
            for request, status in places:
                provider.script([plain(ANSWER)])
                assert (await exchange(gate.port, request)).status == status
                for sent in provider.exchanges:
                    assert b"pk-postern" not in sent.head + sent.body
                    assert sent.field(b"authorization") == [b"Bearer " + TARGET_KEY.encode()]
            rows = gate.rows(len(places))
            told = repr(gate.status()) + repr(rows)
            gate.stop()
            told += gate.said
            kept = bytes_below(gate.state_dir)
        assert {"postern.key", "postern.tenant", "postern.user"} <= set(re.findall(r"postern\.\w+", str(collector.spans)))
        telemetry = f"{collector.spans} {collector.metric_batches} {collector.logs}"
        assert collector.spans
    for key in (WEB, UNKNOWN, OLD):
        assert key not in told + telemetry
        assert key.encode() not in kept
    assert {row.get("key") for row in rows} == {"web", "old", None}


def recording(collector: OtlpReceiver, provider: ScriptedProvider) -> str:
    """A configuration that tells as much as it can."""
    return f"""
telemetry:
  otlp: {{endpoint: "{collector.endpoint}"}}
  call_log: stdout
  openinference: true
targets: {{up: {{provider: openai, base_url: "{provider.url}/v1", credential: {TARGET_KEY}}}}}
routes: [{{name: all, to: [up]}}]
{KEYS}"""
