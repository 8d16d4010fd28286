from __future__ import annotations

from collections.abc import Mapping

import pytest
from opentelemetry.sdk.metrics import Exemplar

from proxy.observer.telemetry.metrics.pipeline import MetricPipeline
from tests.call_records import attempt_record, call_record
from tests.observer.metric_readings import measuring, metrics_in

TRACE, SERVER, CLIENT = int("a" * 32, 16), int("c" * 16, 16), int("b" * 16, 16)


def exemplars(pipeline: MetricPipeline) -> dict[str, list[Exemplar]]:
    metrics = metrics_in(pipeline.read())
    return {name: [one for point in metric.data.data_points for one in getattr(point, "exemplars", ())] for name, metric in metrics.items()}


def exemplars_after(environment: Mapping[str, str], *, traced: bool, conventions: str = "both") -> dict[str, list[Exemplar]]:
    with measuring(environment=environment, conventions=conventions) as pipeline:
        call = call_record(attempts=[attempt_record(), attempt_record(number=2)], labels={"user": "u-4711", "tenant": "shop"})
        pipeline.observe(call, traced)
        return {name: found for name, found in exemplars(pipeline).items() if found}


def test_exemplars_lead_to_the_span_of_what_was_measured() -> None:
    for name, found in exemplars_after({}, traced=True).items():
        span = CLIENT if name.startswith("gen_ai.") or name == "postern.cost" else SERVER
        assert {(one.trace_id, one.span_id) for one in found} == {(TRACE, span)}, name


def test_durations_tokens_and_money_have_exemplars() -> None:
    wanted = {"http.server.request.duration", "gen_ai.client.operation.duration", "gen_ai.client.inference.duration", "postern.cost"}
    assert wanted <= exemplars_after({}, traced=True).keys()


def test_exemplars_carry_no_labels_of_their_own() -> None:
    found = [one for listed in exemplars_after({}, traced=True).values() for one in listed]
    assert {bool(one.filtered_attributes) for one in found} == {False}


def test_call_without_spans_has_no_exemplar() -> None:
    assert exemplars_after({}, traced=False) == {}


def test_environment_switches_exemplars_off() -> None:
    assert exemplars_after({"OTEL_METRICS_EXEMPLAR_FILTER": "always_off"}, traced=True) == {}


def test_environment_may_ask_for_exemplars_of_everything() -> None:
    found = exemplars_after({"OTEL_METRICS_EXEMPLAR_FILTER": "always_on"}, traced=False)
    assert {one.trace_id for one in found["postern.calls"]} == {None}


def test_unknown_filter_is_said_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert exemplars_after({"OTEL_METRICS_EXEMPLAR_FILTER": "sometimes"}, traced=True)
    assert "'sometimes' isn't supported" in caplog.text


def test_one_reader_does_not_take_anothers_exemplars() -> None:
    with measuring() as pipeline:
        pipeline.observe(call_record(), traced=True)
        assert exemplars(pipeline)["postern.calls"] == exemplars(pipeline)["postern.calls"] != []


def test_newest_call_is_the_example_of_its_bucket() -> None:
    with measuring() as pipeline:
        pipeline.observe(call_record(), traced=True)
        pipeline.observe(call_record(trace_id="e" * 32), traced=True)
        (found,) = exemplars(pipeline)["http.server.request.duration"]
    assert found.trace_id == int("e" * 32, 16)
