"""Log records in OTLP's protobuf: what was said in an attempt, and the lines of the call log.

Here: the LogRecord message, sampled or not. Not here: the line itself, whether and where records go.
"""

from __future__ import annotations

import msgspec

from proxy.observer.call_log import LEVELS, Level
from proxy.observer.telemetry import names
from proxy.observer.telemetry.spans.attribute_values import clip
from proxy.observer.telemetry.spans.attributes import client_attributes
from proxy.observer.telemetry.spans.content_attributes import content_texts
from proxy.observer.telemetry.spans.otlp_bytes import (
    NOTHING,
    AttributeWriter,
    Encoded,
    Json,
    bytes_field,
    fixed32_field,
    fixed64_field,
    hex_id,
    text_field,
    varint_field,
)
from proxy.observer.telemetry.spans.span_bytes import SAMPLED, SPAN_ID_BYTES, TRACE_ID_BYTES
from proxy.observer.telemetry.vocabulary import Semconv, Vocabulary
from proxy.records import AttemptRecord, CallRecord

RECORDS_FIELD = 2  # of ScopeLogs

_SEVERITIES: dict[Level, bytes] = {
    "info": varint_field(2, 9) + text_field(3, "INFO"),
    "warning": varint_field(2, 13) + text_field(3, "WARN"),
    "error": varint_field(2, 17) + text_field(3, "ERROR"),
}
SEVERITIES = {outcome: _SEVERITIES[level] for outcome, level in LEVELS.items()}
"""How grave an outcome is."""


class LogEncoder:
    """Writes log records, their attributes in the vocabulary of spans."""

    def __init__(self, cost_attribute: str, semconv: Semconv) -> None:
        self._vocabulary = Vocabulary(cost_attribute, semconv)
        self._attributes = AttributeWriter(6)

    def details_event(self, record: CallRecord, attempt: AttemptRecord) -> Encoded:
        """What was said in an attempt, as one `ScopeLogs.log_records` field; nothing if it wasn't captured for an event.

        Raises ValueError on ids that aren't hex.
        """
        if record.content is None or "event" not in record.content.to:
            return NOTHING
        attributes: dict[str, Json] = dict(client_attributes(record, attempt, self._vocabulary))
        attributes.update((name, _structured(text)) for name, text in content_texts(record, attempt).items())
        parts = [
            _times(attempt.end_ns, record.end_ns),
            self._attributes.write(attributes),
            _context(record, attempt.span_id),
            text_field(12, names.DETAILS_EVENT),
        ]
        return Encoded(bytes_field(RECORDS_FIELD, b"".join(parts)), 1)

    def call_log_record(self, record: CallRecord, line: bytes) -> Encoded:
        """A line of the call log, JSON in UTF-8, as one `ScopeLogs.log_records` field. Raises ValueError on ids that aren't hex."""
        attributes: dict[str, Json] = {names.CALL_ID: record.call_id, names.OUTCOME: record.outcome.value}
        if record.route is not None:
            attributes[names.ROUTE] = clip(record.route)
        parts = [
            _times(record.end_ns, record.end_ns),
            SEVERITIES[record.outcome],
            bytes_field(5, bytes_field(1, line.rstrip(b"\n"))),
            self._attributes.write(attributes),
            _context(record, record.span_id),
            text_field(12, names.CALL_LOG_EVENT),
        ]
        return Encoded(bytes_field(RECORDS_FIELD, b"".join(parts)), 1)


def _times(time_ns: int, observed_ns: int) -> bytes:
    return fixed64_field(1, time_ns) + fixed64_field(11, observed_ns)


def _context(record: CallRecord, span_id: str) -> bytes:
    flags = fixed32_field(8, SAMPLED) if record.sampled else b""
    return flags + bytes_field(9, hex_id(record.trace_id, TRACE_ID_BYTES)) + bytes_field(10, hex_id(span_id, SPAN_ID_BYTES))


def _structured(text: str) -> Json:
    """The JSON's values; the text itself, should it be none."""
    try:
        value: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return value
