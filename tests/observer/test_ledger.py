from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.call import Cost, Outcome, Usage, usd_text
from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.ledger import store
from proxy.observer.ledger.read import read_calls
from proxy.observer.ledger.rows import COLUMNS, CONTENT_COLUMN, Row, SqlRow, iso_time, row_json, sql_row
from proxy.observer.ledger.store import SCHEMA_VERSION, LedgerFile
from proxy.observer.ledger.writer import LedgerWriter
from proxy.observer.progress import Party, Progress
from proxy.records import CallRecord
from tests.call_records import START_NS, attempt_record, call_record

WAIT_S = 10.0
CONTRACT = (
    "call_id time trace_id method path route target provider requested_model model stream status outcome error attempts "
    "input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens usage_source cost_usd saved_usd cache duration_ms "
    "first_chunk_ms overhead_ms tenant user app key task workflow step tags decision"
)


class Acknowledgements:
    """Waits until the writer has reported far enough."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def __call__(self, count: int) -> None:
        with self._changed:
            self._count = count
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._count >= count, WAIT_S)


class Writing:
    """A writer on a file, with its counters."""

    def __init__(self, path: Path, **options: int) -> None:
        self.path = path
        self.totals = Counters()
        self.acknowledged = Acknowledgements()
        self.progress = Progress(self.acknowledged)
        self.writer = LedgerWriter(path, self.totals, self.progress, lambda: self.acknowledged(self.progress.acknowledged), **options)

    def put(self, row: SqlRow) -> None:
        """The row of the next record, as the observer hands it on."""
        sequence = self.progress.begin()
        self.writer.put(sequence, row)
        self.progress.release([sequence], Party.READER)

    def rows(self) -> list[Row]:
        return read_calls(self.path, None, 1000)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Writing]]:
    started: list[Writing] = []

    def begin(path: Path | None = None, **options: int) -> Writing:
        started.append(Writing(path or tmp_path / "state" / "ledger.db", **options))
        return started[-1]

    yield begin
    for one in started:
        one.writer.close(0.5)


def row_of(record: CallRecord) -> Row:
    return Row(1, *sql_row(record))  # type: ignore[arg-type]


def shown(record: CallRecord) -> dict[str, object]:
    value = json.loads(row_json(row_of(record)))
    assert isinstance(value, dict)
    return value


def test_columns_are_the_contracts() -> None:
    names = [name.replace("_nusd", "_usd").replace("time_ns", "time") for name in COLUMNS]
    assert " ".join(names) == CONTRACT
    assert list(Row.__struct_fields__) == ["rowid", *COLUMNS, CONTENT_COLUMN]


def test_row_tells_the_call() -> None:
    assert shown(call_record(tags={"team": "ads"})) == {
        "call_id": "call-1",
        "time": "2026-09-21T14:13:20.000Z",
        "trace_id": "a" * 32,
        "method": "POST",
        "path": "/v1/chat/completions",
        "route": "everything",
        "target": "openai",
        "provider": "openai",
        "requested_model": "smart",
        "model": "gpt-4o",
        "stream": True,
        "status": 200,
        "outcome": "succeeded",
        "attempts": 1,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_tokens": 40,
        "reasoning_tokens": 0,
        "usage_source": "provider",
        "cost_usd": 0.00145,
        "duration_ms": 1000.0,
        "first_chunk_ms": 250.0,
        "overhead_ms": 0.25,
        "tenant": "shop",
        "tags": {"team": "ads"},
    }


def test_unknown_is_left_out_of_the_json_and_zero_is_not() -> None:
    bare = shown(call_record(attempts=[], route=None, requested_model=None, status=None, first_chunk_ns=None, labels={}))
    assert bare.keys() == {
        "call_id", "time", "trace_id", "method", "path", "stream", "outcome", "attempts", "duration_ms", "overhead_ms",
    }  # fmt: skip
    assert bare["attempts"] == 0
    assert shown(call_record(attempts=[attempt_record(cost=Cost(0))]))["cost_usd"] == 0


def test_tokens_and_cost_are_summed_over_attempts_and_the_target_is_the_last() -> None:
    first = attempt_record(outcome=Outcome.FAILED, usage=Usage(input_tokens=10), cost=Cost(5))
    row = row_of(call_record(attempts=[first, attempt_record(number=2, target="claude", provider="anthropic", model="sonnet")]))
    assert (row.target, row.provider, row.model, row.attempts) == ("claude", "anthropic", "sonnet", 2)
    assert (row.input_tokens, row.output_tokens, row.cost_nusd) == (110, 20, 1_450_005)


def test_read_is_not_accounted_again() -> None:
    row = row_of(call_record(billable=False))
    assert (row.input_tokens, row.output_tokens, row.cost_nusd, row.usage_source) == (None, None, None, None)


@pytest.mark.parametrize(
    ("nusd", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (1_450_000, "0.00145"),
        (10**9, "1"),
        (10_000_000_000_000_001, "10000000.000000001"),
        (-5, "-0.000000005"),
    ],
)
def test_money_is_shown_exactly(nusd: int, text: str) -> None:
    assert usd_text(nusd) == text
    assert b'"cost_usd":' + text.encode() in row_json(row_of(call_record(attempts=[attempt_record(cost=Cost(nusd))])))


def test_time_is_shown_in_utc_to_the_millisecond() -> None:
    assert iso_time(START_NS + 123_999_999) == "2026-09-21T14:13:20.123Z"


def test_rows_are_written_and_acknowledged(start) -> None:
    ledger = start()
    for number in range(3):
        ledger.put(sql_row(call_record(call_id=f"call-{number}")))
    ledger.acknowledged.wait(3)
    assert [row.call_id for row in ledger.rows()] == ["call-0", "call-1", "call-2"]
    assert ledger.totals.get(counters.LEDGER_ROWS) == 3


def test_call_resent_after_a_crash_stays_one_row(start) -> None:
    ledger = start()
    for _ in range(2):
        ledger.put(sql_row(call_record()))
    ledger.acknowledged.wait(2)
    assert len(ledger.rows()) == 1
    assert ledger.totals.totals() == {counters.LEDGER_ROWS: 1}


def test_close_writes_what_is_left(start) -> None:
    ledger = start()
    for number in range(1200):
        ledger.put(sql_row(call_record(call_id=f"call-{number}")))
    ledger.writer.close(WAIT_S)
    assert len(read_calls(ledger.path, None, 2000)) == 1200


def test_corrupt_ledger_is_moved_aside_and_counted(start, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a database, and it is long enough to be looked at" * 100)
    ledger = start(path)
    ledger.put(sql_row(call_record()))
    ledger.acknowledged.wait(1)
    assert [row.call_id for row in ledger.rows()] == ["call-1"]
    (aside,) = tmp_path.glob("ledger.db.corrupt-*")
    assert aside.read_bytes().startswith(b"this is not a database")
    assert ledger.totals.get(counters.LEDGER_FAILURES) == 1


def test_ledger_of_a_newer_version_is_kept_and_not_written(start, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as newer:
        newer.execute("CREATE TABLE calls (something_else TEXT)")
        newer.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    newer.close()
    ledger = start(path)
    ledger.put(sql_row(call_record()))
    ledger.acknowledged.wait(1)
    assert len(ledger.rows()) == 1
    assert len(list(tmp_path.glob("ledger.db.corrupt-*"))) == 1


def test_schema_has_a_version(tmp_path: Path) -> None:
    LedgerFile(tmp_path / "ledger.db").close()
    database = sqlite3.connect(tmp_path / "ledger.db")
    assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


class FullDisk:
    """Makes the first writes fail as on a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
        self.left = failures
        self._insert = LedgerFile.insert
        monkeypatch.setattr(LedgerFile, "insert", lambda file, rows: self._write(file, rows))
        monkeypatch.setattr("proxy.observer.ledger.writer.FIRST_RETRY_S", 0.001)

    def _write(self, file: LedgerFile, rows: list[SqlRow]) -> int:
        self.left -= 1
        if self.left >= 0:
            raise sqlite3.OperationalError("database or disk is full")
        return self._insert(file, rows)


