"""What the collector asks for and what Prometheus can read come from the same instruments."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    Histogram,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    Sum,
)

from proxy.records import CHUNK_GAP_BOUNDARIES_S
from tests.call_records import START_NS, attempt_record, call_record
from tests.observer.metric_readings import measuring, metrics_in

NEVER_S = 3600.0
WAIT_S = 10.0
GAPS = [2, 1, *[0] * (len(CHUNK_GAP_BOUNDARIES_S) - 1)]

CALL = call_record(attempts=[attempt_record(chunk_gaps=GAPS, last_chunk_ns=START_NS + 750_000_000)])
GAPS_METRIC = "gen_ai.client.operation.time_per_output_chunk"
DURATION = "gen_ai.client.operation.duration"
DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE


class Collector(MetricExporter):
    """Takes what is exported; wants it as the OTLP exporter would in this environment."""

    def __init__(self) -> None:
        wants = OTLPMetricExporter()
        super().__init__(wants._preferred_temporality, wants._preferred_aggregation)
        wants.shutdown()
        self.batches: list[MetricsData] = []
        self.failing = False
        self.failed = Event()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        self.batches.append(metrics_data)
        if self.failing:
            self.failed.set()
            raise OSError("the collector is away")
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        pass


def exported_and_page(calls: int) -> tuple[Collector, MetricsData]:
    """What a collector got when the pipeline ended, and what the page had a moment before."""
    collector = Collector()
    with measuring(exporter=collector, interval_s=NEVER_S) as pipeline:
        for _ in range(calls):
            pipeline.observe(CALL, traced=False)
        page = pipeline.read()
    return collector, page


def test_collector_gets_what_the_page_shows() -> None:
    collector, page = exported_and_page(2)
    (batch,) = collector.batches
    assert metrics_in(batch).keys() == metrics_in(page).keys()
    data = metrics_in(batch)[DURATION].data
    assert isinstance(data, Histogram)
    assert (data.aggregation_temporality, data.data_points[0].count) == (CUMULATIVE, 2)


def test_collector_may_ask_for_differences_and_the_page_keeps_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA")
    collector, page = exported_and_page(2)
    exported, shown = metrics_in(collector.batches[0]), metrics_in(page)
    for name in (DURATION, GAPS_METRIC):
        sent, seen = exported[name].data, shown[name].data
        assert isinstance(sent, Histogram)
        assert isinstance(seen, Histogram)
        assert (sent.aggregation_temporality, seen.aggregation_temporality) == (DELTA, CUMULATIVE)
    calls = exported["postern.calls"].data
    assert isinstance(calls, Sum)
    assert calls.aggregation_temporality == DELTA


def test_a_difference_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA")
    collector = Collector()
    with measuring(exporter=collector, interval_s=NEVER_S) as pipeline:
        assert pipeline._export is not None
        pipeline.observe(CALL, traced=False)
        first = metrics_in(pipeline._export._read())[GAPS_METRIC].data.data_points[0]
        assert GAPS_METRIC not in metrics_in(pipeline._export._read())
        pipeline.observe(CALL, traced=False)
        second = metrics_in(pipeline._export._read())[GAPS_METRIC].data.data_points[0]
        pipeline.read()
    assert first.count == second.count == 3  # type: ignore[union-attr]
    assert first.time_unix_nano <= second.start_time_unix_nano < second.time_unix_nano


def test_collector_may_ask_for_exponential_buckets_and_the_page_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram")
    collector, page = exported_and_page(1)
    assert isinstance(metrics_in(collector.batches[0])[DURATION].data, ExponentialHistogram)
    assert isinstance(metrics_in(page)[DURATION].data, Histogram)


def test_times_between_chunks_keep_the_gates_buckets_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram")
    collector, _ = exported_and_page(1)
    assert isinstance(metrics_in(collector.batches[0])[GAPS_METRIC].data, Histogram)


def test_collector_that_fails_gets_everything_the_next_time() -> None:
    collector = Collector()
    collector.failing = True
    with measuring(exporter=collector, interval_s=0.001) as pipeline:
        pipeline.observe(CALL, traced=False)
        assert collector.failed.wait(WAIT_S)
        collector.failing = False
    data = metrics_in(collector.batches[-1])["postern.calls"].data
    assert [point.value for point in data.data_points] == [1]  # type: ignore[union-attr]
