"""Times between the chunks of streams, which the gate has sorted into buckets already.

Here: their sums by labels, as points beside those that the SDK collects. Not here: the buckets' bounds (records.py), how chunks are timed.
The SDK has no way to take a histogram, and takes 8 µs for one value: a stream of a thousand chunks would cost the observer 8 ms.
The smallest and the largest time aren't known; nor does a point have exemplars, or exponential buckets where those are asked for.
"""

from __future__ import annotations

from threading import Lock
from time import time_ns

import msgspec
from opentelemetry.sdk.metrics.export import AggregationTemporality, Histogram, HistogramDataPoint, Metric

from proxy.observer.telemetry.metrics.labels import LabelCap, LabelKey, Labels
from proxy.observer.telemetry.name_rows import MetricRow
from proxy.records import CHUNK_GAP_BOUNDARIES_S


class GapTotals(msgspec.Struct, frozen=True):
    """What came for one set of labels."""

    counts: tuple[int, ...]  # by bucket
    sum_s: float
    start_ns: int  # Unix time

    def plus(self, counts: list[int], sum_s: float) -> GapTotals:
        """These and more."""
        return GapTotals(tuple(map(int.__add__, self.counts, counts)), self.sum_s + sum_s, self.start_ns)

    def minus(self, told: GapTotals, told_ns: int) -> GapTotals:
        """What came after those that were `told` at `told_ns`."""
        return GapTotals(tuple(map(int.__sub__, self.counts, told.counts)), self.sum_s - told.sum_s, told_ns)


Told = dict[LabelKey, GapTotals]


class ChunkGaps:
    """One metric. Written by the threads that observe calls, read by those that collect."""

    def __init__(self, row: MetricRow, cap: LabelCap) -> None:
        self.row = row
        self._cap = cap
        self._totals: Told = {}
        self._lock = Lock()

    def add(self, counts: list[int], sum_s: float, labels: Labels) -> None:
        """Add the chunks of one attempt. Counts of another number of buckets are left out: an older gate may have sent them."""
        if len(counts) != len(CHUNK_GAP_BOUNDARIES_S) + 1:
            return
        key = tuple(self._cap.admit(labels).items())
        with self._lock:
            before = self._totals.get(key) or GapTotals((0,) * len(counts), 0.0, time_ns())
            self._totals[key] = before.plus(counts, sum_s)

    def totals(self) -> Told:
        """All of it at this moment, a copy."""
        with self._lock:
            return dict(self._totals)


class GapsReader:
    """What one reader of metrics is told of one metric: all of it each time, or what is new."""

    def __init__(self, gaps: ChunkGaps, temporality: AggregationTemporality) -> None:
        self._gaps = gaps
        self._temporality = temporality
        self._told: Told = {}
        self._told_ns = 0

    def read(self, now_ns: int) -> Metric | None:
        """The metric; None if there is nothing to tell."""
        totals = self._gaps.totals()
        shown = self._news(totals, now_ns) if self._temporality is AggregationTemporality.DELTA else totals
        points = [_point(key, total, now_ns) for key, total in shown.items()]
        if not points:
            return None
        row = self._gaps.row
        return Metric(row.name, row.meaning, row.unit, Histogram(points, self._temporality))

    def _news(self, totals: Told, now_ns: int) -> Told:
        told, told_ns = self._told, self._told_ns
        self._told, self._told_ns = totals, now_ns
        news = {key: total.minus(told[key], told_ns) if key in told else total for key, total in totals.items()}
        return {key: total for key, total in news.items() if any(total.counts)}


def _point(key: LabelKey, total: GapTotals, now_ns: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=dict(key),
        start_time_unix_nano=total.start_ns,
        time_unix_nano=now_ns,
        count=sum(total.counts),
        sum=total.sum_s,
        bucket_counts=total.counts,
        explicit_bounds=CHUNK_GAP_BOUNDARIES_S,
        min=None,  # type: ignore[arg-type]  # OTLP's field is optional, and the encoder leaves None out
        max=None,  # type: ignore[arg-type]
    )
