"""The page of /metrics: what was measured, in Prometheus' text format 0.0.4 or in OpenMetrics 1.0.

Here: rendering one collection, and which format a scraper wants. Not here: names (prometheus_names.py), serving (observer/pages.py).
Only OpenMetrics has exemplars and units. Bounds are written alike in both (`le="1.0"`), so that changing the format starts no new series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import Gauge, Histogram, HistogramDataPoint, Metric, MetricsData, NumberDataPoint, Sum
from opentelemetry.sdk.resources import Resource

from proxy.observer.telemetry.metrics.prometheus_names import family_name, label_name, unit_name

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})

Labels = Mapping[str, object] | None


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header asks for OpenMetrics before plain text. Without any: plain text."""
    qualities = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        if media_type in qualities:
            qualities[media_type] = max(qualities[media_type], _quality(parameters))
    return qualities["application/openmetrics-text"] > 0 and qualities["application/openmetrics-text"] >= qualities["text/plain"]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def render(data: MetricsData, openmetrics: bool) -> bytes:
    """The page."""
    lines: list[str] = []
    for resource_metrics in data.resource_metrics:
        lines += _target_info(resource_metrics.resource, openmetrics)
        for scope in resource_metrics.scope_metrics:
            for metric in scope.metrics:
                lines += _family(metric, openmetrics)
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _target_info(resource: Resource, openmetrics: bool) -> Iterator[str]:
    yield from _head("target" if openmetrics else "target_info", "Target metadata", "info" if openmetrics else "gauge")
    told: dict[str, str] = {}
    for name, value in resource.attributes.items():
        label = label_name(name)  # two attributes may come to one label, and a page with a label twice is refused whole
        told[label] = f"{told[label]};{value!s}" if label in told else str(value)
    yield f"target_info{_label_text(told)} 1"


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text.translate(_HELP_ESCAPES)}"
    yield f"# TYPE {name} {kind}"


def _family(metric: Metric, openmetrics: bool) -> Iterator[str]:
    data = metric.data
    if not isinstance(data, Sum | Gauge | Histogram):
        return  # exponential histograms are only for collectors
    kind = "histogram" if isinstance(data, Histogram) else "counter" if isinstance(data, Sum) and data.is_monotonic else "gauge"
    unit = metric.unit or ""
    name = family_name(metric.name, unit, is_ratio=unit == "1" and kind == "gauge")
    sample = f"{name}_total" if kind == "counter" else name
    yield from _head(name if openmetrics else sample, metric.description or "", kind)
    if openmetrics and unit_name(unit):
        yield f"# UNIT {name} {unit_name(unit)}"
    for point in data.data_points:
        if isinstance(point, HistogramDataPoint):
            yield from _histogram(name, point, openmetrics)
        elif isinstance(point, NumberDataPoint):
            exemplars = point.exemplars if openmetrics and kind == "counter" else ()
            yield f"{sample}{_label_text(point.attributes)} {_number(point.value)}{_exemplar(exemplars, None, None)}"


def _histogram(name: str, point: HistogramDataPoint, openmetrics: bool) -> Iterator[str]:
    below: float | None = None
    labels = _label_pairs(point.attributes)
    exemplars = point.exemplars if openmetrics else ()
    bounds = [*map(float, point.explicit_bounds), float("inf")]
    for bound, count in zip(bounds, accumulate(point.bucket_counts), strict=True):
        pairs = ",".join([*labels, f'le="{_number(bound)}"'])
        yield f"{name}_bucket{{{pairs}}} {count}{_exemplar(exemplars, below, bound)}"
        below = bound
    text = _braces(labels)
    yield f"{name}_sum{text} {_number(point.sum)}"
    yield f"{name}_count{text} {point.count}"


def _exemplar(exemplars: Iterable[Exemplar], above: float | None, up_to: float | None) -> str:
    """The exemplar that lies in the bucket, the newest if there are more; those without a span lead nowhere."""
    within = [
        one
        for one in exemplars
        if one.trace_id is not None
        and one.span_id is not None
        and (above is None or one.value > above)
        and (up_to is None or one.value <= up_to)
    ]
    if not within:
        return ""
    newest = max(within, key=lambda one: one.time_unix_nano)
    ids = f'trace_id="{newest.trace_id:032x}",span_id="{newest.span_id:016x}"'
    return f" # {{{ids}}} {_number(newest.value)} {newest.time_unix_nano / 1e9:.3f}"


def _label_text(labels: Labels) -> str:
    return _braces(_label_pairs(labels))


def _braces(pairs: list[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _label_pairs(labels: Labels) -> list[str]:
    return [f'{label_name(name)}="{_text(value).translate(_ESCAPES)}"' for name, value in (labels or {}).items()]


def _text(value: object) -> str:
    """True and false as a collector writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(value)