def test_full_disk_delays_rows_and_loses_none(start, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, failures=3)
    ledger = start()
    ledger.put(sql_row(call_record()))
    ledger.acknowledged.wait(1)
    assert len(ledger.rows()) == 1
    assert ledger.totals.get(counters.LEDGER_FAILURES) == 3


def test_disk_full_to_the_end_is_counted_as_loss(start, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, failures=10**9)
    ledger = start()
    ledger.put(sql_row(call_record()))
    ledger.writer.close(0.05)
    assert ledger.totals.get(counters.DROPPED_ROWS_SHUTDOWN) == 1
    assert ledger.progress.acknowledged == 1


def test_queue_is_bounded_and_the_oldest_go_counted(start, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, failures=10**9)
    ledger = start(queue_rows=5)
    for number in range(50):
        ledger.put(sql_row(call_record(call_id=f"call-{number}")))
    ledger.writer.close(0.05)
    lost = ledger.totals.get(counters.DROPPED_ROWS_QUEUE_FULL) + ledger.totals.get(counters.DROPPED_ROWS_SHUTDOWN)
    assert lost == 50


def test_locked_ledger_is_waited_for(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_S", 0.01)
    ledger = start()
    ledger.put(sql_row(call_record()))
    ledger.acknowledged.wait(1)
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger.put(sql_row(call_record(call_id="call-2")))
    assert len(ledger.rows()) == 1
    other.execute("ROLLBACK")
    other.close()
    ledger.acknowledged.wait(2)
    assert len(ledger.rows()) == 2


def test_row_unfit_for_sql_takes_no_other_with_it(start) -> None:
    ledger = start()
    good, other = sql_row(call_record(call_id="good")), sql_row(call_record(call_id="other"))
    ledger.put(good)
    ledger.put(sql_row(call_record(call_id="bad", start_ns=2**63, end_ns=2**63)))
    ledger.put(other)
    ledger.acknowledged.wait(3)
    assert {row.call_id for row in ledger.rows()} == {"good", "other"}
    assert ledger.totals.get(counters.DROPPED_ROWS_INVALID) == 1


def test_more_tokens_than_sql_holds_are_unknown() -> None:
    assert row_of(call_record(attempts=[attempt_record(usage=Usage(input_tokens=2**63, output_tokens=1))])).input_tokens is None


def test_reading_works_while_writing_and_goes_on_after_a_row(start) -> None:
    ledger = start()
    ledger.put(sql_row(call_record(call_id="first")))
    ledger.acknowledged.wait(1)
    seen = ledger.rows()[-1].rowid
    assert read_calls(ledger.path, seen, 10) == []
    ledger.put(sql_row(call_record(call_id="second")))
    ledger.acknowledged.wait(2)
    assert [row.call_id for row in read_calls(ledger.path, seen, 10)] == ["second"]


def test_reading_the_last_calls_gives_them_oldest_first(start) -> None:
    ledger = start()
    for number in range(5):
        ledger.put(sql_row(call_record(call_id=f"call-{number}")))
    ledger.writer.close(WAIT_S)
    assert [row.call_id for row in read_calls(ledger.path, None, 2)] == ["call-3", "call-4"]


def test_reading_a_ledger_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_calls(tmp_path / "ledger.db", None, 1)
    assert not (tmp_path / "ledger.db").exists()
