"""What rules changed in a request is told on the span of the attempt that it was changed for, beside what was asked after that."""

from __future__ import annotations

import json

from proxy.records import RequestFacts, decode_record, encode_record
from tests.call_records import attempt_record, call_record
from tests.observer.decoded_spans import attributes, spans_of

CHANGES = "set temperature; clamp max_tokens 500"
ASKED = RequestFacts(max_tokens=500, temperature=0.0, service_tier="flex")
FIRST = attempt_record()
SECOND = attempt_record(number=2, span_id="e" * 16, changes=CHANGES, asked=ASKED)


def test_changes_are_on_the_span_of_the_attempt_that_they_were_made_for() -> None:
    server, first, second = (attributes(span) for span in spans_of(call_record(attempts=[FIRST, SECOND])))
    assert second["postern.request_changes"] == CHANGES
    assert not {"postern.request_changes"} & (server.keys() | first.keys())


def test_changes_are_told_of_a_call_that_is_no_operation() -> None:
    span = spans_of(call_record(operation="", attempts=[SECOND]))[1]
    assert attributes(span)["postern.request_changes"] == CHANGES


def test_parameters_are_those_that_were_sent_to_the_attempts_target() -> None:
    spans = spans_of(call_record(attempts=[FIRST, SECOND]), openinference=True)
    first, second = attributes(spans[1]), attributes(spans[2])
    assert (first["gen_ai.request.max_tokens"], first["gen_ai.request.temperature"]) == (256, 0.5)
    assert (second["gen_ai.request.max_tokens"], second["gen_ai.request.temperature"]) == (500, 0.0)
    assert "gen_ai.request.stop_sequences" not in second
    assert second["openai.request.service_tier"] == "flex"
    assert json.loads(str(second["llm.invocation_parameters"]))["max_tokens"] == 500


def test_changes_come_through_the_link_to_the_observer() -> None:
    record = call_record(attempts=[FIRST, SECOND])
    assert decode_record(encode_record(record)[4:]) == record
