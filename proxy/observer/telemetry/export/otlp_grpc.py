"""OTLP requests over gRPC. Imported only when the protocol is chosen: grpcio is large.

Here: one unary call and its answer. Not here: what a status means (send_result.py), trying again (outbox.py).
"""

from __future__ import annotations

from pathlib import Path

import grpc

from proxy.observer.telemetry.export.destination import Destination
from proxy.observer.telemetry.export.send_result import SendResult, grpc_delivered, grpc_result

METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
OPTIONS = (
    ("grpc.enable_retries", 0),  # the outbox tries again
    ("grpc.max_reconnect_backoff_ms", 5_000),  # its own backoff must not wait for a second one
)
_COMPRESSION = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


class GrpcSender:
    """Sends over one channel."""

    def __init__(self, signal: str, destination: Destination, user_agent: str) -> None:
        """Open the channel, without connecting. Raises OSError if a TLS file can't be read."""
        self.timeout_s = destination.timeout_s
        self._metadata = tuple(destination.headers.items())
        self._channel = _channel(destination, (*OPTIONS, ("grpc.primary_user_agent", user_agent)))
        self._call = self._channel.unary_unary(METHODS[signal])  # without serializers: bytes in, bytes out

    def send(self, request: bytes, timeout_s: float) -> SendResult:
        """Send a request once."""
        try:
            answer: bytes = self._call(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            trailers = {item.key: item.value for item in error.trailing_metadata() or ()}
            return grpc_result(error.code().name, error.details() or "", trailers)
        except ValueError as error:  # the channel was closed, at the end
            return grpc_result("CANCELLED", str(error), {})
        return grpc_delivered(answer)

    def close(self) -> None:
        """Close the channel; a call under way fails."""
        self._channel.close()


def _channel(destination: Destination, options: tuple[tuple[str, object], ...]) -> grpc.Channel:
    compression = _COMPRESSION.get(destination.compression, grpc.Compression.NoCompression)
    if destination.is_insecure:
        return grpc.insecure_channel(destination.endpoint, options, compression)
    key, certificate = _bytes(destination.key_file), _bytes(destination.certificate_file)
    credentials = grpc.ssl_channel_credentials(_bytes(destination.ca_file), key, certificate)
    return grpc.secure_channel(destination.endpoint, credentials, options, compression)


def _bytes(file: str | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()
