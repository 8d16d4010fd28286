"""OTLP requests on standard output, one line of OTLP/JSON each: OTEL_TRACES_EXPORTER=console, for somebody who looks on.

Here: decoding a request again and printing it. Not here: anything that production needs.
"""

from __future__ import annotations

import base64
import json
import sys

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proxy.observer.telemetry.export.send_result import Delivered, Refused, SendResult

REQUESTS: dict[str, type[ExportTraceServiceRequest | ExportLogsServiceRequest]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
}
IDS = frozenset({"traceId", "spanId", "parentSpanId"})  # hex in OTLP/JSON, where protobuf's JSON has base64


class ConsoleSender:
    """Prints requests."""

    timeout_s = 10.0

    def __init__(self, signal: str) -> None:
        self._request = REQUESTS[signal]

    def send(self, request: bytes, timeout_s: float) -> SendResult:
        """Print a request."""
        told = MessageToDict(self._request.FromString(request))
        try:
            sys.stdout.write(json.dumps(_with_hex_ids(told), ensure_ascii=False) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError) as error:  # nobody reads it any more
            return Refused(str(error))
        return Delivered()

    def close(self) -> None:
        """Nothing to let go of."""


def _with_hex_ids(value: object) -> object:
    if isinstance(value, dict):
        return {key: base64.b64decode(part).hex() if key in IDS else _with_hex_ids(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_hex_ids(part) for part in value]
    return value
