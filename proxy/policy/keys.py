"""Virtual keys: which one a client shows, until when it is good, and what may be asked for with it.

Here: keys compiled, wherever they are kept, why one isn't enough; the moment is an argument. Not here: where a credential stands in a
request (wire/credentials.py), when it is looked at (pipeline/identify.py), making keys (key_command.py).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from hashlib import sha256

import msgspec

from proxy.call import expiry_unix_s
from proxy.config.schema import KeyConfig

MAX_KEY_BYTES = 512  # nothing longer is looked up
MAX_TOLD_CHARS = 200
_BUCKET_BYTES = 4

HOW_TO_SEND = "Send a virtual key of this Postern as `Authorization: Bearer …` (`postern key new` makes one)."


class VirtualKey(msgspec.Struct, frozen=True):
    """A key, ready to be held against what a client shows."""

    name: str
    digest: bytes  # SHA-256
    labels: Mapping[str, str]  # tenant, user and app, as far as it says them
    models: re.Pattern[str] | None  # what may be asked for; None: any
    routes: frozenset[str]  # that may be taken; empty: any
    expires_unix_s: float | None

    def __repr__(self) -> str:
        return f"VirtualKey({self.name!r})"


class VirtualKeys:
    """A set of keys. Of several with one name, or one digest, only the first is in it."""

    def __init__(self, keys: Iterable[VirtualKey]) -> None:
        self._buckets: dict[bytes, list[VirtualKey]] = {}
        self._by_name: dict[str, VirtualKey] = {}
        for key in keys:
            bucket = self._buckets.setdefault(key.digest[:_BUCKET_BYTES], [])
            if key.name not in self._by_name and all(key.digest != other.digest for other in bucket):
                self._by_name[key.name] = key
                bucket.append(key)

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[VirtualKey]:
        return iter(self._by_name.values())

    def find(self, credentials: Iterable[bytes]) -> VirtualKey | None:
        """The key that one of the credentials is. How long it takes tells nothing of a key: only its digest's first bytes are looked up."""
        for credential in credentials:
            digest = sha256(credential).digest() if len(credential) <= MAX_KEY_BYTES else b""
            for key in self._buckets.get(digest[:_BUCKET_BYTES], ()):
                if hmac.compare_digest(digest, key.digest):
                    return key
        return None


def compile_key(key: KeyConfig) -> VirtualKey:
    """A checked entry, ready to be asked for."""
    said = {"tenant": key.tenant, "user": key.user, "app": key.app}
    return VirtualKey(
        key.name,
        bytes.fromhex(key.sha256),
        {name: value for name, value in said.items() if value is not None},
        re.compile("|".join(map(translate, key.models))) if key.models else None,
        frozenset(key.routes),
        expiry_unix_s(key.expires) if key.expires is not None else None,
    )


def key_message(key: VirtualKey | None, is_shown: bool, now_unix_s: float) -> str | None:
    """Why a call may not go on with the key that `find` gave; `is_shown`: the client shows a credential."""
    if key is None:
        why = "The API key is none that this Postern knows; it may have been revoked." if is_shown else "This call has no API key."
        return f"{why} {HOW_TO_SEND}"
    if key.expires_unix_s is not None and now_unix_s >= key.expires_unix_s:
        return f"The virtual key '{key.name}' has expired. Ask for a new one."
    return None


def models_message(key: VirtualKey, models: Sequence[str], is_read: bool) -> str | None:
    """Why the key doesn't let a call ask for these models, all that it names.

    A call that names none may have one where Postern doesn't look: it may only read, unless the key is for any model.
    """
    if key.models is None:
        return None
    refused = next((model for model in models if key.models.match(model) is None), None)
    if refused is not None:
        return f"The virtual key '{key.name}' is not for model '{refused[:MAX_TOLD_CHARS]}'. Ask for one that it is for."
    if models or is_read:
        return None
    return f"The virtual key '{key.name}' is for certain models, and this call names none that Postern can read."


def route_message(key: VirtualKey, route: str) -> str | None:
    """Why the key doesn't let a call take a route."""
    if not key.routes or route in key.routes:
        return None
    return f"The virtual key '{key.name}' is not for route '{route}', which this call would take."
