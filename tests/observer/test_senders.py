from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proxy.observer.telemetry.export.destination import Destination, destination_of
from proxy.observer.telemetry.export.otlp_grpc import METHODS, GrpcSender
from proxy.observer.telemetry.export.otlp_http import HttpSender
from proxy.observer.telemetry.export.send_result import Delivered, Refused, Retry
from proxy.observer.telemetry.plan import SignalPlan
from tests.otlp_receiver import Answer, OtlpReceiver, receiving

REQUEST = ExportTraceServiceRequest(resource_spans=[{"scope_spans": [{"spans": [{"name": "x"}]}]}]).SerializeToString()  # type: ignore[list-item]
HTTP = SignalPlan("traces", "otlp", "http/protobuf", "http://collector:4318/v1/traces", {"X-Key": "yaml"})
GRPC = SignalPlan("traces", "otlp", "grpc", "http://collector:4317", {"X-Key": "yaml"})


# ---- where to


def test_destination_defaults_are_the_sdks() -> None:
    found = destination_of(SignalPlan("traces", "otlp"), {})
    assert found == Destination("http://localhost:4318/v1/traces", {}, 10.0, "none", True)
    assert destination_of(SignalPlan("logs", "otlp", "grpc"), {}).endpoint == "localhost:4317"


def test_variables_of_the_signal_win_over_the_general_ones() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "X-Key=v%20w, other = z",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "own.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "own.key",
    }
    found = destination_of(HTTP, environment)
    assert found.headers == {"x-key": "v w", "other": "z"}
    assert (found.timeout_s, found.compression) == (3.0, "gzip")
    assert (found.ca_file, found.certificate_file, found.key_file) == ("ca.pem", "own.pem", "own.key")


@pytest.mark.parametrize(
    ("name", "text"), [("TIMEOUT", "soon"), ("TIMEOUT", "0"), ("TIMEOUT", "inf"), ("COMPRESSION", "br"), ("HEADERS", "secret-without-name")]
)
def test_variable_that_makes_no_sense_is_reported_without_its_secret(name: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert destination_of(HTTP, {f"OTEL_EXPORTER_OTLP_{name}": text}) == destination_of(HTTP, {})
    assert name in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("endpoint", "variable", "is_insecure"),
    [
        ("http://c:4317", "false", True),
        ("https://c:4317", "true", False),
        ("c:4317", "true", True),
        ("c:4317", "", False),
    ],
)
def test_scheme_decides_over_tls_and_the_variable_where_there_is_none(endpoint: str, variable: str, is_insecure: bool) -> None:
    found = destination_of(SignalPlan("traces", "otlp", "grpc", endpoint), {"OTEL_EXPORTER_OTLP_INSECURE": variable})
    assert (found.endpoint, found.is_insecure) == ("c:4317", is_insecure)


def test_destination_never_shows_its_headers() -> None:
    assert "yaml" not in repr(destination_of(HTTP, {}))


# ---- http


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    yield from receiving()


def http_sender(endpoint: str, **variables: str) -> HttpSender:
    plan = SignalPlan("traces", "otlp", "http/protobuf", endpoint, {"x-key": "yaml"})
    return HttpSender(destination_of(plan, {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}), "postern/1")


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_http_delivers(receiver: OtlpReceiver, compression: str) -> None:
    sender = http_sender(f"{receiver.endpoint}/v1/traces", COMPRESSION=compression)
    assert [sender.send(REQUEST, 5.0) for _ in range(3)] == [Delivered()] * 3
    sender.close()
    assert [span.name for span in receiver.spans] == ["x"] * 3
    headers = receiver.request_headers[0]
    assert (headers["x-key"], headers["user-agent"], headers.get("content-encoding", "none")) == ("yaml", "postern/1", compression)


def test_http_follows_no_redirect(receiver: OtlpReceiver) -> None:
    receiver.answers.append(Answer(307, {"location": f"{receiver.endpoint}/v1/traces"}))
    sender = http_sender(f"{receiver.endpoint}/v1/traces")
    assert sender.send(REQUEST, 5.0) == Refused("status 307")
    sender.close()
    assert receiver.spans == []


