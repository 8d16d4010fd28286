"""What an upstream answers, as scripts say it: JSON, errors, streams and their events.

Here: values only. Not here: configurations and requests (scripts.py), what plays them (fakes.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from proxy.call import HeaderList
from proxy.errors import ConnectFailed
from tests.pipeline.fakes import SILENCE, Reply, Step, Wait

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
USAGE_NUSD = 100 * 2_000 + 20 * 8_000
USAGE_USD = "0.00036"
"""What USAGE costs where most scripts send their calls (scripts.CONFIG)."""
JSON_TYPE: HeaderList = [(b"Content-Type", b"application/json")]
SSE_TYPE: HeaderList = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
DONE = b"data: [DONE]\n\n"


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


def late(seconds: float, reply: Reply) -> Reply:
    """A reply whose head comes after a while."""
    return Reply(reply.status, reply.headers, reply.steps, [Wait(seconds), *reply.before_head])


def in_pieces(data: bytes, size: int) -> Sequence[bytes]:
    """Bytes as they might arrive."""
    return [data[start : start + size] for start in range(0, len(data), size)]


HELLO, BYE = delta("Hello"), delta("", "stop")
ROLE = event({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
OVERLOADED = event({"error": {"message": "overloaded", "type": "overloaded_error", "code": None}})
STREAM = (HELLO, BYE, usage_chunk(), DONE)
GOOD, GOOD_STREAM = json_reply(chat_reply()), sse(*STREAM)
SILENT = Reply(before_head=[SILENCE])
NO_CONNECTION = ConnectFailed("Target 'first' failed: no connection.", param="first")
