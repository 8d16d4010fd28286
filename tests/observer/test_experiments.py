"""The arm of a call is told in its span, in the metrics that compare arms, and in the ledger."""

from __future__ import annotations

import json

from proxy.observer.ledger.rows import sql_row
from proxy.records import PlanRecord
from tests.call_records import call_record
from tests.observer.decoded_spans import attributes, spans_of
from tests.observer.metric_readings import labelled, observed

CALL = call_record(experiment="terse", arm="a", plan=PlanRecord("priority", [("openai", None, "the only target")], []))


def test_arm_is_on_the_server_span() -> None:
    told = attributes(spans_of(CALL)[0])
    assert (told["postern.experiment"], told["postern.arm"]) == ("terse", "a")


def test_calls_and_cost_are_counted_by_arm() -> None:
    points = observed(CALL, call_record())
    assert labelled(points, "postern.calls", "postern.experiment", "postern.arm") == {("terse", "a"): 1, (None, None): 1}
    assert labelled(points, "postern.cost", "postern.arm") == {"a": 0.00145, None: 0.00145}


def test_arm_is_in_the_decision_of_the_ledger() -> None:
    decision = sql_row(CALL)[-2]
    assert isinstance(decision, str)
    assert json.loads(decision)["experiment"] == {"name": "terse", "arm": "a"}
