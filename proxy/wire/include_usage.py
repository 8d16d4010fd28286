"""Asks a provider to tell the usage of a stream, and takes what that adds out of the stream again.

Here: `stream_options.include_usage` in requests, the filter for replies. Not here: reading usage. Source: wire.md C2, C7.
"""

from __future__ import annotations

import re

import msgspec

from proxy.wire.dialects.table import Dialect, dialect
from proxy.wire.json_text import NO_VALUE, NOT_JSON, NULL, is_object, members, parse
from proxy.wire.request import RequestFields
from proxy.wire.splice import set_field, set_member, span_with_comma, value_of
from proxy.wire.sse import EVENT_END, data_lines

_KINDS = frozenset({"chat", "completions"})
OPTIONS, _MEMBER = "stream_options", "include_usage"
_MENTIONED = b'"usage"'
_NULL_USAGE = b',"usage":null'
_EMPTY_ARRAY = re.compile(rb"\[[ \t\r\n]*\]")
_EMPTY_OPTIONS = b'{"include_usage":true}'


class _Chunk(msgspec.Struct, gc=False):
    usage: msgspec.Raw = NO_VALUE
    choices: msgspec.Raw = NO_VALUE


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def asks_for_usage(kind: str, fields: RequestFields, provider: str) -> bool:
    """Whether Postern asks this provider for usage where the client didn't: a stream, of a kind and a provider that take the question."""
    if not fields.stream or fields.include_usage is True or kind not in _KINDS or fields.has_data_sources:
        return False
    if fields.has_stream_options and fields.include_usage is None and dialect(provider).options_ask_for_usage:
        return False  # the client's empty options ask already
    return dialect(provider).takes_include_usage


def inject(body: bytes, fields: RequestFields) -> bytes | None:
    """The body with `stream_options.include_usage: true`, or None if there is nothing to do or the client's options make no sense."""
    if fields.include_usage is True:
        return None
    if not fields.has_stream_options:
        return set_field(body, OPTIONS, _EMPTY_OPTIONS)
    options = parse(value_of(body, OPTIONS) or b"")
    if not isinstance(options, dict) or options.get(_MEMBER) not in (None, False):
        return None  # the provider's to refuse
    if options.get("continuous_usage_stats"):
        return None  # asked now, vLLM would put usage into every chunk
    return set_member(body, OPTIONS, _MEMBER, b"true")


class UsageChunkFilter:
    """Takes out of a stream what `inject` added: the usage chunk, and the null usage in every other chunk. All other bytes stay.

    Only for a stream whose usage Postern asked for. Holds back at most the event that isn't finished.
    """

    def __init__(self, spoken: Dialect) -> None:
        self._strips_null = spoken.nulls_usage_when_asked
        self._strips_zero = spoken.zeroes_usage_when_asked
        self._held = bytearray()
        self._searched = 0  # no event ends before this offset of _held
        self._late_newline: bytes | None = None  # an event ended in CR: what becomes of an LF that comes next

    def feed(self, data: bytes) -> bytes:
        """The bytes to forward now."""
        if not self._held and self._late_newline is None and data.endswith(b"\n\n") and b"\r" not in data:
            return self._finished(data)
        return self._feed_slowly(data)

    def flush(self) -> bytes:
        """The rest, at the end of the stream: an unfinished event as it is."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def _finished(self, data: bytes) -> bytes:
        """Whole events with LF line ends."""
        if data.find(b"\n\n") == len(data) - 2:
            return self._event(data)
        *finished, rest = data.split(b"\n\n")  # the rest may be the odd one of three line feeds
        return b"".join([self._event(event + b"\n\n") for event in finished]) + rest

    def _feed_slowly(self, data: bytes) -> bytes:
        out = bytearray()
        if self._late_newline is not None and data:
            if data.startswith(b"\n"):
                out += self._late_newline
                data = data[1:]
            self._late_newline = None
        held = self._held
        held += data
        start = 0
        while (end := EVENT_END.search(held, max(start, self._searched))) is not None:
            event = bytes(held[start : end.end()])
            kept = self._event(event)
            out += kept
            start = self._searched = end.end()
            if start == len(held) and event.endswith(b"\r"):
                self._late_newline = b"\n" if kept else b""
        del held[:start]
        self._searched = max(0, len(held) - 3)
        return bytes(out)

    def _event(self, event: bytes) -> bytes:
        """What is left of one event, its blank line included."""
        if _MENTIONED not in event:
            return event
        if event.startswith(b"data:") and event.find(b"\n") == len(event) - 2:
            return self._line_event(event)
        return self._any_event(event)

    def _line_event(self, event: bytes) -> bytes:
        """An event of one data line and LF line ends: the JSON is decoded where it stands."""
        try:
            chunk = _decode_chunk(event[5:])
        except NOT_JSON:
            return self._any_event(event)
        if self._strips_null and chunk.usage == NULL and event.count(_MENTIONED) == 1:
            kept = event.replace(_NULL_USAGE, b"", 1)
            if len(kept) < len(event):
                return kept
        return self._rest(event, chunk)

    def _any_event(self, event: bytes) -> bytes:
        try:
            chunk = _decode_chunk(b"\n".join(event[start:end] for start, end in data_lines(event)))
        except NOT_JSON:
            return event
        return self._rest(event, chunk)

    def _rest(self, event: bytes, chunk: _Chunk) -> bytes:
        if _is_usage_chunk(chunk):
            return b""
        is_added = (self._strips_null and chunk.usage == NULL) or (self._strips_zero and _is_zero(chunk.usage))
        return _cut_member(event, "usage") if is_added else event


def _is_usage_chunk(chunk: _Chunk) -> bool:
    return is_object(chunk.usage) and _EMPTY_ARRAY.fullmatch(chunk.choices) is not None


def _is_zero(usage: msgspec.Raw) -> bool:
    counts = parse(usage) if is_object(usage) else None
    return isinstance(counts, dict) and not any(counts.values())


def _cut_member(event: bytes, key: str) -> bytes:
    """The event without member `key` of its JSON, which may span several data lines: the line ends and field names stay."""
    lines = data_lines(event)
    text = b"\n".join(event[start:end] for start, end in lines)
    spans = [span_with_comma(text, member) for member in members(text) if member.key == key]
    out = bytearray(event)
    for cut_start, cut_end in reversed(spans):
        offset = len(text)
        for start, end in reversed(lines):
            offset -= end - start
            first, last = max(cut_start - offset, 0), min(cut_end - offset, end - start)
            if first < last:
                del out[start + first : start + last]
            offset -= 1  # the newline that joins two data lines
    return bytes(out)
