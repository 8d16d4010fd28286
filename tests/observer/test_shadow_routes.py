"""What a route in shadow would have done is told in the span, in a metric and in the ledger."""

from __future__ import annotations

import json
from pathlib import Path

from proxy.observer.ledger.read import read_calls
from proxy.observer.ledger.rows import row_json, sql_row
from proxy.observer.ledger.store import LEDGER_NAME, LedgerFile
from proxy.observer.telemetry.metrics.prometheus import render
from proxy.records import PlanRecord, ShadowRecord, decode_record, encode_record
from tests.call_records import call_record
from tests.observer.decoded_spans import attributes, spans_of
from tests.observer.metric_readings import labelled, measuring, observed

PLAN = PlanRecord("priority", [("openai", None, "the only target")], [])
WOULD = PlanRecord("cheapest", [("claude", "claude-sonnet-5", "$0.001 expected")], [("local", None, "its breaker is open")])


def shadow(differs: bool = True, route: str = "try") -> ShadowRecord:
    return ShadowRecord(route, f"{route}>claude/claude-sonnet-5", WOULD, differs)


def test_shadow_is_on_the_server_span() -> None:
    spans = spans_of(call_record(shadow=shadow()))
    told = attributes(spans[0])
    assert (told["postern.shadow"], told["postern.shadow_differs"]) == ("try>claude/claude-sonnet-5", True)
    assert not [name for name in attributes(spans[1]) if name.startswith("postern.shadow")]


def test_call_without_a_shadow_tells_of_none() -> None:
    assert not [name for name in attributes(spans_of(call_record())[0]) if name.startswith("postern.shadow")]
    assert "postern.shadow.calls" not in observed(call_record())


def test_shadows_are_counted_by_route_and_whether_they_differ() -> None:
    records = [call_record(shadow=shadow(differs)) for differs in (True, True, False)] + [call_record(shadow=shadow(route="other"))]
    counts = labelled(observed(*records), "postern.shadow.calls", "postern.shadow_route", "postern.shadow_differs")
    assert counts == {("try", True): 2, ("try", False): 1, ("other", True): 1}


def test_prometheus_page_writes_the_label_as_a_collector_does() -> None:
    with measuring() as pipeline:
        pipeline.observe(call_record(shadow=shadow()), False)
        page = render(pipeline.read(), openmetrics=False).decode()
    assert 'postern_shadow_calls_total{postern_shadow_route="try",postern_shadow_differs="true"} 1' in page


def test_ledger_keeps_the_shadow_within_the_decision(tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / LEDGER_NAME)
    record = call_record(route="all", decision="all>openai/gpt-4o", plan=PLAN, shadow=shadow())
    ledger.insert([sql_row(decode_record(encode_record(record)[4:]))])
    ledger.close()
    (row,) = read_calls(tmp_path / LEDGER_NAME, None, 10)
    assert json.loads(row_json(row))["decision"] == {
        "route": "all",
        "strategy": "priority",
        "steps": [{"target": "openai", "why": "the only target"}],
        "shadow": {
            "route": "try",
            "strategy": "cheapest",
            "steps": [{"target": "claude", "model": "claude-sonnet-5", "why": "$0.001 expected"}],
            "dropped": [{"target": "local", "why": "its breaker is open"}],
            "differs": True,
        },
    }
