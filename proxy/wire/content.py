"""What was said in a call, as it may be recorded: in OpenTelemetry's message format, redacted, then cut.

Here: the order of that, and its bounds. Not here: what the messages are (content_request, content_stream), what is redacted (redaction).
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.records import Content
from proxy.wire import json_text
from proxy.wire.content_parts import Message, text_part
from proxy.wire.content_request import RequestContent, request_content
from proxy.wire.content_stream import reply_content
from proxy.wire.redaction import Clean

MAX_BYTES = 256 << 10
"""Of all that is recorded of one call, as JSON."""

MAX_READ_BYTES = 8 << 20
"""Of a request: parsing a longer one would keep the event loop from other calls."""

BEYOND_CUT = 4096
"""Characters looked at beyond a text's cut, so that what is redacted there is whole."""

EDGE = 1024
"""Characters let go at the end of what was looked at, where it isn't the text's own end: they may be half of something."""

CUT = "…"
MAX_DEPTH = 24
_NODE_BYTES = 8  # brackets, commas, quotes
_LARGEST_HARMLESS = 10**8  # a number with more digits may be somebody's
LEFT_OUT: Message = {"role": "system", "parts": [text_part(CUT)]}
"""Stands for messages that there was no room for."""

_WORDS = frozenset(
    {
        "arguments", "assistant", "blob", "content", "file", "file_id", "finish_reason", "function", "id", "length", "mime_type",
        "modality", "name", "parts", "properties", "reasoning", "required", "response", "role", "stop", "system", "text", "tool",
        "tool_call", "tool_call_response", "type", "uri", "user",
    }
)  # fmt: skip
"""Words of the format, which stay as they are whatever an expression matches: most of what a value's keys are."""


class Said(msgspec.Struct, frozen=True):
    """The bytes of a call that hold what was said. Content coding is removed; the request is whole, the reply may be cut."""

    kind: str
    request: bytes
    reply: bytes
    reply_is_stream: bool
    reply_is_cut: bool = False


def content_of(said: Said, to: list[str], clean: Clean, max_chars: int) -> Content | None:
    """What a record tells of a call's content; None where nothing could be read. Never raises."""
    try:
        answered = reply_content(said.kind, said.reply, said.reply_is_stream)
        if answered and said.reply_is_cut:
            answered[-1]["parts"].append(text_part(CUT))
        asked = request_content(said.kind, said.request if len(said.request) <= MAX_READ_BYTES else b"")
        sealed = _sealed(asked, answered, to, _Seal(clean, max_chars))
    except RecursionError:  # JSON nested deeper than we read
        return None
    if len(said.request) > MAX_READ_BYTES:
        sealed.input_messages = _json([LEFT_OUT])
    return sealed if sealed.input_messages or sealed.output_messages or sealed.system_instructions or sealed.tool_definitions else None


def _sealed(asked: RequestContent, answered: list[Message], to: list[str], seal: _Seal) -> Content:
    """What matters most first: the answer, the instructions, then the messages from the last to the first, as far as there is room."""
    output, system, tools = seal.value(answered), seal.value(asked.system), seal.value(asked.tools)
    messages: list[Any] = []
    for message in asked.messages:
        if seal.left <= 0:
            messages.append(LEFT_OUT)
            break
        messages.append(seal.value(message))
    return Content(to, _json(messages[::-1]), _json(output), _json(system), _json(tools))


def _json(value: Any) -> str | None:
    return msgspec.json.encode(value).decode() if value else None


class _Seal:
    """Redacts and cuts every text of a JSON value, until MAX_BYTES are used up."""

    def __init__(self, clean: Clean, max_chars: int) -> None:
        self.left = MAX_BYTES
        self._clean = clean
        self._max_chars = max_chars

    def value(self, value: Any, depth: int = 0) -> Any:
        """The value as it may be recorded. What there is no room for is `…`, or left out of its list or object."""
        self.left -= _NODE_BYTES
        match value:
            case str():
                return self._text(value)
            case bool() | float() | None:
                return value
            case int():
                return value if abs(value) < _LARGEST_HARMLESS else self._number(value)
            case _ if depth >= MAX_DEPTH:
                return CUT
            case dict():
                return {self._text(key): self.value(item, depth + 1) for key, item in value.items() if self.left > 0}
            case _:
                return [self.value(item, depth + 1) for item in value if self.left > 0]

    def _number(self, value: int) -> int | str:
        text = str(value) if value.bit_length() < 128 else CUT  # such as a card's
        cleaned = self._text(text)
        return value if cleaned == text and text != CUT else cleaned

    def _text(self, text: str) -> str:
        if text in _WORDS:
            return text
        if self.left <= 0:
            return CUT
        seen = self._max_chars + BEYOND_CUT
        is_cut = len(text) > seen
        cleaned = self._clean(json_text.clean(text[:seen]))
        if is_cut:
            cleaned = cleaned[:-EDGE]
        if is_cut or len(cleaned) > self._max_chars:
            cleaned = cleaned[: self._max_chars] + CUT
        return self._fitted(cleaned)

    def _fitted(self, text: str) -> str:
        """The text, cut further where the record has no room for all of it."""
        size = len(msgspec.json.encode(text))
        if size > self.left:
            text = text[: max(0, self.left) * len(text) // size] + CUT
        self.left -= size
        return text