def test_http_reads_no_endless_answer(receiver: OtlpReceiver) -> None:
    receiver.answers.append(Answer(400, {}, bytes(1 << 20)))
    sender = http_sender(f"{receiver.endpoint}/v1/traces")
    assert sender.send(REQUEST, 5.0) == Refused("status 400")
    assert sender.send(REQUEST, 5.0) == Delivered()
    sender.close()


def test_http_nobody_there_is_worth_another_try() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}/v1/traces"
        assert http_sender(endpoint).send(REQUEST, 5.0) == Retry("NewConnectionError")


def test_http_silence_is_worth_another_try_and_takes_no_longer_than_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = http_sender(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces")
        assert sender.send(REQUEST, 0.1) == Retry("ReadTimeoutError")
        sender.close()


@pytest.mark.parametrize("endpoint", ["no url", "http://", "ftp://host/x"])
def test_http_endpoint_that_cannot_be_is_refused(endpoint: str) -> None:
    assert isinstance(http_sender(endpoint).send(REQUEST, 1.0), Refused)


# ---- grpc


class GrpcCollector(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every call as the test says."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.OK
        self.trailers: tuple[tuple[str, bytes], ...] = ()
        self.calls: list[tuple[str, bytes, dict[str, str]]] = []
        self.hang = threading.Event()
        self.release = threading.Event()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._answer(details, request, context))

    def _answer(self, details: Any, request: bytes, context: Any) -> bytes:
        if self.hang.is_set():
            self.release.wait(10)
        self.calls.append((details.method, request, dict(details.invocation_metadata)))
        context.set_trailing_metadata(self.trailers)
        if self.code is not grpc.StatusCode.OK:
            context.abort(self.code, "because")
        return b""


@pytest.fixture
def collector() -> Iterator[tuple[GrpcCollector, GrpcSender]]:
    handler = GrpcCollector()
    server = grpc.server(ThreadPoolExecutor(2), [handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    plan = SignalPlan("traces", "otlp", "grpc", f"http://127.0.0.1:{port}", {"X-Key": "yaml"})
    sender = GrpcSender("traces", destination_of(plan, {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}), "postern/1")
    yield handler, sender
    sender.close()
    handler.release.set()
    server.stop(None).wait()


def test_grpc_delivers(collector: tuple[GrpcCollector, GrpcSender]) -> None:
    handler, sender = collector
    assert sender.send(REQUEST, 5.0) == Delivered()
    ((method, request, metadata),) = handler.calls
    assert (method, request, metadata["x-key"]) == (METHODS["traces"], REQUEST, "yaml")
    assert metadata["user-agent"].startswith("postern/1")


def test_grpc_retry_info_is_understood(collector: tuple[GrpcCollector, GrpcSender]) -> None:
    handler, sender = collector
    handler.code = grpc.StatusCode.RESOURCE_EXHAUSTED
    handler.trailers = (("google.rpc.retryinfo-bin", RetryInfo(retry_delay=Duration(seconds=4)).SerializeToString()),)
    assert sender.send(REQUEST, 5.0) == Retry("RESOURCE_EXHAUSTED because", 4.0)


def test_grpc_refusal_is_one(collector: tuple[GrpcCollector, GrpcSender]) -> None:
    handler, sender = collector
    handler.code = grpc.StatusCode.UNAUTHENTICATED
    assert sender.send(REQUEST, 5.0) == Refused("UNAUTHENTICATED because")


def test_grpc_silence_is_worth_another_try(collector: tuple[GrpcCollector, GrpcSender]) -> None:
    handler, sender = collector
    handler.hang.set()
    result = sender.send(REQUEST, 0.2)
    assert isinstance(result, Retry)
    assert result.reason.startswith("DEADLINE_EXCEEDED")


def test_grpc_channel_that_was_closed_raises_nothing(collector: tuple[GrpcCollector, GrpcSender]) -> None:
    _, sender = collector
    sender.close()
    assert isinstance(sender.send(REQUEST, 1.0), Retry)


def test_headers_of_grpc_are_lower_case() -> None:
    assert destination_of(GRPC, {}).headers == {"x-key": "yaml"}
