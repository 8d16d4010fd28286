"""Error messages as they may be recorded: providers repeat the key they were sent, and records go to collectors and files.

Here: taking a call's credentials out of a text. Not here: which texts are recorded (settle.py); what the client gets is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs

from proxy.call import MASK
from proxy.pipeline.runtime import CREDENTIAL_HEADERS
from proxy.pipeline.state import CallState

SHORTEST_SECRET = 8  # what is shorter would be found in any text


def without_credentials(call: CallState, text: str) -> str:
    """The text with each credential of the call, the client's and the targets', masked."""
    return masked(text, credentials_of(call))


def masked(text: str, secrets: list[str]) -> str:
    """The text with each of the secrets masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def credentials_of(call: CallState) -> list[str]:
    """The credentials of a call, longest first; without those that would be found in any text."""
    return sorted((secret for secret in _credentials(call) if len(secret) >= SHORTEST_SECRET), key=len, reverse=True)


def _credentials(call: CallState) -> Iterator[str]:
    for name, value in call.request.headers:
        if name.lower() in CREDENTIAL_HEADERS:
            yield from value.decode("utf-8", "replace").split()[-1:]  # without the scheme before it
    for attempt in call.attempts:
        yield from (credential.reveal() for credential in attempt.endpoint.target.credentials)
    query = call.request.target.partition("?")[2]
    if query:
        yield from parse_qs(query).get("key", ())
