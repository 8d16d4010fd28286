from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

from proxy.call import Outcome, Usage, UsageSource
from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.telemetry import names
from proxy.observer.telemetry.labels import LabelCap
from proxy.observer.telemetry.metrics import CallMetrics
from proxy.records import CallRecord
from tests.call_records import attempt_record, call_record

Points = dict[str, list[tuple[Mapping[str, object], float]]]


def observed(*records: CallRecord, totals: Counters | None = None, cap: LabelCap | None = None) -> Points:
    """What a collector would get: by metric, labels and value (the sum, for histograms)."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    metrics = CallMetrics(provider.get_meter("postern"), totals or Counters(), cap)
    for record in records:
        metrics.observe(record)
    data = reader.get_metrics_data()
    found: Points = {}
    for resource in data.resource_metrics if data is not None else []:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found[metric.name] = [(point.attributes or {}, value_of(point)) for point in metric.data.data_points]
    provider.shutdown()
    return found


def value_of(point: object) -> float:
    if isinstance(point, HistogramDataPoint):
        return point.sum
    assert isinstance(point, NumberDataPoint)
    return point.value


def labelled(points: Points, metric: str, label: str) -> dict[object, float]:
    return {labels.get(label): value for labels, value in points.get(metric, [])}


def test_a_call_is_measured() -> None:
    points = observed(call_record())
    assert labelled(points, "gen_ai.client.token.usage", "gen_ai.token.type") == {"input": 100, "output": 20}
    assert labelled(points, "gen_ai.client.operation.duration", "gen_ai.request.model") == {"gpt-4o": 1.0}
    assert labelled(points, "gen_ai.client.operation.time_to_first_chunk", "gen_ai.response.model") == {"gpt-4o-2024-08-06": 0.25}
    assert labelled(points, "http.server.request.duration", "http.response.status_code") == {200: 1.0}
    assert labelled(points, "postern.calls", "postern.outcome") == {"succeeded": 1}
    assert labelled(points, "postern.overhead", "postern.route") == {"everything": 0.00025}
    assert points["postern.cost"] == [
        (
            {
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "postern.target": "openai",
                "postern.route": "everything",
            },
            0.00145,
        )
    ]


def test_unsampled_calls_are_measured_all_the_same() -> None:
    assert observed(call_record(sampled=False)).keys() == observed(call_record()).keys()


def test_estimates_stay_out_of_the_token_metric() -> None:
    usage = Usage(input_tokens=5, output_tokens=6, source=UsageSource.TOKENIZER)
    points = observed(call_record(attempts=[attempt_record(usage=usage)]))
    assert "gen_ai.client.token.usage" not in points
    assert labelled(points, "postern.cost", "postern.target") == {"openai": 0.00145}


def test_read_is_neither_tokens_nor_cost() -> None:
    points = observed(call_record(billable=False, operation="fetch_response"))
    assert not {"gen_ai.client.token.usage", "postern.cost"} & points.keys()


def test_unknown_price_is_counted_and_no_cost() -> None:
    points = observed(call_record(attempts=[attempt_record(cost=None, unpriced=True)]))
    assert labelled(points, "postern.prices.unknown", "gen_ai.request.model") == {"gpt-4o": 1}
    assert "postern.cost" not in points


def test_absent_cost_is_no_series() -> None:
    assert "postern.cost" not in observed(call_record(attempts=[attempt_record(cost=None, usage=None)]))


def test_errors_are_labelled() -> None:
    failed = attempt_record(outcome=Outcome.FAILED, status=503, error_type="overloaded", usage=None, cost=None, first_chunk_ns=None)
    points = observed(call_record(outcome=Outcome.FAILED, status=502, attempts=[failed]))
    assert labelled(points, "gen_ai.client.operation.duration", "error.type") == {"overloaded": 1.0}
    assert labelled(points, "http.server.request.duration", "error.type") == {"502": 1.0}
    assert "gen_ai.client.operation.time_to_first_chunk" not in points


def test_label_values_are_capped() -> None:
    calls = [call_record(attempts=[attempt_record(model=f"junk-{number}", response_model=None)]) for number in range(8)]
    models = labelled(observed(*calls, cap=LabelCap(5)), "gen_ai.client.operation.duration", "gen_ai.request.model")
    assert models == {**{f"junk-{number}": 1.0 for number in range(5)}, "_OTHER": 3.0}


def test_a_value_once_admitted_stays() -> None:
    cap = LabelCap(1)
    assert [cap.admit("x", value) for value in ("a", "b", "a")] == ["a", "_OTHER", "a"]


def test_a_label_as_long_as_a_book_is_not_kept() -> None:
    assert LabelCap().admit("x", "y" * 1000) == "_OTHER"


def test_what_the_observer_lost_is_told_by_cause() -> None:
    totals = Counters()
    totals.drop_spans(counters.DROPPED_SPANS_QUEUE_FULL, 3)
    totals.add(counters.DECODE_ERRORS)
    lost = labelled(observed(totals=totals), "postern.observer.dropped", "postern.cause")
    assert lost == {"spans_queue_full": 3, "undecodable": 1}


def test_every_cause_of_loss_is_told() -> None:
    causes = {value for name, value in vars(counters).items() if name.startswith("DROPPED_") and name != "DROPPED_SPANS"}
    assert causes | {counters.DECODE_ERRORS} == set(counters.DROP_CAUSES)


def test_durations_have_the_conventions_buckets() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    CallMetrics(provider.get_meter("postern"), Counters()).observe(call_record())
    data = reader.get_metrics_data()
    assert data is not None
    bounds = {
        metric.name: tuple(point.explicit_bounds)
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
        if isinstance(point, HistogramDataPoint)
    }
    provider.shutdown()
    assert bounds == {
        "gen_ai.client.token.usage": names.TOKEN_BOUNDARIES,
        "gen_ai.client.operation.duration": names.OPERATION_BOUNDARIES_S,
        "gen_ai.client.operation.time_to_first_chunk": names.OPERATION_BOUNDARIES_S,
        "http.server.request.duration": names.SERVER_BOUNDARIES_S,
        "postern.overhead": names.OVERHEAD_BOUNDARIES_S,
    }
