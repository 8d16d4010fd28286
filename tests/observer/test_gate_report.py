from __future__ import annotations

from pathlib import Path

from proxy.observer_settings import ObserverSettings
from proxy.records import GateReport, encode_gate_report
from tests.call_records import call_record
from tests.observer_process import ObserverProcess
from tests.otlp_receiver import OtlpReceiver


def test_report_becomes_metrics_and_is_not_acknowledged(tmp_path: Path) -> None:
    with OtlpReceiver() as receiver:
        settings = ObserverSettings(str(tmp_path), "1.2.3", otlp_endpoint=receiver.endpoint)
        with ObserverProcess(settings, {"OTEL_METRIC_EXPORT_INTERVAL": "100"}) as observer:
            observer.gate.sendall(encode_gate_report(GateReport(3, {"queue_full": 2})))
            observer.send(call_record())
            receiver.wait_for(lambda it: it.points("postern.calls.in_flight"))
            report = observer.finish()
    assert report.acknowledged == 1
    assert "decode_errors" not in report.counters
    assert receiver.points("postern.calls.in_flight")[-1][1].as_int == 3


def test_without_telemetry_a_report_hurts_nobody(tmp_path: Path) -> None:
    with ObserverProcess(ObserverSettings(str(tmp_path), "1.2.3"), {"OTEL_SDK_DISABLED": "true"}) as observer:
        observer.gate.sendall(encode_gate_report(GateReport(3)))
        observer.send(call_record())
        assert observer.wait_acknowledged(1).acknowledged == 1
        observer.finish()
