"""A record as spans, with the ids the gate gave out and the times it took: one SERVER span, one CLIENT span per attempt.

Here: building ReadableSpans directly, without a tracer. Not here: what attributes say (attributes.py), export.
"""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from proxy.observer.telemetry import names
from proxy.observer.telemetry.attributes import Attributes, client_attributes, client_is_error, clip, server_attributes, server_is_error
from proxy.records import AttemptRecord, CallRecord

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)


class SpanBuilder:
    """Makes spans that share one resource and one scope, so that exporters encode each only once a batch."""

    def __init__(self, resource: Resource, version: str, cost_attribute: str) -> None:
        self._resource = resource
        self._scope = InstrumentationScope("postern", version)
        self._cost_attribute = cost_attribute

    def spans_of(self, record: CallRecord) -> list[ReadableSpan]:
        """The call's spans, parent first; none if the call wasn't sampled. Raises ValueError on ids that aren't hex."""
        if not record.sampled:
            return []
        trace_id = int(record.trace_id, 16)
        state = TraceState.from_header([record.trace_state]) if record.trace_state else TraceState()
        context = SpanContext(trace_id, int(record.span_id, 16), False, _SAMPLED, state)
        spans = [self._server_span(record, context)]
        for attempt in record.attempts:
            own = SpanContext(trace_id, int(attempt.span_id, 16), False, _SAMPLED, state)
            spans.append(self._client_span(record, attempt, own, context))
        return spans

    def _server_span(self, record: CallRecord, context: SpanContext) -> ReadableSpan:
        parent = None
        if record.parent_span_id is not None:
            parent = SpanContext(context.trace_id, int(record.parent_span_id, 16), True, _SAMPLED, context.trace_state)
        return ReadableSpan(
            clip(f"{_method_in_name(record.method)} {record.http_route}"),
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=server_attributes(record),
            kind=SpanKind.SERVER,
            status=_status(server_is_error(record), record.error_message),
            start_time=record.start_ns,
            end_time=record.end_ns,
            instrumentation_scope=self._scope,
        )

    def _client_span(self, record: CallRecord, attempt: AttemptRecord, context: SpanContext, parent: SpanContext) -> ReadableSpan:
        attributes: Attributes = client_attributes(record, attempt, self._cost_attribute)
        return ReadableSpan(
            clip(_client_name(record, attempt)),
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind.CLIENT,
            status=_status(client_is_error(attempt), attempt.error_message),
            start_time=attempt.start_ns,
            end_time=attempt.end_ns,
            instrumentation_scope=self._scope,
        )


def _client_name(record: CallRecord, attempt: AttemptRecord) -> str:
    if not record.operation:
        return _method_in_name(record.method)
    return f"{record.operation} {attempt.model}" if attempt.model else record.operation


def _method_in_name(method: str) -> str:
    return method if method in names.KNOWN_METHODS else names.UNKNOWN_METHOD_IN_NAME


def _status(is_error: bool, message: str | None) -> Status:
    return Status(StatusCode.ERROR, message) if is_error else _UNSET
