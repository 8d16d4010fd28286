"""Instruments whose labels are bounded, made from the table of names.

Here: counters and histograms of calls. Not here: what they record (call_metrics.py, operation_metrics.py), what is observed (health.py).
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from proxy.observer.telemetry import names
from proxy.observer.telemetry.metrics.chunk_gaps import ChunkGaps
from proxy.observer.telemetry.metrics.labels import MAX_SETS, MAX_VALUES, Folded, LabelCap, Labels

NO_SPAN = Context()
"""No exemplar; and it saves the SDK a look for a current span that is never there."""

_ROWS = {row.name: row for row in names.METRICS}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def span_of(trace_id: str, span_id: str) -> Context:
    """The span that an exemplar leads to; NO_SPAN if the ids aren't hex."""
    try:
        context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=_SAMPLED)
    except ValueError:
        return NO_SPAN
    return set_span_in_context(NonRecordingSpan(context), NO_SPAN)


class CappedCounter:
    """A counter that folds labels beyond its caps."""

    def __init__(self, counter: Counter, cap: LabelCap) -> None:
        self._add = counter.add
        self._admit = cap.admit

    def add(self, amount: float, labels: Labels, span: Context = NO_SPAN) -> None:
        """Count `amount`, which is never negative."""
        self._add(amount, self._admit(labels), span)


class CappedHistogram:
    """A histogram that folds labels beyond its caps."""

    def __init__(self, histogram: Histogram, cap: LabelCap) -> None:
        self._record = histogram.record
        self._admit = cap.admit

    def record(self, value: float, labels: Labels, span: Context = NO_SPAN) -> None:
        """Record one value, which is never negative."""
        self._record(value, self._admit(labels), span)


class Instruments:
    """Makes the instruments of one meter. `gaps` are those that the SDK doesn't collect."""

    def __init__(self, meter: Meter, folded: Folded, max_values: int = MAX_VALUES, max_sets: int = MAX_SETS) -> None:
        self._meter = meter
        self._folded = folded
        self._max_values = max_values
        self._max_sets = max_sets
        self.gaps: list[ChunkGaps] = []

    def counter(self, name: str) -> CappedCounter:
        """The counter that the table has under `name`."""
        row = _ROWS[name]
        return CappedCounter(self._meter.create_counter(name, row.unit, row.meaning), self._cap(name))

    def histogram(self, name: str) -> CappedHistogram:
        """The histogram that the table has under `name`."""
        row = _ROWS[name]
        histogram = self._meter.create_histogram(name, row.unit, row.meaning, explicit_bucket_boundaries_advisory=row.boundaries)
        return CappedHistogram(histogram, self._cap(name))

    def chunk_gaps(self, name: str) -> ChunkGaps:
        """The histogram of times between chunks that the table has under `name`."""
        self.gaps.append(ChunkGaps(_ROWS[name], self._cap(name)))
        return self.gaps[-1]

    def _cap(self, name: str) -> LabelCap:
        return LabelCap(name, self._folded, self._max_values, self._max_sets)
