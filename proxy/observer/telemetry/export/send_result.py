"""What came of sending an OTLP request: delivered, worth another try, or refused for good. The only place where that is decided.

Here: pure tables over HTTP statuses and gRPC codes, Retry-After, RetryInfo, partial success. Not here: sending.
Source: the OTLP specification 1.10, "Failures", "Retryable Response Codes", "OTLP/HTTP Throttling", "Partial Success".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from proxy.observer.telemetry.export.protobuf_fields import bytes_in, fields_of, number_in

HTTP_SUCCESS = range(200, 300)
HTTP_RETRYABLE = frozenset({429, 502, 503, 504})
GRPC_RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
GRPC_RETRYABLE_IF_TOLD_WHEN = frozenset({"RESOURCE_EXHAUSTED"})  # without RetryInfo the server can't recover
MAX_MESSAGE_CHARS = 200  # of what a collector says, in a log line

RETRY_INFO_KEY = "google.rpc.retryinfo-bin"  # a bare RetryInfo, as older senders attach it
STATUS_DETAILS_KEY = "grpc-status-details-bin"  # a google.rpc.Status, whose details may hold a RetryInfo
_RETRY_INFO_TYPE = b"google.rpc.RetryInfo"


class Delivered(msgspec.Struct, frozen=True):
    """The collector has it. `rejected` items of it were not taken, for good: they must not be sent again."""

    rejected: int = 0
    message: str = ""


class Retry(msgspec.Struct, frozen=True):
    """It may be sent again, after `after_s` if the collector said when."""

    reason: str
    after_s: float | None = None


class Refused(msgspec.Struct, frozen=True):
    """It will never be taken."""

    reason: str


SendResult = Delivered | Retry | Refused


def http_result(status: int, retry_after: str | None, body: bytes, now_s: float) -> SendResult:
    """What an HTTP answer means. `now_s`: Unix time, for a Retry-After that is a date."""
    if status in HTTP_SUCCESS:
        return _delivered(body)
    if status in HTTP_RETRYABLE:
        return Retry(f"status {status}", retry_after_s(retry_after, now_s))
    return Refused(f"status {status}")


def grpc_result(code: str, message: str, trailers: Mapping[str, str | bytes]) -> SendResult:
    """What a gRPC status that isn't OK means. `code` is its name."""
    reason = f"{code} {message}"[:MAX_MESSAGE_CHARS].strip()
    after_s = _retry_info_s(trailers)
    if code in GRPC_RETRYABLE or (code in GRPC_RETRYABLE_IF_TOLD_WHEN and after_s is not None):
        return Retry(reason, after_s)
    return Refused(reason)


def grpc_delivered(answer: bytes) -> Delivered:
    """What an OK with this answer means."""
    return _delivered(answer)


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """Retry-After in seconds from now, of both its forms; None if it says nothing. Never negative."""
    text = (value or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now_s)


def _delivered(body: bytes) -> Delivered:
    """ExportXServiceResponse: partial_success = 1 {rejected = 1, error_message = 2}, for every signal alike."""
    partial = fields_of(bytes_in(fields_of(body), 1))
    message = bytes_in(partial, 2).decode(errors="replace")[:MAX_MESSAGE_CHARS]
    rejected = number_in(partial, 1)
    return Delivered(rejected if rejected < 1 << 63 else 0, message)  # an int64: the upper half is negative


def _retry_info_s(trailers: Mapping[str, str | bytes]) -> float | None:
    """The delay of google.rpc.RetryInfo: retry_delay = 1 {seconds = 1, nanos = 2}."""
    info = _as_bytes(trailers.get(RETRY_INFO_KEY)) or _retry_info_in_status(_as_bytes(trailers.get(STATUS_DETAILS_KEY)))
    if not info:
        return None
    delay = fields_of(bytes_in(fields_of(info), 1))
    return number_in(delay, 1) + number_in(delay, 2) / 1e9


def _retry_info_in_status(status: bytes) -> bytes:
    """The RetryInfo among the details = 3 of a google.rpc.Status, each an Any {type_url = 1, value = 2}; the last detail is looked at."""
    detail = fields_of(bytes_in(fields_of(status), 3))
    return bytes_in(detail, 2) if bytes_in(detail, 1).endswith(_RETRY_INFO_TYPE) else b""


def _as_bytes(value: str | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""
