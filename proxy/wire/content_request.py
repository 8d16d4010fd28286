"""What a request says to the model, as OpenTelemetry's GenAI messages.

Here: messages, system instructions and tools of each API's body. Not here: parts (content_parts), redaction (content).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from proxy.wire.content_parts import Message, Part, parts_of, reasoning_part, text_part, tool_call_part, tool_response_part
from proxy.wire.json_text import parse


class RequestContent(NamedTuple):
    """What was sent to the model; empty where there is nothing."""

    messages: Iterator[Message]  # the last one first, each read when it is asked for: there may be no room for all
    system: list[Part]
    tools: list[Any]


def request_content(kind: str, body: bytes) -> RequestContent:
    """The content of a JSON request body of an endpoint of `kind`; empty for kinds that aren't known, and for garbage."""
    read = _READERS.get(kind)
    document = parse(body) if read else None
    if read is None or not isinstance(document, dict):
        return RequestContent(iter(()), [], [])
    tools = document.get("tools") or document.get("functions")
    system = next((document[key] for key in _SYSTEM if document.get(key)), None)
    if isinstance(system, dict):
        system = system.get("parts")
    messages = (message for message in read(document) if message["parts"])
    return RequestContent(messages, parts_of(system), tools if isinstance(tools, list) else [])


_SYSTEM = ("instructions", "system", "systemInstruction", "system_instruction")


def message_of(message: dict[str, Any]) -> Message:
    """A message of Chat Completions or of Anthropic, its tool calls and its reasoning among its parts."""
    role = message.get("role")
    content = message.get("content")
    if role in ("tool", "function"):
        parts = [tool_response_part(message.get("tool_call_id"), content)]
    else:
        parts = [*_thoughts(message), *parts_of(content), *parts_of(_refusal(message)), *_tool_calls(message)]
    told = {"role": role if isinstance(role, str) else "user", "parts": parts}
    if isinstance(message.get("name"), str):
        told["name"] = message["name"]
    return told


def _thoughts(message: dict[str, Any]) -> list[Part]:
    thought = message.get("reasoning_content") or message.get("reasoning")
    return [reasoning_part(thought)] if isinstance(thought, str) else []


def _refusal(message: dict[str, Any]) -> str | None:
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) and refusal else None


def _tool_calls(message: dict[str, Any]) -> Iterator[Part]:
    calls = message.get("tool_calls")
    for call in _objects(calls):
        function = call.get("function") or call.get("custom")
        if isinstance(function, dict):
            yield tool_call_part(call.get("id"), function.get("name"), function.get("arguments") or function.get("input"))
    legacy = message.get("function_call")
    if isinstance(legacy, dict):
        yield tool_call_part(None, legacy.get("name"), legacy.get("arguments"))


def response_item(item: dict[str, Any]) -> Message:
    """An item of a Responses input or output."""
    kind = item.get("type", "message")
    if kind == "message":
        return message_of(item)
    if kind in ("function_call", "custom_tool_call", "mcp_call"):
        given = item.get("arguments") or item.get("input")
        return {"role": "assistant", "parts": [tool_call_part(item.get("call_id") or item.get("id"), item.get("name"), given)]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        return {"role": "tool", "parts": [tool_response_part(item.get("call_id"), item.get("output"))]}
    if kind == "reasoning":
        summary, content = item.get("summary"), item.get("content")
        return {"role": "assistant", "parts": [part for part in parts_of([*_objects(summary), *_objects(content)]) if part.get("content")]}
    return {"role": "assistant", "parts": [{"type": kind}] if isinstance(kind, str) else []}


def _chat(document: dict[str, Any]) -> Iterator[Message]:
    for message in reversed(_objects(document.get("messages"))):
        yield message_of(message)


def _responses(document: dict[str, Any]) -> Iterator[Message]:
    given = document.get("input")
    if isinstance(given, str):
        yield _said(given)
    for item in reversed(_objects(given)):
        yield response_item(item)


def _gemini(document: dict[str, Any]) -> Iterator[Message]:
    for content in reversed(_objects(document.get("contents"))):
        yield gemini_message(content)
    if isinstance(document.get("content"), dict):  # embedContent
        yield gemini_message(document["content"])


def gemini_message(content: dict[str, Any]) -> Message:
    """A content of Gemini."""
    role = content.get("role")
    return {"role": "assistant" if role == "model" else role if isinstance(role, str) else "user", "parts": parts_of(content.get("parts"))}


def _prompts(document: dict[str, Any]) -> Iterator[Message]:
    """Bare texts, one or several; token ids are not texts."""
    given = document.get("prompt") or document.get("input")
    for text in reversed(given) if isinstance(given, list) else [given]:
        if isinstance(text, str):
            yield _said(text)


def _said(text: str) -> Message:
    return {"role": "user", "parts": [text_part(text)]}


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


_READERS: dict[str, Callable[[dict[str, Any]], Iterator[Message]]] = {
    "chat": _chat,
    "messages": _chat,
    "responses": _responses,
    "gemini": _gemini,
    "completions": _prompts,
    "embeddings": _prompts,
}
"""By kind of endpoint."""
