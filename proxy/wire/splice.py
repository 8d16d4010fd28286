"""Changes one member of a JSON object and not a byte besides.

Here: setting and removing members by byte offsets. Not here: which members, and why; several edits at once (shape.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from proxy.wire.json_text import NOT_JSON, Member, members, value_of_plain_key

OPENING = re.compile(rb"[ \t\n\r]*\{")
_EMPTY = re.compile(rb"[ \t\n\r]*\{[ \t\n\r]*\}")
_COMMA_BEFORE = re.compile(rb",[ \t\n\r]*\Z")
_COMMA_AFTER = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_LOOK_BACK = 64
_ESCAPED_LETTER = b"\\u00"

Cut = tuple[int, int, bytes]
"""From where to where bytes go, and what comes instead."""


def set_field(body: bytes, key: str, value: bytes) -> bytes:
    """The object with member `key` set to the encoded JSON `value`: in place, or inserted first.

    A key that stands several times is set each time, as parsers differ over which one counts. Raises ValueError if `body` is no object.
    """
    spans = _value_spans(body, key)
    return splice(body, [(start, end, value) for start, end in spans]) if spans else _insert(body, key, value)


def _value_spans(body: bytes, key: str) -> list[tuple[int, int]]:
    if key.isascii() and key.isidentifier() and _ESCAPED_LETTER not in body:  # so the key can only be spelled as it is
        spelled = body.count(b'"' + key.encode() + b'"')
        if spelled < 2:
            with suppress(*NOT_JSON):
                span = value_of_plain_key(body, key.encode()) if spelled else None
                return [] if span is None else [span]
    return [(member.start, member.end) for member in members(body) if member.key == key]


def set_member(body: bytes, key: str, subkey: str, value: bytes) -> bytes:
    """The object with `key.subkey` set; `key` is created if absent or null, and left alone if it is no object."""
    spans = _value_spans(body, key)
    if not spans:
        return _insert(body, key, _object_of(subkey, value))
    for start, end in reversed(spans):
        inner = body[start:end]
        if inner == b"null":
            inner = _object_of(subkey, value)
        elif inner.startswith(b"{"):
            inner = set_field(inner, subkey, value)
        body = body[:start] + inner + body[end:]
    return body


def value_of(body: bytes, key: str) -> bytes | None:
    """The encoded JSON of member `key`, the last if it stands several times; None if it is absent."""
    spans = _value_spans(body, key)
    return body[slice(*spans[-1])] if spans else None


def span_with_comma(body: bytes, member: Member) -> tuple[int, int]:
    """The bytes that go when the member goes: with the comma before it, or after it if it comes first."""
    look_from = max(0, member.key_start - _LOOK_BACK)
    before = _COMMA_BEFORE.search(body[look_from : member.key_start])
    if before is not None:
        return look_from + before.start(), member.end
    after = _COMMA_AFTER.match(body, member.end)
    return member.key_start, after.end() if after is not None else member.end


def splice(body: bytes, cuts: Iterable[Cut]) -> bytes:
    """The bytes after the cuts, which come in order and don't overlap."""
    parts: list[bytes] = []
    position = 0
    for start, end, instead in cuts:
        parts += (body[position:start], instead)
        position = end
    return b"".join((*parts, body[position:]))


def _insert(body: bytes, key: str, value: bytes) -> bytes:
    opening = OPENING.match(body)
    if opening is None:
        raise ValueError("not a JSON object")
    end = opening.end()
    comma = b"" if _EMPTY.match(body) else b","
    return body[:end] + encoded_member(key, value) + comma + body[end:]


def _object_of(key: str, value: bytes) -> bytes:
    return b"{" + encoded_member(key, value) + b"}"


def encoded_member(key: str, value: bytes) -> bytes:
    """A member as it stands in an object."""
    return msgspec.json.encode(key) + b":" + value
