"""The output text in a reply: what a model wrote, in any dialect, as one string to be counted.

Here: content, reasoning, refusals, tool calls and their arguments, out of SSE or JSON, whole or cut. Not here: counting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from proxy.wire.json_text import clean, parse
from proxy.wire.sse import data_of, events

_TEXT_KEYS = frozenset(
    {"content", "text", "reasoning_content", "reasoning", "refusal", "arguments", "thinking", "partial_json", "response"}
)
"""Keys whose string value is output, wherever they stand."""

_SKIPPED_KEYS = frozenset({"logprobs", "usage", "error", "metadata", "tools", "instructions", "obfuscation"})
"""Keys under which text isn't output."""

_SOUND_DELTAS = frozenset({"response.audio.delta", "response.output_audio.delta"})
"""Deltas of a Responses stream that are base64, not text."""

_LOOSE_KEYS = "content|text|reasoning_content|refusal|arguments|thinking|partial_json|input|prompt|instructions|description"
_LOOSE_STRING = re.compile(rb'"(?:' + _LOOSE_KEYS.encode() + rb')"\s*:\s*"((?:[^"\\]|\\.)*)', re.DOTALL)
_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?$")


def text_of_events(block: bytes) -> str:
    """The output text of a stream's events; the last one may be cut, and then has none."""
    return "".join(text for event in events(block) for text in _texts_of_event(parse(data_of(event))))


def text_of_body(body: bytes) -> str:
    """The output text of a JSON reply; of one that was cut, what stands in its strings so far."""
    value = parse(body)
    return loose_text(body) if value is None else "".join(_texts(value))


def loose_text(body: bytes) -> str:
    """The text in a JSON body that doesn't parse, most often because it was cut: the values of keys known to hold text."""
    return "\n".join(_unescaped(match[1]) for match in _LOOSE_STRING.finditer(body))


def _unescaped(raw: bytes) -> str:
    text = _CUT_ESCAPE.sub("", raw.decode("utf-8", "replace"))
    try:
        return clean(str(json.loads(f'"{text}"', strict=False)))
    except ValueError:
        return text


def _texts_of_event(event: Any) -> Iterator[str]:
    """A Responses stream tells its text twice, in deltas and in the closing events: only the deltas count."""
    kind = event.get("type") if isinstance(event, dict) else None
    if isinstance(kind, str) and kind.startswith("response."):
        delta = event.get("delta")
        if isinstance(delta, str) and kind.endswith(".delta") and kind not in _SOUND_DELTAS:
            yield delta
        return
    yield from _texts(event)


def _texts(value: Any) -> Iterator[str]:
    stack = [value]  # not recursive: a provider may nest as deep as it likes
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            stack.extend(reversed([part for part in item if isinstance(part, (dict, list))]))
        elif isinstance(item, dict):
            stack.extend(reversed([part for key, part in item.items() if _holds_text(key, part, item)]))


def _holds_text(key: str, part: Any, parent: dict[str, Any]) -> bool:
    if isinstance(part, str):
        return key in _TEXT_KEYS or (key == "name" and "arguments" in parent)
    return isinstance(part, (dict, list)) and key not in _SKIPPED_KEYS
