"""Records to test with: a plain finished call, and ways to change it."""

from __future__ import annotations

from typing import Any

from proxy.call import Cost, Outcome, Usage
from proxy.records import AttemptRecord, CallRecord, RequestFacts, Uncounted

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000


def attempt_record(**changes: Any) -> AttemptRecord:
    """A streamed attempt at OpenAI that succeeded: 1 s long, first content after 0.25 s, 100 tokens in, 20 out, 0.00145 USD."""
    fields: dict[str, Any] = {
        "number": 1,
        "span_id": "b" * 16,
        "target": "openai",
        "provider": "openai",
        "model": "gpt-4o",
        "server_address": "api.openai.com",
        "server_port": 443,
        "start_ns": START_NS,
        "end_ns": START_NS + SECOND_NS,
        "outcome": Outcome.SUCCEEDED,
        "status": 200,
        "first_chunk_ns": START_NS + SECOND_NS // 4,
        "response_id": "chatcmpl-1",
        "response_model": "gpt-4o-2024-08-06",
        "finish_reasons": ["stop"],
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "usage": Usage(input_tokens=100, output_tokens=20, cache_read_tokens=40, reasoning_tokens=0),
        "cost": Cost(1_450_000, 150_000, 1_200_000, 100_000),
    }
    return AttemptRecord(**fields | changes)


def call_record(**changes: Any) -> CallRecord:
    """A sampled streamed chat call with one attempt, the child of somebody's span."""
    fields: dict[str, Any] = {
        "call_id": "call-1",
        "trace_id": "a" * 32,
        "span_id": "c" * 16,
        "parent_span_id": "d" * 16,
        "trace_state": "vendor=1",
        "sampled": True,
        "start_ns": START_NS,
        "end_ns": START_NS + SECOND_NS,
        "method": "POST",
        "path": "/v1/chat/completions",
        "http_route": "/v1/chat/completions",
        "operation": "chat",
        "api_type": "chat_completions",
        "scheme": "http",
        "server_address": "127.0.0.1",
        "server_port": 4000,
        "client_address": "127.0.0.1",
        "protocol_version": "1.1",
        "user_agent": "OpenAI/Python 3.52.0",
        "outcome": Outcome.SUCCEEDED,
        "status": 200,
        "route": "everything",
        "requested_model": "smart",
        "stream": True,
        "first_chunk_ns": START_NS + SECOND_NS // 4,
        "overhead_ns": 250_000,
        "facts": RequestFacts(max_tokens=256, temperature=0.5, choice_count=1, stop_sequences=["END"]),
        "labels": {"tenant": "shop"},
    }
    fields |= changes
    fields.setdefault("attempts", [attempt_record()])
    return CallRecord(**fields)


def uncounted(request: bytes, reply: bytes = b"", is_stream: bool = False, **changes: Any) -> Uncounted:
    """What is left to count of an attempt whose bodies were kept whole."""
    fields: dict[str, Any] = {
        "request_body": request,
        "request_bytes": len(request),
        "reply": reply,
        "reply_bytes": len(reply),
        "reply_is_stream": is_stream,
    }
    return Uncounted(**fields | changes)
