"""A strict OTLP/HTTP receiver in this process: it takes protobuf on the two paths there are, and refuses everything else.

What was refused stands in `refused`; a test that expects nothing of the kind asserts that it is empty.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_S = 10.0

_Request = ExportTraceServiceRequest | ExportMetricsServiceRequest

_REQUESTS: dict[str, tuple[type[_Request], bytes]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse().SerializeToString()),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse().SerializeToString()),
}
"""By path: what may come, and the answer."""


def plain(value: AnyValue) -> object:
    """An attribute's value as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes_of(pairs: object) -> dict[str, object]:
    """Attributes as a dict; the same key twice is an error."""
    listed: list[KeyValue] = list(pairs)  # type: ignore[call-overload]
    found = {pair.key: plain(pair.value) for pair in listed}
    assert len(found) == len(listed), "an attribute is told twice"
    return found


class OtlpReceiver:
    """Listens on a free port of loopback from construction on; use it in a `with`."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.refused: list[str] = []
        self.request_headers: list[dict[str, str]] = []
        self.resources: list[dict[str, object]] = []
        self.spans: list[Span] = []
        self.metric_batches: list[list[Metric]] = []
        self._changed = threading.Condition()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, is_there: Callable[[OtlpReceiver], object]) -> None:
        """Wait until `is_there(self)`, looking again after every request. Raises AssertionError after WAIT_S."""
        with self._changed:
            assert self._changed.wait_for(lambda: is_there(self), WAIT_S), (
                f"not received: {self.spans} {self.metric_batches} {self.refused}"
            )

    def span(self, name: str) -> Span:
        """The only span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def points(self, metric: str) -> list[tuple[dict[str, object], NumberDataPoint | HistogramDataPoint]]:
        """The newest data points of a metric, with their attributes."""
        for batch in reversed(self.metric_batches):
            for one in batch:
                if one.name == metric:
                    data = getattr(one, str(one.WhichOneof("data")))
                    return [(attributes_of(point.attributes), point) for point in data.data_points]
        return []

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Handle one request; returns status and body of the answer."""
        with self._changed:
            try:
                return self._take(path, headers, body)
            finally:
                self._changed.notify_all()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path not in _REQUESTS:
            return self._refuse(404, f"path {path}")
        if headers.get("content-type") != "application/x-protobuf":
            return self._refuse(415, f"content type {headers.get('content-type')}")
        coding = headers.get("content-encoding", "identity")
        if coding not in ("identity", "gzip"):
            return self._refuse(415, f"content coding {coding}")
        request_type, answer = _REQUESTS[path]
        request = request_type()
        try:
            request.ParseFromString(gzip.decompress(body) if coding == "gzip" else body)
        except Exception as error:  # protobuf's, or gzip's
            return self._refuse(400, f"body: {error}")
        self.request_headers.append(headers)
        if self.status == 200:
            self._keep(request)
        return self.status, answer

    def _refuse(self, status: int, why: str) -> tuple[int, bytes]:
        self.refused.append(why)
        return status, b""

    def _keep(self, request: _Request) -> None:
        if isinstance(request, ExportTraceServiceRequest):
            for group in request.resource_spans:
                self.resources.append(attributes_of(group.resource.attributes))
                self.spans.extend(span for scope in group.scope_spans for span in scope.spans)
        else:
            for part in request.resource_metrics:
                self.resources.append(attributes_of(part.resource.attributes))
                self.metric_batches.append([metric for scope in part.scope_metrics for metric in scope.metrics])


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = False

    def __init__(self, receiver: OtlpReceiver) -> None:
        self.receiver = receiver
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.server.receiver.take(self.path, headers, body)
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def receiving(status: int = 200) -> Iterator[OtlpReceiver]:
    """The body of a fixture."""
    with OtlpReceiver(status) as receiver:
        yield receiver
