"""Error answers of the simulated provider, in OpenAI's and in Anthropic's envelope.

Here: the exception for a client's mistake, what each status says, the envelopes, decoding a body with them. Not here: sending them.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TypeVar

import msgspec

JsonObject = dict[str, object]
T = TypeVar("T")


class Envelope(Enum):
    """Whose error shape an endpoint uses."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Mistake(Exception):
    """The request can't be answered: the client's fault."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code


class StatusError(msgspec.Struct, frozen=True):
    """What OpenAI says with a status."""

    type: str
    code: str | None
    message: str


STATUS_ERRORS: dict[int, StatusError] = {
    400: StatusError("invalid_request_error", "invalid_value", "Simulated error: the request is invalid."),
    401: StatusError("invalid_request_error", "invalid_api_key", "Simulated error: incorrect API key provided."),
    403: StatusError("request_forbidden", "unsupported_country_region_territory", "Simulated error: country not supported."),
    404: StatusError("invalid_request_error", "model_not_found", "Simulated error: the model does not exist."),
    429: StatusError("requests", "rate_limit_exceeded", "Simulated error: rate limit reached for requests per min (RPM)."),
    500: StatusError("server_error", None, "Simulated error: the server had an error while processing your request."),
    503: StatusError("server_error", None, "Simulated error: the engine is currently overloaded, please try again later."),
    529: StatusError("server_error", "overloaded", "Simulated error: overloaded."),
}

ANTHROPIC_TYPES: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

STREAM_ERROR = STATUS_ERRORS[500]
"""What an error in the middle of a 200 says."""

_FIELD = re.compile(r"`\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")


def status_error(status: int) -> StatusError:
    """What is said with a status, in OpenAI's words."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return STATUS_ERRORS.get(status) or StatusError(kind, None, f"Simulated error {status}.")


def openai_error(error: StatusError, param: str | None = None) -> JsonObject:
    """OpenAI's error body. Source: wire.md C5."""
    return {"error": {"message": error.message, "type": error.type, "param": param, "code": error.code}}


def anthropic_error(status: int, message: str, request_id: str) -> JsonObject:
    """Anthropic's error body. Source: wire.md C5."""
    kind = ANTHROPIC_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def error_body(envelope: Envelope, status: int, request_id: str) -> JsonObject:
    """The body of a simulated error status."""
    error = status_error(status)
    return openai_error(error) if envelope is Envelope.OPENAI else anthropic_error(status, error.message, request_id)


def mistake_body(envelope: Envelope, mistake: Mistake, request_id: str) -> JsonObject:
    """The body that tells a client about its mistake."""
    if envelope is Envelope.ANTHROPIC:
        return anthropic_error(mistake.status, mistake.message, request_id)
    return openai_error(StatusError("invalid_request_error", mistake.code, mistake.message), mistake.param)


def decode_body(data: bytes, shape: type[T]) -> T:
    """The JSON of a request body. Raises Mistake, in OpenAI's words."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise _mistake_of(error) from error


def _mistake_of(error: msgspec.DecodeError) -> Mistake:
    if not isinstance(error, msgspec.ValidationError):
        return Mistake("We could not parse the JSON body of your request. What was sent was not valid JSON.")
    text = str(error)
    place = _FIELD.search(text)
    parent = place.group(1) if place else ""
    missing = _MISSING.search(text)
    if missing:
        param = f"{parent}.{missing.group(1)}" if parent else missing.group(1)
        return Mistake(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    problem = text.partition(" - at ")[0]
    code = "invalid_type" if ", got " in problem else "invalid_value"
    return Mistake(f"Invalid value for '{parent or 'body'}': {problem}.", param=parent or None, code=code)
