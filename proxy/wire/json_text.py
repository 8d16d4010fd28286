"""JSON where msgspec is too strict or says too little: errors with line and column, lone surrogates, members and where they stand.

Here: parsing helpers on bytes. Not here: what the fields mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from proxy.errors import InvalidJson

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a msgspec decoder raises on bytes it can't read."""

NO_VALUE = msgspec.Raw(b"")
"""Stands for a member that isn't there."""

NULL = msgspec.Raw(b"null")

_KEY = re.compile(rb'[ \t\n\r]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)
_BEFORE_MEMBERS = re.compile(rb"[ \t\n\r]*\{")
_AFTER_MEMBER = re.compile(rb"[ \t\n\r]*([,}])")
_scan_value: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder(strict=False))["scan_once"]  # which no stub knows
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode


class Member(NamedTuple):
    """A member of a JSON object, by byte offsets: where its key opens, and its value."""

    key: str
    key_start: int
    start: int
    end: int


# A msgspec.Raw equals only another Raw, and has none of the methods of the bytes that its stub says it is.


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a member is there and not null."""
    return bool(raw) and raw != NULL


def is_object(raw: msgspec.Raw) -> bool:
    """Whether a member is there and an object."""
    return bool(raw) and bytes(memoryview(raw)[:1]) == b"{"


def text(raw: msgspec.Raw) -> str | None:
    """A member's text; None if it is absent, empty or no text."""
    if not raw:
        return None
    value = parse(raw) if bytes(memoryview(raw)[:1]) == b'"' else None
    return value if isinstance(value, str) and value else None


def parse(data: bytes) -> Any:
    """The value, or None if the bytes aren't JSON."""
    try:
        return _decode(data)
    except NOT_JSON:
        try:
            return parse_strictly(bytes(data))
        except InvalidJson:
            return None


def parse_strictly(data: bytes) -> Any:
    """The value, with lone surrogates taken as JSON allows them. Raises InvalidJson that says where the fault is."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body isn't valid UTF-8: {error.reason} at byte {error.start}.") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"The body isn't valid JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise InvalidJson("The body's JSON is nested too deeply.") from None
    except ValueError:
        raise InvalidJson("A number in the body's JSON has too many digits.") from None


def without_surrogates(data: bytes) -> bytes:
    """The same JSON in a form that msgspec takes: lone surrogates replaced. Raises InvalidJson."""
    return clean(json.dumps(parse_strictly(bytes(data)), ensure_ascii=False)).encode("utf-8")


def _refuse_constant(name: str) -> None:
    raise InvalidJson(f"The body isn't valid JSON: {name} is not a JSON value.")


def clean(text: str) -> str:
    """The text without lone surrogates, which nothing downstream could encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def members(body: bytes) -> Iterator[Member]:
    """The members of a JSON object in order, duplicates included; ends early where the bytes stop being an object."""
    opening = _BEFORE_MEMBERS.match(body)
    if opening is None:
        return
    ends = _ValueEnds(body)
    position = opening.end()
    while (key := _KEY.match(body, position)) is not None:
        name = _key_text(key[1])
        end = ends.of(name, key.end())
        if end is None:
            return
        yield Member(name, key.start(1) - 1, key.end(), end)
        after = _AFTER_MEMBER.match(body, end)
        if after is None or after[1] == b"}":
            return
        position = after.end()


def value_of_plain_key(body: bytes, key: bytes) -> tuple[int, int] | None:
    """Where the value of member `key` stands, for a body that spells `key` once and escapes no letter; None if it is no member."""
    value = _decode_members(body).get(key.decode(), NO_VALUE)
    if not value:
        return None
    found = _KEY.match(body, body.find(b'"' + key + b'"'))
    return None if found is None else (found.end(), found.end() + len(value))


def _key_text(raw: bytes) -> str:
    if b"\\" in raw:
        return str(json.loads(b'"' + raw + b'"', strict=False))
    return raw.decode("utf-8", "replace")


class _ValueEnds:
    """Where values end: from one fast decode of all members, or by scanning where that doesn't tell (duplicate keys, cut bodies)."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._text: str | None = None
        try:
            self._values = _decode_members(body)
        except NOT_JSON:
            self._values = {}

    def of(self, key: str, start: int) -> int | None:
        value = self._values.get(key, NO_VALUE)
        end = start + len(value)
        if end > start and self._body.startswith(value, start) and _AFTER_MEMBER.match(self._body, end):
            return end
        return self._scan(start)

    def _scan(self, start: int) -> int | None:
        if self._text is None:
            self._text = self._body.decode("latin-1")  # one character a byte: offsets stay byte offsets
        try:
            return _scan_value(self._text, start)[1]
        except (ValueError, StopIteration, RecursionError):
            return None
