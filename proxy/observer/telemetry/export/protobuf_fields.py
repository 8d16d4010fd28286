"""Reading the few protobuf messages a collector answers with, without the protobuf library.

Here: fields of one message by number. Not here: what they mean (send_result.py).
"""

from __future__ import annotations

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
_MAX_VARINT_BYTES = 10


def fields_of(message: bytes) -> dict[int, int | bytes]:
    """The message's fields by number, the last one of each; what follows a damaged byte is left out, as are fixed-width fields."""
    found: dict[int, int | bytes] = {}
    position = 0
    try:
        while position < len(message):
            tag, position = _varint(message, position)
            kind = tag & 7
            if kind == VARINT:
                found[tag >> 3], position = _varint(message, position)
            elif kind == LENGTH:
                size, position = _varint(message, position)
                if position + size > len(message):
                    break
                found[tag >> 3] = message[position : position + size]
                position += size
            else:
                position += _FIXED_BYTES[kind]
    except (IndexError, KeyError):
        pass
    return found


def number_in(fields: dict[int, int | bytes], number: int) -> int:
    """A varint field; 0, protobuf's default, if there is none."""
    value = fields.get(number, 0)
    return value if isinstance(value, int) else 0


def bytes_in(fields: dict[int, int | bytes], number: int) -> bytes:
    """A length-delimited field; empty if there is none."""
    value = fields.get(number, b"")
    return value if isinstance(value, bytes) else b""


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """The number at `position` and where it ends. Raises IndexError if it doesn't."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise IndexError(position)
