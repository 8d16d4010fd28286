"""OTLP's protobuf, written directly: what the SDK builds as objects of objects first is here bytes at once.

Here: the wire format, attributes, whole requests. Not here: what a span or a log record says (span_bytes.py, log_bytes.py).
Source: protobuf.dev/programming-guides/encoding, opentelemetry-proto 1.x. Numbers of fields stand in the messages' writers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import msgspec

Json = None | bool | int | float | str | Sequence["Json"] | dict[str, "Json"]

MAX_REMEMBERED = 4096
MAX_REMEMBERED_CHARS = 64  # of a value worth keeping: long ones don't repeat
MAX_DEPTH = 16  # of nested values; readers of protobuf stop at 100 messages in each other

_TRUE, _FALSE = b"\x10\x01", b"\x10\x00"  # AnyValue's bool_value
_INT, _DOUBLE = b"\x18", b"\x21"  # tags of its int_value and double_value
_BYTE = tuple(bytes((number,)) for number in range(256))
_INT64 = range(-(1 << 63), 1 << 63)
_UINT64 = (1 << 64) - 1
_pack_double = struct.Struct("<d").pack
_pack_fixed64 = struct.Struct("<Q").pack
_pack_fixed32 = struct.Struct("<I").pack


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """Repeated fields of a message, ready to stand in it, and how many they are."""

    data: bytes
    count: int


NOTHING = Encoded(b"", 0)


def varint(number: int) -> bytes:
    """A number of at least 0."""
    if number < 0x80:
        return _BYTE[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def bytes_field(number: int, value: bytes) -> bytes:
    """A length-delimited field: bytes, text, a message."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def text_field(number: int, value: str) -> bytes:
    """A string field; what isn't Unicode in it becomes `?`."""
    return bytes_field(number, value.encode(errors="replace"))


def varint_field(number: int, value: int) -> bytes:
    """An int64, bool or enum field."""
    return varint(number << 3) + varint(value & _UINT64)


def fixed64_field(number: int, value: int) -> bytes:
    """A fixed64 field: a time in nanoseconds."""
    return varint(number << 3 | 1) + _pack_fixed64(value & _UINT64)


def fixed32_field(number: int, value: int) -> bytes:
    """A fixed32 field: flags."""
    return varint(number << 3 | 5) + _pack_fixed32(value)


def hex_id(text: str, size: int) -> bytes:
    """A trace or span id of `size` bytes. Raises ValueError if it isn't one."""
    identifier = bytes.fromhex(text)
    if len(identifier) != size:
        raise ValueError(f"an id of {len(identifier)} bytes instead of {size}")
    return identifier


def any_value(value: Json, depth: int = 0) -> bytes:
    """AnyValue. An int beyond 64 bits becomes text; what is nested deeper than MAX_DEPTH, JSON text, or `…`."""
    if isinstance(value, str):
        return text_field(1, value)
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int):
        return varint_field(3, value) if value in _INT64 else text_field(1, str(value))
    if isinstance(value, float):
        return _DOUBLE + _pack_double(value)
    if value is None:
        return b""
    if depth == MAX_DEPTH:
        return bytes_field(1, _json(value))
    if isinstance(value, dict):
        members = (bytes_field(1, _key_value(name, any_value(member, depth + 1))) for name, member in value.items())
        return bytes_field(6, b"".join(members))
    return bytes_field(5, b"".join(bytes_field(1, any_value(item, depth + 1)) for item in value))


def _json(value: Json) -> bytes:
    try:
        return msgspec.json.encode(value)
    except RecursionError:
        return "…".encode()


def _key_value(name: str, value: bytes) -> bytes:
    return text_field(1, name) + bytes_field(2, value)


class AttributeWriter:
    """Writes attributes as the repeated KeyValue field of one message, and remembers what comes again with every call.

    That is whole pairs of short texts, and what stands before a number: the field's tag and size, the name, the value's tag and size.
    """

    def __init__(self, field_number: int) -> None:
        self._number = field_number
        self._pairs: dict[tuple[str, str | tuple[str]], bytes] = {}
        self._heads: dict[tuple[str, bytes, int], bytes] = {}

    def write(self, attributes: Mapping[str, Json]) -> bytes:
        """The fields of all attributes, in their order."""
        pairs, heads = self._pairs, self._heads
        parts: list[bytes] = []
        for name, value in attributes.items():
            if isinstance(value, str):
                parts.append(pairs.get((name, value)) or self._new_pair(name, value, value))
            elif isinstance(value, float):
                parts.append((heads.get((name, _DOUBLE, 8)) or self._new_head(name, _DOUBLE, 8)) + _pack_double(value))
            elif type(value) is int and value in _INT64:
                number = varint(value & _UINT64)
                parts.append((heads.get((name, _INT, len(number))) or self._new_head(name, _INT, len(number))) + number)
            elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
                parts.append(pairs.get((name, (value[0],))) or self._new_pair(name, (value[0],), value[0]))
            else:
                parts.append(bytes_field(self._number, _key_value(name, any_value(value))))
        return b"".join(parts)

    def _new_pair(self, name: str, value: str | tuple[str], text: str) -> bytes:
        pair = bytes_field(self._number, _key_value(name, any_value(value)))
        if len(text) <= MAX_REMEMBERED_CHARS:
            if len(self._pairs) >= MAX_REMEMBERED:
                self._pairs.clear()
            self._pairs[name, value] = pair
        return pair

    def _new_head(self, name: str, kind: bytes, size: int) -> bytes:
        """All of a pair before a value of `size` bytes."""
        whole = bytes_field(self._number, _key_value(name, kind + bytes(size)))
        if len(self._heads) >= MAX_REMEMBERED:
            self._heads.clear()
        self._heads[name, kind, size] = head = whole[:-size]
        return head


def resource_bytes(attributes: Mapping[str, Json]) -> bytes:
    """A Resource message."""
    return AttributeWriter(1).write(attributes)


def scope_bytes(name: str, version: str) -> bytes:
    """An InstrumentationScope message."""
    return text_field(1, name) + text_field(2, version)


def traces_request(resource: bytes, scope: bytes, spans: bytes) -> bytes:
    """A whole ExportTraceServiceRequest of `ScopeSpans.spans` fields."""
    return _request(resource, scope, spans)


def logs_request(resource: bytes, scope: bytes, records: bytes) -> bytes:
    """A whole ExportLogsServiceRequest of `ScopeLogs.log_records` fields."""
    return _request(resource, scope, records)


def _request(resource: bytes, scope: bytes, items: bytes) -> bytes:
    """Both signals number these fields alike: the group of a resource, its resource, the group of a scope, its scope."""
    return bytes_field(1, bytes_field(1, resource) + bytes_field(2, bytes_field(1, scope) + items))
