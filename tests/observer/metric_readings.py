"""What a collector would get of calls: metrics by name, over the pipeline that the observer uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics.export import HistogramDataPoint, Metric, MetricsData
from opentelemetry.sdk.resources import Resource

from proxy.observer.counters import Counters
from proxy.observer.telemetry.metrics.pipeline import MetricPipeline
from proxy.records import CallRecord

Points = dict[str, list[tuple[Mapping[str, object], float]]]


@contextmanager
def measuring(totals: Counters | None = None, environment: Mapping[str, str] | None = None, **changes: Any) -> Iterator[MetricPipeline]:
    """A pipeline without a collector, unless `changes` has one."""
    arguments: dict[str, Any] = {"conventions": "v1_41", "resource": Resource({"service.name": "postern"})} | changes
    pipeline = MetricPipeline(version="1.2.3", totals=totals or Counters(), environment=environment or {}, **arguments)
    yield pipeline
    pipeline.close(5)


def metrics_in(data: MetricsData) -> dict[str, Metric]:
    """Metrics by name."""
    return {metric.name: metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics}


def points_in(data: MetricsData) -> Points:
    """Labels and value of each point (the sum, for histograms), by metric."""
    return {
        name: [(point.attributes or {}, value_of(point)) for point in metric.data.data_points] for name, metric in metrics_in(data).items()
    }


def value_of(point: Any) -> float:
    value: float = point.sum if isinstance(point, HistogramDataPoint) else point.value
    return value


def observed(*records: CallRecord, traced: bool = False, **changes: Any) -> Points:
    """The points after these calls."""
    with measuring(**changes) as pipeline:
        for record in records:
            pipeline.observe(record, traced)
        return points_in(pipeline.read())


def labelled(points: Points, metric: str, *labels: str) -> dict[object, float]:
    """Values of a metric by one label, or by several; labels that a point hasn't are None."""
    return {
        (found[0] if len(labels) == 1 else tuple(found)): value
        for attributes, value in points.get(metric, [])
        for found in [[attributes.get(label) for label in labels]]
    }
