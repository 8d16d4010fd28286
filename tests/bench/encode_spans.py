"""What a call's spans cost the observer, in microseconds of one core, the best of several rounds: `python -m tests.bench.encode_spans`."""

from __future__ import annotations

import sys
from functools import partial
from time import process_time
from timeit import repeat

from proxy.call import Usage
from proxy.observer.telemetry.spans.attributes import client_attributes, server_attributes
from proxy.observer.telemetry.spans.span_bytes import SpanEncoder
from proxy.observer.telemetry.vocabulary import Semconv, Vocabulary
from proxy.records import CallRecord, RequestFacts
from tests.call_records import attempt_record, call_record

CALLS = 5_000
ROUNDS = 7
VOCABULARIES: tuple[tuple[Semconv, bool], ...] = (("v1_41", False), ("both", False), ("v1_41", True))


def call(number: int) -> CallRecord:
    """A streamed chat call with one attempt; ids, users and tokens differ from call to call."""
    facts = RequestFacts(
        max_tokens=256, temperature=0.5, top_p=0.9, seed=7, choice_count=1, stop_sequences=["END"], reasoning_level="low",
        output_type="text", service_tier="flex",
    )  # fmt: skip
    usage = Usage(100 + number % 1000, 20 + number % 100, 40, 0, None, 5, 0, 0)
    return call_record(
        call_id=f"call-{number:026d}",
        decision="everything>openai/gpt-4o",
        labels={"tenant": "shop", "user": f"user {number % 50}", "app": "web", "task": "ads"},
        tags={"team": "search"},
        attributes={"feature": "captions"},
        facts=facts,
        attempts=[attempt_record(response_id=f"chatcmpl-{number:029d}", usage=usage)],
    )


def encode_all(encoder: SpanEncoder, calls: list[CallRecord]) -> None:
    for one in calls:
        encoder.encode(one)


def main() -> None:
    """Print a line for each vocabulary."""
    calls = [call(number) for number in range(CALLS)]
    for semconv, openinference in VOCABULARIES:
        vocabulary = Vocabulary(semconv=semconv, openinference=openinference)
        encoder = SpanEncoder(vocabulary.cost_attribute, semconv, openinference)
        seconds = min(repeat(partial(encode_all, encoder, calls), timer=process_time, number=1, repeat=ROUNDS))
        told = len(server_attributes(calls[0], vocabulary)) + len(client_attributes(calls[0], calls[0].attempts[0], vocabulary))
        size = len(encoder.encode(calls[0]).data)
        words = f"{semconv}{' + openinference' if openinference else ''}"
        sys.stdout.write(f"{words}: {seconds / CALLS * 1e6:.1f} us a call, {told} attributes, {size} bytes\n")


if __name__ == "__main__":
    main()
