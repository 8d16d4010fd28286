"""What was said is kept in the ledger where the record says so, shown only where it is asked for; older ledgers get room for it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from proxy.observer.ledger.read import read_calls
from proxy.observer.ledger.rows import COLUMNS, SqlRow, sql_row
from proxy.observer.ledger.show import run_calls
from proxy.observer.ledger.store import LEDGER_NAME, SCHEMA_VERSION, LedgerFile
from proxy.records import Content
from tests.call_records import call_record

INPUT = '[{"role":"user","parts":[{"type":"text","content":"Hello"}]}]'
OUTPUT = '[{"role":"assistant","parts":[],"finish_reason":"stop"}]'


def content(*to: str) -> Content:
    return Content(list(to), input_messages=INPUT, output_messages=OUTPUT)


def written(folder: Path, *rows: SqlRow) -> Path:
    ledger = LedgerFile(folder / LEDGER_NAME)
    ledger.insert(rows)
    ledger.close()
    return folder / LEDGER_NAME


def shown(folder: Path, with_content: bool) -> list[dict[str, object]]:
    lines: list[str] = []
    assert run_calls(str(folder), False, True, 10, lines.append, lambda: False, with_content=with_content) == 0
    return [json.loads(line) for line in lines]


def test_content_is_kept_and_shown_only_on_demand(tmp_path: Path) -> None:
    written(tmp_path, sql_row(call_record(content=content("span", "ledger"))))
    assert "content" not in shown(tmp_path, with_content=False)[0]
    said = shown(tmp_path, with_content=True)[0]["content"]
    assert said == {"input_messages": json.loads(INPUT), "output_messages": json.loads(OUTPUT)}


def test_content_for_elsewhere_is_not_kept(tmp_path: Path) -> None:
    path = written(tmp_path, sql_row(call_record(content=content("span", "event"))))
    assert b"Hello" not in path.read_bytes()
    assert "content" not in shown(tmp_path, with_content=True)[0]


def test_decision_cache_and_what_it_saved_are_kept(tmp_path: Path) -> None:
    written(tmp_path, sql_row(call_record(decision="a>b/c", cache="hit", saved_nusd=1_500_000)))
    (call,) = shown(tmp_path, with_content=False)
    assert (call["decision"], call["cache"], call["saved_usd"]) == ("a>b/c", "hit", 0.0015)


def ledger_of_version_1(folder: Path, *rows: SqlRow) -> Path:
    path = folder / LEDGER_NAME
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    declared = ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())
    database.execute(f"CREATE TABLE calls (id INTEGER PRIMARY KEY, {declared})")
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    database.executemany(f"INSERT INTO calls ({names}) VALUES ({', '.join('?' * len(COLUMNS))})", [row[:-1] for row in rows])
    database.execute("PRAGMA user_version=1")
    database.commit()
    database.close()
    return path


def test_older_ledger_is_taken_over_with_its_calls(tmp_path: Path) -> None:
    path = ledger_of_version_1(tmp_path, sql_row(call_record(call_id="old")))
    written(tmp_path, sql_row(call_record(call_id="new", content=content("ledger"))))
    assert [(call["call_id"], "content" in call) for call in shown(tmp_path, with_content=True)] == [("old", False), ("new", True)]
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    database.close()
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_older_ledger_can_be_read_before_its_observer_has_opened_it(tmp_path: Path) -> None:
    path = ledger_of_version_1(tmp_path, sql_row(call_record()))
    assert [row.call_id for row in read_calls(path, None, 10, with_content=True)] == ["call-1"]
    assert [row.content for row in read_calls(path, 0, 10, with_content=True)] == [None]


def test_taking_over_is_done_once_and_again_if_it_was_cut(tmp_path: Path) -> None:
    ledger_of_version_1(tmp_path, sql_row(call_record()))
    for _ in range(2):
        LedgerFile(tmp_path / LEDGER_NAME).close()
    assert len(read_calls(tmp_path / LEDGER_NAME, None, 10)) == 1
