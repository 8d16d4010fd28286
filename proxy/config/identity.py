"""Checks of who calls: the places of labels, virtual keys.

Here: what is wrong, as paths and messages, which never repeat a value: it may be secret. Not here: types (convert.py), conditions on labels
(matches.py), how problems are reported (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from proxy.call import expiry_unix_s
from proxy.config.endpoints import header_name_message, header_text_message
from proxy.config.schema import Config, IdentityConfig, KeyConfig, LabelSource

Sound = Callable[[str], bool]
"""Whether the conversion left what stands at a path as it was written."""

PLACES = LabelSource.__struct_fields__
SAID_BY_KEYS = ("tenant", "user", "app")
"""Labels that a virtual key may say."""

SECRET_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key", "proxy-authorization", "cookie"})
IMPLICIT_ROUTE = "default"
"""What a call takes that no declared route does: see policy/routing.py."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def identity_problems(config: Config, sound: Sound) -> Iterator[tuple[str, str]]:
    """What is wrong with `identity`."""
    for label in IdentityConfig.__struct_fields__:
        sources: tuple[LabelSource, ...] = getattr(config.identity, label)
        for index, source in enumerate(sources):
            path = f"identity.{label}[{index}]"
            if not sound(path):
                continue
            if message := _source_message(label, source):
                yield path, message
            elif source in sources[:index]:
                yield path, f"is the same as identity.{label}[{sources.index(source)}]: name it once"


def _source_message(label: str, source: LabelSource) -> str | None:
    given = [place for place in PLACES if getattr(source, place) not in (None, False)]
    if len(given) != 1:
        return f"must name one place: {', '.join(PLACES[:-1])} or {PLACES[-1]}"
    if getattr(source, given[0]) == "":
        return f"has an empty name for `{given[0]}`"
    if source.key and label not in SAID_BY_KEYS:
        return f"a virtual key says no {label}: it may say {', '.join(SAID_BY_KEYS)}"
    if source.header is None:
        return None
    if source.header.lower() in SECRET_HEADERS:
        return "is a field that holds a credential: labels are told in spans, metrics and the ledger"
    message = header_name_message(source.header)
    return message and f"`header` {message}"


def key_problems(config: Config, sound: Sound) -> Iterator[tuple[str, str]]:
    """What is wrong with `keys`."""
    names: dict[str, int] = {}
    digests: dict[str, int] = {}
    for index, key in enumerate(config.keys):
        path = f"keys[{index}]"
        if not sound(path):
            continue
        yield from entry_problems(path, key)
        yield from _unread_labels(path, key, config)
        yield from _routes_of_key(path, key, config)
        for at, first in (("name", names.setdefault(key.name, index)), ("sha256", digests.setdefault(key.sha256.lower(), index))):
            if first != index:
                yield f"{path}.{at}", f"is that of keys[{first}] too: keys must differ"


def entry_problems(path: str, key: KeyConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with one key, wherever it is kept."""
    if message := header_text_message(key.name):
        yield f"{path}.name", f"the name {message}"
    if not _SHA256.fullmatch(key.sha256):
        yield f"{path}.sha256", "must be the key's SHA-256, 64 hexadecimal digits: `postern key new` prints it"
    for label in SAID_BY_KEYS:
        value: str | None = getattr(key, label)
        if value is not None and not (value.strip() and value.isprintable()):
            yield f"{path}.{label}", "must be a printable text: leave the key out where there is none"
    for listed in ("models", "routes"):
        if "" in getattr(key, listed):
            yield f"{path}.{listed}", "has an empty entry"
    if key.expires is not None and not _is_moment(key.expires):
        yield f"{path}.expires", "must be a date such as 2027-01-31 (its end, UTC), or a time such as 2027-01-31T12:00:00Z"


def _is_moment(text: str) -> bool:
    try:
        return bool(expiry_unix_s(text))
    except ValueError:
        return False


def _unread_labels(path: str, key: KeyConfig, config: Config) -> Iterator[tuple[str, str]]:
    for label in SAID_BY_KEYS:
        sources: tuple[LabelSource, ...] = getattr(config.identity, label)
        if getattr(key, label) is not None and not any(source.key for source in sources):
            yield f"{path}.{label}", f"counts for nothing: `identity.{label}` has no `{{key: true}}`"


def _routes_of_key(path: str, key: KeyConfig, config: Config) -> Iterator[tuple[str, str]]:
    known = {route.name for route in config.routes if route.mode == "enforce"}
    if config.models or not known:
        known.add(IMPLICIT_ROUTE)
    for index, route in enumerate(key.routes):
        if route and route not in known:
            yield f"{path}.routes[{index}]", "is the name of no route that takes calls"
