from __future__ import annotations

import json
from pathlib import Path

from proxy.call import Outcome, Usage, UsageSource
from proxy.observer.ledger.rows import sql_row
from proxy.observer.ledger.show import run_calls
from proxy.observer.ledger.store import LEDGER_NAME, LedgerFile
from tests.call_records import attempt_record, call_record


def record_calls(state_dir: Path, *calls: object) -> None:
    ledger = LedgerFile(state_dir / LEDGER_NAME)
    ledger.insert([sql_row(call) for call in calls])  # type: ignore[arg-type]
    ledger.close()


def shown(state_dir: Path, limit: int = 20, as_json: bool = False, colour: bool = False) -> list[str]:
    written: list[str] = []
    assert run_calls(str(state_dir), False, as_json, limit, written.append, lambda: False, colour) == 0
    return "".join(written).splitlines()


def test_table_tells_a_call_within_120_columns(tmp_path: Path) -> None:
    record_calls(tmp_path, call_record(), call_record(call_id="2", attempts=[attempt_record(model="m" * 99, target="t" * 99)]))
    heading, first, second = shown(tmp_path)
    assert heading.split() == ["time", "(UTC)", "model", "target", "outcome", "in", "out", "cost", "$", "seconds", "first", "s", "cache"]
    assert first.split() == ["14:13:20.000", "gpt-4o", "openai", "200", "succeeded", "100", "20", "0.00145", "1.000", "0.250", "-"]
    assert all(len(line) <= 120 for line in (heading, first, second))


def test_unknown_is_a_dash_and_an_estimate_is_marked(tmp_path: Path) -> None:
    estimated = attempt_record(usage=Usage(input_tokens=7, source=UsageSource.TOKENIZER), cost=None)
    record_calls(tmp_path, call_record(outcome=Outcome.ABANDONED, status=None, first_chunk_ns=None, attempts=[estimated]))
    assert shown(tmp_path)[1].split()[3:] == ["-", "abandoned", "~7", "-", "-", "1.000", "-", "-"]


def test_model_name_cannot_control_the_terminal(tmp_path: Path) -> None:
    record_calls(tmp_path, call_record(attempts=[attempt_record(model="\x1b[2Jgone\n")]))
    lines = shown(tmp_path)
    assert len(lines) == 2
    assert "\x1b" not in lines[1]


def test_colour_only_when_asked_for(tmp_path: Path) -> None:
    record_calls(tmp_path, call_record())
    assert "\x1b[" not in shown(tmp_path)[1]
    assert "\x1b[32m200 succeeded" in shown(tmp_path, colour=True)[1]


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    record_calls(tmp_path, call_record(), call_record(call_id="call-2"))
    assert [json.loads(line)["call_id"] for line in shown(tmp_path, as_json=True)] == ["call-1", "call-2"]


def test_limit_keeps_the_newest(tmp_path: Path) -> None:
    record_calls(tmp_path, call_record(), call_record(call_id="call-2"))
    assert [json.loads(line)["call_id"] for line in shown(tmp_path, limit=1, as_json=True)] == ["call-2"]


def test_missing_ledger_is_told_with_what_to_do(tmp_path: Path) -> None:
    written: list[str] = []
    assert run_calls(str(tmp_path), False, False, 5, written.append, lambda: False) == 1
    assert "No ledger at" in written[0]
    assert "postern serve" in written[0]


def test_follow_waits_for_the_ledger_and_shows_each_call_once(tmp_path: Path) -> None:
    written: list[str] = []
    steps = iter([call_record(), call_record(call_id="call-2"), None, None])

    def wait() -> bool:
        call = next(steps, None)
        if call is not None:
            record_calls(tmp_path, call)
        return call is not None

    assert run_calls(str(tmp_path), True, True, 5, written.append, wait) == 0
    assert [json.loads(line)["call_id"] for line in written] == ["call-1", "call-2"]


def test_unreadable_ledger_is_told(tmp_path: Path) -> None:
    (tmp_path / LEDGER_NAME).write_bytes(b"not a database at all, whatever it may be" * 100)
    written: list[str] = []
    assert run_calls(str(tmp_path), False, False, 5, written.append, lambda: False) == 1
    assert "can't be read" in written[0]
