"""What a model answered, as OpenTelemetry's GenAI messages.

Here: JSON replies of each API, finish reasons. Not here: streams (content_stream), parts (content_parts), redaction (content).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from proxy.wire.content_parts import Message, parts_of
from proxy.wire.content_request import gemini_message, message_of, response_item

FINISH_REASONS = {
    "stop": "stop", "length": "length", "content_filter": "content_filter", "tool_calls": "tool_call", "function_call": "tool_call",
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_call", "refusal": "content_filter",
    "model_context_window_exceeded": "length", "compaction": "compaction",
    "STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "RECITATION": "content_filter", "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter", "SPII": "content_filter", "MALFORMED_FUNCTION_CALL": "error",
    "completed": "stop", "max_output_tokens": "length", "failed": "error", "cancelled": "error",
}  # fmt: skip
"""The providers' words, and the schema's."""

UNFINISHED = "error"
_MAX_REASON_CHARACTERS = 64


def messages_in(kind: str, document: dict[str, Any]) -> list[Message]:
    """The messages in a reply's document; none for kinds of endpoints that aren't known."""
    return list(_READERS[kind](document)) if kind in _READERS else []


def finish_reason(told: object) -> str:
    """A provider's word in the schema's terms; one that isn't known, as it is."""
    return FINISH_REASONS.get(told, told[:_MAX_REASON_CHARACTERS]) if isinstance(told, str) and told else UNFINISHED


def _chat(document: dict[str, Any]) -> Iterator[Message]:
    for choice in _objects(document.get("choices")):
        message = choice.get("message")
        told = message_of(message if isinstance(message, dict) else {})
        yield told | {"role": "assistant", "finish_reason": finish_reason(choice.get("finish_reason"))}


def _completions(document: dict[str, Any]) -> Iterator[Message]:
    for choice in _objects(document.get("choices")):
        yield {"role": "assistant", "parts": parts_of(choice.get("text")), "finish_reason": finish_reason(choice.get("finish_reason"))}


def _messages(document: dict[str, Any]) -> Iterator[Message]:
    if "content" in document:
        yield {
            "role": "assistant",
            "parts": parts_of(document["content"]),
            "finish_reason": finish_reason(document.get("stop_reason")),
        }


def _responses(document: dict[str, Any]) -> Iterator[Message]:
    parts = [part for item in _objects(document.get("output")) for part in response_item(item)["parts"]]
    if parts or document.get("status") is not None:
        details = document.get("incomplete_details")
        reason = finish_reason((details.get("reason") if isinstance(details, dict) else None) or document.get("status"))
        if reason == "stop" and any(part["type"] == "tool_call" for part in parts):
            reason = "tool_call"
        yield {"role": "assistant", "parts": parts, "finish_reason": reason}


def _gemini(document: dict[str, Any]) -> Iterator[Message]:
    for candidate in _objects(document.get("candidates")):
        content = candidate.get("content")
        told = gemini_message(content if isinstance(content, dict) else {})
        yield told | {"role": "assistant", "finish_reason": finish_reason(candidate.get("finishReason"))}


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


_READERS: dict[str, Callable[[dict[str, Any]], Iterator[Message]]] = {
    "chat": _chat,
    "completions": _completions,
    "messages": _messages,
    "responses": _responses,
    "gemini": _gemini,
}
"""By kind of endpoint."""
