"""A record as metrics. Sampled or not, every call counts.

Here: the metrics of calls, money and Postern itself, and who gets an exemplar. Not here: gen_ai.* (operation_metrics.py), names and
boundaries (names.py), export. `user` is on no metric: users are without number.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from threading import Lock

from opentelemetry.context import Context

from proxy.observer.telemetry import names
from proxy.observer.telemetry.keep import is_refusal
from proxy.observer.telemetry.metrics.instruments import NO_SPAN, Instruments, span_of
from proxy.observer.telemetry.metrics.labels import Labels
from proxy.observer.telemetry.metrics.operation_metrics import Conventions, attempt_metrics, operation_labels, seconds
from proxy.observer.telemetry.spans.attribute_values import usd
from proxy.observer.telemetry.spans.attributes import client_error_type, provider_name, server_error_type
from proxy.records import AttemptRecord, CallRecord, decisive_attempt, further_of

PAYER_LABELS = ("tenant", "app", "task")
"""Labels of a call that its cost is told by."""


class CallMetrics:
    """Everything that is recorded of a call. Threads may share it."""

    def __init__(self, instruments: Instruments, conventions: Conventions = "v1_41") -> None:
        counter, histogram = instruments.counter, instruments.histogram
        self._lock = Lock()
        self._server_duration = histogram(names.SERVER_DURATION_METRIC)
        self._overhead = histogram(names.OVERHEAD_METRIC)
        self._calls = counter(names.CALLS_METRIC)
        self._cache_lookups = counter(names.CACHE_LOOKUPS_METRIC)
        self._shadows = counter(names.SHADOWS_METRIC)
        self._saved = counter(names.SAVED_METRIC)
        self._budget_warnings = counter(names.BUDGET_WARNINGS_METRIC)
        self._shadow_refusals = counter(names.SHADOW_REFUSALS_METRIC)
        self._refusals = counter(names.REFUSALS_METRIC)
        self._attempts = attempt_metrics(conventions, instruments)
        self._failovers = counter(names.FAILOVERS_METRIC)
        self._retries = counter(names.RETRIES_METRIC)
        self._hedges = counter(names.HEDGES_METRIC)
        self._continuations = counter(names.CONTINUATIONS_METRIC)
        self._mirrors = counter(names.MIRRORS_METRIC)
        self._breaker_opened = counter(names.BREAKER_OPENED_METRIC)
        self._breaker_recovery = histogram(names.BREAKER_RECOVERY_METRIC)
        self._cost = counter(names.COST_METRIC)
        self._unpriced = counter(names.PRICES_UNKNOWN_METRIC)

    def observe(self, record: CallRecord, traced: bool) -> None:
        """Record one call and its attempts; `traced`: its spans are exported, so exemplars may lead to them."""
        with self._lock:
            self._observe_call(record, span_of(record.trace_id, record.span_id) if traced else NO_SPAN)
            for attempt in record.attempts:
                self._observe_attempt(record, attempt, span_of(record.trace_id, attempt.span_id) if traced else NO_SPAN)
            for before, after in pairwise(record.attempts):
                self._observe_next(record, before, after)

    def _observe_call(self, record: CallRecord, span: Context) -> None:
        route: Labels = {} if record.route is None else {names.ROUTE: record.route}
        if record.mirror_of is not None:  # nobody called, and nobody waited
            decisive = decisive_attempt(record)
            target: Labels = {} if decisive is None else {names.TARGET: decisive.target}
            self._mirrors.add(1, {names.OUTCOME: record.outcome.value, **route, **target}, span)
            return
        self._server_duration.record(seconds(record.start_ns, record.end_ns), _server_labels(record), span)
        self._calls.add(1, {names.OUTCOME: record.outcome.value, **route, **_arm(record)}, span)
        before_s = record.overhead_before_ns / 1e9
        for phase, phase_s in (("request", before_s), ("reply", max(0.0, record.overhead_ns / 1e9 - before_s))):
            self._overhead.record(phase_s, {names.PHASE: phase, **route}, span)
        if record.shadow is not None:
            shadow: Labels = {names.SHADOW_ROUTE: record.shadow.route, names.SHADOW_DIFFERS: record.shadow.differs}
            self._shadows.add(1, shadow, span)
        for warning in record.warnings:
            self._budget_warnings.add(1, {names.BUDGET: warning.budget}, span)
        for rule in record.shadow_refusals:
            self._shadow_refusals.add(1, {names.RULE: rule}, span)
        if record.cache is not None:
            self._cache_lookups.add(1, {names.CACHE: record.cache, **route}, span)
        if record.saved_nusd:
            labels: Labels = {**_payer(record.labels), **route}
            if record.requested_model:
                labels[names.REQUEST_MODEL] = record.requested_model
            self._saved.add(usd(record.saved_nusd), labels, span)
        if is_refusal(record):
            code: Labels = {names.REFUSAL_CODE: record.error_type or names.OTHER}
            self._refusals.add(1, code if record.rule is None else {**code, names.RULE: record.rule}, span)

    def _observe_attempt(self, record: CallRecord, attempt: AttemptRecord, span: Context) -> None:
        if record.operation:
            labels = operation_labels(record, attempt)
            for metrics in self._attempts:
                metrics.observe(record, attempt, labels, span)
        if attempt.opened_breaker:
            self._breaker_opened.add(1, {names.TARGET: attempt.target}, span)
        if attempt.recovery_ns is not None:
            self._breaker_recovery.record(attempt.recovery_ns / 1e9, {names.TARGET: attempt.target}, span)
        if not record.billable:
            return
        if attempt.cost is not None:
            self._cost.add(usd(attempt.cost.total_nusd), _cost_labels(record, attempt), span)
        elif attempt.unpriced:
            self._unpriced.add(1, _price_labels(attempt), span)

    def _observe_next(self, record: CallRecord, before: AttemptRecord, after: AttemptRecord) -> None:
        error_type: Labels = {names.ERROR_TYPE: client_error_type(before) or names.OTHER}
        between: Labels = {names.FROM_TARGET: before.target, names.TO_TARGET: after.target}
        match further_of(before, after):
            case "retry":
                self._retries.add(1, {names.TARGET: after.target, **error_type})
            case "failover":
                self._failovers.add(1, between | error_type)
            case "continuation":
                self._continuations.add(1, between | error_type)
            case "hedge":
                self._hedges.add(1, between | {names.HEDGE_WON: after is decisive_attempt(record)})


def _server_labels(record: CallRecord) -> Labels:
    labels: Labels = {
        names.HTTP_METHOD: record.method if record.method in names.KNOWN_METHODS else names.OTHER,
        names.URL_SCHEME: record.scheme,
        names.HTTP_ROUTE: record.http_route,
        names.PROTOCOL_VERSION: record.protocol_version,
    }
    if record.status is not None:
        labels[names.HTTP_STATUS] = record.status
    error_type = server_error_type(record)
    if error_type is not None:
        labels[names.ERROR_TYPE] = error_type
    return labels


def _payer(labels: Mapping[str, str]) -> Labels:
    return {names.LABEL_ATTRIBUTES[label]: labels[label] for label in PAYER_LABELS if label in labels}


def _arm(record: CallRecord) -> Labels:
    if record.experiment is None or record.arm is None:
        return {}
    return {names.EXPERIMENT: record.experiment, names.ARM: record.arm}


def _price_labels(attempt: AttemptRecord) -> Labels:
    labels: Labels = {names.PROVIDER: provider_name(attempt.provider)}
    if attempt.model:
        labels[names.REQUEST_MODEL] = attempt.model
    return labels


def _cost_labels(record: CallRecord, attempt: AttemptRecord) -> Labels:
    labels = _price_labels(attempt) | {names.TARGET: attempt.target} | _payer(record.labels) | _arm(record)
    if record.route is not None:
        labels[names.ROUTE] = record.route
    if record.mirror_of is not None:
        labels[names.MIRRORED] = True
    return labels
