"""What a reply tells about itself, read from its JSON documents: one for a body, many for a stream.

Here: ReplyFacts, and the reader that gathers them. Not here: framing (stream_reader), bodies too large to keep (reply).
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.call import Usage
from proxy.errors import InvalidJson
from proxy.wire.error_bodies import ErrorFacts, error_in, error_value
from proxy.wire.json_text import NO_VALUE, NOT_JSON, is_given, is_object, parse, text, without_surrogates
from proxy.wire.usage import usage_of

_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_CHOICE_KINDS = frozenset({"chat", "completions"})
_LOOSE_KINDS = frozenset({"other", "models"})  # a resource with an id may hold an error of its own: a failed job, say
_PENDING = frozenset({"queued", "in_progress"})
_RESPONSE_ENDS = frozenset({"completed", "incomplete", "failed", "cancelled"})
_END_TYPES = frozenset(
    {
        "message_stop", "error",
        "response.completed", "response.incomplete", "response.failed", "response.done",
        "image_generation.completed", "image_edit.completed", "transcript.text.done", "speech.audio.done",
    }
)  # fmt: skip
_SEVERAL_KINDS = _CHOICE_KINDS | {"gemini"}
_MAX_CHOICES = 128  # more, and an index beyond, is no sound answer: those are told in order and not by place
_REASON_MISSING = "error"  # gen_ai.response.finish_reasons of a choice that never ended


class ReplyFacts(msgspec.Struct):
    """What accounting and telemetry need of a reply. Usage is None if the provider told none, or nothing but zeros."""

    usage: Usage | None = None
    response_id: str | None = None
    response_model: str | None = None
    finish_reasons: list[str] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error: ErrorFacts | None = None
    ended: bool = False  # the reply is whole, as far as its own marks tell
    background_pending: bool = False  # a background response that is still to come


class Document(msgspec.Struct, gc=False):
    """The members that matter, of every API's replies. All raw, so that no type can fail the decode."""

    type: msgspec.Raw = NO_VALUE
    id: msgspec.Raw = NO_VALUE
    object: msgspec.Raw = NO_VALUE
    model: msgspec.Raw = NO_VALUE
    usage: msgspec.Raw = NO_VALUE
    choices: msgspec.Raw = NO_VALUE
    service_tier: msgspec.Raw = NO_VALUE
    system_fingerprint: msgspec.Raw = NO_VALUE
    error: msgspec.Raw = NO_VALUE
    response: msgspec.Raw = NO_VALUE  # Responses and realtime events
    status: msgspec.Raw = NO_VALUE
    background: msgspec.Raw = NO_VALUE
    incomplete_details: msgspec.Raw = NO_VALUE
    message: msgspec.Raw = NO_VALUE  # Anthropic's message_start
    delta: msgspec.Raw = NO_VALUE
    stop_reason: msgspec.Raw = NO_VALUE
    candidates: msgspec.Raw = NO_VALUE  # Gemini
    usageMetadata: msgspec.Raw = NO_VALUE  # noqa: N815
    modelVersion: msgspec.Raw = NO_VALUE  # noqa: N815
    responseId: msgspec.Raw = NO_VALUE  # noqa: N815
    x_groq: msgspec.Raw = NO_VALUE
    meta: msgspec.Raw = NO_VALUE  # Cohere
    ok: msgspec.Raw = NO_VALUE  # Petals


class _Choice(msgspec.Struct, gc=False):
    index: msgspec.Raw = NO_VALUE
    finish_reason: msgspec.Raw = NO_VALUE
    finishReason: msgspec.Raw = NO_VALUE  # noqa: N815 - Gemini's candidates


class _Delta(msgspec.Struct, gc=False):
    stop_reason: msgspec.Raw = NO_VALUE


_decode_document = msgspec.json.Decoder(Document).decode
_decode_choices = msgspec.json.Decoder(list[_Choice]).decode
_decode_delta = msgspec.json.Decoder(_Delta).decode


def decode_document(data: bytes) -> Document | None:
    """The document, or None if the bytes aren't a JSON object."""
    try:
        return _decode_document(data)
    except NOT_JSON:
        try:
            return _decode_document(without_surrogates(data))
        except (*NOT_JSON, InvalidJson):
            return None


