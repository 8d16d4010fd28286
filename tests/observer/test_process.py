from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from proxy.observer.ledger.read import read_calls
from proxy.observer_settings import ObserverSettings
from proxy.records import FRAME_HEADER_BYTES, MAX_FRAME_BYTES, FrameReader, encode_record
from tests.call_records import attempt_record, call_record, uncounted
from tests.observer_process import ObserverProcess
from tests.otlp_receiver import OtlpReceiver, attributes_of, receiving

FAST = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_METRIC_EXPORT_INTERVAL": "100"}


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    yield from receiving()


def settings(state_dir: Path, endpoint: str | None = None, **changes: Any) -> ObserverSettings:
    return ObserverSettings(str(state_dir), "1.2.3", otlp_endpoint=endpoint, **changes)


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def memory_map(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_spans_and_metrics_land_at_the_collector(tmp_path: Path, receiver: OtlpReceiver) -> None:
    configured = settings(tmp_path, receiver.endpoint, otlp_headers={"Authorization": "Bearer collector-key"})
    with ObserverProcess(configured, FAST | {"OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=pod-1"}) as observer:
        observer.send(call_record())
        receiver.wait_for(lambda it: len(it.spans) == 2 and it.points("postern.cost"))
        report = observer.finish()
    server, client = receiver.span("POST /v1/chat/completions"), receiver.span("chat gpt-4o")
    assert (server.trace_id.hex(), server.span_id.hex(), server.parent_span_id.hex()) == ("a" * 32, "c" * 16, "d" * 16)
    assert (client.trace_id.hex(), client.span_id.hex(), client.parent_span_id.hex()) == ("a" * 32, "b" * 16, "c" * 16)
    assert attributes_of(client.attributes)["gen_ai.usage.input_tokens"] == 100
    assert receiver.points("gen_ai.client.token.usage")[0][1].sum == 100
    assert receiver.resources[0]["service.name"] == "postern"
    assert receiver.resources[0]["service.version"] == "1.2.3"
    assert receiver.resources[0]["k8s.pod.name"] == "pod-1"
    assert receiver.request_headers[0]["authorization"] == "Bearer collector-key"
    assert receiver.refused == []
    assert report.acknowledged == 1
    assert report.counters["exported_spans"] == 2
    assert "export_failures" not in report.counters


def test_environment_wins_over_the_settings(tmp_path: Path, receiver: OtlpReceiver) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=env",
        "OTEL_SERVICE_NAME": "my-sidecar",
    }
    with ObserverProcess(settings(tmp_path, closed_port(), otlp_headers={"x-key": "yaml"}), FAST | environment) as observer:
        observer.send(call_record())
        observer.finish()
    assert len(receiver.spans) == 2
    assert receiver.resources[0]["service.name"] == "my-sidecar"
    assert receiver.request_headers[0]["content-encoding"] == "gzip"
    assert receiver.request_headers[0]["x-key"] == "env"


def test_closing_flushes_what_waits_for_its_batch(tmp_path: Path, receiver: OtlpReceiver) -> None:
    slow = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_METRIC_EXPORT_INTERVAL": "3600000"}
    with ObserverProcess(settings(tmp_path, receiver.endpoint), slow) as observer:
        observer.send(call_record())
        observer.finish()
    assert len(receiver.spans) == 2
    assert receiver.points("postern.calls")
    assert len(read_calls(tmp_path / "ledger.db", None, 10)) == 1


def test_without_an_endpoint_the_sdk_is_not_even_loaded(tmp_path: Path) -> None:
    with ObserverProcess(settings(tmp_path)) as observer:
        observer.send(call_record())
        observer.wait_acknowledged(1)
        assert "google/_upb" not in memory_map(observer.process.pid)  # protobuf's library, which every exporter needs
        assert "_tiktoken" not in memory_map(observer.process.pid)
        assert "exported_spans" not in observer.finish().counters


def test_dead_collector_holds_up_neither_the_ledger_nor_the_end_and_costs_no_span(tmp_path: Path) -> None:
    with ObserverProcess(settings(tmp_path, closed_port()), FAST) as observer:
        observer.send(*(call_record(call_id=f"call-{number}") for number in range(200)))
        observer.wait_acknowledged(200)
        began = monotonic()
        report = observer.finish()
        assert monotonic() - began < 5
    assert len(read_calls(tmp_path / "ledger.db", None, 1000)) == 200
    assert report.counters["spool_items"] == 400
    assert "dropped_spans" not in report.counters
    assert report.counters["export_failures"] >= 1
    assert "exported_spans" not in report.counters


