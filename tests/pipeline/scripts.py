"""Shorthands that scripts are written in: the configurations that most of them run under, and what a client sends.

Here: values only. Not here: replies (replies.py), budgets (spending_scripts.py), what plays them (world.py).
"""

from __future__ import annotations

import json

from proxy.call import HeaderList
from tests.pipeline.replies import JSON_TYPE
from tests.pipeline.world import Request

CONFIG = """
targets:
  openai:
    provider: openai
    credential: sk-target
    price: {per_million: {input: 2, output: 8}}
    timeouts: {first_byte_s: 20, idle_s: 10}
"""
"""One target. A token of input costs 2,000 nano-USD there, one of output 8,000."""

TWO_TARGETS = """
targets:
  first:
    provider: openai
    base_url: https://first.example/v1
    credential: sk-target
    price: {per_million: {input: 2, output: 8}}
    timeouts: {first_byte_s: 20, idle_s: 10}
    breaker: {failures: 5, window_s: 30, open_s: 15, probes: 2}
  second:
    provider: openai
    base_url: https://second.example/v1
    credential: sk-other-target
    price: {per_million: {input: 2, output: 8}}
    timeouts: {first_byte_s: 20, idle_s: 10}
    breaker: {failures: 5, window_s: 30, open_s: 15, probes: 2}
routes: [{name: both, to: [first, second], failover: {attempts: 3}}]
"""
"""The second stands in for the first, at the same price."""

EXPLAIN: HeaderList = [(b"x-postern-explain", b"1")]
"""The header that asks for the decision instead of a reply."""


def bearer(key: bytes) -> HeaderList:
    """The header in which a client shows its key."""
    return [(b"Authorization", b"Bearer " + key)]


def posted(body: object, target: str = "/v1/chat/completions", headers: HeaderList | None = None, **more: object) -> Request:
    """A POST of a JSON value, or of bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(target=target, headers=JSON_TYPE + (headers or []), steps=[data], **more)  # type: ignore[arg-type]


def chat(headers: HeaderList | None = None, body: dict[str, object] | None = None, **more: object) -> Request:
    """A chat call that isn't streamed; `body` adds members."""
    messages = [{"role": "user", "content": "Hello"}]
    return posted({"model": "gpt-4o", "messages": messages} | (body or {}), headers=headers, **more)  # type: ignore[arg-type]


def chat_stream(body: dict[str, object] | None = None, asks: bool = True, **more: object) -> Request:
    """A streamed chat call; `asks`: the client itself asks for usage."""
    options: dict[str, object] = {"stream_options": {"include_usage": True}} if asks else {}
    return chat(body={"stream": True} | options | (body or {}), **more)  # type: ignore[arg-type]


def hedged(config: str) -> str:
    """TWO_TARGETS, or what was made of it: the second is asked too when the first takes its time."""
    return config.replace("failover:", "hedge: {after: 2s, max_ratio: 100%}, failover:")


def continued(config: str) -> str:
    """TWO_TARGETS, or what was made of it: a stream that breaks is gone on with."""
    return config.replace("failover: {", "failover: {continue_midstream: true, ")


def mirrored(config: str, price: str = "{per_million: {input: 2, output: 8}}") -> str:
    """TWO_TARGETS, or what was made of it: each call is copied to a third one, `local`."""
    with_local = config.replace("routes:", f"  local: {{provider: ollama, price: {price}}}\nroutes:")
    return with_local.replace("failover:", "mirror: {to: [{target: local, model: small}]}, failover:")
