from __future__ import annotations

from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from proxy.call import Outcome, Usage, UsageSource
from proxy.observer.telemetry import names
from proxy.records import CHUNK_GAP_BOUNDARIES_S, AttemptRecord, GateReport
from tests.call_records import SECOND_NS, START_NS, attempt_record, call_record
from tests.observer.metric_readings import labelled, measuring, metrics_in, observed, points_in

GEN_1 = "gen_ai.client.operation.duration"
GEN_3 = "gen_ai.client.inference"

failed_attempt: dict[str, Any] = {
    "outcome": Outcome.FAILED, "status": 503, "error_type": "overloaded", "usage": None, "cost": None, "first_chunk_ns": None,
}  # fmt: skip


def streamed(*gaps: int, **changes: Any) -> AttemptRecord:
    """An attempt whose chunks came over 0.5 s, so many after each length of time."""
    counts = [*gaps, *[0] * (len(CHUNK_GAP_BOUNDARIES_S) + 1 - len(gaps))]
    return attempt_record(chunk_gaps=counts, last_chunk_ns=START_NS + 750_000_000, **changes)


def test_one_call_moves_every_instrument_once() -> None:
    points = observed(call_record(attempts=[streamed(3, 1)]))
    assert labelled(points, "gen_ai.client.token.usage", "gen_ai.token.type") == {"input": 100, "output": 20}
    assert labelled(points, GEN_1, "gen_ai.request.model") == {"gpt-4o": 1.0}
    assert labelled(points, "gen_ai.client.operation.time_to_first_chunk", "gen_ai.response.model") == {"gpt-4o-2024-08-06": 0.25}
    assert labelled(points, "gen_ai.client.operation.time_per_output_chunk", "gen_ai.request.model") == {"gpt-4o": 0.5}
    assert labelled(points, "http.server.request.duration", "http.response.status_code") == {200: 1.0}
    assert labelled(points, "postern.calls", "postern.outcome") == {"succeeded": 1}
    assert points["postern.cost"] == [
        (
            {
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "postern.target": "openai",
                "postern.tenant": "shop",
                "postern.route": "everything",
            },
            0.00145,
        )
    ]


def test_overhead_is_told_before_and_after_the_upstream() -> None:
    points = observed(call_record(overhead_ns=250_000, overhead_before_ns=150_000))
    assert labelled(points, "postern.overhead", "postern.phase") == pytest.approx({"request": 0.00015, "reply": 0.0001})


def test_unsampled_calls_are_measured_all_the_same() -> None:
    assert observed(call_record(sampled=False)).keys() == observed(call_record(), traced=True).keys()


def test_calls_whose_ids_are_no_hex_are_measured_all_the_same() -> None:
    assert labelled(observed(call_record(trace_id="junk"), traced=True), "postern.calls", "postern.outcome") == {"succeeded": 1}


def test_estimates_stay_out_of_the_token_metrics() -> None:
    usage = Usage(input_tokens=5, output_tokens=6, source=UsageSource.TOKENIZER)
    points = observed(call_record(attempts=[attempt_record(usage=usage)]), conventions="both")
    assert "gen_ai.client.token.usage" not in points
    assert labelled(points, f"{GEN_3}.usage.input_tokens", "gen_ai.token.modality") == {"unknown": 0}
    assert labelled(points, "postern.cost", "postern.target") == {"openai": 0.00145}


def test_read_is_neither_tokens_nor_cost() -> None:
    points = observed(call_record(billable=False, operation="fetch_response"), conventions="both")
    assert not {"gen_ai.client.token.usage", f"{GEN_3}.usage.input_tokens", "postern.cost"} & points.keys()


def test_unknown_price_is_counted_and_no_cost() -> None:
    points = observed(call_record(attempts=[attempt_record(cost=None, unpriced=True)]))
    assert labelled(points, "postern.prices.unknown", "gen_ai.request.model") == {"gpt-4o": 1}
    assert "postern.cost" not in points


def test_absent_cost_is_no_series() -> None:
    assert "postern.cost" not in observed(call_record(attempts=[attempt_record(cost=None, usage=None)]))


def test_errors_are_labelled() -> None:
    points = observed(call_record(outcome=Outcome.FAILED, status=502, attempts=[attempt_record(**failed_attempt)]))
    assert labelled(points, GEN_1, "error.type") == {"overloaded": 1.0}
    assert labelled(points, "http.server.request.duration", "error.type") == {"502": 1.0}
    assert "gen_ai.client.operation.time_to_first_chunk" not in points


def test_user_is_on_no_metric() -> None:
    call = call_record(labels={"user": "u-4711", "tenant": "shop", "app": "web", "task": "ads", "workflow": "w-4711"}, saved_nusd=5)
    told = {value for found in observed(call, conventions="both").values() for labels, _ in found for value in labels.values()}
    assert {"shop", "web", "ads"} <= told
    assert not {"u-4711", "w-4711"} & told


# -- what happened on the way


