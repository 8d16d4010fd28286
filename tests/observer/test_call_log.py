"""The call log: a line holds for any record, and standard output can be slow, closed, full or shared without hurting anybody."""

from __future__ import annotations

import io
import json
import os
import select
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Outcome
from proxy.observer import counters
from proxy.observer.call_log import LEVELS, MAX_ATTEMPTS, MAX_LINE_BYTES, MAX_PAIRS, MAX_TEXT_CHARS, StdoutLog, log_line
from proxy.observer.counters import DROP_CAUSES, Counters
from proxy.observer.ledger.rows import COLUMNS
from proxy.records import Content
from tests.call_records import SECOND_NS, START_NS, attempt_record, call_record
from tests.observer_process import ROOT

CLOSE_S = 10.0
ANY_TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, exclude_categories=()), max_size=40)


def fields_of(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(log_line(call_record(**changes)))
    return fields


# --------------------------------------------------------------------------------------------------------------- the line


def test_line_tells_what_the_ledger_tells() -> None:
    assert fields_of(tags={"a": "1"}) == {
        "time": "2026-09-21T14:13:20.000Z",
        "level": "info",
        "message": "POST /v1/chat/completions 200",
        "trace_id": "a" * 32,
        "span_id": "c" * 16,
        "call_id": "call-1",
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
        "tags": {"a": "1"},
    }


def test_line_begins_with_what_people_look_for() -> None:
    assert list(fields_of())[:6] == ["time", "level", "message", "trace_id", "span_id", "call_id"]


def test_every_name_but_ours_is_the_ledgers() -> None:
    shown = {"time" if name == "time_ns" else name.replace("_nusd", "_usd") for name in COLUMNS}
    ours = {"level", "message", "span_id", "attributes", "attempt_list", "clipped"}
    attempts = [attempt_record(), attempt_record(number=2)]
    everything = fields_of(attempts=attempts, attributes={"team": "x" * 9999}, saved_nusd=1, cache="hit", decision="a>b", error_type="e")
    assert ours <= everything.keys() <= shown | ours


def test_unknown_is_absent() -> None:
    fields = fields_of(attempts=[], status=None, outcome=Outcome.ABANDONED, route=None, first_chunk_ns=None)
    assert not {"status", "cost_usd", "input_tokens", "target", "route", "first_chunk_ms"} & fields.keys()
    assert fields["message"] == "POST /v1/chat/completions abandoned"


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_level(outcome: Outcome) -> None:
    assert fields_of(outcome=outcome)["level"] == LEVELS[outcome]


def test_attempts_are_told_where_there_was_more_than_one() -> None:
    failed = attempt_record(outcome=Outcome.FAILED, status=503, error_type="overloaded", end_ns=START_NS + SECOND_NS // 2)
    fields = fields_of(attempts=[failed, attempt_record(number=2, target="local")])
    assert fields["attempts"] == 2
    assert fields["attempt_list"] == [
        {"target": "openai", "outcome": "failed", "status": 503, "error": "overloaded", "duration_ms": 500.0},
        {"target": "local", "outcome": "succeeded", "status": 200, "duration_ms": 1000.0},
    ]
    assert "attempt_list" not in fields_of()


def test_custom_attributes_are_told() -> None:
    assert fields_of(attributes={"team": "shop"})["attributes"] == {"team": "shop"}


def test_content_never_stands_in_the_line() -> None:
    content = Content(["ledger", "span"], input_messages='[{"role":"user","parts":[{"type":"text","content":"secret"}]}]')
    assert b"secret" not in log_line(call_record(content=content))


def test_long_text_is_cut_and_the_line_says_so() -> None:
    fields = fields_of(requested_model="m" * 5000)
    assert len(fields["requested_model"]) == MAX_TEXT_CHARS
    assert fields["clipped"] is True
    assert "clipped" not in fields_of()


def test_a_record_of_megabytes_stays_one_short_line() -> None:
    hostile = "\x01" * 1_000_000
    labels = dict.fromkeys(("tenant", "user", "app", "key", "task", "workflow", "step"), hostile)
    pairs = {f"{number}{hostile[:100]}": hostile for number in range(1000)}
    attempts = [attempt_record(number=number, target=hostile, model=hostile, error_type=hostile) for number in range(1000)]
    record = call_record(
        path=hostile, method=hostile, requested_model=hostile, route=hostile, labels=labels, tags=pairs, attributes=pairs, attempts=attempts
    )
    line = log_line(record)
    assert len(line) <= MAX_LINE_BYTES
    fields = json.loads(line)
    assert (fields["call_id"], fields["attempts"], fields["clipped"]) == ("call-1", 1000, True)


def test_lists_are_bounded() -> None:
    fields = fields_of(tags={str(number): "" for number in range(1000)}, attempts=[attempt_record(number=n) for n in range(100)])
    assert (len(fields["tags"]), len(fields["attempt_list"]), fields["clipped"]) == (MAX_PAIRS, MAX_ATTEMPTS, True)


@given(ANY_TEXT, ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=4))
def test_line_is_one_line_of_json_whatever_the_record_says(path: str, name: str, pairs: dict[str, str]) -> None:
    attempts = [attempt_record(target=name, error_type=path), attempt_record(number=2, provider=name, model=path)]
    record = call_record(
        path=path,
        method=name,
        requested_model=path,
        error_type=name,
        labels={"user": path},
        tags=pairs,
        attributes=pairs,
        attempts=attempts,
    )
    line = log_line(record)
    assert len(line.decode().splitlines()) == 1
    assert isinstance(json.loads(line), dict)


# ------------------------------------------------------------------------------------------------------------ the writer


class Pipe(NamedTuple):
    reading: io.FileIO
    writing: io.FileIO


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as read_end, open(writing, "wb", 0) as write_end:
        yield Pipe(read_end, write_end)


def test_lines_arrive_whole_and_in_order(pipe: Pipe) -> None:
    totals = Counters()
    log = StdoutLog(totals, pipe.writing.fileno())
    for number in range(40):
        log.observe(call_record(call_id=f"call-{number}"))
    log.close(CLOSE_S)
    pipe.writing.close()
    lines = pipe.reading.readlines()
    assert [json.loads(line)["call_id"] for line in lines] == [f"call-{number}" for number in range(40)]
    assert totals.totals() == {counters.LOG_LINES: 40}


def test_a_reader_that_does_not_read_holds_nobody_up(pipe: Pipe) -> None:
    totals = Counters()
    log = StdoutLog(totals, pipe.writing.fileno(), queue_lines=50)
    for _ in range(1000):
        log.observe(call_record())
    log.close(0.01)
    lost = totals.get(counters.DROPPED_LOG_LINES_QUEUE_FULL) + totals.get(counters.DROPPED_LOG_LINES_SHUTDOWN)
    assert totals.get(counters.DROPPED_LOG_LINES_QUEUE_FULL) >= 1
    assert lost + totals.get(counters.LOG_LINES) == 1000
    while select.select([pipe.reading], [], [], 0.2)[0]:  # lets the thread end
        pipe.reading.read(1 << 20)


def test_a_closed_standard_output_is_counted_and_said_once(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    pipe.reading.close()
    totals = Counters()
    log = StdoutLog(totals, pipe.writing.fileno())
    for _ in range(3):
        log.observe(call_record())
    log.close(CLOSE_S)
    assert totals.totals() == {counters.DROPPED_LOG_LINES_WRITE_FAILED: 3}
    assert [record.getMessage() for record in caplog.records] == ["the call log can't be written to standard output: Broken pipe"]


def test_no_standard_output_loses_every_line(caplog: pytest.LogCaptureFixture) -> None:
    totals = Counters()
    log = StdoutLog(totals, None)
    log.observe(call_record())
    log.close(CLOSE_S)
    assert totals.totals() == {counters.DROPPED_LOG_LINES_WRITE_FAILED: 1}


def test_a_pipe_that_others_made_non_blocking_takes_every_line(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing.fileno(), False)
    totals = Counters()
    log = StdoutLog(totals, pipe.writing.fileno())
    for number in range(500):  # more than a pipe holds
        log.observe(call_record(call_id=f"call-{number}"))
    data = b""
    while data.count(b"\n") < 500:
        data += pipe.reading.read(1 << 16)
    log.close(CLOSE_S)
    assert [json.loads(line)["call_id"] for line in data.splitlines()] == [f"call-{number}" for number in range(500)]
    assert totals.totals() == {counters.LOG_LINES: 500}


FULL_DISK = """
import resource, signal, threading
from proxy.observer.call_log import StdoutLog, standard_output
from proxy.observer.counters import Counters
from tests.call_records import call_record

counted = threading.Event()

class Telling(Counters):
    def add(self, name, amount=1):
        super().add(name, amount)
        counted.set()

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
log = StdoutLog(Telling(), standard_output())
log.observe(call_record(call_id="first"))
log.observe(call_record(call_id="torn"))
assert counted.wait(30)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.observe(call_record(call_id="after"))
log.close(30)
"""


def run_program(command: list[str], stdout: Any) -> None:
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=stdout, check=True, timeout=60)


def test_a_line_that_a_full_disk_tore_does_not_spoil_the_next(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as stdout:
        run_program([sys.executable, "-c", FULL_DISK], stdout)
    first, torn, after = (tmp_path / "log").read_text().splitlines()
    assert (json.loads(first)["call_id"], json.loads(after)["call_id"]) == ("first", "after")
    assert torn.startswith('{"time":')


def test_a_program_started_without_standard_output_has_none() -> None:
    program = "from proxy.observer.call_log import standard_output; raise SystemExit(standard_output() is not None)"
    run_program(["sh", "-c", f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} >&-"], None)


def test_every_loss_is_a_cause_of_the_metric() -> None:
    lost = {name for name in vars(counters).values() if isinstance(name, str) and name.startswith("dropped_log_lines")}
    assert len(lost) == 3
    assert lost <= DROP_CAUSES.keys()
