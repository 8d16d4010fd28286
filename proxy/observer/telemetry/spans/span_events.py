"""Moments of a call that its spans tell as events.

Here: which events a record has, and when. Not here: names, bytes. Breakers have none yet: no record carries their changes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from proxy.observer.telemetry import names
from proxy.observer.telemetry.spans.attribute_values import Attributes, clipped, put
from proxy.observer.telemetry.spans.attributes import client_error_type
from proxy.records import AttemptRecord, CallRecord


class SpanEvent(NamedTuple):
    """One event."""

    time_ns: int
    name: str
    attributes: Attributes


def server_events(record: CallRecord) -> list[SpanEvent]:
    """Events of the SERVER span: each further attempt, and a refusal."""
    events = [_further(before, attempt) for before, attempt in pairwise(record.attempts)]
    if record.rule is not None:
        told: Attributes = {names.RULE: record.rule}
        put(told, names.REFUSAL_CODE, record.error_type)
        events.append(SpanEvent(record.end_ns, names.REFUSAL_EVENT, clipped(told)))
    return events


def _further(before: AttemptRecord, attempt: AttemptRecord) -> SpanEvent:
    told: Attributes = {names.ATTEMPT: attempt.number}
    put(told, names.ERROR_TYPE, client_error_type(before))
    if attempt.target == before.target:
        return SpanEvent(attempt.start_ns, names.RETRY_EVENT, clipped(told))
    told |= {names.FROM_TARGET: before.target, names.TO_TARGET: attempt.target}
    return SpanEvent(attempt.start_ns, names.FAILOVER_EVENT, clipped(told))


def client_events(record: CallRecord, attempt: AttemptRecord) -> list[SpanEvent]:
    """Events of an attempt's CLIENT span: a stream's first content."""
    if not record.stream or attempt.first_chunk_ns is None:
        return []
    return [SpanEvent(attempt.first_chunk_ns, names.FIRST_CHUNK_EVENT, {})]
