"""Watches a streamed reply as it passes: first content, end, error, usage. It sees a copy; what the client gets isn't touched here.

Here: cutting events out of chunks cheaply, deciding which need a decode, keeping what is needed to count text.
Not here: the members' meaning (reply_facts).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from proxy.wire.delta_text import text_of_deltas
from proxy.wire.error_bodies import ErrorFacts
from proxy.wire.json_text import parse, text
from proxy.wire.reply import read_cut
from proxy.wire.reply_facts import Document, FactsReader, ReplyFacts, decode_document
from proxy.wire.sse import data_of, events, whole_events_end

WAITING_BYTES = 16 << 10  # after the first content, events are looked through this much at a time: a search costs more to start than to run
KEPT_RAW_BYTES = 64 << 10
KEPT_TEXT_CHARACTERS = 4 << 20
LARGEST_EVENT_BYTES = 1 << 20  # beyond it only the ends of an event are kept: an image, or a response with one in it
_CUT_END_BYTES = 64 << 10
_DONE = b"[DONE]"
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")

# All begin with a quote, which makes the search several times faster. Inside a JSON string none can match: quotes are escaped there.
_CHOICE_NOTABLE = re.compile(rb'"(?:(?:usage|error|x_groq|finish_reason)"\s*:\s*[{"]|type"\s*:\s*"error")')
_GEMINI_NOTABLE = re.compile(rb'"(?:error|usageMetadata|finishReason)"')
_TYPED_NOTABLE = re.compile(
    rb'"(?:(?:usage|error)"\s*:\s*[{"]|type"\s*:\s*"(?:error|message_|response\.(?:completed|incomplete|failed|done)'
    rb"|image_|transcript\.text\.done|speech\.audio\.done))"
)
_NOTABLE = {"chat": _CHOICE_NOTABLE, "completions": _CHOICE_NOTABLE, "gemini": _GEMINI_NOTABLE}
"""By kind: what an event must hold, unless it is [DONE], to be decoded once the first content was seen."""

_KINDS_WITH_END = frozenset({"chat", "completions", "responses", "messages", "gemini", "images", "transcription", "speech", "realtime"})
_CONTENT_KEYS = (
    "content", "tool_calls", "refusal", "reasoning", "reasoning_content", "function_call", "audio", "images", "thinking",
)  # fmt: skip


class TextSize(msgspec.Struct, frozen=True, gc=False):
    """How much text a stream brought."""

    ascii_chars: int = 0
    other_chars: int = 0
    utf8_bytes: int = 0


def has_end_mark(kind: str) -> bool:
    """Whether a stream of this kind says when it is over, so that one that doesn't was cut."""
    return kind in _KINDS_WITH_END


