"""Server-sent events as bytes: where an event ends, which bytes are its data.

Here: framing by the HTML standard 9.2.6 (LF, CRLF and CR line ends, comments, data over several lines). Not here: what the data means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
EVENT_END = re.compile(_LINE_END + _LINE_END)
"""A blank line, with the line end before it. A match at the end of the bytes may still get an LF that belongs to it."""

_DATA_LINE = re.compile(rb"(?:^|(?<=[\r\n]))data(?:: ?([^\r\n]*)|(?=[\r\n]|\Z))")


def data_lines(event: bytes) -> list[tuple[int, int]]:
    """Where the values of the event's data lines stand; the event's data is these, joined by LF."""
    return [match.span(1) if match[1] is not None else (match.end(), match.end()) for match in _DATA_LINE.finditer(event)]


def data_of(event: bytes) -> bytes:
    """The event's data; b"" if it has none."""
    if event.startswith(b"data: ") and event.find(b"\n") >= len(event) - 2 and b"\r" not in event:
        return event[6:].rstrip(b"\n")
    return b"\n".join([event[start:end] for start, end in data_lines(event)])


def events(block: bytes) -> Iterator[bytes]:
    """The events of a block, blank lines left out, the last one whether it is finished or not."""
    if b"\r" not in block:
        yield from (event for event in block.split(b"\n\n") if event)
        return
    yield from (event for event in EVENT_END.split(block) if event)


def whole_events_end(buffer: bytearray, start: int) -> int:
    """The offset just after the last event that ends after `start`; -1 if none does."""
    end = -1
    for match in EVENT_END.finditer(buffer, start):
        end = match.end()
    return end
