"""Moments of a call that its spans tell as events.

Here: which events a record has, and when. Not here: names, bytes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from proxy.observer.telemetry import names
from proxy.observer.telemetry.spans.attribute_values import Attributes, clipped, put
from proxy.observer.telemetry.spans.attributes import client_error_type
from proxy.records import AttemptRecord, CallRecord, Further, decisive_attempt, further_of

FURTHER_EVENTS: dict[Further, str] = {
    "retry": names.RETRY_EVENT,
    "failover": names.FAILOVER_EVENT,
    "hedge": names.HEDGE_EVENT,
    "continuation": names.CONTINUATION_EVENT,
}
"""By what an attempt is to the one before it."""


class SpanEvent(NamedTuple):
    """One event."""

    time_ns: int
    name: str
    attributes: Attributes


def server_events(record: CallRecord) -> list[SpanEvent]:
    """Events of the SERVER span: each further attempt, a refusal, what budgets reached."""
    events = [_further(record, before, attempt) for before, attempt in pairwise(record.attempts)]
    for warning in record.warnings:
        reached: Attributes = {names.BUDGET: warning.budget, names.SCOPE: warning.scope, names.SHARE: warning.share}
        events.append(SpanEvent(record.end_ns, names.BUDGET_WARNING_EVENT, clipped(reached)))
    if record.rule is not None:
        told: Attributes = {names.RULE: record.rule}
        put(told, names.REFUSAL_CODE, record.error_type)
        events.append(SpanEvent(record.end_ns, names.REFUSAL_EVENT, clipped(told)))
    return events


def _further(record: CallRecord, before: AttemptRecord, attempt: AttemptRecord) -> SpanEvent:
    what = further_of(before, attempt)
    told: Attributes = {names.ATTEMPT: attempt.number}
    if what == "hedge":
        told[names.HEDGE_WON] = attempt is decisive_attempt(record)
    else:
        put(told, names.ERROR_TYPE, client_error_type(before))
    if what != "retry":
        told |= {names.FROM_TARGET: before.target, names.TO_TARGET: attempt.target}
    put(told, names.SEAM_CHARS, attempt.seam_chars)
    return SpanEvent(attempt.start_ns, FURTHER_EVENTS[what], clipped(told))


def client_events(record: CallRecord, attempt: AttemptRecord) -> list[SpanEvent]:
    """Events of an attempt's CLIENT span: a stream's first content, and what it did to its target's breaker."""
    events: list[SpanEvent] = []
    if record.stream and attempt.first_chunk_ns is not None:
        events.append(SpanEvent(attempt.first_chunk_ns, names.FIRST_CHUNK_EVENT, {}))
    if attempt.opened_breaker:
        events.append(SpanEvent(attempt.end_ns, names.BREAKER_OPENED_EVENT, {}))
    if attempt.recovery_ns is not None:
        events.append(SpanEvent(attempt.end_ns, names.BREAKER_CLOSED_EVENT, {}))
    return events
