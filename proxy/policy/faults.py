"""What went wrong with an attempt, decided once: retry, failover, breaker, credentials and metrics all go by this class.

Here: the classes, the table of what each calls for, the classification. Not here: how long to wait (retry.py), reading replies (wire/).
Source: wire.md C5-C7; an error inside a 200 is classified by its code and type, as if its status had been the right one.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from proxy.call import Outcome


class Fault(StrEnum):
    """Why an attempt didn't succeed. The values are those of `failover.on`, where they stand there."""

    CONNECT = "connect"  # no connection: nothing was sent
    TIMEOUT = "timeout"
    THROTTLED = "throttled"  # 429 for the rate, 529: it will work later
    QUOTA = "quota"  # 429 because the account is used up: it won't work later
    SERVER_ERROR = "server_error"  # 5xx, 408, an error inside a 200, no HTTP
    TRUNCATED = "truncated"  # the reply broke off before anything of it was sent on
    CREDENTIAL = "credential"  # 401, 402, 403: the target doesn't take this key
    CONTEXT_WINDOW = "context_window"  # the prompt is too long for this model
    CONTENT_FILTER = "content_filter"
    CLIENT = "client"  # the request itself is wrong: everybody would refuse it


class Reaction(msgspec.Struct, frozen=True):
    """What a fault calls for."""

    outcome: Outcome
    retry: bool = False  # the same target may be asked again
    failover: bool = False  # another target may be asked
    trips: bool = False  # the breaker counts it
    rotates: bool = False  # the next credential of the same target is worth a try


REACTIONS: dict[Fault, Reaction] = {
    Fault.CONNECT: Reaction(Outcome.FAILED, retry=True, failover=True, trips=True),
    Fault.TIMEOUT: Reaction(Outcome.FAILED, failover=True, trips=True),  # a second wait as long would be the client's time-out
    Fault.THROTTLED: Reaction(Outcome.THROTTLED, retry=True, failover=True, rotates=True),
    Fault.QUOTA: Reaction(Outcome.THROTTLED, failover=True, rotates=True),
    Fault.SERVER_ERROR: Reaction(Outcome.FAILED, retry=True, failover=True, trips=True),
    Fault.TRUNCATED: Reaction(Outcome.FAILED, retry=True, failover=True, trips=True),
    Fault.CREDENTIAL: Reaction(Outcome.REJECTED, failover=True, rotates=True),
    Fault.CONTEXT_WINDOW: Reaction(Outcome.REJECTED, failover=True),
    Fault.CONTENT_FILTER: Reaction(Outcome.REJECTED, failover=True),
    Fault.CLIENT: Reaction(Outcome.REJECTED),
}

QUOTA_CODES = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached", "quota_exceeded"})
THROTTLED_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "overloaded_error", "tokens", "requests"})
CONTEXT_WINDOW_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "model_context_window_exceeded"})
CONTENT_FILTER_CODES = frozenset(
    {
        "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "image_content_policy_violation", "bio_policy",
        "misalignment_policy_violation",
    }
)  # fmt: skip
CREDENTIAL_CODES = frozenset({"invalid_api_key", "authentication_error", "permission_error"})
CLIENT_CODES = frozenset(
    {
        "invalid_request_error", "not_found_error", "request_too_large", "model_not_found", "invalid_prompt", "invalid_image",
        "invalid_image_format", "invalid_base64_image", "invalid_image_url", "invalid_image_mode", "image_too_large", "image_too_small",
        "image_parse_error", "image_file_too_large", "unsupported_image_media_type", "empty_image_file", "image_file_not_found",
    }
)  # fmt: skip
CONTEXT_WINDOW_PHRASES = ("maximum context length", "context window", "prompt is too long", "input token count")
"""What providers without a code for it say (vLLM, Anthropic, Gemini); looked for in the messages of WORDED_STATUSES alone."""
QUOTA_PHRASES = ("credit balance is too low",)
"""Anthropic's, with a 400 and the type of a wrong request."""

WORDED_STATUSES = frozenset({400, 413, 422})

CREDENTIAL_STATUSES = frozenset({401, 402, 403})
THROTTLED_STATUSES = frozenset({429, 529})

_STATUS = re.compile(r"[45]\d\d")


class ErrorReply(msgspec.Struct, frozen=True):
    """What a provider said when it refused or failed."""

    status: int
    code: str | None = None
    type: str | None = None
    message: str | None = None


def classify_reply(reply: ErrorReply) -> Fault | None:
    """The fault of a reply that is an error by its status, or by what stands in it; None for a status below 400 without an error."""
    words = {word.lower() for word in (reply.code, reply.type) if word}
    if reply.status < 400 and not words and reply.message is None:
        return None
    status = reply.status if reply.status >= 400 else _status_inside(reply.code)
    if words & CONTEXT_WINDOW_CODES or (status in WORDED_STATUSES and _speaks_of(CONTEXT_WINDOW_PHRASES, reply.message)):
        return Fault.CONTEXT_WINDOW
    if words & CONTENT_FILTER_CODES:
        return Fault.CONTENT_FILTER
    if words & QUOTA_CODES or (status in WORDED_STATUSES and _speaks_of(QUOTA_PHRASES, reply.message)):
        return Fault.QUOTA
    return _of_words(words) if status is None else _of_status(status)


def _status_inside(code: str | None) -> int | None:
    """The status that an error inside a 200 gives as its code, as OpenRouter and vLLM do."""
    return int(code) if code is not None and _STATUS.fullmatch(code) else None


def _of_status(status: int) -> Fault:
    if status in THROTTLED_STATUSES:
        return Fault.THROTTLED
    if status in CREDENTIAL_STATUSES:
        return Fault.CREDENTIAL
    return Fault.SERVER_ERROR if status >= 500 or status == 408 else Fault.CLIENT


def _of_words(words: set[str]) -> Fault:
    """The fault of an error inside a 200: a provider that knows no better has failed."""
    if words & THROTTLED_CODES:
        return Fault.THROTTLED
    if words & CREDENTIAL_CODES:
        return Fault.CREDENTIAL
    return Fault.CLIENT if words & CLIENT_CODES else Fault.SERVER_ERROR


def _speaks_of(phrases: tuple[str, ...], message: str | None) -> bool:
    told = (message or "").lower()
    return any(phrase in told for phrase in phrases)
