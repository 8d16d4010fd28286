"""Ends a streamed reply the way its provider would have if the model had come to its limit of tokens.

Here: what must be known of a stream to end it, gathered as it passes, and the events that end it. Not here: when it is ended
(pipeline/cut.py), how a Responses stream ends (response_end.py).
Source: wire.md C2, C3, C7.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from proxy.wire.json_text import parse
from proxy.wire.response_end import ResponseEnding
from proxy.wire.sse import EVENT_END, data_of, events, whole_events_end

LENGTH_END_KINDS = frozenset({"chat", "completions", "responses", "messages"})
"""Kinds whose streams can be ended so that their own clients take it for a normal end."""

LARGEST_EVENT_BYTES = 1 << 20
"""A larger event isn't looked at: an image is no text, and doesn't tell how a stream ends."""

_READ_BYTES = 64 << 10  # events are looked through this much at a time
_LINE_ENDS = 3  # bytes of a blank line that may have come without the last one
_HALF_LINE_END = b"\n\r"  # the LF that belongs to it is still to come
_MAX_CHOICES = 128
_HEAD_KEYS = ("id", "object", "created", "model", "service_tier", "system_fingerprint")
_DONE = b"data: [DONE]\n\n"


class Ending(Protocol):
    """What one kind of stream needs for its end."""

    is_over: bool  # the provider has said how it ends, or that it failed: there is nothing left to end

    def take(self, document: dict[str, Any]) -> None:
        """Learn from an event."""
        ...

    def events(self, output_tokens: int) -> bytes:
        """The events that are missing for an end by length."""
        ...


class LengthEnd:
    """One stream that may have to be ended. Feed it what is passed on, content coding removed; it never raises."""

    def __init__(self, kind: str, choice_count: int = 1) -> None:
        self._ending = _ending(kind, min(choice_count, _MAX_CHOICES))
        self._unfinished = bytearray()  # the event that isn't whole yet
        self._unread: list[bytes] = []
        self._unread_bytes = 0

    @property
    def unfinished_bytes(self) -> int:
        """How much of an event came that isn't whole yet. 0: another event may begin here."""
        return len(self._unfinished)

    @property
    def is_over(self) -> bool:
        """Whether the provider has begun to end the stream itself."""
        self._read()
        return self._ending.is_over

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        unfinished = self._unfinished
        search_from = max(0, len(unfinished) - _LINE_ENDS)
        unfinished += chunk
        end = whole_events_end(unfinished, search_from)
        if end == len(unfinished) and unfinished.endswith(_HALF_LINE_END):
            return
        if end > 0:
            self._unread.append(bytes(unfinished[:end]))
            self._unread_bytes += end
            del unfinished[:end]
        if len(unfinished) > LARGEST_EVENT_BYTES:
            del unfinished[:-_LINE_ENDS]
        if self._unread_bytes > _READ_BYTES:
            self._read()

    def first_event_end(self, chunk: bytes) -> int:
        """Where in the bytes that come next the first event ends; -1 if none does."""
        before = bytes(self._unfinished[-_LINE_ENDS:])
        found = EVENT_END.search(before + chunk)
        return -1 if found is None else found.end() - len(before)

    def events(self, output_tokens: int) -> bytes:
        """The events that end the stream here. `output_tokens` is told where an API can't do without a count."""
        self._read()
        return self._ending.events(output_tokens)

    def _read(self) -> None:
        for event in events(b"".join(self._unread)) if self._unread else ():
            document = parse(data_of(event)) if len(event) <= LARGEST_EVENT_BYTES else None
            if isinstance(document, dict):
                self._ending.take(document)
        self._unread.clear()
        self._unread_bytes = 0


def _ending(kind: str, choice_count: int) -> Ending:
    if kind == "responses":
        return ResponseEnding()
    return _MessageEnding() if kind == "messages" else _ChoicesEnding(kind, choice_count)


class _ChoicesEnding:
    """Chat and completions: a chunk with a finish reason for each choice, then `[DONE]`."""

    def __init__(self, kind: str, choice_count: int) -> None:
        self.is_over = False
        self._has_failed = False
        self._empty: dict[str, Any] = {"delta": {}} if kind == "chat" else {"text": ""}
        self._choice_count = choice_count
        self._head: dict[str, Any] = {}
        self._is_open = dict.fromkeys(range(choice_count), True)  # by index

    def take(self, document: dict[str, Any]) -> None:
        self._head |= {key: document[key] for key in _HEAD_KEYS if document.get(key)}  # Azure's first chunk has them empty
        choices = document.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            index = choice.get("index", position) if isinstance(choice, dict) else None
            if isinstance(index, int):
                self._is_open[index] = self._is_open.get(index, True) and not choice.get("finish_reason")
        self._has_failed = self._has_failed or bool(document.get("error"))
        self.is_over = self._has_failed or not any(self._is_open.values())  # of several prompts, one may end before the next begins

    def events(self, output_tokens: int) -> bytes:
        head = {key: self._head[key] for key in _HEAD_KEYS if key in self._head}
        left = sorted(index for index, is_open in self._is_open.items() if is_open)
        choices = [{"index": index, **self._empty, "logprobs": None, "finish_reason": "length"} for index in left]
        return b"".join(b"data: %b\n\n" % _json({**head, "choices": [choice]}) for choice in choices) + _DONE


class _MessageEnding:
    """Anthropic: the end of each open block, the reason, then `message_stop`."""

    def __init__(self) -> None:
        self.is_over = False
        self._open: set[int] = set()  # blocks that began and didn't stop

    def take(self, document: dict[str, Any]) -> None:
        kind, index = document.get("type"), document.get("index")
        if kind in ("message_delta", "message_stop", "error"):
            self.is_over = True
        elif kind == "content_block_start" and isinstance(index, int):
            self._open.add(index)
        elif kind == "content_block_stop":
            self._open.discard(index if isinstance(index, int) else -1)

    def events(self, output_tokens: int) -> bytes:
        ending = {"stop_reason": "max_tokens", "stop_sequence": None}
        documents: list[dict[str, Any]] = [
            *({"type": "content_block_stop", "index": index} for index in sorted(self._open)),
            {"type": "message_delta", "delta": ending, "usage": {"output_tokens": output_tokens}},
            {"type": "message_stop"},
        ]
        return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), _json(one)) for one in documents)


def _json(document: dict[str, Any]) -> bytes:
    """In ASCII: a lone surrogate that a provider sent stays one."""
    return json.dumps(document, separators=(",", ":")).encode()
