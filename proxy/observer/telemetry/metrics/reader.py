"""Reading what was measured, at any moment and from any thread.

Here: one collection as the SDK has it, with the times between chunks beside. Not here: sending it (export.py), showing it
(prometheus.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock
from time import time_ns

from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric, MetricExporter, MetricReader, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation

from proxy.observer.telemetry.metrics.chunk_gaps import ChunkGaps, GapsReader
from proxy.observer.telemetry.metrics.labels import MAX_SETS

Temporalities = Mapping[type, AggregationTemporality]
Aggregations = Mapping[type, Aggregation]

SDK_MAX_SETS = 2 * MAX_SETS  # never reached: labels are folded before, and into words that say so


class CallReader(MetricReader):
    """Collects when asked. Without arguments: totals since start, explicit buckets."""

    def __init__(self, temporalities: Temporalities | None = None, aggregations: Aggregations | None = None) -> None:
        super().__init__(
            dict(temporalities) if temporalities else None,
            dict(aggregations) if aggregations else None,
            {Counter: SDK_MAX_SETS, Histogram: SDK_MAX_SETS},
        )
        self._gap_temporality = (temporalities or {}).get(Histogram, AggregationTemporality.CUMULATIVE)
        self._gaps: list[GapsReader] = []
        self._lock = Lock()
        self._collected = MetricsData([])

    def add_gaps(self, gaps: Sequence[ChunkGaps]) -> None:
        """Tell these beside what the SDK collects."""
        self._gaps += [GapsReader(one, self._gap_temporality) for one in gaps]

    def read(self) -> MetricsData:
        """Everything at this moment."""
        with self._lock:
            self.collect()
            data = self._collected
            now_ns = time_ns()
            gaps = [metric for metric in (one.read(now_ns) for one in self._gaps) if metric is not None]
        return _with(data, gaps) if gaps else data

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_kwargs: object) -> None:
        self._collected = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: object) -> None:
        """Nothing to end: who reads, ends itself."""


def reader_for(exporter: MetricExporter) -> CallReader | None:
    """A reader of its own for an exporter that wants differences, or exponential buckets; None if totals and explicit buckets will do."""
    temporalities: Temporalities = exporter._preferred_temporality or {}
    aggregations: Aggregations = exporter._preferred_aggregation or {}
    if AggregationTemporality.DELTA not in temporalities.values() and not any(
        isinstance(aggregation, ExponentialBucketHistogramAggregation) for aggregation in aggregations.values()
    ):
        return None
    return CallReader(temporalities, aggregations)


def _with(data: MetricsData, metrics: list[Metric]) -> MetricsData:
    """The data with more metrics in its first scope, which is the only one."""
    if not data.resource_metrics:
        return data
    resource, *others = data.resource_metrics
    scope, *scopes = resource.scope_metrics
    scope = replace(scope, metrics=[*scope.metrics, *metrics])
    return MetricsData([replace(resource, scope_metrics=[scope, *scopes]), *others])
