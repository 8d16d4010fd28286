"""A record as metrics. Sampled or not, every call counts.

Here: the instruments and what each records of a call. Not here: names and boundaries (names.py), export.
Tokens that a tokenizer counted, or a bound, stay out of gen_ai.client.token.usage: the conventions allow only what the provider told.
They are in the ledger, on spans with postern.usage_source, and in postern.cost.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from proxy.call import UsageSource
from proxy.observer.counters import DROP_CAUSES, Counters
from proxy.observer.telemetry import names
from proxy.observer.telemetry.attributes import client_error_type, provider_name, server_error_type
from proxy.observer.telemetry.labels import LabelCap
from proxy.records import AttemptRecord, CallRecord

Labels = dict[str, str | int]

_NO_CONTEXT = Context()  # saves the SDK a look for a current span that is never there
_NUSD_PER_USD = 1_000_000_000


class CallMetrics:
    """The instruments of one meter."""

    def __init__(self, meter: Meter, counters: Counters, cap: LabelCap | None = None) -> None:
        self._cap = cap or LabelCap()
        histogram = meter.create_histogram
        self._tokens = histogram(
            names.TOKEN_USAGE_METRIC, names.TOKENS, "Tokens by type", explicit_bucket_boundaries_advisory=names.TOKEN_BOUNDARIES
        )
        self._duration, self._first_chunk = (
            histogram(name, names.SECONDS, what, explicit_bucket_boundaries_advisory=names.OPERATION_BOUNDARIES_S)
            for name, what in (
                (names.OPERATION_DURATION_METRIC, "Duration of one attempt"),
                (names.TIME_TO_FIRST_CHUNK_METRIC, "Time to the first content of a stream"),
            )
        )
        self._server_duration = histogram(
            names.SERVER_DURATION_METRIC, names.SECONDS, "Duration of a call", explicit_bucket_boundaries_advisory=names.SERVER_BOUNDARIES_S
        )
        self._overhead = histogram(
            names.OVERHEAD_METRIC, names.SECONDS, "Postern's own share", explicit_bucket_boundaries_advisory=names.OVERHEAD_BOUNDARIES_S
        )
        self._cost = meter.create_counter(names.COST_METRIC, names.USD, "Cost of attempts")
        self._calls = meter.create_counter(names.CALLS_METRIC, names.CALLS, "Calls by outcome")
        self._unpriced = meter.create_counter(names.PRICES_UNKNOWN_METRIC, names.ATTEMPTS, "Attempts with usage and no known price")
        meter.create_observable_counter(names.DROPPED_METRIC, [_Dropped(counters)], names.ITEMS, "What the observer lost, by cause")

    def observe(self, record: CallRecord) -> None:
        """Record one call and its attempts."""
        self._server_duration.record(_seconds(record.start_ns, record.end_ns), self._server_labels(record), _NO_CONTEXT)
        route: Labels = {} if record.route is None else {names.ROUTE: record.route}
        self._overhead.record(record.overhead_ns / 1e9, route, _NO_CONTEXT)
        self._calls.add(1, {names.OUTCOME: record.outcome.value, **route}, _NO_CONTEXT)
        for attempt in record.attempts:
            if record.operation:
                self._observe_operation(record, attempt)
            if record.billable:
                self._observe_cost(attempt, route)

    def _server_labels(self, record: CallRecord) -> Labels:
        labels: Labels = {
            names.HTTP_METHOD: record.method if record.method in names.KNOWN_METHODS else names.OTHER,
            names.URL_SCHEME: record.scheme,
            names.HTTP_ROUTE: self._cap.admit(names.HTTP_ROUTE, record.http_route),
            names.PROTOCOL_VERSION: record.protocol_version,
        }
        if record.status is not None:
            labels[names.HTTP_STATUS] = record.status
        error_type = server_error_type(record)
        if error_type is not None:
            labels[names.ERROR_TYPE] = self._cap.admit(names.ERROR_TYPE, error_type)
        return labels

    def _observe_operation(self, record: CallRecord, attempt: AttemptRecord) -> None:
        labels = self._operation_labels(record, attempt)
        if record.stream and attempt.first_chunk_ns is not None:
            self._first_chunk.record(_seconds(attempt.start_ns, attempt.first_chunk_ns), labels, _NO_CONTEXT)
        usage = attempt.usage
        if record.billable and usage is not None and usage.source is UsageSource.PROVIDER:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if tokens is not None:
                    self._tokens.record(tokens, {**labels, names.TOKEN_TYPE: kind}, _NO_CONTEXT)
        error_type = client_error_type(attempt)
        if error_type is not None:
            labels[names.ERROR_TYPE] = self._cap.admit(names.ERROR_TYPE, error_type)
        self._duration.record(_seconds(attempt.start_ns, attempt.end_ns), labels, _NO_CONTEXT)

    def _operation_labels(self, record: CallRecord, attempt: AttemptRecord) -> Labels:
        admit = self._cap.admit
        labels: Labels = {
            names.OPERATION: record.operation,
            names.PROVIDER: provider_name(attempt.provider),
            names.SERVER_ADDRESS: attempt.server_address,
            names.SERVER_PORT: attempt.server_port,
        }
        if attempt.model:
            labels[names.REQUEST_MODEL] = admit(names.REQUEST_MODEL, attempt.model)
        if attempt.response_model:
            labels[names.RESPONSE_MODEL] = admit(names.RESPONSE_MODEL, attempt.response_model)
        if attempt.service_tier and attempt.provider == names.OPENAI_PROVIDER:
            labels[names.OPENAI_RESPONSE_SERVICE_TIER] = admit(names.OPENAI_RESPONSE_SERVICE_TIER, attempt.service_tier)
        return labels

    def _observe_cost(self, attempt: AttemptRecord, route: Labels) -> None:
        if attempt.cost is None and not attempt.unpriced:
            return
        labels: Labels = {names.PROVIDER: provider_name(attempt.provider)}
        if attempt.model:
            labels[names.REQUEST_MODEL] = self._cap.admit(names.REQUEST_MODEL, attempt.model)
        if attempt.cost is None:
            self._unpriced.add(1, labels, _NO_CONTEXT)
        else:
            self._cost.add(attempt.cost.total_nusd / _NUSD_PER_USD, {**labels, names.TARGET: attempt.target, **route}, _NO_CONTEXT)


class _Dropped:
    """Reads the counters of what was lost, at export time."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def __call__(self, _options: CallbackOptions) -> Iterable[Observation]:
        totals = self._counters.totals()
        return [Observation(totals[name], {names.DROP_CAUSE: cause}) for name, cause in DROP_CAUSES.items() if name in totals]


def _seconds(start_ns: int, end_ns: int) -> float:
    return max(0, end_ns - start_ns) / 1e9
