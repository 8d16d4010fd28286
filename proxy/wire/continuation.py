"""A streamed chat that another provider goes on with where the first one broke off: what the client has of it, and what fits behind that.

Here: the text so far, the request to go on from it, chunks under the first stream's names. Not here: when a stream is gone on with
(pipeline/continuation.py). Events are passed on whole: half an event couldn't be gone on with.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.wire.json_text import NOT_JSON, parse
from proxy.wire.splice import set_field, value_of
from proxy.wire.sse import EVENT_END, data_of

NAMES = ("id", "created", "model")
"""Members of a chunk that are the same in all chunks of a stream: clients take another id for another answer."""
MOST_CHARS = 4 << 20
"""Of text that is kept, to be gone on from."""
LARGEST_EVENT_BYTES = 1 << 20
"""A larger one is passed on in pieces."""
_DONE = b"[DONE]"
_TEXT_KEYS = frozenset({"role", "content"})
"""What a delta of nothing but text says something in."""


def going_on(body: bytes, text: str, takes_prefix: bool, takes_continue: bool) -> bytes:
    """The request, with the text so far as the assistant's last message. Raises ValueError if it has no messages to put it behind.

    `takes_prefix`: the provider wants `prefix: true` in that message; `takes_continue`: `continue_final_message` beside the messages.
    """
    messages = (value_of(body, "messages") or b"").rstrip()
    if not parse(messages) or not messages.endswith(b"]"):
        raise ValueError("no messages")
    message = {"role": "assistant", "content": text} | ({"prefix": True} if takes_prefix else {})
    body = set_field(body, "messages", messages[:-1] + b"," + msgspec.json.encode(message) + b"]")
    if takes_continue:
        body = set_field(set_field(body, "add_generation_prompt", b"false"), "continue_final_message", b"true")
    return body


class ToldStream:
    """What a client was told of a streamed chat so far, by all the attempts at it."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._text_chars = 0
        self._names: dict[str, Any] = {}  # as its first part had them
        self._has_part = False
        self._usage: dict[str, Any] | None = None  # of the parts that broke off, as far as they told it
        self.last_words = b""  # of the part that broke off last: the error that it told, as it came
        self._part: StreamPart | None = None  # that is under way
        self.is_text = True  # and nothing else: no tool call, no second choice, no log probabilities

    @property
    def text(self) -> str:
        """The text that the client has."""
        return "".join(self._texts)

    @property
    def can_go_on(self) -> bool:
        """Whether another provider can go on from the text: there is some, and nothing else."""
        return self.is_text and self._text_chars > 0

    def next_part(self) -> StreamPart:
        """The stream of the next attempt."""
        self._part = StreamPart(self, is_first=not self._has_part)
        self._has_part = True
        return self._part

    def break_off(self) -> None:
        """The stream of the last attempt ended before its end: half an event of it is let go."""
        if self._part is not None:
            self._usage = _sum(self._usage, self._part.usage)
            self.last_words = bytes(self._part.withheld)
            self._part = None

    def give_up(self) -> None:
        """The client may have half an event, or more than can be kept: nobody can go on from that."""
        self.is_text = False
        self._texts.clear()

    def note(self, chunk: dict[str, Any]) -> None:
        """A chunk goes to the client."""
        self._names |= {name: chunk[name] for name in NAMES if chunk.get(name)}
        if not self.is_text:
            return
        for choice in _objects(chunk.get("choices")):
            delta = choice.get("delta")
            delta = delta if isinstance(delta, dict) else {}
            if choice.get("index") or choice.get("logprobs") or any(value for key, value in delta.items() if key not in _TEXT_KEYS):
                self.is_text = False
            text = delta.get("content")
            if isinstance(text, str):
                self._texts.append(text)
                self._text_chars += len(text)
                if self._text_chars > MOST_CHARS:
                    self.give_up()
            elif text:
                self.is_text = False

    def fitted(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """A later part's chunk, to stand behind the first part's; None if it only begins an answer, which has begun."""
        choices = _objects(chunk.get("choices"))
        for choice in choices:
            if isinstance(choice.get("delta"), dict):
                choice["delta"].pop("role", None)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            chunk["usage"] = _sum(self._usage, usage)
        elif choices and not any(_says_something(choice) for choice in choices):
            return None
        return chunk | self._names


class StreamPart:
    """One attempt's stream on its way to the client, event by event. An error in it is passed on at its end, if nobody goes on."""

    def __init__(self, told: ToldStream, is_first: bool) -> None:
        self._told = told
        self._is_first = is_first
        self._held = bytearray()  # the event that isn't finished
        self._searched = 0
        self.withheld = bytearray()  # an error that the stream told, and what came after it: another stream may go on in its place
        self.usage: dict[str, Any] | None = None  # the last that it told

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on now: events that are whole."""
        held = self._held
        held += data
        out = bytearray()
        start = 0
        while (end := EVENT_END.search(held, max(start, self._searched))) is not None:
            out += self._event(bytes(held[start : end.end()]))
            start = self._searched = end.end()
        del held[:start]
        if len(held) + len(self.withheld) > LARGEST_EVENT_BYTES:
            self._told.give_up()
            out += self.flush()
        self._searched = max(0, len(held) - 3)
        return bytes(out)

    def flush(self) -> bytes:
        """The rest, where the stream came to its end: an unfinished event, passed on as it is."""
        rest = bytes(self._held)
        self._held.clear()
        told = self._event(rest) if rest.strip() else rest
        withheld = bytes(self.withheld)
        self.withheld.clear()
        return withheld + told

    def _event(self, event: bytes) -> bytes:
        chunk = _decoded(data_of(event))
        is_error = chunk is not None and bool(chunk.get("error"))
        if self._told.is_text and (self.withheld or is_error):
            self.withheld += event
            return b""
        if chunk is None or is_error:
            return event
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        if not self._is_first:
            fitted = self._told.fitted(chunk)
            if fitted is None:
                return b""
            chunk, event = fitted, b"data: " + msgspec.json.encode(fitted) + b"\n\n"
        self._told.note(chunk)
        return event


def _decoded(data: bytes) -> dict[str, Any] | None:
    if not data or data.startswith(_DONE):
        return None
    try:
        chunk = msgspec.json.decode(data)
    except NOT_JSON:
        return None
    return chunk if isinstance(chunk, dict) else None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _says_something(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    return bool(choice.get("finish_reason")) or (isinstance(delta, dict) and any(delta.values()))


def _sum(first: Any, second: Any) -> Any:
    """Two usages as one: numbers added up, what only one of them tells as it is."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {key: _sum(first.get(key), second.get(key)) for key in {**first, **second}}
    if isinstance(first, int | float) and isinstance(second, int | float):
        return first + second
    return second if first is None else first
