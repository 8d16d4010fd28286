"""Header fields on their way through: hop-by-hop by RFC 9110 section 7.6.1, and trace context.

Here: which fields go on, reading `traceparent` and `baggage`. Not here: credentials, setting fields, sockets.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from proxy.call import HeaderList

OWN_PREFIX = b"x-postern-"
_CONNECTION = b"connection"
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_IN_REQUESTS = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_NAMES_NO_FIELD = frozenset({b"", b"close", b"keep-alive"})
_ZERO_TRACE, _ZERO_SPAN = "0" * 32, "0" * 16
_TRACEPARENT = re.compile(rb"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*", re.DOTALL)


def forward_request_headers(headers: HeaderList, drop: frozenset[bytes]) -> HeaderList:
    """The client's fields that go upstream, order and spelling kept; `drop` holds further names in lower case.

    Left out besides: what the client's Connection names (RFC 9110 7.6.1), our own fields, and Host, Content-Length and Expect.
    """
    return _forward(headers, _NOT_IN_REQUESTS, drop)


def forward_reply_headers(headers: HeaderList) -> HeaderList:
    """The upstream's fields that go to the client, Content-Length and Content-Encoding among them."""
    return _forward(headers, _HOP_BY_HOP, frozenset())


def _forward(headers: HeaderList, barred: frozenset[bytes], drop: frozenset[bytes]) -> HeaderList:
    kept: HeaderList = []
    named: set[bytes] = set()
    for field in headers:
        name = field[0].lower()
        if name in barred:
            if name == _CONNECTION:
                named |= _fields_named(field[1])
        elif name not in drop and name[:10] != OWN_PREFIX:
            kept.append(field)
    if named:
        return [field for field in kept if field[0].lower() not in named]
    return kept


def _fields_named(connection: bytes) -> set[bytes]:
    return {option.strip().lower() for option in connection.split(b",")} - _NAMES_NO_FIELD


def parse_traceparent(value: bytes) -> tuple[str, str, bool] | None:
    """Trace id, parent span id and whether it is sampled; None if the field is to be ignored. Source: W3C Trace Context."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    trace, span = trace_id.decode(), span_id.decode()
    if trace == _ZERO_TRACE or span == _ZERO_SPAN:
        return None
    return trace, span, bool(int(flags, 16) & 1)  # not == 01: the flags of a root span may be 03


def baggage_member(headers: HeaderList, name: str) -> str | None:
    """The value of a member of the `baggage` fields, percent-decoded, without its properties; None if there is none.

    Source: W3C Baggage 3.2, 3.3. Of members of one name the last counts.
    """
    found = None
    for field, value in headers:
        if field.lower() == b"baggage":
            for member in value.decode("utf-8", "replace").split(","):
                key, equals, rest = member.partition("=")
                if equals and unquote(key.strip()) == name:
                    found = unquote(rest.partition(";")[0].strip())
    return found
