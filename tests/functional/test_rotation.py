"""The running gate with several credentials for one provider: the client sees no refusal that another credential can avoid."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import pytest

from tests.functional.gate import RunningGate, running_gate
from tests.functional.hostile import ANSWER, ASKED
from tests.functional.raw_http import Reply, exchange, head, post
from tests.functional.scripted_provider import ScriptedProvider, plain, scripted_provider

CONFIG = """
targets:
  openai:
    provider: openai
    base_url: {url}/v1
    credential: [sk-planted-one, sk-planted-two, sk-planted-three]
"""
GOOD = plain(ANSWER)
UNKNOWN_KEY = plain(
    b'{"error":{"message":"Incorrect API key provided: sk-planted-one","type":"invalid_request_error","code":"invalid_api_key"}}',
    b"401 Unauthorized",
)
TOO_FAST = plain(b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}', b"429 Too Many Requests", b"Retry-After: 60")
HANDSHAKE = head(
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + base64.b64encode(b"0123456789abcdef"),
    target="/v1/realtime?model=gpt-realtime",
    method="GET",
)


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


@pytest.fixture
def gate(provider: ScriptedProvider) -> Iterator[RunningGate]:
    with running_gate(CONFIG.format(url=provider.url)) as running:
        yield running


def call(gate: RunningGate) -> Reply:
    return asyncio.run(exchange(gate.port, post(ASKED, b"Authorization: Bearer sk-client")))


def used(provider: ScriptedProvider) -> list[str]:
    """What each request came with."""
    return [b",".join(one.field(b"authorization")).decode().removeprefix("Bearer sk-planted-") for one in provider.exchanges]


def test_a_refused_credential_costs_no_call_and_rests(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([UNKNOWN_KEY], [TOO_FAST], [GOOD])
    reply = call(gate)
    assert (reply.status, reply.body, reply.header("x-postern-attempts")) == (200, ANSWER, "3")
    assert call(gate).header("x-postern-attempts") == "1"
    assert used(provider) == ["one", "two", "three", "three"]
    rows = gate.rows(2)
    assert sorted(row["attempts"] for row in rows) == [1, 3]
    assert "sk-planted" not in f"{rows} {gate.said} {gate.status()}"


def test_which_credential_rests_outlives_a_reload(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([UNKNOWN_KEY], [GOOD])
    assert call(gate).status == 200
    gate.write_config(CONFIG.format(url=provider.url) + "transparent: true\n")
    gate.until(lambda: call(gate).header("x-postern-attempts") is None, "reloaded")
    assert set(used(provider)[1:]) == {"two"}


def test_a_websocket_that_is_refused_leaves_the_next_credential_to_the_next(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([UNKNOWN_KEY])
    first = asyncio.run(exchange(gate.port, HANDSHAKE, "GET"))
    second = asyncio.run(exchange(gate.port, HANDSHAKE, "GET"))
    assert (first.status, second.status) == (401, 401)
    assert used(provider) == ["one", "two"]
