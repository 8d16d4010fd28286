"""A strict OTLP/HTTP receiver in this process: it takes protobuf on the three paths there are, and refuses everything else.

What was refused stands in `refused`; a test that expects nothing of the kind asserts that it is empty.
"""

from __future__ import annotations

import gzip
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_S = 10.0

_Request = ExportTraceServiceRequest | ExportMetricsServiceRequest | ExportLogsServiceRequest

_REQUESTS: dict[str, tuple[type[_Request], bytes]] = {
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse().SerializeToString()),
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse().SerializeToString()),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse().SerializeToString()),
}
"""By path: what may come, and the answer."""


class Answer(NamedTuple):
    """An answer out of the ordinary. What comes with a status under 300 is kept."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


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

    def __init__(self, status: int = 200, port: int = 0, answers: Iterable[Answer] = ()) -> None:
        """`answers` are those to the first requests for spans; then `status` is the answer to everything."""
        self.status = status
        self.answers = deque(answers)
        self.silent = threading.Event()  # while it is set, requests are read, and neither kept nor answered
        self.batches: list[list[Span]] = []  # of every request for spans that was kept
        self.logs: list[LogRecord] = []
        self.refused: list[str] = []
        self.request_headers: list[dict[str, str]] = []
        self.resources: list[dict[str, object]] = []
        self.spans: list[Span] = []
        self.metric_batches: list[list[Metric]] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
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

    @property
    def port(self) -> int:
        """Where it listens: another receiver may take its place when it is gone."""
        return self._server.server_port

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer | None:
        """Handle one request; returns the answer, None for none."""
        if self.silent.is_set():
            self._closing.wait(WAIT_S)
        if self._closing.is_set():
            return None
        with self._changed:
            try:
                return self._take(path, headers, body)
            finally:
                self._changed.notify_all()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
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
        is_scripted = self.answers and isinstance(request, ExportTraceServiceRequest)
        scripted = self.answers.popleft() if is_scripted else Answer(self.status, {}, answer)
        if scripted.status < 300:
            self._keep(request)
        return scripted

    def _refuse(self, status: int, why: str) -> Answer:
        self.refused.append(why)
        return Answer(status)

    def _keep(self, request: _Request) -> None:
        if isinstance(request, ExportTraceServiceRequest):
            for group in request.resource_spans:
                self.resources.append(attributes_of(group.resource.attributes))
                self.batches.append([span for scope in group.scope_spans for span in scope.spans])
                self.spans.extend(self.batches[-1])
        elif isinstance(request, ExportLogsServiceRequest):
            for logs in request.resource_logs:
                self.resources.append(attributes_of(logs.resource.attributes))
                self.logs.extend(record for scope in logs.scope_logs for record in scope.log_records)
        else:
            for part in request.resource_metrics:
                self.resources.append(attributes_of(part.resource.attributes))
                self.metric_batches.append([metric for scope in part.scope_metrics for metric in scope.metrics])


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = False

    def __init__(self, receiver: OtlpReceiver, port: int) -> None:
        self.receiver = receiver
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.receiver.take(self.path, headers, body)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {"content-type": "application/x-protobuf", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def receiving(status: int = 200) -> Iterator[OtlpReceiver]:
    """The body of a fixture."""
    with OtlpReceiver(status) as receiver:
        yield receiver
