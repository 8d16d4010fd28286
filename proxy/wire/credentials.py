"""Where a client's credential stands in a request: header fields, the query, a WebSocket's subprotocols.

Here: reading it and taking it out. Not here: whether it is good (policy/keys.py), which one a target gets (pipeline/runtime.py).
"""

from __future__ import annotations

from urllib.parse import parse_qs, unquote_plus

from proxy.call import HeaderList

CREDENTIAL_HEADERS = frozenset((b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key"))
QUERY_KEY = "key"
"""Gemini's: `?key=...`."""

_PROTOCOLS = b"sec-websocket-protocol"
_PROTOCOL_KEY = b"openai-insecure-api-key."
"""Browsers can't set fields of a handshake: OpenAI lets them send the key as a subprotocol."""


def credentials_in(headers: HeaderList, target: str, is_upgrade: bool) -> list[bytes]:
    """Each credential of a request, without the scheme before it; subprotocols are read of a WebSocket's handshake only."""
    found = [word for field, value in headers if field.lower() in CREDENTIAL_HEADERS for word in value.split()[-1:]]
    if is_upgrade:
        protocols = [one for field, value in headers if field.lower() == _PROTOCOLS for one in _protocols(value)]
        found += [one.removeprefix(_PROTOCOL_KEY) for one in protocols if one.startswith(_PROTOCOL_KEY)]
    if "?" in target:
        found += [value.encode("utf-8", "replace") for value in parse_qs(target.partition("?")[2]).get(QUERY_KEY, ())]
    return found


def _protocols(value: bytes) -> list[bytes]:
    return [one.strip() for one in value.split(b",")]


def without_query_key(url: str) -> str:
    """The URL without a credential in its query, every other byte as it was."""
    head, mark, query = url.partition("?")
    if not mark or (f"{QUERY_KEY}=" not in query and "%" not in query):  # a letter of the name may be written %65
        return url
    kept = [pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) != QUERY_KEY]
    return head + ("?" + "&".join(kept) if kept else "")


def without_protocol_key(headers: HeaderList) -> HeaderList:
    """The fields without a credential among the subprotocols; every other field as it was."""
    kept: HeaderList = []
    for name, value in headers:
        if name.lower() != _PROTOCOLS or _PROTOCOL_KEY not in value:
            kept.append((name, value))
        elif protocols := [one for one in _protocols(value) if not one.startswith(_PROTOCOL_KEY)]:
            kept.append((name, b", ".join(protocols)))
    return kept
