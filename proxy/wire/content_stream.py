"""What a model answered, streamed or not: a stream's events are put together into the document that it would have been without one.

Here: deltas of each API gathered. Not here: what the document says (content_reply), redaction (content).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from proxy.wire.content_parts import Message
from proxy.wire.content_reply import messages_in
from proxy.wire.json_text import parse
from proxy.wire.sse import data_of, events

MAX_INDEX = 1024  # of choices, tool calls and blocks: what is beyond is no reply
_CHAT_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


def reply_content(kind: str, reply: bytes, is_stream: bool) -> list[Message]:
    """The messages in a reply to an endpoint of `kind`: of a stream that was cut, what had come; of JSON that was cut, none."""
    if kind not in _GATHERERS:
        return []
    if is_stream:
        return messages_in(kind, _gathered(kind, (parse(data_of(event)) for event in events(reply))))
    document = parse(reply)
    if isinstance(document, list):  # Gemini's streams without alt=sse are an array of chunks
        document = _gathered(kind, document)
    return messages_in(kind, document) if isinstance(document, dict) else []


def _gathered(kind: str, documents: Iterable[object]) -> dict[str, Any]:
    """One reply's document, out of those of its events."""
    return _GATHERERS[kind](document for document in documents if isinstance(document, dict))


def _chat(documents: Iterator[dict[str, Any]]) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    calls: dict[int, dict[int, dict[str, Any]]] = {}
    for index, given in _indexed(documents, "choices"):
        choice = choices.setdefault(index, {"message": {}})
        choice["finish_reason"] = given.get("finish_reason") or choice.get("finish_reason")
        delta = given.get("delta")
        if isinstance(delta, dict):
            _append(choice["message"], delta, _CHAT_TEXTS)
            for position, call in _numbered(delta.get("tool_calls")):
                _merge_call(calls.setdefault(index, {}).setdefault(position, {"function": {}}), call)
    for index, by_position in calls.items():
        choices[index]["message"]["tool_calls"] = [by_position[position] for position in sorted(by_position)]
    return {"choices": [_joined(choices[index]) for index in sorted(choices)]}


def _merge_call(call: dict[str, Any], given: dict[str, Any]) -> None:
    call["id"] = given.get("id") or call.get("id")
    function = given.get("function")
    if isinstance(function, dict):
        call["function"]["name"] = function.get("name") or call["function"].get("name")
        _append(call["function"], function, ("arguments",))


def _completions(documents: Iterator[dict[str, Any]]) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    for index, given in _indexed(documents, "choices"):
        choice = choices.setdefault(index, {})
        choice["finish_reason"] = given.get("finish_reason") or choice.get("finish_reason")
        _append(choice, given, ("text",))
    return {"choices": [_joined(choices[index]) for index in sorted(choices)]}


def _messages(documents: Iterator[dict[str, Any]]) -> dict[str, Any]:
    blocks: dict[int, dict[str, Any]] = {}
    stop_reason = None
    for document in documents:
        index, block, delta = document.get("index"), document.get("content_block"), document.get("delta")
        if isinstance(index, int) and index < MAX_INDEX and isinstance(block, dict):
            blocks[index] = {name: [value] if name in ("text", "thinking") else value for name, value in block.items()}
        elif isinstance(index, int) and index in blocks and isinstance(delta, dict):
            _append(blocks[index], delta, ("text", "thinking", "partial_json"))
        elif isinstance(delta, dict):
            stop_reason = delta.get("stop_reason") or stop_reason
    return {"content": [_block(blocks[index]) for index in sorted(blocks)], "stop_reason": stop_reason} if blocks else {}


def _block(block: dict[str, Any]) -> dict[str, Any]:
    block = _joined(block)
    return block | {"input": block["partial_json"]} if "partial_json" in block else block


def _responses(documents: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The closing event repeats the response; where it doesn't, or never came: the items that were done, and the text of the others."""
    items: dict[int, dict[str, Any]] = {}
    texts: dict[int, list[str]] = {}
    closing: dict[str, Any] = {}
    for document in documents:
        response, item, index = document.get("response"), document.get("item"), document.get("output_index", 0)
        event_type = str(document.get("type"))
        if isinstance(response, dict) and event_type in _RESPONSE_ENDS:
            closing = response
        elif not isinstance(index, int) or index > MAX_INDEX:
            continue
        elif isinstance(item, dict) and event_type == "response.output_item.done":
            items[index] = item
        elif event_type == "response.output_text.delta":
            texts.setdefault(index, []).append(str(document.get("delta")))
    if closing.get("output"):
        return closing
    unfinished = {index: {"role": "assistant", "content": "".join(pieces)} for index, pieces in texts.items()}
    whole = unfinished | items
    return {"status": "failed"} | closing | {"output": [whole[index] for index in sorted(whole)]} if whole or closing else {}


_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.done"})


def _gemini(documents: Iterator[dict[str, Any]]) -> dict[str, Any]:
    candidates: dict[int, dict[str, Any]] = {}
    for index, given in _indexed(documents, "candidates"):
        candidate = candidates.setdefault(index, {"content": {"parts": []}})
        candidate["finishReason"] = given.get("finishReason") or candidate.get("finishReason")
        content = given.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else []:
            _add_gemini_part(candidate["content"]["parts"], part)
    for candidate in candidates.values():
        candidate["content"]["parts"] = [_joined(part) for part in candidate["content"]["parts"]]
    return {"candidates": [candidates[index] for index in sorted(candidates)]}


def _add_gemini_part(parts: list[dict[str, Any]], part: object) -> None:
    if not isinstance(part, dict):
        return
    last = parts[-1] if parts else {}
    if isinstance(part.get("text"), str) and "text" in last and last.get("thought") == part.get("thought"):
        last["text"].append(part["text"])
    else:
        parts.append({name: [value] if name == "text" else value for name, value in part.items()})


def _indexed(documents: Iterator[dict[str, Any]], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for document in documents:
        yield from _numbered(document.get(name))


def _numbered(items: object) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a list with their `index`, or their place where they tell none."""
    for place, item in enumerate(items if isinstance(items, list) else []):
        index = item.get("index", place) if isinstance(item, dict) else None
        if isinstance(index, int) and 0 <= index < MAX_INDEX:
            yield index, item


def _append(gathered_texts: dict[str, Any], given: dict[str, Any], names: tuple[str, ...]) -> None:
    """Texts grow as lists of pieces: adding them to a string one by one would take quadratic time."""
    for name in names:
        piece = given.get(name)
        if isinstance(piece, str) and piece:
            pieces = gathered_texts.get(name)
            if isinstance(pieces, list):
                pieces.append(piece)
            else:
                gathered_texts[name] = [piece]


def _joined(value: Any) -> Any:
    """The value with every list of pieces of text as one text."""
    if isinstance(value, dict):
        return {name: _joined(item) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    is_text = value and all(isinstance(piece, str) for piece in value)
    return "".join(value) if is_text else [_joined(item) for item in value]


_GATHERERS: dict[str, Callable[[Iterator[dict[str, Any]]], dict[str, Any]]] = {
    "chat": _chat,
    "completions": _completions,
    "messages": _messages,
    "responses": _responses,
    "gemini": _gemini,
}
"""By kind of endpoint."""
