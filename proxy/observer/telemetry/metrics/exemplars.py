"""Which calls are shown as examples of a metric: the newest of each bucket, for as long as the series lasts.

Here: the filter that the environment asks for, and a reservoir. Not here: which span an exemplar leads to (call_metrics.py).
The SDK's own reservoirs forget at every collection. Here one collection feeds the collector and another the page of Prometheus: each
would take the other's. Nor does this one keep the labels of an exemplar: they are those of its series.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Exemplar,
    ExemplarFilter,
    ExemplarReservoir,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.view import View
from opentelemetry.trace import get_current_span
from opentelemetry.util.types import Attributes

from proxy.observer.telemetry.plan import Environment

VARIABLE = "OTEL_METRICS_EXEMPLAR_FILTER"
FILTERS: dict[str, type[ExemplarFilter]] = {
    "trace_based": TraceBasedExemplarFilter,
    "always_on": AlwaysOnExemplarFilter,
    "always_off": AlwaysOffExemplarFilter,
}

_log = logging.getLogger(__name__)


def exemplar_filter(environment: Environment) -> ExemplarFilter:
    """The filter that the environment names; trace_based if it names none, or one there isn't."""
    wanted = environment.get(VARIABLE, "").strip().lower() or "trace_based"
    if wanted not in FILTERS:
        _log.warning("%s: %r isn't supported (%s are), ignored", VARIABLE, wanted, ", ".join(FILTERS))
    return FILTERS.get(wanted, TraceBasedExemplarFilter)()


class NewestPerBucket(ExemplarReservoir):
    """Keeps the newest exemplar of each bucket; a counter is one bucket. A collection that meets an offer sees the old one or the new."""

    def __init__(self, boundaries: Sequence[float] = (), **_kwargs: object) -> None:
        self._boundaries = boundaries
        self._kept: dict[int, Exemplar] = {}

    def offer(self, value: float, time_unix_nano: int, attributes: Attributes, context: Context) -> None:
        span = get_current_span(context).get_span_context()
        ids = (span.span_id, span.trace_id) if span.is_valid else (None, None)
        self._kept[bisect_left(self._boundaries, value)] = Exemplar({}, value, time_unix_nano, *ids)

    def collect(self, point_attributes: Attributes) -> list[Exemplar]:
        return [exemplar for _, exemplar in sorted(self._kept.copy().items())]


def newest_exemplars() -> View:
    """The view that gives every instrument this reservoir."""
    reservoir: Callable[[type], Callable[..., ExemplarReservoir]] = lambda _aggregation: NewestPerBucket  # noqa: E731
    return View(instrument_name="*", exemplar_reservoir_factory=reservoir)