class FactsReader:
    """Gathers the facts of one reply from its documents, in order. Never raises."""

    def __init__(self, kind: str, choice_count: int = 1) -> None:
        self.facts = ReplyFacts()
        self._kind = kind
        self._choice_count = choice_count
        self._reasons: dict[int, str | None] = {}
        self._message_usage: dict[str, Any] = {}

    def absorb(self, document: Document, data: bytes, *, is_event: bool = False) -> None:
        """Take what a document tells; `data` are its bytes; `is_event` if it is one of a stream."""
        inner = document.response or document.message
        if is_object(inner) and (within := decode_document(inner)) is not None:
            self.absorb(within, inner, is_event=True)
        self._names(document)
        self._usage(document)
        self._finish(document)
        self._status(document, is_event)
        if self.facts.error is None:
            self.facts.error = self._error(document, data)
        if text(document.type) in _END_TYPES:
            self.facts.ended = True

    def result(self) -> ReplyFacts:
        """The facts, with a finish reason for each choice asked for, at its index; `error` where it never came."""
        if self._reasons:
            asked = min(self._choice_count, _MAX_CHOICES) if self._kind in _SEVERAL_KINDS else 1
            told = sorted(self._reasons)
            is_sound = told[0] >= 0 and told[-1] < _MAX_CHOICES
            places = range(max(asked, told[-1] + 1)) if is_sound else told
            self.facts.finish_reasons = [self._reasons.get(place) or _REASON_MISSING for place in places]
        return self.facts

    def _names(self, document: Document) -> None:
        facts = self.facts
        facts.response_id = facts.response_id or text(document.id) or text(document.responseId)
        facts.response_model = text(document.model) or text(document.modelVersion) or facts.response_model
        facts.service_tier = text(document.service_tier) or facts.service_tier
        facts.system_fingerprint = text(document.system_fingerprint) or facts.system_fingerprint

    def _usage(self, document: Document) -> None:
        """The last usage that isn't zero counts; usages are never added up."""
        for raw, within in ((document.usage, ""), (document.usageMetadata, ""), (document.x_groq, "usage"), (document.meta, "")):
            if not is_object(raw):
                continue
            told = parse(raw)
            told = told.get(within) if within and isinstance(told, dict) else told
            if isinstance(told, dict):
                self.facts.usage = self._usage_of(told) or self.facts.usage

    def _usage_of(self, told: dict[str, Any]) -> Usage | None:
        if self._kind != "messages":
            return usage_of(told)
        tier = told.get("service_tier")
        if isinstance(tier, str):
            self.facts.service_tier = tier
        for key, value in told.items():  # message_delta's counts are cumulative; zeros in it are counts it doesn't know
            if value or key not in self._message_usage:
                self._message_usage[key] = value
        return usage_of(self._message_usage)

    def _finish(self, document: Document) -> None:
        if document.choices or document.candidates:
            self._choices(document.choices or document.candidates)
        reason = text(document.stop_reason)
        if self._kind == "messages" and is_object(document.delta):
            delta = _try(_decode_delta, document.delta)
            reason = reason or (text(delta.stop_reason) if delta is not None else None)
        if reason is not None:
            self._reasons[0] = reason

    def _choices(self, raw: msgspec.Raw) -> None:
        for position, choice in enumerate(_try(_decode_choices, raw) or ()):
            index = parse(choice.index) if choice.index else position
            reason = text(choice.finish_reason) or text(choice.finishReason)
            if isinstance(index, int) and (reason or index not in self._reasons):
                self._reasons[index] = reason
        reasons = self._reasons.values()
        if reasons and all(reasons) and (len(reasons) >= self._choice_count or self._kind not in _CHOICE_KINDS):
            self.facts.ended = True

    def _status(self, document: Document, is_event: bool) -> None:
        """The status of a Responses object: how it ended, or that it is still to come."""
        status = text(document.status)
        if status is None or self._kind not in ("responses", "realtime"):
            return
        self.facts.background_pending = status in _PENDING and (document.background == _TRUE or not is_event)
        if status in _RESPONSE_ENDS:
            details = parse(document.incomplete_details) if document.incomplete_details else None
            reason = details.get("reason") if isinstance(details, dict) else None
            self._reasons[0] = reason if isinstance(reason, str) else status

    def _error(self, document: Document, data: bytes) -> ErrorFacts | None:
        if is_given(document.error):
            is_resource = self._kind in _LOOSE_KINDS and (is_given(document.id) or is_given(document.object))
            return None if is_resource else error_value(parse(document.error))
        if document.ok == _FALSE or text(document.type) == "error" or text(document.object) == "error":
            whole = parse(data)
            return error_in(whole) if isinstance(whole, dict) else None
        if text(document.status) == "failed" and self._kind == "responses":
            return ErrorFacts(type="response_failed")
        return None


def _try(decode: Any, raw: msgspec.Raw) -> Any:
    try:
        return decode(raw)
    except NOT_JSON:
        return None
