"""HTTP/1.1 framing of replies, and heads read off a raw connection.

Here: bytes of heads and chunks. Not here: sockets; requests are parsed by the server library.
"""

from __future__ import annotations

from http import HTTPStatus

from proxy.call import HeaderList

MAX_HEAD_BYTES = 64 << 10
LAST_CHUNK = b"0\r\n\r\n"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def reply_head(status: int, reason: str, headers: HeaderList, framing: bytes = b"") -> bytes:
    """Status line, header fields as given, `framing` fields (whole lines), and the blank line."""
    phrase = reason.encode("latin-1", "replace") if reason else _REASONS.get(status, b"")
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, phrase)]
    lines += [b"%b: %b\r\n" % field for field in headers]
    lines += (framing, b"\r\n")
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    """One chunk of chunked transfer coding; `data` must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def has_body(method: str, status: int) -> bool:
    """Whether a reply has a body by RFC 9110 6.4.1."""
    return method != "HEAD" and status >= 200 and status not in (204, 304)


def parse_reply_head(head: bytes) -> tuple[int, str, HeaderList]:
    """Status, reason and fields of a reply head that ends with a blank line. Raises ValueError."""
    lines = head.split(b"\r\n")
    version, _, rest = lines[0].partition(b" ")
    code, _, reason = rest.partition(b" ")
    if not version.startswith(b"HTTP/1.") or len(code) != 3 or not code.isdigit():
        raise ValueError("not an HTTP/1.1 status line")
    headers: HeaderList = []
    for line in lines[1:]:
        if not line:
            break
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise ValueError("malformed header field")
        headers.append((name, value.strip(b" \t")))
    return int(code), reason.decode("latin-1"), headers


def first_values(headers: HeaderList) -> dict[bytes, bytes]:
    """The first value of each field, by its name in lower case: for who asks for several."""
    return {name.lower(): value for name, value in reversed(headers)}


def header(headers: HeaderList, name: bytes) -> bytes:
    """The first value of a field (lower-case `name`), b"" if absent."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return value
    return b""
