"""Rules that change requests, in the real program: what the provider's socket gets, and what real clients see."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest

from tests.functional.gate import RunningGate, running_gate
from tests.functional.raw_http import exchange, head, post
from tests.functional.scripted_provider import ScriptedProvider, plain

REPLY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5-nano","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}}'
)
CONFIG = """
targets:
  openai: {{provider: openai, base_url: "{url}/v1", request: {{drop: [logit_bias]}}}}
routes:
  - name: capped
    to: [{{target: openai, model: gpt-5-nano}}]
    request: {{set: {{service_tier: flex}}, clamp: {{max_completion_tokens: 800}}}}
"""


@pytest.fixture(scope="module")
def gate(provider: ScriptedProvider) -> Iterator[RunningGate]:
    with running_gate(CONFIG.format(url=provider.url)) as running:
        yield running


def test_the_provider_gets_the_changed_bytes_with_their_length(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(REPLY)])
    body = b'{"model": "gpt-4o" ,"max_completion_tokens":  9000,\r\n"logit_bias":{},"messages":["h\xc3\xa9"],"seed":1.0}'
    reply = asyncio.run(exchange(gate.port, post(body)))
    changed = body.replace(b"gpt-4o", b"gpt-5-nano").replace(b"9000", b"800").replace(b',\r\n"logit_bias":{}', b"")
    assert provider.last.body == b'{"service_tier":"flex",' + changed[1:]
    assert provider.last.field(b"content-length") == [b"%d" % len(provider.last.body)]
    assert reply.header("x-postern-changes") == "set service_tier; clamp max_completion_tokens 800; drop logit_bias"
    assert reply.body == REPLY


def test_the_openai_client_can_read_what_was_changed(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(REPLY)])
    client = openai.OpenAI(base_url=f"{gate.url}/v1", api_key="sk-test", max_retries=0)
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
    assert raw.headers["x-postern-changes"] == "set service_tier"
    assert raw.parse().choices[0].message.content == "Hi"


def test_a_rule_cannot_be_got_round_by_another_content_type(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(REPLY)])
    body = b'{"model":"gpt-4o","max_completion_tokens":9000}'
    reply = asyncio.run(exchange(gate.port, head(b"Content-Type: text/plain", b"Content-Length: %d" % len(body)) + body))
    assert reply.status == 200
    assert provider.last.body == b'{"service_tier":"flex","model":"gpt-5-nano","max_completion_tokens":800}'


def test_a_body_that_a_rule_cannot_be_put_into_goes_nowhere(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([plain(REPLY)])
    body = b"model=gpt-4o&max_completion_tokens=9000"
    reply = asyncio.run(exchange(gate.port, head(b"Content-Type: text/plain", b"Content-Length: %d" % len(body)) + body))
    assert (reply.status, reply.error()["code"]) == (400, "request_not_shapeable")
    assert provider.exchanges == []
