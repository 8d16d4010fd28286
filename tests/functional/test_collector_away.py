"""The observer as a process, beside a collector that comes, goes, hangs and refuses: nothing is lost uncounted, and nothing waits."""

from __future__ import annotations

import itertools
import json
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from proxy.config.schema import KeepConfig
from proxy.observer.ledger.read import read_calls
from proxy.observer_settings import ObserverSettings
from proxy.records import CallRecord, Content
from tests.call_records import START_NS, attempt_record, call_record
from tests.functional.test_collector import COLLECTOR, Collector, free_ports
from tests.observer_process import ROOT, ObserverProcess
from tests.otlp_receiver import Answer, OtlpReceiver

FAST = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_METRICS_EXPORTER": "none"}
BATCH_SPANS = 40
SMALL = FAST | {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(BATCH_SPANS)}


def call(number: int) -> CallRecord:
    """A call with two spans that say which one it is."""
    attempts = [attempt_record(span_id=f"f{number:014x}1")]
    return call_record(call_id=f"call-{number}", span_id=f"f{number:014x}0", start_ns=START_NS + number, attempts=attempts)


def calls(first: int, end: int) -> list[CallRecord]:
    return [call(number) for number in range(first, end)]


def numbers(receiver: OtlpReceiver) -> list[int]:
    """Which calls' server spans came, in the order they came."""
    return [int(span.span_id.hex()[1:15], 16) for span in receiver.spans if span.span_id.hex().endswith("0")]


def settings(state_dir: Path, port: int, **changes: Any) -> ObserverSettings:
    return ObserverSettings(str(state_dir), "1.2.3", otlp_endpoint=f"http://127.0.0.1:{port}", **changes)


def ledger_rows(state_dir: Path) -> int:
    return len(read_calls(state_dir / "ledger.db", None, 100_000))


