"""The output text of a long stream's events, extracted on the gate: one typed decode an event, where it has a usual shape.

Here: the shapes that nearly all events have. Not here: all other shapes (reply_text).
"""

from __future__ import annotations

import msgspec

from proxy.wire.json_text import NOT_JSON, clean
from proxy.wire.reply_text import text_of_events
from proxy.wire.sse import data_of, events

_DONE = b"[DONE]"


class _ChatDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A delta that holds text and nothing else."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class _ChatChoice(msgspec.Struct, gc=False):
    delta: _ChatDelta
    text: None = None


class _ChatChunk(msgspec.Struct, gc=False):
    choices: list[_ChatChoice]
    type: None = None


class _TypedDelta(msgspec.Struct, gc=False):
    type: str
    delta: str


_decode_chat = msgspec.json.Decoder(_ChatChunk).decode
_decode_typed = msgspec.json.Decoder(_TypedDelta).decode


def text_of_deltas(kind: str, block: bytes) -> str:
    """The output text of whole events of a stream of `kind`; the same as `text_of_events`, but quicker."""
    if kind == "chat":
        return clean("".join([_chat_text(event) for event in events(block)]))
    if kind == "responses":
        return clean("".join([_typed_text(event) for event in events(block)]))
    return clean(text_of_events(block))


def _chat_text(event: bytes) -> str:
    try:
        chunk = _decode_chat(data_of(event))
    except NOT_JSON:
        return "" if _DONE in event else text_of_events(event)
    return "".join([(c.delta.reasoning_content or "") + (c.delta.content or "") + (c.delta.refusal or "") for c in chunk.choices])


def _typed_text(event: bytes) -> str:
    try:
        chunk = _decode_typed(data_of(event))
    except NOT_JSON:
        return text_of_events(event)
    return chunk.delta if chunk.type == "response.output_text.delta" else text_of_events(event)
