"""A stream before its first content: nothing of it is passed on yet, so that another target may still answer in its place.

Here: how much is held, and for how long. Not here: what follows from what it says (relay.py), what events mean (wire/).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy.wire.content_coding import Decoder
from proxy.wire.stream_reader import StreamReader

MAX_HELD_CHUNKS, MAX_HELD_BYTES = 64, 256 << 10
"""What comes later is passed on, whatever it is."""


async def read_start(read: Callable[[], Awaitable[bytes]], probe: StreamReader, decoder: Decoder | None) -> bytes:
    """The stream's bytes, as they came, up to the chunk with its first content, its error or its end.

    `probe` was fed with them, content coding removed. Raises what `read` raises.
    """
    held: list[bytes] = []
    size = 0
    while not probe.first_content and probe.error is None and len(held) < MAX_HELD_CHUNKS and size < MAX_HELD_BYTES:
        chunk = await read()
        if not chunk:
            break
        held.append(chunk)
        size += len(chunk)
        probe.feed(decoder.feed(chunk) if decoder else chunk)
    return b"".join(held)
