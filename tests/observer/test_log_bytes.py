from __future__ import annotations

import json

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs, SeverityNumber

from proxy.call import Outcome
from proxy.observer.telemetry.spans.log_bytes import SEVERITIES, LogEncoder
from proxy.observer.telemetry.spans.otlp_bytes import NOTHING, Encoded
from proxy.records import CallRecord
from tests.call_records import attempt_record, call_record
from tests.observer.decoded_spans import INPUT_MESSAGES, OUTPUT_MESSAGES, attributes, content, full_call, spans_of
from tests.otlp_receiver import attributes_of

ENCODER = LogEncoder("gen_ai.usage.cost", "latest")


def call_with_event() -> CallRecord:
    return full_call(content=content(to=["event"]))


def read(encoded: Encoded) -> LogRecord:
    record: LogRecord
    (record,) = ScopeLogs.FromString(encoded.data).log_records
    assert encoded.count == 1
    return record


def structured(value) -> object:
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return {pair.key: structured(pair.value) for pair in value.kvlist_value.values}
    if kind == "array_value":
        return [structured(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def details(record: LogRecord) -> dict[str, object]:
    return {pair.key: structured(pair.value) for pair in record.attributes}


def test_details_event_has_the_messages_in_structure() -> None:
    call = call_with_event()
    told = details(read(ENCODER.details_event(call, call.attempts[-1])))
    assert told["gen_ai.input.messages"] == INPUT_MESSAGES
    assert told["gen_ai.output.messages"] == OUTPUT_MESSAGES
    assert told["gen_ai.system_instructions"] == [{"type": "text", "content": "Be brief."}]
    assert told["gen_ai.tool.definitions"] == [{"type": "function", "function": {"name": "look_up"}}]


def test_details_event_tells_what_the_span_does() -> None:
    call = call_with_event()
    told = details(read(ENCODER.details_event(call, call.attempts[-1])))
    span = spans_of(call, "latest")[2]
    assert {name: value for name, value in told.items() if name in attributes(span)} == attributes(span)


def test_details_event_belongs_to_the_attempts_span() -> None:
    call = call_with_event()
    record = read(ENCODER.details_event(call, call.attempts[-1]))
    assert record.event_name == "gen_ai.client.inference.operation.details"
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == ("a" * 32, "e" * 16, 1)
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (call.attempts[-1].end_ns, call.end_ns)


def test_reply_is_told_of_the_last_attempt_only() -> None:
    call = call_with_event()
    told = details(read(ENCODER.details_event(call, call.attempts[0])))
    assert "gen_ai.input.messages" in told
    assert "gen_ai.output.messages" not in told


@pytest.mark.parametrize("captured", [None, content(to=["span"]), content(to=["ledger"]), content(to=[])])
def test_content_that_is_not_for_an_event_is_in_none(captured) -> None:
    call = full_call(content=captured)
    assert ENCODER.details_event(call, call.attempts[-1]) == NOTHING


def test_content_for_an_event_is_on_no_span() -> None:
    assert not [name for span in spans_of(call_with_event(), openinference=True) for name in attributes(span) if "messages" in name]


@pytest.mark.parametrize("text", ["no json", "[" * 100_000, '"\\ud800"'])
def test_content_that_is_no_json_is_told_as_text(text: str) -> None:
    call = full_call(content=content(to=["event"], input_messages=text))
    assert details(read(ENCODER.details_event(call, call.attempts[-1])))["gen_ai.input.messages"] == text


def test_line_of_the_call_log_is_a_log_record() -> None:
    line = json.dumps({"message": "grüß Gott"}, ensure_ascii=False).encode() + b"\n"
    record = read(ENCODER.call_log_record(call_record(), line))
    assert record.body.string_value == '{"message": "grüß Gott"}'
    assert record.event_name == "postern.call"
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == ("a" * 32, "c" * 16, 1)
    assert record.time_unix_nano == call_record().end_ns
    told = attributes_of(record.attributes)
    assert told == {"postern.call_id": "call-1", "postern.outcome": "succeeded", "postern.route": "everything"}


def test_unsampled_call_is_logged_all_the_same() -> None:
    record = read(ENCODER.call_log_record(call_record(sampled=False, route=None), b"{}"))
    assert (record.flags, record.trace_id.hex()) == (0, "a" * 32)


@pytest.mark.parametrize("outcome", Outcome)
def test_severity_follows_the_outcome(outcome: Outcome) -> None:
    record = read(ENCODER.call_log_record(call_record(outcome=outcome, attempts=[attempt_record(outcome=outcome)]), b"{}"))
    expected = {Outcome.SUCCEEDED: "INFO", Outcome.FAILED: "ERROR", Outcome.INTERRUPTED: "ERROR"}.get(outcome, "WARN")
    assert (record.severity_text, SeverityNumber.Name(record.severity_number)) == (expected, f"SEVERITY_NUMBER_{expected}")
    assert outcome in SEVERITIES


def test_an_id_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="hex"):
        ENCODER.call_log_record(call_record(trace_id="none"), b"{}")
