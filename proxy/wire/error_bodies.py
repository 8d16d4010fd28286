"""Error bodies, read in every provider's envelope and written in OpenAI's or Anthropic's.

Here: bytes to ErrorFacts and back. Not here: which errors there are, what they lead to. Source: wire.md C5.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from proxy.wire.json_text import clean, parse

MAX_MESSAGE_BYTES = 1024
_MAX_NAME_CHARACTERS = 128
_ANTHROPIC_TYPES = {
    "invalid_request_error": "invalid_request_error",
    "postern_refused": "permission_error",
    "postern_unavailable": "api_error",
}
"""Our own types in words that Anthropic's clients know. Any other goes as it is."""
_ANTHROPIC_TYPE_OF_CODE = {
    "key_invalid": "authentication_error",
    "budget_exceeded": "rate_limit_error",
    "rate_limited": "rate_limit_error",
}
"""Codes that have a word of their own there."""


class ErrorFacts(msgspec.Struct, frozen=True):
    """What a provider says went wrong."""

    code: str | None = None
    type: str | None = None
    message: str = ""  # at most MAX_MESSAGE_BYTES


def read_error(body: bytes) -> ErrorFacts | None:
    """The error in a body of status 400 and above, in any provider's envelope; None if there is no telling."""
    document = parse(body)
    if isinstance(document, list) and document:  # Gemini's compatible API wraps it in an array
        document = document[0]
    return error_in(document) if isinstance(document, dict) else None


def error_in(document: dict[str, Any]) -> ErrorFacts | None:
    """The error that a JSON object of any envelope holds; None if it holds none."""
    if document.get("error"):
        return error_value(document["error"])
    if document.get("ok") is False:  # Petals: a failure inside HTTP 200
        return _facts(None, "petals_error", _last_line(document.get("traceback")))
    message = document.get("message") or document.get("detail") or document.get("Message")
    if not message:
        return None
    return _facts(document.get("code") or document.get("statusCode"), document.get("type"), message)


def error_value(error: object) -> ErrorFacts | None:
    """The error in the value of a member `error`: an object, or a text as Ollama's own API has it."""
    if isinstance(error, str):
        return _facts(None, None, error)
    if not isinstance(error, dict):
        return None
    return _facts(error.get("code"), error.get("type") or error.get("status"), error.get("message"))


def _facts(code: object, kind: object, message: object) -> ErrorFacts | None:
    facts = ErrorFacts(_name(code), _name(kind), _message(message))
    return None if facts == ErrorFacts() else facts


def _name(value: object) -> str | None:
    """A code or type as text: vLLM's and Azure's codes are numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return clean(str(value)[:_MAX_NAME_CHARACTERS])


def _message(value: object) -> str:
    if not value:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    encoded = clean(text).encode()
    return encoded[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore")


def _last_line(text: object) -> str:
    lines = text.strip().splitlines() if isinstance(text, str) else []
    return lines[-1] if lines else "ok is false"


def error_body(message: str, error_type: str, code: str | None, param: str | None = None) -> bytes:
    """OpenAI's envelope: all four members, always."""
    return msgspec.json.encode({"error": {"message": clean(message), "type": error_type, "param": param, "code": code}})


def error_body_for(kind: str, message: str, error_type: str, code: str | None, param: str | None = None) -> bytes:
    """The envelope that a client of an endpoint of `kind` understands: Anthropic's for messages, OpenAI's for all others."""
    if kind != "messages":
        return error_body(message, error_type, code, param)
    told = _ANTHROPIC_TYPE_OF_CODE.get(code or "") or _ANTHROPIC_TYPES.get(error_type, error_type)
    return msgspec.json.encode({"type": "error", "error": {"type": told, "message": clean(message)}})
