from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped]
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from proxy.observer.telemetry.export.backoff import wait_s
from proxy.observer.telemetry.export.send_result import (
    Delivered,
    Refused,
    Retry,
    SendResult,
    grpc_delivered,
    grpc_result,
    http_result,
    retry_after_s,
)

NOW_S = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, Delivered()),
        (202, Delivered()),
        (301, Refused("status 301")),
        (400, Refused("status 400")),
        (401, Refused("status 401")),
        (413, Refused("status 413")),
        (429, Retry("status 429")),
        (500, Refused("status 500")),
        (502, Retry("status 502")),
        (503, Retry("status 503")),
        (504, Retry("status 504")),
    ],
)
def test_status_decides(status: int, result: SendResult) -> None:
    assert http_result(status, None, b"", NOW_S) == result


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW_S) == seconds


def test_partial_success_says_how_much_was_rejected() -> None:
    spans, logs = ExportTraceServiceResponse(), ExportLogsServiceResponse()
    spans.partial_success.rejected_spans = 300
    spans.partial_success.error_message = "too old"
    logs.partial_success.rejected_log_records = 2
    assert http_result(200, None, spans.SerializeToString(), NOW_S) == Delivered(300, "too old")
    assert grpc_delivered(logs.SerializeToString()) == Delivered(2)


def test_nonsense_in_an_answer_rejects_nothing() -> None:
    negative = ExportTraceServiceResponse()
    negative.partial_success.rejected_spans = -1
    assert grpc_delivered(negative.SerializeToString()).rejected == 0
    assert http_result(200, None, b"<html>hello</html>", NOW_S) == Delivered()


@given(st.binary(max_size=100))
def test_no_answer_raises(body: bytes) -> None:
    assert isinstance(http_result(200, None, body, NOW_S), Delivered)
    grpc_result("UNAVAILABLE", "", {"google.rpc.retryinfo-bin": body, "grpc-status-details-bin": body})


@pytest.mark.parametrize("code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"])
def test_grpc_codes_that_pass_are_tried_again(code: str) -> None:
    assert grpc_result(code, "busy", {}) == Retry(f"{code} busy")


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "INTERNAL", "RESOURCE_EXHAUSTED"]
)
def test_grpc_codes_that_stay_are_refusals(code: str) -> None:
    assert grpc_result(code, "", {}) == Refused(code)


def test_retry_info_is_found_in_both_places() -> None:
    info = RetryInfo(retry_delay=Duration(seconds=7, nanos=500_000_000))
    detail = AnyMessage()
    detail.Pack(info)
    details = Status(code=8, message="full", details=[detail])
    for trailers in ({"google.rpc.retryinfo-bin": info.SerializeToString()}, {"grpc-status-details-bin": details.SerializeToString()}):
        assert grpc_result("RESOURCE_EXHAUSTED", "", trailers) == Retry("RESOURCE_EXHAUSTED", 7.5)


def test_waits_double_with_full_jitter_up_to_half_a_minute() -> None:
    assert [wait_s(failures, None, 1.0) for failures in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 30, 30, 30]
    assert wait_s(1000, None, 0.0) == wait_s(1, None, 0.0) == 0.5
    assert wait_s(7, None, 0.5) == 15.25


def test_what_the_collector_says_wins_up_to_five_minutes() -> None:
    assert wait_s(9, 2.0, 1.0) == 2
    assert wait_s(1, 86_400.0, 1.0) == 300
