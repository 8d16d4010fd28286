"""Ending a stream by length: after any of its events, what the client has then is a whole reply."""

import json
from typing import Any

import pytest

from proxy.wire.length_end import LARGEST_EVENT_BYTES, LENGTH_END_KINDS, LengthEnd
from proxy.wire.stream_reader import StreamReader
from tests.streams import STREAMS, StreamCase

REASONS = {"chat": "length", "completions": "length", "messages": "max_tokens", "responses": "max_output_tokens"}
SOUND = {
    name: case
    for name, case in STREAMS.items()
    if case.kind in LENGTH_END_KINDS and case.ended and "error" not in name and not case.error_code
}


def event(document: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(document).encode()


def after(kind: str, *chunks: bytes, choice_count: int = 1) -> LengthEnd:
    end = LengthEnd(kind, choice_count)
    for chunk in chunks:
        end.feed(chunk)
    return end


def documents(data: bytes) -> list[dict[str, Any]]:
    lines = [line.removeprefix(b"data: ") for line in data.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def event_ends(case: StreamCase) -> list[int]:
    """Where the events of a stream end, told by the end's own reading, byte for byte."""
    end, found = LengthEnd(case.kind), []
    for position in range(len(case.asked)):
        end.feed(case.asked[position : position + 1])
        if not end.unfinished_bytes:
            found.append(position + 1)
    return found


@pytest.mark.parametrize("case", SOUND.values(), ids=SOUND.keys())
def test_after_any_event_a_stream_can_be_ended_until_it_ends_itself(case: StreamCase) -> None:
    ended = 0
    for position in event_ends(case):
        end = after(case.kind, case.asked[:position])
        if not end.is_over:
            reader = StreamReader(case.kind)
            reader.feed(case.asked[:position] + end.events(0))
            facts = reader.result()
            assert (facts.ended, facts.error, facts.finish_reasons) == (True, None, [REASONS[case.kind]])
            assert reader.text_size() == after_reading(case, position)
            ended += 1
    assert ended > 0 or event_ends(case)[0] >= len(case.asked) // 3, "only a stream of one piece is never open"
    assert after(case.kind, case.asked).is_over


def after_reading(case: StreamCase, position: int) -> object:
    reader = StreamReader(case.kind)
    reader.feed(case.asked[:position])
    return reader.text_size()


@pytest.mark.parametrize("size", [1, 2, 5, 64])
@pytest.mark.parametrize("case", SOUND.values(), ids=SOUND.keys())
def test_how_a_stream_is_cut_into_chunks_makes_no_difference(case: StreamCase, size: int) -> None:
    half = event_ends(case)[1]
    pieces = [case.asked[start : min(start + size, half)] for start in range(0, half, size)]
    assert after(case.kind, *pieces).events(3) == after(case.kind, case.asked[:half]).events(3)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 100_000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_the_end_of_the_event_that_was_begun_is_found_in_the_next_chunk(size: int, line_end: str) -> None:
    first, second = (f'data: {{"id":"{name}"}}{line_end}{line_end}'.encode() for name in "ab")
    for position in range(1, len(first)):
        end = after("chat", first[:position])
        found, before, rest = -1, 0, first[position:] + second
        for start in range(0, len(rest), size):
            piece = rest[start : start + size]
            found = end.first_event_end(piece)
            if found >= 0:
                break
            end.feed(piece)
            before += len(piece)
        assert rest[: before + found].rstrip(b"\n") == first[position:].rstrip(b"\n")


def test_a_half_line_end_is_waited_for() -> None:
    end = after("chat", b'data: {"id":"a"}\r\n\r')
    assert end.unfinished_bytes > 0
    end.feed(b"\n")
    assert end.unfinished_bytes == 0


def test_the_last_chunk_is_the_streams_own() -> None:
    chunk = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "system_fingerprint": "fp",
        "service_tier": "default",
    }
    said = {**chunk, "usage": None, "obfuscation": "x", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
    data = after("chat", event({**chunk, "id": "", "created": 0, "choices": []}), event(said)).events(9)
    (last,) = documents(data)
    assert last == {**chunk, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]}
    assert data.endswith(b"data: [DONE]\n\n")


def test_every_choice_that_was_asked_for_is_ended_once() -> None:
    def piece(index: int, reason: str | None) -> bytes:
        return event({"id": "c", "choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": reason}]})

    end = after("chat", piece(1, "stop"), piece(0, None), choice_count=4)
    assert [one["choices"][0]["index"] for one in documents(end.events(0))] == [0, 2, 3]
    for index in (0, 2):
        end.feed(piece(index, "stop"))
        assert not end.is_over
    end.feed(piece(3, "length"))
    assert end.is_over