def test_what_the_collector_refuses_is_counted_as_lost(tmp_path: Path) -> None:
    with OtlpReceiver(status=500) as receiver, ObserverProcess(settings(tmp_path, receiver.endpoint), FAST) as observer:
        observer.send(call_record())
        report = observer.finish()
    assert report.counters["dropped_spans_export_refused"] == 2
    assert "exported_spans" not in report.counters


def test_killed_observers_calls_are_each_one_row_after_a_resend(tmp_path: Path) -> None:
    calls = [call_record(call_id=f"call-{number}") for number in range(50)]
    with ObserverProcess(settings(tmp_path)) as first:
        first.send(*calls[:30])
        first.wait_acknowledged(1)
        os.kill(first.process.pid, signal.SIGKILL)
    with ObserverProcess(settings(tmp_path)) as second:
        second.send(*calls)
        assert second.wait_acknowledged(50).acknowledged == 50
        second.finish()
    rows = read_calls(tmp_path / "ledger.db", None, 1000)
    assert sorted(row.call_id for row in rows) == sorted(call.call_id for call in calls)


def test_signals_are_the_gates_to_handle(tmp_path: Path) -> None:
    with ObserverProcess(settings(tmp_path)) as observer:
        observer.send(call_record())
        observer.wait_acknowledged(1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(observer.process.pid, number)
        observer.send(call_record(call_id="after"))
        observer.wait_acknowledged(2)
        observer.finish()


def test_undecodable_and_oversized_frames_are_counted_and_survived(tmp_path: Path) -> None:
    too_large = MAX_FRAME_BYTES + 1
    with ObserverProcess(settings(tmp_path)) as observer:
        observer.gate.sendall((3).to_bytes(FRAME_HEADER_BYTES, "big") + b"\xc1\xc1\xc1")
        observer.gate.sendall(too_large.to_bytes(FRAME_HEADER_BYTES, "big") + bytes(too_large))
        observer.send(call_record())
        report = observer.wait_acknowledged(3)
        observer.finish()
    assert report.counters["decode_errors"] == 2
    assert report.counters["ledger_rows"] == 1


def test_record_that_makes_no_span_still_reaches_the_ledger(tmp_path: Path, receiver: OtlpReceiver) -> None:
    with ObserverProcess(settings(tmp_path, receiver.endpoint), FAST) as observer:
        observer.send(call_record(trace_id="not hex"), call_record(call_id="call-2"))
        report = observer.finish()
    assert report.counters["telemetry_errors"] == 1
    assert report.counters["exported_spans"] == 2
    assert len(read_calls(tmp_path / "ledger.db", None, 10)) == 2


def test_uncounted_call_is_counted_before_it_is_written(tmp_path: Path) -> None:
    body = b'{"messages":[{"role":"user","content":"tell me"}]}'
    attempt = attempt_record(usage=None, cost=None, uncounted=uncounted(body, b'{"choices":[{"message":{"content":"hello world"}}]}'))
    with ObserverProcess(settings(tmp_path)) as observer:
        observer.send(call_record(attempts=[attempt]), call_record(call_id="call-2"))
        observer.wait_acknowledged(2)
        report = observer.finish()
    counted = {row.call_id: row for row in read_calls(tmp_path / "ledger.db", None, 10)}["call-1"]
    assert (counted.input_tokens, counted.output_tokens, counted.usage_source) == (9, 2, "tokenizer")
    assert counted.cost_nusd
    assert report.counters["tokenizer_counts"] == 1


def test_gate_that_leaves_before_saying_anything_ends_the_observer(tmp_path: Path) -> None:
    with ObserverProcess(settings(tmp_path)) as observer:
        observer.gate.close()
        assert observer.process.wait(10) == 0


def test_frames_cut_anywhere_come_out_whole() -> None:
    records = [encode_record(call_record(call_id=f"call-{number}")) for number in range(3)]
    stream = b"".join(records)
    for size in (1, 3, 7, len(stream)):
        reader = FrameReader()
        payloads = [payload for start in range(0, len(stream), size) for payload in reader.feed(stream[start : start + size])]
        assert payloads == [record[FRAME_HEADER_BYTES:] for record in records]


def test_frame_too_large_is_skipped_wherever_it_is_cut() -> None:
    size = MAX_FRAME_BYTES + 10
    after = encode_record(call_record())
    reader = FrameReader()
    assert reader.feed(size.to_bytes(FRAME_HEADER_BYTES, "big") + b"x" * 5) == [b""]
    assert reader.feed(bytes(size - 6)) == []
    assert reader.feed(b"y" + after) == [after[FRAME_HEADER_BYTES:]]
