"""Addresses to listen on, URLs to call, and texts that travel in headers: what may stand there.

Here: parsing and the messages about it, which never repeat the text: a URL may hold a password. Not here: sockets, name resolution.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import msgspec

LARGEST_PORT = 65535

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%A-Za-z]+)\]|(?P<host>[^\s:\[\]]+)):(?P<port>[0-9]{1,5})")
_URL_CHARACTERS = re.compile(r"[!-~]*")
_HEADER_TEXT = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Address(msgspec.Struct, frozen=True):
    """Where a listener binds."""

    host: str  # without brackets
    port: int  # 0: any free one

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than localhost is taken to be reachable."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """The address in `host:port` or `[ipv6]:port`. Raises ValueError with what is wrong."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("must be host:port, e.g. 127.0.0.1:4000 or [::1]:4000")
    host, port = match["v6"] or match["host"], int(match["port"])
    if match["v6"] and not _is_ipv6(host):
        raise ValueError("has no IPv6 address between its brackets")
    if match["host"] and not _HOST.fullmatch(host):
        raise ValueError("must name a host before the colon, e.g. 127.0.0.1")
    if port > LARGEST_PORT:
        raise ValueError(f"has a port that is not between 0 and {LARGEST_PORT}")
    return Address(host, port)


def _is_ipv6(host: str) -> bool:
    try:
        return ip_address(host).version == 6
    except ValueError:
        return False


def url_message(url: str) -> str | None:
    """What is wrong with a base URL; None if nothing is."""
    if not url:
        return "must not be empty (leave the key out instead)"
    if not _URL_CHARACTERS.fullmatch(url):
        return "has characters that may not stand in a URL as they are"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL: its host or port is malformed"
    return "has port 0, which nothing can be called on" if port == 0 else _parts_message(url, parts)


def _parts_message(url: str, parts: SplitResult) -> str | None:
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must be an http:// or https:// URL with a host"
    if "@" in parts.netloc:
        return "must not hold credentials: they belong into `credential` or `headers`"
    if "?" in url or "#" in url:
        return "must not have a query or a fragment"
    return None


def header_name_message(name: str) -> str | None:
    """Why a text is not the name of a header field; None if it is."""
    return None if _HEADER_NAME.fullmatch(name) else "is not the name of a header"


def header_text_message(text: str) -> str | None:
    """Why a text can't travel in a header field; None if it can."""
    if not text:
        return "is empty"
    return None if _HEADER_TEXT.fullmatch(text) else "has characters that may not stand in a header (line breaks, outer spaces, non-ASCII)"