def test_failover_is_told_from_where_to_where_and_why() -> None:
    attempts = [attempt_record(**failed_attempt), attempt_record(number=2, target="claude")]
    points = observed(call_record(attempts=attempts))
    assert labelled(points, "postern.failovers", "postern.from", "postern.to", "error.type") == {("openai", "claude", "overloaded"): 1}
    assert "postern.retries" not in points


def test_a_hedge_is_no_failover_and_tells_whether_it_won() -> None:
    slow = attempt_record(outcome=Outcome.ABANDONED, status=None)
    hedge = attempt_record(number=2, target="claude", cause="hedge")
    for answered_by, won in ((None, True), (1, False)):
        points = observed(call_record(attempts=[slow, hedge], answered_by=answered_by))
        assert labelled(points, "postern.hedges", "postern.from", "postern.to", "postern.hedge_won") == {("openai", "claude", won): 1}
        assert "postern.failovers" not in points


def test_a_continuation_is_no_failover() -> None:
    cut = attempt_record(outcome=Outcome.INTERRUPTED, error_type="closed")
    points = observed(call_record(attempts=[cut, attempt_record(number=2, target="claude", cause="continuation", seam_chars=7)]))
    told = labelled(points, "postern.continuations", "postern.from", "postern.to", "error.type")
    assert (told, "postern.failovers" in points) == ({("openai", "claude", "closed"): 1}, False)


def test_a_breaker_that_opened_is_counted_and_its_recovery_timed() -> None:
    points = observed(call_record(attempts=[attempt_record(**failed_attempt, opened_breaker=True)]))
    assert labelled(points, "postern.breaker.opened", "postern.target") == {"openai": 1}
    assert "postern.breaker.recovery" not in points
    points = observed(call_record(attempts=[attempt_record(recovery_ns=15 * SECOND_NS)]))
    assert labelled(points, "postern.breaker.recovery", "postern.target") == {"openai": 15.0}


def test_a_copy_of_a_call_costs_but_is_no_call() -> None:
    points = observed(call_record(mirror_of="call-0"))
    assert labelled(points, "postern.mirrors", "postern.target", "postern.outcome") == {("openai", "succeeded"): 1}
    assert labelled(points, "postern.cost", "postern.target", "postern.mirrored") == {("openai", True): pytest.approx(0.00145)}
    assert not {"postern.calls", "http.server.request.duration", "postern.overhead"} & set(points)


def test_a_call_that_is_no_copy_has_no_such_label() -> None:
    assert all("postern.mirrored" not in labels for found in observed(call_record()).values() for labels, _ in found)


def test_retry_is_no_failover() -> None:
    points = observed(call_record(attempts=[attempt_record(**failed_attempt), attempt_record(number=2)]))
    assert labelled(points, "postern.retries", "postern.target", "error.type") == {("openai", "overloaded"): 1}
    assert "postern.failovers" not in points


def test_refusal_is_told_by_rule_and_code() -> None:
    refused = call_record(attempts=[], outcome=Outcome.THROTTLED, status=429, rule="tenant-day", error_type="budget_exceeded")
    unrouted = call_record(attempts=[], outcome=Outcome.REJECTED, status=404, error_type="no_route")
    points = observed(refused, unrouted, call_record())
    refusals = {("tenant-day", "budget_exceeded"): 1, (None, "no_route"): 1}
    assert labelled(points, "postern.refusals", "postern.rule", "postern.code") == refusals


def test_cache_is_told_by_result_and_what_it_saved() -> None:
    hit = call_record(attempts=[], cache="hit", saved_nusd=2_000_000)
    points = observed(hit, call_record(cache="miss"), call_record(cache="miss"), call_record())
    assert labelled(points, "postern.cache.lookups", "postern.cache") == {"hit": 1, "miss": 2}
    assert labelled(points, "postern.saved", "postern.tenant", "gen_ai.request.model") == {("shop", "smart"): 0.002}


# -- the conventions


def test_latest_conventions_replace_the_first() -> None:
    points = observed(call_record(attempts=[streamed(3, 1)]), conventions="latest")
    first = {row.name for row in names.METRICS if row.generation == "v1_41"}
    assert not first & points.keys()
    assert "gen_ai.client.operation.duration" not in points
    assert labelled(points, f"{GEN_3}.duration", "gen_ai.request.model") == {"gpt-4o": 1.0}
    assert labelled(points, f"{GEN_3}.time_to_first_chunk", "gen_ai.request.model") == {"gpt-4o": 0.25}
    assert labelled(points, f"{GEN_3}.time_per_output_chunk", "gen_ai.request.model") == {"gpt-4o": 0.5}
    assert labelled(points, f"{GEN_3}.operation.input_tokens", "gen_ai.request.model") == {"gpt-4o": 100}
    assert labelled(points, f"{GEN_3}.operation.output_tokens", "gen_ai.request.model") == {"gpt-4o": 20}
    assert labelled(points, f"{GEN_3}.usage.cache_read.input_tokens", "gen_ai.token.modality") == {"unknown": 40}


