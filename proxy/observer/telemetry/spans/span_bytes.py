"""A record as spans in OTLP's protobuf, with the ids the gate gave out and the times it took: one SERVER span, one CLIENT span per attempt.

Here: the Span message. Not here: what attributes and events say, the requests that spans travel in.
"""

from __future__ import annotations

import struct

from proxy.observer.telemetry import names
from proxy.observer.telemetry.spans.attribute_values import Attributes, clip
from proxy.observer.telemetry.spans.attributes import client_attributes, client_is_error, server_attributes, server_is_error
from proxy.observer.telemetry.spans.content_attributes import put_content
from proxy.observer.telemetry.spans.otlp_bytes import (
    NOTHING,
    AttributeWriter,
    Encoded,
    bytes_field,
    fixed32_field,
    fixed64_field,
    hex_id,
    text_field,
    varint_field,
)
from proxy.observer.telemetry.spans.span_events import SpanEvent, client_events, server_events
from proxy.observer.telemetry.vocabulary import Semconv, Vocabulary
from proxy.records import AttemptRecord, CallRecord

TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
SAMPLED = 0x01
HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200  # of the parent; opentelemetry-proto, enum SpanFlags
SPANS_FIELD = 2  # of ScopeSpans

_KIND_INTERNAL, _KIND_SERVER, _KIND_CLIENT = (varint_field(6, kind) for kind in (1, 2, 3))
_STATUS_ERROR = varint_field(3, 2)
_TRACE_ID = bytes_field(1, bytes(TRACE_ID_BYTES))[:-TRACE_ID_BYTES]
_SPAN_ID, _PARENT_ID = (bytes_field(number, bytes(SPAN_ID_BYTES))[:-SPAN_ID_BYTES] for number in (2, 4))
_START, _END = (fixed64_field(number, 0)[0] for number in (7, 8))
"""What stands before a value whose size never changes."""

_pack_times = struct.Struct("<BQBQ").pack
_OWN = fixed32_field(16, SAMPLED | HAS_IS_REMOTE)
_BELOW_REMOTE = fixed32_field(16, SAMPLED | HAS_IS_REMOTE | IS_REMOTE)


class SpanEncoder:
    """Writes the spans of records, in one vocabulary."""

    def __init__(self, cost_attribute: str, semconv: Semconv, openinference: bool) -> None:
        self._vocabulary = Vocabulary(cost_attribute, semconv, openinference)
        self._attributes = AttributeWriter(9)
        self._event_attributes = AttributeWriter(3)

    def encode(self, record: CallRecord) -> Encoded:
        """The call's spans as `ScopeSpans.spans` fields, parent first; none if it wasn't sampled.

        Raises ValueError on ids that aren't hex.
        """
        if not record.sampled:
            return NOTHING
        trace = _TRACE_ID + hex_id(record.trace_id, TRACE_ID_BYTES)
        state = text_field(3, record.trace_state) if record.trace_state else b""
        spans = [self._server_span(record, trace, state)]
        parent = _PARENT_ID + hex_id(record.span_id, SPAN_ID_BYTES)
        spans.extend(self._client_span(record, attempt, trace, state + parent) for attempt in record.attempts)
        return Encoded(b"".join([bytes_field(SPANS_FIELD, span) for span in spans]), len(spans))

    def _server_span(self, record: CallRecord, trace: bytes, state: bytes) -> bytes:
        is_root = record.parent_span_id is None
        parts = [
            trace,
            _SPAN_ID + hex_id(record.span_id, SPAN_ID_BYTES),
            state,
            b"" if record.parent_span_id is None else _PARENT_ID + hex_id(record.parent_span_id, SPAN_ID_BYTES),
            text_field(5, clip(f"{_method_in_name(record.method)} {record.http_route}")),
            _KIND_SERVER if record.mirror_of is None else _KIND_INTERNAL,
            _pack_times(_START, record.start_ns, _END, record.end_ns),
            self._attributes.write(server_attributes(record, self._vocabulary)),
            self._events(server_events(record)),
            _status(server_is_error(record), record.error_message),
            _OWN if is_root or record.mirror_of is not None else _BELOW_REMOTE,
        ]
        return b"".join(parts)

    def _client_span(self, record: CallRecord, attempt: AttemptRecord, trace: bytes, state_and_parent: bytes) -> bytes:
        attributes: Attributes = client_attributes(record, attempt, self._vocabulary)
        put_content(attributes, record, attempt, self._vocabulary)
        parts = [
            trace,
            _SPAN_ID + hex_id(attempt.span_id, SPAN_ID_BYTES),
            state_and_parent,
            text_field(5, clip(_client_name(record, attempt))),
            _KIND_CLIENT,
            _pack_times(_START, attempt.start_ns, _END, attempt.end_ns),
            self._attributes.write(attributes),
            self._events(client_events(record, attempt)),
            _status(client_is_error(attempt), attempt.error_message),
            _OWN,
        ]
        return b"".join(parts)

    def _events(self, events: list[SpanEvent]) -> bytes:
        return b"".join(
            [
                bytes_field(
                    11, fixed64_field(1, event.time_ns) + text_field(2, event.name) + self._event_attributes.write(event.attributes)
                )
                for event in events
            ]
        )


def _status(is_error: bool, message: str | None) -> bytes:
    if not is_error:
        return b""
    return bytes_field(15, (text_field(2, message) if message else b"") + _STATUS_ERROR)


def _client_name(record: CallRecord, attempt: AttemptRecord) -> str:
    if not record.operation:
        return _method_in_name(record.method)
    if not attempt.model or record.operation == names.FETCH_OPERATION:
        return record.operation
    return f"{record.operation} {attempt.model}"


def _method_in_name(method: str) -> str:
    return method if method in names.KNOWN_METHODS else names.UNKNOWN_METHOD_IN_NAME
