"""Spans as a collector reads them from SpanEncoder's bytes, and a call of which everything is known."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from proxy.call import Cost, Outcome, Usage
from proxy.observer.telemetry.spans.span_bytes import SpanEncoder
from proxy.observer.telemetry.vocabulary import Semconv
from proxy.records import CallRecord, Content, PlanRecord, RequestFacts, ShadowRecord
from tests.call_records import attempt_record, call_record
from tests.otlp_receiver import attributes_of

KINDS = {"string_value": "string", "bool_value": "boolean", "int_value": "int", "double_value": "double", "array_value": "string[]"}
"""What the conventions call the types of values that spans have."""


def spans_of(
    record: CallRecord, semconv: Semconv = "v1_41", openinference: bool = False, cost_attribute: str = "gen_ai.usage.cost"
) -> list[Span]:
    encoded = SpanEncoder(cost_attribute, semconv, openinference).encode(record)
    spans = list(ScopeSpans.FromString(encoded.data).spans)
    assert len(spans) == encoded.count
    return spans


def attributes(span: Span) -> dict[str, object]:
    return attributes_of(span.attributes)


def types(span: Span) -> dict[str, str]:
    pairs: list[KeyValue] = list(span.attributes)
    return {pair.key: KINDS[str(pair.value.WhichOneof("value"))] for pair in pairs}


INPUT_MESSAGES = [{"role": "user", "parts": [{"type": "text", "content": "What is a postern?"}]}]
OUTPUT_MESSAGES = [{"role": "assistant", "parts": [{"type": "text", "content": "A small gate."}], "finish_reason": "stop"}]


def content(**changes: Any) -> Content:
    fields: dict[str, Any] = {
        "to": ["span"],
        "input_messages": json.dumps(INPUT_MESSAGES),
        "output_messages": json.dumps(OUTPUT_MESSAGES),
        "system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
        "tool_definitions": json.dumps([{"type": "function", "function": {"name": "look_up"}}]),
    }
    return Content(**fields | changes)


def full_usage() -> Usage:
    return Usage(
        input_tokens=100, output_tokens=60, cache_read_tokens=40, cache_write_tokens=10, reasoning_tokens=5, input_audio_tokens=3,
        output_audio_tokens=2, cache_read_audio_tokens=1, input_image_tokens=7, output_image_tokens=8,
    )  # fmt: skip


def full_call(attempt: dict[str, Any] | None = None, **changes: Any) -> CallRecord:
    """A call whose second attempt, at another target, succeeded, and of which everything is known; `attempt` changes both attempts."""
    facts = RequestFacts(
        max_tokens=256, temperature=0.5, top_p=0.9, top_k=40.0, frequency_penalty=0.1, presence_penalty=0.2, seed=7, choice_count=2,
        stop_sequences=["END"], reasoning_level="low", output_type="json",
        conversation_id="conv_1", previous_response_id="resp_0", service_tier="flex",
    )  # fmt: skip
    failed: dict[str, Any] = {"target": "local", "provider": "vllm", "outcome": Outcome.FAILED, "status": 503, "usage": None, "cost": None}
    succeeded: dict[str, Any] = {
        "number": 2,
        "span_id": "e" * 16,
        "usage": full_usage(),
        "cost": Cost(1_450_000, 150_000, 1_200_000, 60_000, 40_000),
        "url": "https://api.openai.com/v1/chat/completions",
        "changes": "set temperature",
    }
    attempts = [attempt_record(**told | (attempt or {})) for told in (failed, succeeded)]
    fields: dict[str, Any] = {
        "facts": facts,
        "experiment": "terse",
        "arm": "a",
        "shadow": ShadowRecord("try", "try>claude/claude-sonnet-5", PlanRecord("priority", [("claude", "claude-sonnet-5", "")], []), True),
        "attempts": attempts,
        "labels": {label: f"some {label}" for label in ("tenant", "user", "app", "task", "workflow", "step", "key")},
        "tags": {"team": "search", "team.lead": "ada"},
        "attributes": {"feature": "captions"},
        "decision": "everything>openai/gpt-4o",
        "cache": "miss",
        "cache_age_s": 1.5,
        "saved_nusd": 2_000_000,
        "budget_left_nusd": 3_000_000_000,
        "content": content(),
    }
    return call_record(**fields | changes)
