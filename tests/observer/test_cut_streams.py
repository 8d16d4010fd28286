"""A stream that a budget ended says by which, on the span of its attempt."""

from __future__ import annotations

from proxy.records import decode_record, encode_record
from tests.call_records import attempt_record, call_record
from tests.observer.decoded_spans import attributes, spans_of

CUT = attempt_record(number=2, span_id="e" * 16, finish_reasons=["length"], cut_by="tenant-day")


def test_the_budget_is_on_the_span_of_the_attempt_that_it_ended() -> None:
    server, first, second = (attributes(span) for span in spans_of(call_record(attempts=[attempt_record(), CUT])))
    assert second["postern.cut_by"] == "tenant-day"
    assert not {"postern.cut_by"} & (server.keys() | first.keys())


def test_it_comes_through_the_link_to_the_observer() -> None:
    record = call_record(attempts=[CUT])
    assert decode_record(encode_record(record)[4:]) == record
