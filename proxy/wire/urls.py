"""Where a client's path lands at a target.

Here: joining a request target to a base URL. Not here: DNS, connections, which target is chosen.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import msgspec

from proxy.errors import BadRequest
from proxy.wire.json_text import clean

CLIENT_PREFIX = "/v1"
"""What the app's base URL ends with: it stands for the target's base_url."""


class Base(msgspec.Struct, frozen=True):
    """A target's base URL, taken apart once."""

    origin: str  # scheme://host[:port]
    path: str  # without a trailing slash; "" if there is none
    scheme: str
    host: str
    port: int


def parse_base(base_url: str) -> Base:
    """The parts of a base URL that was checked at load."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Base(f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"), parts.scheme, parts.hostname or "", port)


def origin_form(target: str) -> str:
    """The path and query of a request target; an absolute form's host is not ours to follow.

    Raises BadRequest for CONNECT's authority form, for bytes that are no text, and for paths that climb out of the target's base.
    """
    if not target.isascii() and clean(target) != target:
        raise BadRequest("The request target is not UTF-8. Percent-encode what isn't ASCII.")
    if not target.startswith("/"):
        target = _from_absolute_form(target)
    if "." in target or "%2" in target:  # a dot may be written %2e
        path = unquote(target.partition("?")[0])
        if "/../" in path or "/./" in path or path.endswith(("/..", "/.")):
            raise BadRequest("The request path has dot segments. Send the path the provider documents.")
    return target


def _from_absolute_form(target: str) -> str:
    try:
        parts = urlsplit(target)
    except ValueError:  # a host in brackets that is no address
        parts = urlsplit("")
    if parts.scheme not in ("http", "https"):
        raise BadRequest(f"The request target {target[:100]!r} is not a path. Send requests as POST /v1/chat/completions.")
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def join(base: Base, target: str) -> str:
    """The upstream URL of a client's origin-form target.

    `/v1/x` stands for `x` below base_url, and a base without a path gets `/v1/x` itself. Any other path goes to the same path on the
    target's host.
    """
    if target == CLIENT_PREFIX or target.startswith(("/v1/", "/v1?")):
        return base.origin + base.path + (target[len(CLIENT_PREFIX) :] if base.path else target)
    return base.origin + target