def test_spans_of_an_outage_arrive_once_and_in_order(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ObserverProcess(settings(tmp_path, port), SMALL) as observer:
        with OtlpReceiver(port=port) as before:
            observer.send(*calls(0, 100))
            before.wait_for(lambda it: len(it.spans) == 200)
        observer.send(*calls(100, 1100))
        report = observer.wait_for(lambda it: it.get("spool_items") == 2000)
        assert report.acknowledged == 1100
        with OtlpReceiver(port=port) as after:
            observer.send(*calls(1100, 1200))
            after.wait_for(lambda it: len(it.spans) == 2200)
            report = observer.finish()
    assert numbers(before) == list(range(100))
    assert numbers(after) == list(range(100, 1200))
    assert max(len(batch) for batch in after.batches) <= BATCH_SPANS
    assert (before.refused, after.refused) == ([], [])
    assert report.counters["exported_spans"] == 2400
    assert (report.counters["spool_items"], report.counters["spool_bytes"]) == (0, 0)
    assert "dropped_spans" not in report.counters
    assert ledger_rows(tmp_path) == 1200


def test_spool_outlives_the_process_and_is_sent_first(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ObserverProcess(settings(tmp_path, port), SMALL) as first:
        first.send(*calls(0, 200))
        first.wait_for(lambda it: it.get("spool_items") == 400)
        first.finish()
    with OtlpReceiver(port=port) as receiver, ObserverProcess(settings(tmp_path, port), SMALL) as second:
        second.send(*calls(200, 250))
        receiver.wait_for(lambda it: len(it.spans) == 500)
        assert second.finish().counters["exported_spans"] == 500
    assert numbers(receiver) == list(range(250))


@pytest.mark.parametrize("is_away", [False, True], ids=["healthy", "away"])
def test_killed_observer_loses_no_span_and_repeats_one_batch_at_most(tmp_path: Path, is_away: bool) -> None:
    (port,) = free_ports(1)
    records = calls(0, 3000)
    acknowledged = 0
    with OtlpReceiver(status=503 if is_away else 200, port=port) as receiver:
        for life in range(1, 4):
            with ObserverProcess(settings(tmp_path, port), SMALL) as observer:
                observer.send(*records[acknowledged : acknowledged + 1000])
                observer.wait_acknowledged(life * 100)
                acknowledged += observer.kill()
        receiver.status = 200
        with ObserverProcess(settings(tmp_path, port), SMALL) as observer:
            observer.send(*records[acknowledged:])
            receiver.wait_for(lambda it: len(set(numbers(it))) == 3000)
            observer.finish()
    came = Counter(numbers(receiver))
    assert sorted(came) == list(range(3000))
    assert sum(came.values()) - 3000 <= 3 * BATCH_SPANS // 2
    assert ledger_rows(tmp_path) == 3000


def test_collector_that_never_answers_holds_up_neither_acknowledgements_nor_the_end(tmp_path: Path) -> None:
    with OtlpReceiver() as receiver:
        receiver.silent.set()
        with ObserverProcess(settings(tmp_path, receiver.port), {"OTEL_BSP_SCHEDULE_DELAY": "20"}) as observer:
            began = monotonic()
            observer.send(*calls(0, 100))
            observer.wait_acknowledged(100)
            assert monotonic() - began < 4
            observer.send(*calls(100, 150))
            began = monotonic()
            report = observer.finish()
            assert monotonic() - began < 5
    assert report.acknowledged == 150
    assert report.counters["spool_items"] == 300
    assert "dropped_spans" not in report.counters


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    with (
        OtlpReceiver(answers=[Answer(429, {"retry-after": "2"})]) as receiver,
        ObserverProcess(settings(tmp_path, receiver.port), FAST) as it,
    ):
        began = monotonic()
        it.send(call(1))
        it.wait_for(lambda told: told.get("export_retries") == 1)
        receiver.wait_for(lambda there: there.spans)
        assert monotonic() - began >= 2
        it.finish()


def test_partial_success_is_counted_and_not_sent_again(tmp_path: Path) -> None:
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 1
    partial.partial_success.error_message = "too old"
    answers = [Answer(200, {}, partial.SerializeToString())]
    with OtlpReceiver(answers=answers) as receiver, ObserverProcess(settings(tmp_path, receiver.port), FAST) as observer:
        observer.send(call(1))
        receiver.wait_for(lambda it: it.spans)
        report = observer.finish()
    assert len(receiver.batches) == 1
    assert (report.counters["exported_spans"], report.counters["dropped_spans_rejected"]) == (1, 1)


def test_refused_batch_blocks_nobody(tmp_path: Path) -> None:
    with OtlpReceiver(answers=[Answer(400)]) as receiver, ObserverProcess(settings(tmp_path, receiver.port), SMALL) as observer:
        observer.send(call(1))
        observer.wait_for(lambda it: it.get("dropped_spans_export_refused") == 2)
        observer.send(call(2))
        receiver.wait_for(lambda it: it.spans)
        report = observer.finish()
    assert numbers(receiver) == [2]
    assert (report.acknowledged, report.counters["exported_spans"]) == (2, 2)


def test_spool_is_bounded_and_what_went_is_counted(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    limit_bytes = 512 << 10
    with ObserverProcess(settings(tmp_path, port, spool_bytes=limit_bytes), SMALL) as observer:
        for first in range(0, 3000, 500):
            observer.send(*calls(first, first + 500))
            observer.wait_acknowledged(first + 500)
        assert sum(file.stat().st_size for file in (tmp_path / "spool").rglob("*") if file.is_file()) <= limit_bytes
        with OtlpReceiver(port=port) as receiver:
            receiver.wait_for(lambda it: numbers(it)[-1:] == [2999])
            report = observer.finish()
    lost = report.counters["dropped_spans_spool_full"]
    assert lost > 0
    assert report.counters["exported_spans"] + lost == 6000
    assert numbers(receiver) == list(range(lost // 2, 3000))  # the oldest went


def test_disk_that_is_full_stops_neither_new_spans_nor_acknowledgements(tmp_path: Path) -> None:
    (port,) = free_ports(1)

    with ObserverProcess(settings(tmp_path, port), SMALL) as observer:
        resource.prlimit(observer.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        observer.send(*calls(0, 20))
        observer.wait_for(lambda it: it.get("spool_failed"))
        with OtlpReceiver(port=port) as receiver:
            receiver.wait_for(lambda it: len(it.spans) == 40)
            observer.send(*calls(20, 40))
            receiver.wait_for(lambda it: len(it.spans) == 80)
            resource.prlimit(observer.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            report = observer.wait_acknowledged(40)
            observer.finish()
    assert numbers(receiver) == list(range(40))
    assert "dropped_spans" not in report.counters
    assert ledger_rows(tmp_path) == 40


def test_spool_that_cannot_be_made_costs_only_the_spool(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    with OtlpReceiver() as receiver, ObserverProcess(settings(tmp_path, receiver.port), FAST) as observer:
        observer.send(call(1))
        receiver.wait_for(lambda it: len(it.spans) == 2)
        report = observer.finish()
    assert report.counters["spool_failed"] >= 1
    assert (report.acknowledged, ledger_rows(tmp_path)) == (1, 1)


def test_corrupt_spool_costs_what_is_corrupt(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ObserverProcess(settings(tmp_path, port), SMALL) as first:
        first.send(*calls(0, 100))
        first.wait_for(lambda it: it.get("spool_items") == 200)
        first.finish()
    (segment,) = (tmp_path / "spool" / "traces").glob("*")
    with segment.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8)
    with OtlpReceiver(port=port) as receiver, ObserverProcess(settings(tmp_path, port), SMALL) as second:
        second.send(*calls(100, 110))
        receiver.wait_for(lambda it: numbers(it)[-1:] == [109])
        report = second.finish()
    assert report.counters["spool_corrupt_places"] == 1
    assert report.counters["dropped_spans_spool_corrupt"] == 220 - len(receiver.spans)
    assert numbers(receiver) == sorted(numbers(receiver))
    assert 20 < len(numbers(receiver)) < 110


def test_two_observers_on_one_state_folder_share_no_file(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ObserverProcess(settings(tmp_path, port), SMALL) as one, ObserverProcess(settings(tmp_path, port), SMALL) as other:
        one.send(*calls(0, 50))
        other.send(*calls(50, 100))
        for observer in (one, other):
            observer.wait_for(lambda it: it.get("spool_items") == 100)
        for observer in (one, other):  # only now: one that began after the other's end would have taken its folder over
            observer.kill()
    with OtlpReceiver(port=port) as receiver, ObserverProcess(settings(tmp_path, port), SMALL) as heir:
        receiver.wait_for(lambda it: len(it.spans) == 200)
        heir.finish()
    assert sorted(numbers(receiver)) == list(range(100))


def test_without_a_spool_the_end_counts_what_is_lost(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ObserverProcess(settings(tmp_path, port, spool_bytes=0), FAST) as observer:
        observer.send(*calls(0, 10))
        report = observer.finish()
    assert report.counters["dropped_spans_shutdown"] == 20
    assert not (tmp_path / "spool").exists()


def test_burst_larger_than_the_queue_is_spooled_and_not_dropped(tmp_path: Path) -> None:
    with OtlpReceiver() as receiver, ObserverProcess(settings(tmp_path, receiver.port), {"OTEL_METRICS_EXPORTER": "none"}) as observer:
        observer.send(*calls(0, 10_000))
        report = observer.wait_acknowledged(10_000)
        receiver.wait_for(lambda it: len(it.spans) == 20_000)
        observer.finish()
    assert "dropped_spans" not in report.counters
    assert numbers(receiver) == list(range(10_000))


def test_log_records_leave_and_survive_an_outage_like_spans(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    content = Content(["event"], input_messages='[{"role":"user","parts":[{"type":"text","content":"hello"}]}]')
    with ObserverProcess(settings(tmp_path, port, call_log="otlp"), FAST) as observer:
        observer.send(call_record(content=content))
        observer.wait_for(lambda it: it.get("spool_items") == 4)
        with OtlpReceiver(port=port) as receiver:
            receiver.wait_for(lambda it: len(it.logs) == 2 and len(it.spans) == 2)
            report = observer.finish()
    line, said = receiver.logs
    assert json.loads(line.body.string_value)["call_id"] == "call-1"
    assert said.span_id.hex() == "b" * 16
    assert report.counters["exported_log_records"] == 2


def test_calls_that_are_not_kept_are_counted_and_still_in_the_ledger(tmp_path: Path) -> None:
    with OtlpReceiver() as receiver, ObserverProcess(settings(tmp_path, receiver.port, keep=KeepConfig(ratio=0.0)), FAST) as observer:
        observer.send(call(1), call_record(call_id="bad", status=502, span_id="f" * 16))
        report = observer.finish()
    assert {span.span_id.hex() for span in receiver.spans} == {"f" * 16, "b" * 16}
    assert report.counters["unkept_calls"] == 1
    assert ledger_rows(tmp_path) == 2


def test_console_prints_spans_as_json_lines(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.observer_process import ObserverProcess\n"
        "from tests.call_records import call_record\n"
        "from proxy.observer_settings import ObserverSettings\n"
        "with ObserverProcess(ObserverSettings(sys.argv[1], '1'), {'OTEL_TRACES_EXPORTER': 'console'}) as observer:\n"
        "    observer.send(call_record())\n"
        "    observer.finish()\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    (line,) = ran.stdout.splitlines()
    spans = list(itertools.chain.from_iterable(scope["spans"] for scope in json.loads(line)["resourceSpans"][0]["scopeSpans"]))
    assert [span["traceId"] for span in spans] == ["a" * 32] * 2
    assert not (tmp_path / "spool").exists()


@pytest.mark.skipif(COLLECTOR is None, reason="no OpenTelemetry Collector: set OTELCOL, or put `otelcol` on the PATH")
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_real_collector_that_comes_later_gets_every_span_once_and_in_order(tmp_path: Path, protocol: Any) -> None:
    grpc, http = free_ports(2)
    port = grpc if protocol == "grpc" else http
    with ObserverProcess(settings(tmp_path, port, otlp_protocol=protocol), SMALL) as observer:
        observer.send(*calls(0, 200))
        observer.wait_for(lambda it: it.get("spool_items") == 400)
        with Collector(tmp_path, grpc, http) as collector:
            observer.send(*calls(200, 210))
            report = observer.wait_for(lambda it: it.get("exported_spans") == 420)
            observer.finish()
            collector.wait_for(f"-> postern.call_id: Str(call-{209})")
    told = re.findall(r"^ +ID +: f([0-9a-f]{14})0$", collector.output, re.MULTILINE)
    assert [int(number, 16) for number in told] == list(range(210))
    assert report.counters["spool_items"] == 0