class StreamReader:
    """Reads one streamed reply. Feed it what arrived, content coding removed; it never raises."""

    def __init__(self, kind: str, choice_count: int = 1) -> None:
        self.first_content = False  # an event that carries content came
        self._kind = kind
        self._search = _NOTABLE.get(kind, _TYPED_NOTABLE).search
        self._facts = FactsReader(kind, choice_count)
        self._raw = bytearray()  # kept for counting, and for the event that isn't finished
        self._read_to = 0  # offset in _raw: events before it were read
        self._texts: list[str] = []
        self._text_characters = 0
        self._waiting: list[bytes] = []  # chunks not looked at yet
        self._waiting_bytes = 0
        self._cut_head = b""  # of an event larger than LARGEST_EVENT_BYTES, whose tail is in _raw
        self._size: TextSize | None = None  # None: nobody asked for it yet
        self._sized_to = 0  # offset in _raw: the text of events before it is in _size

    @property
    def ended(self) -> bool:
        """Whether the stream's own end mark came."""
        self._take_waiting()
        return self._facts.facts.ended

    @property
    def error(self) -> ErrorFacts | None:
        """The error that an event told, if one did."""
        self._take_waiting()
        return self._facts.facts.error

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        if self.first_content:
            self._waiting.append(chunk)
            self._waiting_bytes += len(chunk)
            if self._waiting_bytes > WAITING_BYTES:
                self._take_waiting()
        else:
            self._take(chunk)

    def _take_waiting(self) -> None:
        if self._waiting:
            block = b"".join(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._take(block)

    def _take(self, chunk: bytes) -> None:
        raw = self._raw
        if self._read_to == len(raw) and chunk.endswith(_EVENT_ENDS):
            raw += chunk
            self._read_to = len(raw)
            if not self.first_content or self._search(chunk) is not None or _DONE in chunk:
                self._read(chunk)
        else:
            self._feed_piece(chunk)
        if len(raw) > KEPT_RAW_BYTES:
            self._let_go()

    def result(self) -> ReplyFacts:
        """The facts of the whole stream; call it once, at its end. A kind without end mark counts as ended if no error came."""
        self._take_waiting()
        rest = bytes(self._raw[self._read_to :])
        if rest.strip():
            self._read_to = len(self._raw)
            self._read_block(rest)
        facts = self._facts.result()
        if not has_end_mark(self._kind):
            facts.ended = facts.error is None
        return facts

    def uncounted(self) -> tuple[str, bytes]:
        """The output text of the events let go, and the raw bytes kept after them."""
        self._take_waiting()
        return "".join(self._texts), bytes(self._raw)

    def text_size(self) -> TextSize:
        """The size of the output text in all whole events so far. Each event is read for it once, whenever this is asked."""
        self._take_waiting()
        self._add_size()
        assert self._size is not None
        return self._size

    def _add_size(self) -> None:
        if self._size is None:
            self._size = _larger(TextSize(), "".join(self._texts))
        if self._sized_to < self._read_to:
            self._size = _larger(self._size, text_of_deltas(self._kind, bytes(self._raw[self._sized_to : self._read_to])))
            self._sized_to = self._read_to

    def _feed_piece(self, chunk: bytes) -> None:
        """A chunk that ends within an event, or ends one begun before."""
        raw = self._raw
        search_from = max(self._read_to, len(raw) - 3)
        raw += chunk
        end = whole_events_end(raw, search_from)
        if end < 0:
            return
        block = bytes(raw[self._read_to : end])
        self._read_to = end
        self._read_block(block)

    def _read_block(self, block: bytes) -> None:
        if self._cut_head:
            block = self._read_cut_event(block)
        self._read(block)

    def _read(self, block: bytes) -> None:
        for event in events(block):
            if not self.first_content or self._search(event) is not None or _DONE in event:
                self._read_event(data_of(event))

    def _read_event(self, data: bytes) -> None:
        if data.startswith(_DONE):
            self._facts.facts.ended = True
            return
        document = decode_document(data) if data else None
        if document is None:
            return
        self._facts.absorb(document, data, is_event=True)
        if not self.first_content and self.error is None:
            self.first_content = _carries_content(self._kind, document)

    def _let_go(self) -> None:
        """Keep the text instead of the events that were read; of an unfinished event that is too large, the ends."""
        raw = self._raw
        if self._size is not None:
            self._add_size()
            self._sized_to = 0
        if self._text_characters < KEPT_TEXT_CHARACTERS:
            found = text_of_deltas(self._kind, bytes(raw[: self._read_to]))
            self._texts.append(found)
            self._text_characters += len(found)
        del raw[: self._read_to]
        self._read_to = 0
        if len(raw) > LARGEST_EVENT_BYTES:
            self._cut_head = self._cut_head or bytes(raw[:_CUT_END_BYTES])
            del raw[:-_CUT_END_BYTES]

    def _read_cut_event(self, block: bytes) -> bytes:
        """Read an event whose middle was dropped; returns the events after it."""
        tail, _, rest = block.replace(b"\r\n", b"\n").partition(b"\n\n")
        head, self._cut_head = data_of(self._cut_head), b""
        read_cut(self._facts, head, tail, is_event=True)
        self.first_content = self.first_content or self.error is None
        return rest


def _larger(size: TextSize, text: str) -> TextSize:
    encoded = len(text.encode())
    ascii_chars = len(text) if encoded == len(text) else len(text.encode("ascii", "ignore"))
    return TextSize(size.ascii_chars + ascii_chars, size.other_chars + len(text) - ascii_chars, size.utf8_bytes + encoded)


def _carries_content(kind: str, document: Document) -> bool:
    if kind in ("chat", "completions"):
        return any(_choice_has_content(choice) for choice in _array(document.choices))
    if kind == "gemini":
        contents = [candidate.get("content") for candidate in _array(document.candidates)]
        return any(isinstance(content, dict) and content.get("parts") for content in contents)
    event_type = text(document.type) or ""
    if kind in ("responses", "realtime"):
        return event_type.endswith((".delta", ".partial_image"))
    if kind == "messages":
        return event_type == "content_block_delta"
    return True


def _choice_has_content(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    return bool(choice.get("text")) or (isinstance(delta, dict) and any(delta.get(key) for key in _CONTENT_KEYS))


def _array(raw: bytes) -> list[dict[str, Any]]:
    value = parse(raw) if raw else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
