"""Error messages as they may be recorded: providers repeat the key they were sent, and records go to collectors and files.

Here: taking a call's credentials out of a text. Not here: which texts are recorded (settle.py); what the client gets is left as it is.
"""

from __future__ import annotations

from proxy.call import MASK
from proxy.pipeline.runtime import SHORTEST_SECRET
from proxy.pipeline.state import CallState
from proxy.wire.credentials import credentials_in


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
    request = call.request
    found = [one.decode("utf-8", "replace") for one in credentials_in(request.headers, request.target, request.upgrade)]
    for attempt in call.attempts:
        found += [credential.reveal() for credential in attempt.endpoint.target.credentials]
    return sorted([secret for secret in found if len(secret) >= SHORTEST_SECRET], key=len, reverse=True)
