"""The event that tells a client, inside a stream, that the rest won't come.

Here: one event per API. Not here: when it is sent.
"""

from __future__ import annotations

import msgspec

from proxy.wire.error_bodies import error_body_for


def error_event(kind: str, message: str, error_type: str, code: str) -> bytes:
    """An SSE event that the kind's own clients raise as an error; its first blank line ends an event that was cut in its middle."""
    if kind == "responses":
        payload = msgspec.json.encode({"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0})
        return b"\n\nevent: error\ndata: %b\n\n" % payload
    payload = error_body_for(kind, message, error_type, code)
    return (b"\n\nevent: error\ndata: %b\n\n" if kind == "messages" else b"\n\ndata: %b\n\n") % payload
