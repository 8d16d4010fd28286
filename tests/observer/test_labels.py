from __future__ import annotations

from pathlib import Path

from proxy.observer.telemetry import names
from proxy.observer.telemetry.metrics.labels import CLOSED_LABELS, MAX_CHARS, MAX_SETS, MAX_VALUES, Folded, LabelCap
from tests.call_records import attempt_record, call_record
from tests.observer.metric_readings import labelled, measuring, observed, points_in

DISTINCT = 10_000
CALLS = 30_000
MAX_GROWTH_BYTES = 64 << 20


def cap(max_values: int = 2, max_sets: int = 100) -> LabelCap:
    return LabelCap("postern.cost", Folded(), max_values, max_sets)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_values_beyond_the_cap_become_other() -> None:
    model = cap()
    assert [model.admit({"m": value})["m"] for value in ("a", "b", "c", "a")] == ["a", "b", "_OTHER", "a"]


def test_one_wild_label_costs_the_others_nothing() -> None:
    both = cap()
    told = [both.admit({"model": f"m-{number}", "tenant": "shop"}) for number in range(9)]
    assert {labels["tenant"] for labels in told} == {"shop"}
    assert {labels["model"] for labels in told} == {"m-0", "m-1", "_OTHER"}


def test_one_metric_costs_another_nothing() -> None:
    folded = Folded()
    first, second = LabelCap("a", folded, 1), LabelCap("b", folded, 1)
    assert first.admit({"m": "x"}) == {"m": "x"}
    assert second.admit({"m": "y"}) == {"m": "y"}


def test_sets_beyond_the_cap_keep_only_labels_of_our_own() -> None:
    sets = cap(max_values=100, max_sets=3)
    told = [sets.admit({"model": f"m-{number}", names.OUTCOME: "failed"}) for number in range(5)]
    assert told[2:] == [{"model": model, names.OUTCOME: "failed"} for model in ("m-2", "_OTHER", "_OTHER")]


def test_a_set_once_admitted_stays() -> None:
    sets = cap(max_values=100, max_sets=1)
    assert [sets.admit({"m": value})["m"] for value in ("a", "b", "a")] == ["a", "_OTHER", "a"]


def test_labels_of_our_own_are_never_folded() -> None:
    many = cap(max_values=1)
    for label in CLOSED_LABELS:
        assert [many.admit({label: value})[label] for value in ("a", "b", "c")] == ["a", "b", "c"]


def test_a_value_as_long_as_a_book_is_not_kept() -> None:
    assert cap().admit({"m": "x" * (MAX_CHARS + 1)}) == {"m": "_OTHER"}


def test_numbers_from_outside_are_capped_too() -> None:
    status = cap()
    assert [status.admit({"s": number})["s"] for number in (200, 299, 298)] == [200, 299, "_OTHER"]


def test_what_was_folded_is_told_by_metric_and_label() -> None:
    calls = [call_record(attempts=[attempt_record(model=f"junk-{number}", response_model=None)]) for number in range(8)]
    points = observed(*calls, max_values=5)
    folds = labelled(points, "postern.labels.folded", "postern.metric", "postern.label")
    assert folds["postern.cost", "gen_ai.request.model"] == 3
    assert folds["gen_ai.client.operation.duration", "gen_ai.request.model"] == 3
    models = labelled(points, "gen_ai.client.operation.duration", "gen_ai.request.model")
    assert models == {**{f"junk-{number}": 1.0 for number in range(5)}, "_OTHER": 3.0}


def test_thousands_of_tenants_users_and_models_stay_within_bounds() -> None:
    with measuring() as pipeline:
        pipeline.observe(call_record(), traced=True)
        before = resident_bytes()
        for number in range(CALLS):
            name = number % DISTINCT
            attempt = attempt_record(model=f"model-{name}", response_model=f"model-{name}-{number % 13}")
            labels = {"tenant": f"tenant-{name}", "user": f"user-{name}", "app": f"app-{number % 7919}", "task": f"task-{number % 6007}"}
            pipeline.observe(call_record(http_route=f"/junk/{name}", labels=labels, attempts=[attempt]), traced=True)
        growth = resident_bytes() - before
        points = points_in(pipeline.read())
    assert growth < MAX_GROWTH_BYTES
    assert len(points["postern.cost"]) <= MAX_SETS + 1
    assert {metric: len(found) for metric, found in points.items() if len(found) > MAX_SETS + MAX_VALUES} == {}
    assert sum(value for _, value in points["postern.calls"]) == CALLS + 1, "folded, and counted all the same"
    assert not [labels for found in points.values() for labels, _ in found if "otel.metric.overflow" in labels]
