"""Metrics from records to the collector and to the page of /metrics, over one set of instruments.

Here: wiring. Not here: what is measured (call_metrics.py, health.py), how it is sent (export.py) or shown (prometheus.py).
A collection's cost comes with every reader: the collector and the page share one, unless the collector wants differences or
exponential buckets, which Prometheus can't read.
"""

from __future__ import annotations

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
from opentelemetry.sdk.resources import Resource

from proxy.observer.counters import Counters
from proxy.observer.telemetry.metrics.call_metrics import CallMetrics
from proxy.observer.telemetry.metrics.exemplars import exemplar_filter, newest_exemplars
from proxy.observer.telemetry.metrics.export import MetricExport
from proxy.observer.telemetry.metrics.health import Health
from proxy.observer.telemetry.metrics.instruments import Instruments
from proxy.observer.telemetry.metrics.labels import MAX_SETS, MAX_VALUES, Folded
from proxy.observer.telemetry.metrics.operation_metrics import Conventions
from proxy.observer.telemetry.metrics.reader import CallReader, reader_for
from proxy.observer.telemetry.plan import Environment
from proxy.records import CallRecord, GateReport

SCOPE = "postern"


class MetricPipeline:
    """The metrics of one sidecar. Only computes on the caller's thread."""

    def __init__(
        self,
        resource: Resource,
        version: str,
        conventions: Conventions,
        totals: Counters,
        environment: Environment,
        exporter: MetricExporter | None = None,
        interval_s: float = 60.0,
        max_values: int = MAX_VALUES,
        max_sets: int = MAX_SETS,
    ) -> None:
        self._reader = CallReader()
        own_reader = reader_for(exporter) if exporter is not None else None
        readers = [self._reader, own_reader] if own_reader is not None else [self._reader]
        views = [newest_exemplars()] if own_reader is None else []
        self._provider = MeterProvider(readers, resource, exemplar_filter(environment), shutdown_on_exit=False, views=views)
        folded = Folded()
        meter = self._provider.get_meter(SCOPE, version)
        instruments = Instruments(meter, folded, max_values, max_sets)
        self._calls = CallMetrics(instruments, conventions)
        self._health = Health(meter, totals, folded)
        for reader in readers:
            reader.add_gaps(instruments.gaps)
        self._export = None if exporter is None else MetricExport((own_reader or self._reader).read, exporter, interval_s)

    def observe(self, record: CallRecord, traced: bool) -> None:
        """Measure one call; `traced`: its spans are exported."""
        self._calls.observe(record, traced)

    def take_report(self, report: GateReport) -> None:
        """What the gate says of itself."""
        self._health.take(report)

    def read(self) -> MetricsData:
        """Everything at this moment, as totals since start."""
        return self._reader.read()

    def close(self, timeout_s: float) -> None:
        """Export a last time, within `timeout_s`."""
        if self._export is not None:
            self._export.close(timeout_s)
        self._provider.shutdown()
