"""Events of a streamed reply and their bytes as server-sent events or WebSocket messages.

Here: events, frames, identity of replies (ids, time). Not here: pace and faults (exchange.py), the dialects' fields.
"""

from __future__ import annotations

import secrets
import time
from enum import Enum

import msgspec

from proxy.simulated.mistakes import JsonObject

DONE_DATA = b"data: [DONE]\n\n"
OBFUSCATION = "jW4mZq8tRb2xLd6v"


class Stage(Enum):
    """What an event is to pace and faults."""

    CONTENT = 1  # paced and counted
    FRAMING = 2  # no content; more may come
    CLOSING = 3  # no content comes any more


class Event(msgspec.Struct, frozen=True):
    """One event of a streamed reply. Without a payload it is `[DONE]`."""

    stage: Stage
    payload: JsonObject | None
    name: str | None = None  # the `event:` line


class Frame(msgspec.Struct, frozen=True):
    """The bytes of one event."""

    stage: Stage
    data: bytes


DONE = Event(Stage.CLOSING, None)


def sse_frame(event: Event) -> Frame:
    """The event as server-sent event. Source: wire.md C2, C3."""
    if event.payload is None:
        return Frame(event.stage, DONE_DATA)
    head = b"" if event.name is None else b"event: " + event.name.encode() + b"\n"
    return Frame(event.stage, head + b"data: " + msgspec.json.encode(event.payload) + b"\n\n")


def message_frame(event: Event) -> Frame:
    """The event as text of a WebSocket message."""
    return Frame(event.stage, msgspec.json.encode(event.payload))


def obfuscation_for(delta: str) -> str:
    """Padding that hides a delta's length, as OpenAI adds it to deltas."""
    return OBFUSCATION[len(delta) % len(OBFUSCATION) :]


def new_id(prefix: str) -> str:
    """An id that no other reply has."""
    return prefix + secrets.token_hex(15)


def unix_now_s() -> int:
    """The `created` of a reply."""
    return time.time_ns() // 1_000_000_000
