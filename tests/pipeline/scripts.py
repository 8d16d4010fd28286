"""Shorthands that scripts are written in: requests, replies, and the configuration that most of them run under.

Here: values only. Not here: what plays them (fakes.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from proxy.call import HeaderList
from tests.pipeline.fakes import Reply, Step
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

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
USAGE_NUSD = 100 * 2_000 + 20 * 8_000
USAGE_USD = "0.00036"
JSON_TYPE: HeaderList = [(b"Content-Type", b"application/json")]
SSE_TYPE: HeaderList = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
DONE = b"data: [DONE]\n\n"


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


def json_reply(document: object, status: int = 200, headers: HeaderList | None = None, has_length: bool = True) -> Reply:
    """A JSON document, or bytes as they are, in one piece; without a length it is chunked."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    length = [(b"Content-Length", b"%d" % len(data))] if has_length else []
    return Reply(status, JSON_TYPE + length + (headers or []), [data])


def failure(status: int, code: str | None = None, kind: str | None = None, headers: HeaderList | None = None) -> Reply:
    """An error in OpenAI's envelope."""
    return json_reply({"error": {"message": "No.", "type": kind, "param": None, "code": code}}, status, headers)


def chat_reply(usage: dict[str, int] | None = USAGE) -> dict[str, object]:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [choice]} | ({"usage": usage} if usage else {})


def sse(*steps: Step, headers: HeaderList | None = None) -> Reply:
    """A stream of events."""
    return Reply(200, SSE_TYPE + (headers or []), steps)


def event(document: object) -> bytes:
    """One event."""
    return b"data: %b\n\n" % json.dumps(document, separators=(",", ":")).encode()


def delta(content: str, finish_reason: str | None = None, **more: object) -> bytes:
    """One chunk of a chat stream, as an event."""
    choices = [{"index": 0, "delta": {"content": content} if content else {}, "finish_reason": finish_reason}]
    return event({"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": choices} | more)


def usage_chunk(usage: dict[str, int] = USAGE) -> bytes:
    """The chunk that `include_usage` adds."""
    return event({"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [], "usage": usage})


def in_pieces(data: bytes, size: int) -> Sequence[bytes]:
    """Bytes as they might arrive."""
    return [data[start : start + size] for start in range(0, len(data), size)]