@pytest.mark.parametrize("conventions", ["v1_41", "latest", "both"])
def test_conventions_send_what_the_table_says(conventions: str) -> None:
    points = observed(call_record(attempts=[streamed(1)]), conventions=conventions)
    told = {name for name in points if name.startswith("gen_ai.")}
    others = {row.name for row in names.METRICS if row.generation not in ("", conventions)} if conventions != "both" else set()
    assert not told & others
    assert told


def test_both_conventions_tell_a_duration_once_each() -> None:
    points = observed(call_record(), call_record(operation="embeddings", stream=False), conventions="both")
    assert labelled(points, GEN_1, "gen_ai.operation.name") == {"chat": 1.0, "embeddings": 1.0}
    assert labelled(points, f"{GEN_3}.duration", "gen_ai.operation.name") == {"chat": 1.0}


def test_latest_conventions_keep_the_first_duration_for_what_is_no_inference() -> None:
    points = observed(call_record(operation="embeddings", stream=False), conventions="latest")
    assert labelled(points, GEN_1, "gen_ai.operation.name") == {"embeddings": 1.0}


def test_failures_count_no_tokens_of_an_unknown_kind() -> None:
    points = observed(call_record(attempts=[attempt_record(**failed_attempt)]), conventions="latest")
    for direction in ("input", "output"):
        assert labelled(points, f"{GEN_3}.usage.{direction}_tokens", "gen_ai.token.modality") == {"unknown": 0}
        assert f"{GEN_3}.operation.{direction}_tokens" not in points


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(input_tokens=100), {"unknown": 100}),
        (Usage(input_tokens=100, input_audio_tokens=30), {"audio": 30, "unknown": 70}),
        (Usage(input_tokens=100, input_audio_tokens=30, input_image_tokens=20), {"audio": 30, "image": 20, "text": 50}),
        (Usage(input_tokens=100, input_audio_tokens=0, input_image_tokens=0), {"text": 100}),
        (Usage(input_tokens=10, input_audio_tokens=30), {"audio": 30}),
    ],
)
def test_tokens_are_text_only_where_that_can_be_known(usage: Usage, expected: dict[str, int]) -> None:
    points = observed(call_record(attempts=[attempt_record(usage=usage)]), conventions="latest")
    assert labelled(points, f"{GEN_3}.usage.input_tokens", "gen_ai.token.modality") == expected


# -- buckets


def test_histograms_have_the_buckets_of_the_table() -> None:
    with measuring(conventions="both") as pipeline:
        pipeline.observe(call_record(attempts=[msgspec.structs.replace(streamed(1), recovery_ns=SECOND_NS)]), traced=False)
        bounds = {
            name: tuple(point.explicit_bounds)
            for name, metric in metrics_in(pipeline.read()).items()
            for point in metric.data.data_points
            if isinstance(point, HistogramDataPoint)
        }
    rows = {row.name: row.boundaries for row in names.METRICS if row.instrument == "histogram"}
    assert bounds == rows


def test_times_between_chunks_arrive_in_the_buckets_the_gate_put_them() -> None:
    with measuring() as pipeline:
        pipeline.observe(call_record(attempts=[streamed(3, 1)]), traced=False)
        pipeline.observe(call_record(attempts=[streamed(0, 5)]), traced=False)
        (point,) = metrics_in(pipeline.read())["gen_ai.client.operation.time_per_output_chunk"].data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert (list(point.bucket_counts)[:3], point.count, point.sum) == ([3, 6, 0], 9, 1.0)
    assert point.min is None, "nobody knows the shortest"


def test_buckets_of_another_number_are_left_out() -> None:
    attempt = attempt_record(chunk_gaps=[1, 2], last_chunk_ns=START_NS + 750_000_000)
    assert "gen_ai.client.operation.time_per_output_chunk" not in observed(call_record(attempts=[attempt]))


# -- the gate


def test_gates_report_is_told() -> None:
    report = GateReport(3, {"queue_full": 2}, {"openai": "open"}, {"tenant-day": 0.5}, {"busy": 4})
    with measuring() as pipeline:
        pipeline.take_report(report)
        points = points_in(pipeline.read())
    assert points["postern.calls.in_flight"] == [({}, 3)]
    assert labelled(points, "postern.breaker.state", "postern.state") == {"closed": 0, "open": 1, "half_open": 0}
    assert labelled(points, "postern.budget.used_ratio", "postern.budget") == {"tenant-day": 0.5}
    assert labelled(points, "postern.observer.dropped", "postern.cause")["gate_queue_full"] == 2
    assert labelled(points, "postern.mirrors.dropped", "postern.cause") == {"busy": 4}


def test_target_that_left_the_report_leaves_the_metrics() -> None:
    with measuring() as pipeline:
        pipeline.take_report(GateReport(breakers={"openai": "open"}))
        pipeline.read()
        pipeline.take_report(GateReport())
        assert "postern.breaker.state" not in points_in(pipeline.read())
