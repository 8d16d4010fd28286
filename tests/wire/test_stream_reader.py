"""Watching a stream: when content came, when it ended, what is kept, and that garbage does no harm."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.call import Usage
from proxy.wire.reply_text import text_of_events
from proxy.wire.stream_reader import KEPT_RAW_BYTES, LARGEST_EVENT_BYTES, StreamReader, TextSize, has_end_mark
from tests.streams import STREAMS, StreamCase


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def chunk(delta: object, reason: str | None = None, index: int = 0) -> bytes:
    return event({"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": reason}]})


def after(kind: str, *chunks: bytes) -> StreamReader:
    reader = StreamReader(kind)
    for piece in chunks:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"tool_calls": [{"index": 0}]},
        {"refusal": "no"},
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"audio": {"id": "a"}},
        {"function_call": {"name": "f"}},
    ],
)
def test_chat_content_of_every_sort_is_content(delta: object) -> None:
    assert after("chat", chunk({"role": "assistant", "content": ""}), chunk(delta)).first_content


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("chat", chunk({"role": "assistant", "content": "", "refusal": None})),
        ("chat", event({"choices": [], "prompt_filter_results": []})),
        ("chat", event({"choices": [{"index": 0, "content_filter_offsets": {}}]})),
        ("chat", event({"error": {"message": "no"}})),
        ("chat", b": comment\n\n"),
        ("chat", b"data: [DONE]\n\n"),
        ("chat", b"data: not json\n\n"),
        ("completions", event({"choices": [{"index": 0, "text": ""}]})),
        ("responses", event({"type": "response.created", "response": {"id": "r"}})),
        ("responses", event({"type": "response.output_item.added", "item": {}})),
        ("messages", event({"type": "message_start", "message": {"id": "m"}})),
        ("messages", event({"type": "ping"})),
        ("gemini", event({"candidates": [{"index": 0}]})),
        ("speech", event({"error": {"message": "no"}})),
    ],
)
def test_what_is_no_content_does_not_start_the_reply(kind: str, raw: bytes) -> None:
    assert not after(kind, raw).first_content


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("completions", event({"choices": [{"index": 0, "text": "x"}]})),
        ("responses", event({"type": "response.output_text.delta", "delta": "x"})),
        ("responses", event({"type": "response.function_call_arguments.delta", "delta": "{"})),
        ("messages", event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}})),
        ("gemini", event({"candidates": [{"content": {"parts": [{"text": "x"}]}}]})),
        ("speech", event({"type": "speech.audio.delta", "audio": "AAA"})),
        ("other", event({"whatever": 1})),
    ],
)
def test_first_content_of_every_kind(kind: str, raw: bytes) -> None:
    assert after(kind, raw).first_content


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("chat", b"data: [DONE]\n\n"),
        ("chat", chunk({}, "stop")),
        ("responses", event({"type": "response.completed", "response": {}})),
        ("responses", event({"type": "response.incomplete", "response": {}})),
        ("responses", event({"type": "response.failed", "response": {}})),
        ("responses", event({"type": "error", "message": "no"})),
        ("messages", event({"type": "message_stop"})),
        ("gemini", event({"candidates": [{"finishReason": "STOP"}]})),
        ("images", event({"type": "image_generation.completed", "usage": {"input_tokens": 1}})),
        ("transcription", event({"type": "transcript.text.done", "text": "x"})),
        ("speech", event({"type": "speech.audio.done"})),
    ],
)
def test_end_marks_of_every_kind_also_after_content(kind: str, raw: bytes) -> None:
    late = after(kind)
    late.first_content = True  # from here on only notable events are decoded
    late.feed(raw)
    assert after(kind, raw).ended
    assert late.ended


def test_the_end_is_not_the_first_of_several_choices() -> None:
    pieces = [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop"), chunk({}, "length", index=1)]
    ended = []
    reader = StreamReader("chat", choice_count=2)
    for piece in pieces:
        reader.feed(piece)
        ended.append(reader.ended)
    assert ended == [False, False, False, True]
    assert reader.result().finish_reasons == ["stop", "length"]


def test_each_choice_asked_for_has_its_reason_at_its_place() -> None:
    reader = StreamReader("chat", choice_count=4)
    for piece in (chunk({"content": "a"}), chunk({"content": "b"}, index=2), chunk({}, "length", index=2), chunk({}, "stop")):
        reader.feed(piece)
    assert reader.result().finish_reasons == ["stop", "error", "length", "error"]


@pytest.mark.parametrize(("asked", "index", "reasons"), [(10**9, 0, ["stop"] + ["error"] * 127), (1, 10**12, ["stop"]), (1, -1, ["stop"])])
def test_indices_and_counts_beyond_reason_are_not_filled_up(asked: int, index: int, reasons: list[str]) -> None:
    reader = StreamReader("chat", choice_count=asked)
    reader.feed(chunk({}, "stop", index=index))
    assert reader.result().finish_reasons == reasons


def test_reasons_of_an_api_with_one_choice_are_not_filled_up() -> None:
    reader = StreamReader("messages", choice_count=3)
    reader.feed(event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}))
    assert reader.result().finish_reasons == ["end_turn"]


def test_an_end_mark_inside_the_text_is_none() -> None:
    assert not after("chat", chunk({"content": 'data: [DONE]\n\n{"finish_reason":"stop"}'}), chunk({"content": "[DONE]"})).ended


def test_a_kind_without_end_mark_ends_unless_it_failed() -> None:
    assert not has_end_mark("other")
    assert after("other", event({"x": 1})).result().ended
    assert not after("other", event({"error": {"message": "no"}})).result().ended


def test_an_error_event_is_known_at_once() -> None:
    reader = after("chat", event({"error": {"message": "no", "code": "x"}}))
    assert reader.error is not None
    assert reader.error.code == "x"


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_an_event_is_read_once_its_blank_line_is_there_however_it_is_cut(end: str) -> None:
    raw = chunk({"content": "x"}).replace(b"\n", end[: len(end) // 2].encode())
    for cut in range(1, len(raw)):
        assert after("chat", raw[:cut], raw[cut:] + b"data: {").first_content, cut


def test_the_last_event_counts_without_its_blank_line() -> None:
    assert after("chat", chunk({"content": "a"}), b"data: [DONE]").result().ended


def test_cumulative_usage_keeps_the_last_and_is_never_added_up() -> None:
    usages = [{"prompt_tokens": 5, "completion_tokens": n, "total_tokens": 5 + n} for n in range(1, 50)]
    raw = [event({"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": usage}) for usage in usages]
    assert after("chat", *raw).result().usage == Usage(input_tokens=5, output_tokens=49)


def test_zero_usage_never_overwrites_a_real_one() -> None:
    real, zero = {"prompt_tokens": 5, "completion_tokens": 1}, {"prompt_tokens": 0, "completion_tokens": 0}
    assert after("chat", event({"usage": zero}), event({"usage": real}), event({"usage": zero})).result().usage == Usage(
        input_tokens=5, output_tokens=1
    )


def test_a_cut_background_stream_is_still_to_come() -> None:
    queued = event({"type": "response.queued", "response": {"id": "r", "status": "queued", "background": True}})
    assert after("responses", queued).result().background_pending
    done = event({"type": "response.completed", "response": {"id": "r", "status": "completed", "background": True}})
    assert not after("responses", queued, done).result().background_pending
    plain = event({"type": "response.created", "response": {"id": "r", "status": "in_progress", "background": False}})
    assert not after("responses", plain).result().background_pending


@pytest.mark.parametrize("kind", ["chat", "responses", "messages"])
def test_a_long_stream_is_kept_as_text(kind: str) -> None:
    make = {
        "chat": lambda n: chunk({"content": f"{n} "}),
        "responses": lambda n: event({"type": "response.output_text.delta", "delta": f"{n} "}),
        "messages": lambda n: event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": f"{n} "}}),
    }[kind]
    reader = after(kind, *[make(n) for n in range(5000)])
    text, raw = reader.uncounted()
    assert text
    assert len(raw) <= KEPT_RAW_BYTES + 1000
    assert text + text_of_events(raw) == "".join(f"{n} " for n in range(5000))


def test_quick_extraction_of_text_is_the_thorough_one() -> None:
    case = STREAMS["tool calls"]
    odd = [chunk({"content": "a", "new_field": 1}), chunk({"reasoning_content": "why", "content": None}), b": c\n\n", case.asked]
    padding = [chunk({"content": "x" * 1000})] * 70
    text, raw = after("chat", *odd, *padding).uncounted()
    assert text + text_of_events(raw) == "a" + "why" + case.text + "x" * 70_000


def test_memory_stays_bounded_when_no_event_ever_ends() -> None:
    reader = StreamReader("chat")
    for _ in range(300):
        reader.feed(b"x" * 20_000)
    assert len(reader.uncounted()[1]) <= LARGEST_EVENT_BYTES + 20_000
    reader.result()


@pytest.mark.parametrize("size", [1000, 65536])
def test_usage_behind_an_image_in_one_huge_event(size: int) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    output = [{"type": "image_generation_call", "result": "A" * (LARGEST_EVENT_BYTES * 2)}]
    body = {"id": "r", "model": "gpt-5", "status": "completed", "output": output, "usage": usage, "user": None}
    raw = b"event: response.completed\n" + event({"type": "response.completed", "response": body}) + event({"type": "extra"})
    reader = StreamReader("responses")
    for start in range(0, len(raw), size):
        reader.feed(raw[start : start + size])
    facts = reader.result()
    assert facts.usage == Usage(input_tokens=3, output_tokens=4)
    assert facts.ended


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["chat", "responses", "messages", "gemini", "other"]), st.lists(st.binary(max_size=20), max_size=6))
def test_garbage_never_raises(kind: str, chunks: list[bytes]) -> None:
    reader = after(kind, *chunks, b'data: {"usage":[],"choices":{"a":1},"error":0}\n\n', b'data: {"type":5,"response":"x"}\r\r')
    reader.uncounted()
    reader.result()


# ------------------------------------------------------------------------------------------------------- text so far


def size_of(text: str) -> TextSize:
    ascii_chars = sum(character.isascii() for character in text)
    return TextSize(ascii_chars, len(text) - ascii_chars, len(text.encode()))


def test_the_size_of_the_text_so_far_is_known_at_any_time() -> None:
    reader = StreamReader("chat")
    assert reader.text_size() == TextSize()
    reader.feed(chunk({"content": "héllo "}))
    assert reader.text_size() == size_of("héllo ")
    reader.feed(chunk({"reasoning_content": "日本"}) + chunk({"content": "x"})[:10])
    assert reader.text_size() == reader.text_size() == size_of("héllo 日本")
    reader.feed(chunk({"content": "x"})[10:])
    assert reader.text_size() == size_of("héllo 日本x")


@pytest.mark.parametrize("asked_every", [1, 7, 10_000])
def test_the_size_counts_what_was_let_go(asked_every: int) -> None:
    reader, text = StreamReader("chat"), "wörd " * 20
    count = 3 * KEPT_RAW_BYTES // len(text)
    for number in range(1, count + 1):
        reader.feed(chunk({"content": text}))
        if number % asked_every == 0 or number == count:
            assert reader.text_size() == TextSize(80 * number, 20 * number, 120 * number)
    assert reader.uncounted()[0]


@pytest.mark.parametrize("case", STREAMS.values(), ids=STREAMS)
def test_the_size_is_that_of_the_streams_text(case: StreamCase) -> None:
    reader = StreamReader(case.kind)
    for start in range(0, len(case.asked), 100):
        reader.feed(case.asked[start : start + 100])
        reader.text_size()
    reader.result()
    assert reader.text_size() == size_of(case.text)
