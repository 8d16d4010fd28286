"""A decision is an object in the ledger where the call had a choice of targets, and a line where it had none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.call import Outcome
from proxy.observer.ledger.read import read_calls
from proxy.observer.ledger.rows import COLUMNS, row_json, sql_row
from proxy.observer.ledger.store import LEDGER_NAME, LedgerFile
from proxy.records import CallRecord, PlanRecord, decode_record, encode_record
from tests.call_records import attempt_record, call_record

PLAN = PlanRecord("weighted", [("openai", None, "drawn with weight 3"), ("claude", "claude-sonnet-5", "drawn with weight 1")], [])
STEPS = [
    {"target": "openai", "why": "drawn with weight 3"},
    {"target": "claude", "model": "claude-sonnet-5", "why": "drawn with weight 1"},
]


def sent(record: CallRecord) -> CallRecord:
    """The record as it arrives at the observer."""
    return decode_record(encode_record(record)[4:])


def shown(folder: Path, record: CallRecord) -> object:
    folder.mkdir(exist_ok=True)
    ledger = LedgerFile(folder / LEDGER_NAME)
    ledger.insert([sql_row(sent(record))])
    ledger.close()
    (row,) = read_calls(folder / LEDGER_NAME, None, 10)
    return json.loads(row_json(row))["decision"]


def test_choice_is_an_object(tmp_path: Path) -> None:
    told = shown(tmp_path, call_record(route="ads", decision="ads>openai/gpt-4o,claude/claude-sonnet-5", plan=PLAN))
    assert told == {"route": "ads", "strategy": "weighted", "steps": STEPS}


def test_what_was_left_out_stands_beside_it(tmp_path: Path) -> None:
    plan = PlanRecord("priority", PLAN.steps[:1], [("local", None, "its breaker is open")], last_resort=True)
    told = shown(tmp_path, call_record(route="ads", plan=plan))
    dropped = [{"target": "local", "why": "its breaker is open"}]
    assert told == {"route": "ads", "strategy": "priority", "steps": STEPS[:1], "dropped": dropped, "last_resort": True}


def test_several_attempts_stand_in_it_with_what_became_of_each(tmp_path: Path) -> None:
    attempts = [
        attempt_record(outcome=Outcome.INTERRUPTED, error_type="closed", opened_breaker=True),
        attempt_record(number=2, target="claude", cause="continuation", seam_chars=7, recovery_ns=1_500_000_000),
    ]
    told = shown(tmp_path, call_record(route="ads", plan=PLAN, attempts=attempts))
    assert isinstance(told, dict)
    assert told["attempts"] == [
        {"target": "openai", "outcome": "interrupted", "error": "closed", "opened_breaker": True},
        {"target": "claude", "outcome": "succeeded", "cause": "continuation", "seam_chars": 7, "answered": True, "recovery_s": 1.5},
    ]


def test_of_a_hedge_it_says_who_answered(tmp_path: Path) -> None:
    attempts = [attempt_record(), attempt_record(number=2, target="claude", cause="hedge", outcome=Outcome.ABANDONED)]
    told = shown(tmp_path, call_record(route="ads", plan=PLAN, attempts=attempts, answered_by=1))
    assert isinstance(told, dict)
    assert told["attempts"] == [
        {"target": "openai", "outcome": "succeeded", "answered": True},
        {"target": "claude", "outcome": "abandoned", "cause": "hedge"},
    ]


def test_one_attempt_stands_in_it_only_if_a_breaker_changed_by_it(tmp_path: Path) -> None:
    told = shown(tmp_path, call_record(route="ads", plan=PLAN))
    assert isinstance(told, dict)
    assert "attempts" not in told
    closed = call_record(call_id="call-2", route="ads", plan=PLAN, attempts=[attempt_record(recovery_ns=0)])
    assert "recovery_s" in shown(tmp_path / "closed", closed)["attempts"][0]  # type: ignore[index]


def test_the_row_names_the_target_that_answered() -> None:
    attempts = [attempt_record(), attempt_record(number=2, target="claude", cause="hedge")]
    row = dict(zip(COLUMNS, sql_row(call_record(attempts=attempts, answered_by=1)), strict=False))
    assert (row["target"], row["attempts"]) == ("openai", 2)


@pytest.mark.parametrize("line", ["default>openai/gpt-4o", '{"route":x}>openai', '{"a":1'])
def test_line_stays_a_line_whatever_the_routes_name(tmp_path: Path, line: str) -> None:
    assert shown(tmp_path, call_record(decision=line)) == line


def test_decision_of_a_call_that_was_refused_before_it_is_absent() -> None:
    assert sql_row(sent(call_record(decision=None)))[-2] is None
