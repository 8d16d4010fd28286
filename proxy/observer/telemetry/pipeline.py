"""Telemetry of the observer: records in, spans and metrics out. Imported only when something is exported.

Here: wiring spans and metrics to their exporters, and ending within a deadline. Not here: what they say.
"""

from __future__ import annotations

import logging
from time import monotonic

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from proxy.observer.counters import Counters
from proxy.observer.telemetry.exporters import CountingMetricExporter, build_metric_exporter, build_resource, build_span_exporter
from proxy.observer.telemetry.metrics import CallMetrics
from proxy.observer.telemetry.plan import Environment, ExportPlan, SignalPlan
from proxy.observer.telemetry.span_queue import SpanQueue
from proxy.observer.telemetry.spans import SpanBuilder
from proxy.observer_settings import ObserverSettings
from proxy.records import CallRecord

METRICS_SHARE = 0.7  # of the time to close; spans are exported meanwhile, and get the rest


class Telemetry:
    """Spans and metrics of calls. Only computes on the caller's thread; a dead collector never holds it up."""

    def __init__(self, plan: ExportPlan, settings: ObserverSettings, environment: Environment, totals: Counters) -> None:
        self._counters = totals
        self._builder: SpanBuilder | None = None
        self._spans: SpanQueue | None = None
        self._metrics: CallMetrics | None = None
        self._provider: MeterProvider | None = None
        resource = build_resource(settings.service_version, environment)
        if plan.traces is not None:
            self._builder = SpanBuilder(resource, settings.service_version, settings.cost_attribute)
            self._spans = SpanQueue(build_span_exporter(plan.traces, environment), plan.batch, totals)
        if plan.metrics is not None:
            self._provider = self._meter_provider(plan.metrics, plan.metric_interval_ms, resource, environment)
            self._metrics = CallMetrics(self._provider.get_meter("postern", settings.service_version), totals)

    def _meter_provider(self, plan: SignalPlan, interval_ms: float, resource: Resource, environment: Environment) -> MeterProvider:
        exporter = CountingMetricExporter(build_metric_exporter(plan, environment), self._counters)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=interval_ms)
        return MeterProvider([reader], resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False)

    def observe(self, record: CallRecord) -> None:
        """Turn one record into spans and metrics. Raises ValueError on ids that aren't hex."""
        if self._metrics is not None:
            self._metrics.observe(record)
        if self._builder is not None and self._spans is not None:
            spans = self._builder.spans_of(record)
            if spans:
                self._spans.put(spans)

    def close(self, timeout_s: float) -> None:
        """Export what is left, within `timeout_s`; what isn't out by then is counted as lost."""
        deadline = monotonic() + timeout_s
        if self._spans is not None:
            self._spans.begin_close()
        if self._provider is not None:
            self._shut_down(self._provider, timeout_s * METRICS_SHARE)
        if self._spans is not None:
            self._spans.close(max(0.0, deadline - monotonic()))

    def _shut_down(self, provider: MeterProvider, timeout_s: float) -> None:
        try:
            provider.shutdown(timeout_millis=timeout_s * 1000)
        except Exception:
            logging.getLogger(__name__).exception("ending the export of metrics failed")
