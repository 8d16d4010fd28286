"""The observer against a real OpenTelemetry Collector, over HTTP and over gRPC: what its debug exporter prints is what arrived.

The Collector is looked for in the variable OTELCOL, on the PATH as `otelcol`, and beside the checkout in shared/bin.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import pytest

from proxy.call import Outcome
from proxy.observer_settings import ObserverSettings
from tests.call_records import attempt_record, call_record
from tests.observer_process import ROOT, ObserverProcess

WAIT_S = 20.0
CONFIG = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  debug: {{verbosity: detailed}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
"""


def find_collector() -> str | None:
    beside = ROOT.parent / "shared" / "bin" / "otelcol"
    return os.environ.get("OTELCOL") or shutil.which("otelcol") or (str(beside) if os.access(beside, os.X_OK) else None)


COLLECTOR = find_collector()
pytestmark = pytest.mark.skipif(COLLECTOR is None, reason="no OpenTelemetry Collector: set OTELCOL, or put `otelcol` on the PATH")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Collector:
    """A running Collector; what it prints is read all along."""

    def __init__(self, folder: Path, grpc: int | None = None, http: int | None = None) -> None:
        free_grpc, free_http = free_ports(2)
        self.grpc, self.http = grpc or free_grpc, http or free_http
        config = folder / "collector.yaml"
        config.write_text(CONFIG.format(grpc=self.grpc, http=self.http))
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen([str(COLLECTOR), "--config", str(config)], stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)
        self._reader.join(WAIT_S)

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return "\n".join(self._lines)

    def wait_for(self, *texts: str) -> None:
        """Wait until every text was printed. Raises AssertionError after WAIT_S."""
        with self._changed:
            assert self._changed.wait_for(lambda: all(text in self.output for text in texts), WAIT_S), self.output

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as printed:
            for line in printed:
                with self._changed:
                    self._lines.append(line.rstrip())
                    self._changed.notify_all()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path) as running:
        running.wait_for("Everything is ready")
        yield running


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_real_collector_takes_spans_and_metrics(collector: Collector, tmp_path: Path, protocol: Literal["http/protobuf", "grpc"]) -> None:
    port = collector.grpc if protocol == "grpc" else collector.http
    settings = ObserverSettings(str(tmp_path), "1.2.3", otlp_endpoint=f"http://127.0.0.1:{port}", otlp_protocol=protocol)
    first = attempt_record(outcome=Outcome.FAILED, status=503, error_type="overloaded", error_message="busy", usage=None, cost=None)
    second = attempt_record(number=2, span_id="e" * 16)
    with ObserverProcess(settings) as observer:
        observer.send(call_record(attempts=[first, second]))
        report = observer.finish()
    assert report.counters["exported_spans"] == 3
    assert "export_failures" not in report.counters
    collector.wait_for("postern.cost", "Name           : POST /v1/chat/completions")
    for told in (
        "Trace ID       : " + "a" * 32,
        "Parent ID      : " + "d" * 16,
        "Kind           : Server",
        "Name           : chat gpt-4o",
        "Parent ID      : " + "c" * 16,
        "Kind           : Client",
        "Status code    : Error",
        "Status message : busy",
        "-> error.type: Str(overloaded)",
        "-> http.request.resend_count: Int(1)",
        "-> gen_ai.usage.input_tokens: Int(100)",
        "-> gen_ai.usage.cost: Double(0.00145)",
        '-> gen_ai.response.finish_reasons: Slice(["stop"])',
        "-> service.name: Str(postern)",
        "-> Name: gen_ai.client.token.usage",
        "-> Name: gen_ai.client.operation.duration",
        "-> Name: http.server.request.duration",
        "-> postern.outcome: Str(succeeded)",
        "Value: 0.001450",
    ):
        assert told in collector.output, told
