"""Whatever clients and providers write into a call, its spans can be read, are bounded and hold no two names that collide."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as some

from proxy.call import Cost, Outcome, Usage
from proxy.observer.telemetry.spans.attribute_values import MAX_ATTRIBUTES, MAX_TEXT_CHARS
from proxy.records import CallRecord, Content, RequestFacts
from tests.call_records import attempt_record, call_record
from tests.observer.decoded_spans import attributes, spans_of
from tests.observer.test_vocabulary import unflattened

TEXT = some.text(some.characters(codec="utf-8"), max_size=30) | some.just("x" * 5000)
COUNT = some.none() | some.integers(0, 2**63 - 1)
NUMBER = some.none() | some.floats()
PARTS = some.fixed_dictionaries(
    {"type": some.sampled_from(["text", "reasoning", "tool_call", "tool_call_response", "uri", "blob", "new"])},
    optional={"content": TEXT, "id": TEXT, "name": TEXT, "arguments": some.dictionaries(TEXT, TEXT), "response": TEXT, "uri": TEXT},
)
MESSAGES = some.lists(some.fixed_dictionaries({"role": TEXT, "parts": some.lists(PARTS, max_size=3)}), max_size=60).map(json.dumps)
ATTEMPTS = some.builds(
    attempt_record,
    number=some.integers(1, 9),
    target=TEXT,
    provider=TEXT | some.sampled_from(["openai", "azure"]),
    model=TEXT,
    outcome=some.sampled_from(Outcome),
    status=some.none() | some.integers(100, 599),
    error_type=some.none() | TEXT,
    error_message=some.none() | TEXT,
    finish_reasons=some.none() | some.lists(TEXT),
    usage=some.none() | some.builds(Usage, COUNT, COUNT, COUNT, COUNT, input_audio_tokens=COUNT, input_image_tokens=COUNT),
    cost=some.none() | some.builds(Cost, some.integers(0, 10**12)),
    url=some.none() | TEXT,
    changes=some.none() | TEXT,
    asked=some.none() | some.builds(RequestFacts, top_k=NUMBER, max_tokens=COUNT),
)
CALLS = some.builds(
    call_record,
    call_id=TEXT,
    method=TEXT,
    path=TEXT,
    operation=some.sampled_from(["chat", "embeddings", "fetch_response", "speech", ""]),
    outcome=some.sampled_from(Outcome),
    status=some.none() | some.integers(100, 599),
    facts=some.none()
    | some.builds(RequestFacts, top_k=NUMBER, temperature=NUMBER, seed=COUNT, stop_sequences=some.none() | some.lists(TEXT)),
    labels=some.dictionaries(some.sampled_from(["tenant", "user", "key", "other"]), TEXT),
    tags=some.dictionaries(TEXT, TEXT, max_size=200),
    attributes=some.dictionaries(some.from_regex(r"[a-z]+", fullmatch=True), TEXT, max_size=5),
    rule=some.none() | TEXT,
    cache=some.sampled_from([None, "hit", "miss"]),
    attempts=some.lists(ATTEMPTS, max_size=3),
    content=some.none() | some.builds(Content, some.just(["span"]), MESSAGES, MESSAGES, some.none() | TEXT, some.none() | TEXT),
)


@settings(max_examples=60, deadline=None)
@given(CALLS)
def test_spans_of_any_call_can_be_read_and_are_bounded(record: CallRecord) -> None:
    for span in spans_of(record, "both", openinference=True):
        told = attributes(span)
        assert len(span.name) <= MAX_TEXT_CHARS
        assert len(told) <= MAX_ATTRIBUTES
        assert unflattened(told)