def test_a_number_of_choices_that_makes_no_sense_costs_nothing() -> None:
    assert len(documents(after("chat", choice_count=10**9).events(0))) == 128


def test_a_prompt_of_several_that_ended_does_not_end_the_others() -> None:
    def piece(index: int, reason: str | None) -> bytes:
        return event({"id": "c", "choices": [{"index": index, "text": "x", "finish_reason": reason}]})

    assert after("completions", piece(0, "stop")).is_over
    end = after("completions", piece(0, "stop"), piece(1, None))
    assert not end.is_over
    assert [one["choices"][0]["index"] for one in documents(end.events(0))] == [1]


@pytest.mark.parametrize("kind", sorted(LENGTH_END_KINDS))
def test_a_stream_that_told_an_error_has_nothing_left_to_end(kind: str) -> None:
    assert after(kind, event({"type": "error", "error": {"message": "No."}})).is_over


def test_blocks_of_a_message_that_are_open_are_ended_and_no_others() -> None:
    started = [{"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}} for index in (0, 1)]
    end = after("messages", event(started[0]), event({"type": "content_block_stop", "index": 0}), event(started[1]))
    assert documents(end.events(7)) == [
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens", "stop_sequence": None}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]


# ------------------------------------------------------------------------------------------------------------ Responses


class Told:
    """Events of a Responses stream, numbered."""

    def __init__(self) -> None:
        self.end = LengthEnd("responses")
        self.number = -1
        response = {"id": "resp_1", "object": "response", "status": "in_progress", "model": "gpt-5", "metadata": {"a": "b"}, "output": []}
        self.add("response.created", response=response)

    def add(self, kind: str, **members: Any) -> None:
        self.number += 1
        self.end.feed(event({"type": kind, "sequence_number": self.number, **members}))

    def item(self, index: int, **item: Any) -> None:
        self.add("response.output_item.added", output_index=index, item={"id": f"item_{index}", "status": "in_progress", **item})

    def ended(self) -> list[dict[str, Any]]:
        return documents(self.end.events(0))


def test_a_response_has_the_text_that_came_in_an_item_that_is_incomplete() -> None:
    told = Told()
    told.item(0, type="message", role="assistant", content=[])
    spot: dict[str, Any] = {"item_id": "item_0", "output_index": 0, "content_index": 0}
    told.add("response.content_part.added", **spot, part={"type": "output_text", "text": "", "annotations": []})
    for delta in ("Good ", "day"):
        told.add("response.output_text.delta", **spot, delta=delta)
    text, part, item, last = told.ended()
    whole = {"type": "output_text", "text": "Good day", "annotations": []}
    assert text == {"type": "response.output_text.done", "sequence_number": 5, **spot, "text": "Good day", "logprobs": []}
    assert part == {"type": "response.content_part.done", "sequence_number": 6, **spot, "part": whole}
    message = {"id": "item_0", "type": "message", "role": "assistant", "status": "incomplete", "content": [whole]}
    assert item == {"type": "response.output_item.done", "sequence_number": 7, "output_index": 0, "item": message}
    assert (last["type"], last["sequence_number"]) == ("response.incomplete", 8)
    assert last["response"] == {
        "id": "resp_1",
        "object": "response",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "model": "gpt-5",
        "metadata": {"a": "b"},
        "output": [message],
        "usage": None,
    }


def test_items_that_are_done_stay_as_they_are() -> None:
    told = Told()
    done = {"id": "item_0", "type": "reasoning", "status": "completed", "summary": []}
    told.item(0, type="reasoning", summary=[])
    told.add("response.output_item.done", output_index=0, item=done)
    told.item(1, type="message", content=[])
    item, last = told.ended()
    assert (item["item"]["id"], item["item"]["status"]) == ("item_1", "incomplete")
    assert [one["status"] for one in last["response"]["output"]] == ["completed", "incomplete"]
    assert last["response"]["output"][0] == done


def test_a_part_that_is_done_is_not_ended_again() -> None:
    told = Told()
    told.item(0, type="message", content=[])
    spot: dict[str, Any] = {"item_id": "item_0", "output_index": 0}
    first = {"type": "refusal", "refusal": "No."}
    told.add("response.content_part.added", **spot, content_index=0, part={"type": "refusal", "refusal": ""})
    told.add("response.refusal.delta", **spot, content_index=0, delta="No.")
    told.add("response.content_part.done", **spot, content_index=0, part=first)
    told.add("response.content_part.added", **spot, content_index=1, part={"type": "something_new", "of": 1})
    part, item, _ = told.ended()
    assert (part["type"], part["content_index"], part["part"]) == ("response.content_part.done", 1, {"type": "something_new", "of": 1})
    assert item["item"]["content"] == [first, {"type": "something_new", "of": 1}]


def test_a_call_of_a_tool_is_left_unfinished_so_that_nobody_makes_it() -> None:
    told = Told()
    told.item(0, type="function_call", name="look_up", call_id="call_1", arguments="")
    told.add("response.function_call_arguments.delta", item_id="item_0", output_index=0, delta='{"city":')
    item, last = told.ended()
    assert item["type"] == "response.output_item.done"
    assert (item["item"]["arguments"], item["item"]["status"]) == ('{"city":', "incomplete")
    assert last["response"]["output"] == [item["item"]]


# --------------------------------------------------------------------------------------------------------------- garbage


@pytest.mark.parametrize("kind", sorted(LENGTH_END_KINDS))
@pytest.mark.parametrize(
    "document",
    [
        {"choices": [None, 3, {"index": "a"}, {"index": None}], "id": 4},
        {"choices": {"index": 0}},
        {"type": "content_block_start", "index": "x"},
        {"type": "content_block_stop", "index": None},
        {"type": "response.output_item.added", "output_index": 10**9, "item": {}},
        {"type": "response.output_item.added", "output_index": 0, "item": []},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": -1, "delta": "x"},
        {"type": "response.content_part.added", "output_index": 5, "content_index": 0, "part": {"type": "output_text"}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": 7},
        {"type": 3, "sequence_number": "x", "response": 5},
    ],
)
def test_what_makes_no_sense_does_no_harm(kind: str, document: dict[str, Any]) -> None:
    end = after(kind, event(document), b"data: [1]\n\ndata: nothing\n\n: comment\n\n\n\n")
    assert not end.is_over
    assert documents(end.events(0))


def test_half_a_character_stays_what_it_was() -> None:
    told = Told()
    told.item(0, type="message", content=[])
    told.end.feed(b'data: {"type":"response.content_part.added","output_index":0,"content_index":0,"part":{"type":"output_text"}}\n\n')
    told.end.feed(rb'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"\ud83d"}' + b"\n\n")
    assert rb'"text":"\ud83d"' in told.end.events(0)


def test_an_event_larger_than_a_text_can_be_is_not_kept() -> None:
    end = after("chat", event({"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}}]}))
    for _ in range(40):
        end.feed(b"x" * (LARGEST_EVENT_BYTES // 10))
        assert end.unfinished_bytes <= LARGEST_EVENT_BYTES
    end.feed(b"\n\n")
    assert end.unfinished_bytes == 0
    assert [one["id"] for one in documents(end.events(0))] == ["c"]
