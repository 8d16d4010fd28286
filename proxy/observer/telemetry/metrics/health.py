"""Metrics that are looked at when they are collected: how the gate is doing, and how the observer is.

Here: what each observes. Not here: where the numbers come from (records.GateReport, counters.py, labels.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from proxy.observer import counters
from proxy.observer.counters import DROP_CAUSES, Counters
from proxy.observer.telemetry import names
from proxy.observer.telemetry.metrics.labels import Folded
from proxy.records import GateReport

BREAKER_STATES = ("closed", "open", "half_open")
NOW = {
    names.SPOOL_BYTES_METRIC: counters.SPOOL_BYTES,
    names.SPOOL_ITEMS_METRIC: counters.SPOOL_ITEMS,
    names.LAST_EXPORT_METRIC: counters.LAST_EXPORT_S,
}
"""Metrics that are a number of now among the observer's counters; absent until there is one. Totals begin at 0, so that none is missed."""

Observe = Callable[[], Iterable[Observation]]


class Health:
    """The observed metrics of one meter."""

    def __init__(self, meter: Meter, totals: Counters, folded: Folded) -> None:
        self._gate = GateReport()
        self._totals = totals
        self._folded = folded
        observed: dict[str, Observe] = {
            names.IN_FLIGHT_METRIC: lambda: [Observation(self._gate.in_flight)],
            names.BREAKER_STATE_METRIC: self._breakers,
            names.BUDGET_USED_METRIC: lambda: _by_budget(self._gate.budgets),
            names.BUDGET_FORECAST_METRIC: lambda: _by_budget(self._gate.forecasts),
            names.DROPPED_METRIC: self._dropped,
            names.UNMIRRORED_METRIC: self._unmirrored,
            names.EXPORTED_METRIC: self._exported,
            names.LABELS_FOLDED_METRIC: self._folds,
            names.EXPORT_FAILURES_METRIC: lambda: [Observation(totals.get(counters.EXPORT_FAILURES))],
            **{metric: partial(self._now, counter) for metric, counter in NOW.items()},
        }
        for row in names.METRICS:
            if row.name in observed:
                create = {
                    "counter": meter.create_observable_counter,
                    "up-down counter": meter.create_observable_up_down_counter,
                    "gauge": meter.create_observable_gauge,
                }[row.instrument]
                create(row.name, [partial(_answer, observed[row.name])], row.unit, row.meaning)

    def take(self, report: GateReport) -> None:
        """The gate's newest report."""
        self._gate = report

    def _breakers(self) -> Iterable[Observation]:
        for target, current in self._gate.breakers.items():
            for state in BREAKER_STATES:
                yield Observation(int(state == current), {names.TARGET: target, names.BREAKER_STATE: state})

    def _dropped(self) -> Iterable[Observation]:
        totals = self._totals.totals()
        lost = {cause: totals.get(name, 0) for name, cause in DROP_CAUSES.items()}
        lost |= {f"gate_{cause}": count for cause, count in self._gate.dropped.items()}
        return [Observation(count, {names.DROP_CAUSE: cause}) for cause, count in lost.items()]

    def _unmirrored(self) -> Iterable[Observation]:
        return [Observation(count, {names.DROP_CAUSE: cause}) for cause, count in self._gate.unmirrored.items()]

    def _exported(self) -> Iterable[Observation]:
        totals = self._totals.totals()
        return [Observation(totals.get(name, 0), {names.SIGNAL: signal}) for signal, name in counters.EXPORTED.items()]

    def _now(self, counter: str) -> Iterable[Observation]:
        totals = self._totals.totals()
        return [Observation(totals[counter])] if counter in totals else []

    def _folds(self) -> Iterable[Observation]:
        for (metric, label), count in self._folded.counts().items():
            yield Observation(count, {names.FOLDED_METRIC: metric, names.FOLDED_LABEL: label})


def _by_budget(shares: Mapping[str, float]) -> Iterable[Observation]:
    return [Observation(share, {names.BUDGET: rule}) for rule, share in shares.items()]


def _answer(observe: Observe, _options: CallbackOptions) -> Iterable[Observation]:
    return observe()
