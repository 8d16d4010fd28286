"""The newest `anthropic` client, unchanged, through the really running gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.functional.gate import RunningGate, running_gate
from tests.functional.scripted_provider import ScriptedProvider, plain, sse

HELLO: Any = [{"role": "user", "content": "Hello, who are you?"}]
FAST = {"x-sim": "lat=0,d=0"}
MODEL = "sim/claude-sonnet-5"


@pytest.fixture(scope="module")
def shared_gate(provider: ScriptedProvider) -> Iterator[RunningGate]:
    config = f"""
targets:
  sim: {{provider: simulated}}
  claude: {{provider: anthropic, base_url: "{provider.url}", credential: sk-ant-of-the-team}}
routes:
  - {{name: simulated, match: {{model: "sim/*"}}, to: [sim]}}
  - {{name: claude, to: [claude]}}
"""
    with running_gate(config) as running:
        yield running


@pytest.fixture
def client(gate: RunningGate) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gate.url, api_key="sk-ant-of-the-app", timeout=10, max_retries=0, default_headers=FAST) as made:
        yield made


def test_message_is_answered_and_metered(client: anthropic.Anthropic, gate: RunningGate) -> None:
    answer = client.messages.create(model=MODEL, max_tokens=200, messages=HELLO)
    (row,) = gate.rows(1)
    cached = (answer.usage.cache_read_input_tokens or 0) + (answer.usage.cache_creation_input_tokens or 0)
    assert row["input_tokens"] == answer.usage.input_tokens + cached
    assert row["output_tokens"] == answer.usage.output_tokens
    assert (row["outcome"], row["usage_source"]) == ("succeeded", "provider")


def test_streamed_message_is_metered(client: anthropic.Anthropic, gate: RunningGate) -> None:
    with client.messages.stream(model=MODEL, max_tokens=200, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        usage = stream.get_final_message().usage
    assert text
    (row,) = gate.rows(1)
    assert (row["stream"], row["output_tokens"], row["usage_source"]) == (True, usage.output_tokens, "provider")


def test_teams_credential_replaces_the_apps(client: anthropic.Anthropic, gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(b'{"input_tokens":12}')])
    assert client.messages.count_tokens(model="claude-sonnet-5", messages=HELLO).input_tokens == 12
    assert provider.last.field(b"x-api-key") == [b"sk-ant-of-the-team"]
    assert b"sk-ant-of-the-app" not in provider.last.head
    (row,) = gate.rows(1)
    assert "cost_usd" not in row


def test_providers_error_raises_the_clients_own_exception(
    client: anthropic.Anthropic, gate: RunningGate, provider: ScriptedProvider
) -> None:
    provider.script([plain(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', b"529 Overloaded")])
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        client.messages.create(model="claude-sonnet-5", max_tokens=10, messages=HELLO)
    (row,) = gate.rows(1)
    assert (row["outcome"], row["error"]) == ("throttled", "overloaded_error")


def test_error_of_our_own_is_in_anthropics_envelope(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model=7, max_tokens=10, messages=HELLO)  # type: ignore[call-overload]
    body: Any = refused.value.body
    assert body["type"] == "error"
    assert "model" in body["error"]["message"]


def test_message_cut_in_its_middle_keeps_the_input_the_provider_told(
    client: anthropic.Anthropic, gate: RunningGate, provider: ScriptedProvider
) -> None:
    start = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],'
        b'"model":"claude-sonnet-5","stop_reason":null,"usage":{"input_tokens":321,"output_tokens":1}}}\n\n'
    )
    delta = (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"Good day to you"}}\n\n'
    )
    provider.script([*sse(start, delta)[:-1], "close"])
    with (
        pytest.raises(anthropic.APIError),
        client.messages.create(model="claude-sonnet-5", max_tokens=99, messages=HELLO, stream=True) as stream,
    ):
        list(stream)
    (row,) = gate.rows(1)
    assert (row["outcome"], row["input_tokens"], row["usage_source"]) == ("interrupted", 321, "tokenizer")
    assert row["output_tokens"] > 1
    assert row["cost_usd"] > 0
