"""Telemetry of the observer: records in, spans, log records and metrics out. Imported only when something is exported.

Here: wiring them to what sends them, and ending within a deadline. Not here: what they say.
"""

from __future__ import annotations

from time import monotonic

from proxy.observer import counters
from proxy.observer.call_log import log_line
from proxy.observer.counters import Counters
from proxy.observer.progress import Progress
from proxy.observer.telemetry.export.outboxes import Outboxes
from proxy.observer.telemetry.keep import is_kept
from proxy.observer.telemetry.metrics.metric_exporters import CountingMetricExporter, attributes_of, build_metric_exporter, build_resource
from proxy.observer.telemetry.metrics.pipeline import MetricPipeline
from proxy.observer.telemetry.metrics.prometheus import OPENMETRICS_TYPE, TEXT_TYPE, render, wants_openmetrics
from proxy.observer.telemetry.plan import Environment, ExportPlan
from proxy.observer.telemetry.spans.log_bytes import LogEncoder
from proxy.observer.telemetry.spans.otlp_bytes import NOTHING, Encoded
from proxy.observer.telemetry.spans.span_bytes import SpanEncoder
from proxy.observer_settings import ObserverSettings
from proxy.records import CallRecord, GateReport

METRICS_SHARE = 0.7  # of the time to close; the outboxes end meanwhile, and get the rest


class Telemetry:
    """Spans and metrics of calls. Only computes on the caller's thread; a dead collector never holds it up."""

    def __init__(
        self, plan: ExportPlan, settings: ObserverSettings, environment: Environment, progress: Progress, totals: Counters
    ) -> None:
        self._counters = totals
        self._keep = settings.keep
        resource = build_resource(settings.service_version, environment)
        self._outboxes = Outboxes(plan, settings, environment, attributes_of(resource), progress, totals)
        self._logs_calls = settings.call_log == "otlp"
        self._log_records = LogEncoder(settings.cost_attribute, settings.genai_semconv)
        self._spans = SpanEncoder(settings.cost_attribute, settings.genai_semconv, settings.openinference)
        exporter = None if plan.metrics is None else CountingMetricExporter(build_metric_exporter(plan.metrics, environment), totals)
        self._metrics = MetricPipeline(
            resource,
            settings.service_version,
            settings.genai_semconv,
            totals,
            environment,
            exporter,
            plan.metric_interval_ms / 1000,
        )

    def observe(self, record: CallRecord, sequence: int) -> None:
        """Turn record number `sequence` into telemetry. Raises ValueError on ids that aren't hex; the metrics are told then too."""
        spans = NOTHING
        is_told = False
        try:
            is_told = self._is_told(record)
            if is_told and self._outboxes.sends("traces"):
                spans = self._spans.encode(record)
        finally:
            self._metrics.observe(record, traced=spans.count > 0)
        self._outboxes.put("traces", spans, sequence)
        if self._outboxes.sends("logs"):
            self._log(record, is_told, sequence)

    def _is_told(self, record: CallRecord) -> bool:
        """Whether the call is told one by one, and not in sums only."""
        if not record.sampled:
            return False
        kept = is_kept(record, self._keep)
        if not kept:
            self._counters.add(counters.UNKEPT_CALLS)
        return kept

    def _log(self, record: CallRecord, is_told: bool, sequence: int) -> None:
        """The log of calls has every call; what was said in one goes with its spans."""
        told = [self._log_records.call_log_record(record, log_line(record))] if self._logs_calls else []
        if is_told:
            told.extend(self._log_records.details_event(record, attempt) for attempt in record.attempts)
        self._outboxes.put("logs", Encoded(b"".join(part.data for part in told), sum(part.count for part in told)), sequence)

    def take_report(self, report: GateReport) -> None:
        """What the gate says of itself."""
        self._metrics.take_report(report)

    def metrics_page(self, accept: str) -> tuple[str, bytes]:
        """The content type and the body of /metrics, in the format that an Accept header asks for."""
        openmetrics = wants_openmetrics(accept)
        return OPENMETRICS_TYPE if openmetrics else TEXT_TYPE, render(self._metrics.read(), openmetrics)

    def close(self, timeout_s: float) -> None:
        """Export what is left, within `timeout_s`; what isn't out by then is counted as lost."""
        deadline = monotonic() + timeout_s
        self._outboxes.begin_close(timeout_s)
        self._metrics.close(timeout_s * METRICS_SHARE)
        self._outboxes.close(max(0.0, deadline - monotonic()))
