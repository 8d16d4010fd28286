"""A budget with `cut` lets a stream in for whose bound too little is left, and ends it properly when that is used up."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.call import Outcome
from proxy.wire.stream_reader import StreamReader
from tests.pipeline.fakes import LEAVES, SILENCE, Step, Wait
from tests.pipeline.replies import BYE, DONE, GOOD, delta, event, failure, in_pieces, json_reply, sse, usage_chunk
from tests.pipeline.scripts import CONFIG, TWO_TARGETS, chat, chat_stream, posted
from tests.pipeline.spending_scripts import DAY_TOKENS, DAY_USD, MAX_TOKENS, bound_nusd, bound_tokens, budget
from tests.pipeline.world import Played, Request, World

STREAM = chat_stream({"max_completion_tokens": MAX_TOKENS})
HELD_TOKENS = 20
"""Of output, in these scripts: less than MAX_TOKENS."""
LETTERS = [delta(letter) for letter in "abcdefghijklmnopqrstuvwxyz" * 2]
"""More than is held, a byte each."""


def config(limit: str, base: str = CONFIG, more: str = "cut: true", extra: str = "") -> str:
    return base + budget(limit, more) + extra


def tokens(request: Request = STREAM, output_tokens: int = HELD_TOKENS) -> str:
    """A limit that has exactly so much output left for a request."""
    return f"{{tokens: {bound_tokens(request, output_tokens)}}}"


def chunks(played: Played) -> list[dict[str, Any]]:
    """The chunks that the client was sent, without the mark of the end, which must be there."""
    *events, last, rest = played.client.body.split(b"\n\n")
    assert (last, rest) == (b"data: [DONE]", b"")
    return [json.loads(one.removeprefix(b"data: ")) for one in events]


def text_of(played: Played) -> str:
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks(played))


def stream_of(kind: str, played: Played) -> StreamReader:
    reader = StreamReader(kind)
    reader.feed(played.client.body)
    return reader


# --------------------------------------------------------------------------------------------------------- when it ends


def test_a_stream_ends_by_length_when_what_is_held_is_used_up() -> None:
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*LETTERS, BYE, DONE))
        assert text_of(played) == "abcdefghijklmnopqrst"
        assert played.client.events[-1] == "finish"
        last = chunks(played)[-1]
        assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
        assert (last["id"], last["model"]) == ("chatcmpl-1", "gpt-4o-2024-08-06")
        attempt = played.record.attempts[0]
        assert (attempt.outcome, attempt.finish_reasons, attempt.cut_by) == (Outcome.SUCCEEDED, ["length"], "day")
        assert (played.record.outcome, played.record.error_type, played.record.rule) == (Outcome.SUCCEEDED, None, None)


def test_a_token_for_each_byte_of_text_is_within_the_budget() -> None:
    """However dense a tokenizer is: what was received, at a token a byte, and all of the input's bound."""
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*LETTERS, BYE, DONE))
        worst = bound_tokens(STREAM, 0) + len(text_of(played))
        assert worst == bound_tokens(STREAM, HELD_TOKENS)
        assert 0 < world.store.spent(DAY_TOKENS) <= worst


def test_a_budget_of_usd_ends_it_at_what_its_rest_buys() -> None:
    limit_nusd = bound_nusd(STREAM, HELD_TOKENS) + 1  # where bounds are rounded, in favour of the budget
    with World(config(f"{{usd: {limit_nusd / 1e9:.9f}}}")) as world:
        played = world.call(STREAM, sse(*LETTERS, BYE, DONE))
        assert len(text_of(played)) == HELD_TOKENS
        assert 0 < world.store.spent(DAY_USD) <= limit_nusd


def test_the_tightest_of_several_decides() -> None:
    wide = "{name: wide, window: {every: month}, limit: " + tokens(output_tokens=30) + ", cut: true}"
    with World(config(tokens(output_tokens=10)) + f"  - {wide}\n") as world:
        played = world.call(STREAM, sse(*LETTERS, BYE, DONE))
        assert len(text_of(played)) == 10
        assert played.record.attempts[0].cut_by == "day"


def test_it_is_counted_from_the_text_that_came() -> None:
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*LETTERS, BYE, DONE))
        raw = played.record.attempts[0].uncounted
        assert raw is not None
        assert raw.reply_is_stream
        assert b'"t"' in raw.reply
        assert b'"u"' not in raw.reply


def test_a_provider_that_tells_usage_as_it_goes_is_believed() -> None:
    def so_far(count: int) -> dict[str, int]:
        return {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count}

    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*[delta("x", usage=so_far(number)) for number in range(1, 40)]))
        attempt = played.record.attempts[0]
        assert (attempt.cut_by, attempt.uncounted) == ("day", None)
        assert world.store.spent(DAY_TOKENS) == 10 + HELD_TOKENS


def test_the_upstream_is_closed_at_once() -> None:
    """No later than the end is sent: it would go on writing, and be paid for it."""
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*LETTERS[:HELD_TOKENS], SILENCE))
        (sent,) = played.sent
        assert sent.reply is not None
        assert sent.reply.ends == ["close"]
        assert played.record.end_ns == played.record.start_ns
        assert world.call(STREAM, failure(400)).sent  # nothing is left held: see World


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 110, 111, 112, 113, 200, 1000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_it_ends_after_a_whole_event_wherever_chunks_end(size: int, line_end: bytes) -> None:
    data = b"".join([*LETTERS, BYE, DONE]).replace(b"\n", line_end)
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*in_pieces(data, size)))
        body = played.client.body.replace(b"\r\n", b"\n")
        documents = [json.loads(one[6:]) for one in body.split(b"\n\n")[:-2]]
        text = "".join(one["choices"][0]["delta"].get("content", "") for one in documents)
        at_most = HELD_TOKENS + size // len(LETTERS[0]) + 1  # what came in the same chunk was written already
        assert HELD_TOKENS <= len(text) <= at_most
        assert documents[-1]["choices"][0]["finish_reason"] == "length"
        assert body.endswith(DONE)


def test_several_choices_share_it_and_those_that_ended_stay_as_they_are() -> None:
    def piece(index: int, content: str, reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": {"content": content}, "finish_reason": reason}
        return event({"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]})

    request = chat_stream({"max_completion_tokens": MAX_TOKENS, "n": 2})
    with World(config(tokens(request))) as world:
        played = world.call(request, sse(piece(0, "x" * 10, "stop"), *[piece(1, "yy")] * 10))
        assert stream_of("chat", played).result().ended
        last = chunks(played)[-1]
        assert [choice["index"] for choice in last["choices"]] == [1]
        assert (last["object"], last["created"]) == ("chat.completion.chunk", 7)
        assert played.record.attempts[0].finish_reasons == ["stop", "length"]


def test_a_chunk_of_text_that_passes_it_is_passed_on_for_it_was_paid_for() -> None:
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(delta("x" * 30), SILENCE))
        assert text_of(played) == "x" * 30
        assert played.record.attempts[0].cut_by == "day"


# ------------------------------------------------------------------------------------------------------ other endpoints


def message_events(count: int) -> list[bytes]:
    """An Anthropic message without its end, a byte of text an event."""
    usage = {"input_tokens": 9, "output_tokens": 1}
    start: dict[str, Any] = {"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "content": [], "usage": usage}}
    block: dict[str, Any] = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    said: dict[str, Any] = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
    return [b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in (start, block, *[said] * count)]


def test_a_message_ends_with_max_tokens_and_its_input_as_the_provider_told_it() -> None:
    body = {"model": "claude-x", "max_tokens": MAX_TOKENS, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    request = posted(body, "/v1/messages")
    with World(config(tokens(request))) as world:
        played = world.call(request, sse(*message_events(40), SILENCE))
        attempt = played.record.attempts[0]
        assert (attempt.outcome, attempt.finish_reasons, attempt.cut_by) == (Outcome.SUCCEEDED, ["max_tokens"], "day")
        assert attempt.usage is not None
        assert attempt.usage.input_tokens == 9
        assert attempt.uncounted is not None, "its output is still to be counted"
        assert world.store.spent(DAY_TOKENS) == 9 + HELD_TOKENS * 3 // 10
        assert b'"usage":{"output_tokens":6}' in played.client.body
        assert played.client.body.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def test_a_completion_ends_with_length() -> None:
    request = posted({"model": "m", "prompt": "Hi", "max_tokens": MAX_TOKENS, "stream": True}, "/v1/completions")
    said = event({"id": "cmpl-1", "object": "text_completion", "created": 7, "choices": [{"index": 0, "text": "x", "finish_reason": None}]})
    with World(config(tokens(request))) as world:
        last = chunks(world.call(request, sse(*[said] * 40, SILENCE)))[-1]
        assert last["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]
        assert last["object"] == "text_completion"


def test_a_response_ends_as_incomplete() -> None:
    request = posted({"model": "gpt-4o", "input": "Hi", "max_output_tokens": MAX_TOKENS, "stream": True}, "/v1/responses")

    def told(kind: str, **members: object) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, "sequence_number": 3, **members}).encode())

    created = told("response.created", response={"id": "resp_1", "object": "response", "status": "in_progress", "output": []})
    said = told("response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta="x")
    with World(config(tokens(request))) as world:
        played = world.call(request, sse(created, *[said] * 40, SILENCE))
        assert played.record.attempts[0].finish_reasons == ["max_output_tokens"]
        assert stream_of("responses", played).result().ended
        assert played.record.attempts[0].cut_by == "day"


def test_what_can_not_be_ended_properly_is_refused() -> None:
    """Gemini's stream has no end that says so; a response in the background goes on without its reader."""
    gemini = posted(
        {"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": {"maxOutputTokens": MAX_TOKENS}},
        "/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
    )
    behind = posted({"model": "m", "input": "Hi", "max_output_tokens": MAX_TOKENS, "stream": True, "background": True}, "/v1/responses")
    for request in (gemini, behind):
        with World(config(tokens(request))) as world:
            played = world.call(request)
            assert (played.record.status, played.record.rule) == (429, "day")


# ------------------------------------------------------------------------------------------------------ what stays as it is


def whole(*steps: Step) -> Sequence[Step]:
    return [*steps, BYE, usage_chunk(), DONE]


def test_a_stream_that_ends_within_it_is_not_touched() -> None:
    steps = whole(delta("short"))
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*steps))
        assert played.client.body == b"".join(step for step in steps if isinstance(step, bytes))
        assert (played.record.attempts[0].finish_reasons, played.record.attempts[0].cut_by) == (["stop"], None)
        assert world.store.spent(DAY_TOKENS) == 120


@pytest.mark.parametrize("size", [1, 40, 10_000])
def test_a_stream_that_is_about_to_end_itself_tells_its_usage(size: int) -> None:
    """What is held is used up by the chunk with the last text: all that follows is the provider's own end."""
    steps = b"".join([delta("x" * HELD_TOKENS, "stop"), usage_chunk(), DONE])
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*in_pieces(steps, size)))
        assert played.client.body == steps
        assert played.record.attempts[0].cut_by is None
        assert world.store.spent(DAY_TOKENS) == 120


def test_a_call_that_fits_whole_is_as_ever() -> None:
    with World(config("{tokens: 1000000}")) as world:
        request = chat_stream({"max_completion_tokens": MAX_TOKENS}, headers=[(b"Accept-Encoding", b"gzip")])
        played = world.call(request, sse(*LETTERS, BYE, DONE))
        assert played.client.body == b"".join([*LETTERS, BYE, DONE])
        assert played.sent[0].values("accept-encoding") == [b"gzip"]


def test_without_cut_a_stream_is_refused() -> None:
    with World(config(tokens(), more="")) as world:
        assert world.call(STREAM).record.status == 429


def test_a_call_that_is_not_streamed_is_refused() -> None:
    request = chat(body={"max_completion_tokens": MAX_TOKENS})
    with World(config(tokens(request))) as world:
        assert world.call(request).record.status == 429


@pytest.mark.parametrize("output_tokens", [-1, 0])
def test_with_nothing_left_for_output_a_stream_is_refused(output_tokens: int) -> None:
    with World(config(tokens(output_tokens=output_tokens))) as world:
        assert world.call(STREAM).record.status == 429


def test_less_than_a_token_of_usd_is_nothing() -> None:
    with World(config(f"{{usd: {bound_nusd(STREAM, 1) / 1e9:.9f}}}")) as world:
        assert world.call(STREAM).record.status == 429


def test_where_another_rule_is_short_that_does_not_cut_it_is_refused() -> None:
    strict = "{name: strict, window: {every: month}, limit: " + tokens() + "}"
    with World(config(tokens()) + f"  - {strict}\n") as world:
        assert world.call(STREAM).record.status == 429


def test_reasoning_that_is_not_shown_is_not_seen() -> None:
    """The limit of what a stream tells while it runs. Its usage, when it comes, is counted as it is."""
    usage = {"prompt_tokens": 10, "completion_tokens": 500, "total_tokens": 510}
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(delta("short"), BYE, usage_chunk(usage), DONE))
        assert played.record.attempts[0].cut_by is None
        assert world.store.spent(DAY_TOKENS) == 510


# ----------------------------------------------------------------------------------------------------------- on the way


def test_usage_that_we_asked_for_leaves_no_trace() -> None:
    request = chat_stream({"max_completion_tokens": MAX_TOKENS}, asks=False)
    nulled = [letter.replace(b"}\n\n", b',"usage":null}\n\n') for letter in LETTERS]
    with World(config(tokens(request))) as world:
        played = world.call(request, sse(*in_pieces(b"".join(nulled), 70)))
        assert b"usage" not in played.client.body
        assert len(text_of(played)) == HELD_TOKENS + 1  # which was begun when it was used up


def test_it_is_asked_for_without_content_coding_and_ended_also_if_it_has_one() -> None:
    coded = gzip.compress(b"".join(LETTERS))
    request = chat_stream({"max_completion_tokens": MAX_TOKENS}, headers=[(b"Accept-Encoding", b"gzip")])
    with World(config(tokens(request))) as world:
        played = world.call(request, sse(coded, SILENCE, headers=[(b"Content-Encoding", b"gzip")]))
        assert played.sent[0].values("accept-encoding") == [b"identity"]
        assert played.client.value("content-encoding") is None
        assert chunks(played)[-1]["choices"][0]["finish_reason"] == "length"


def test_a_content_coding_that_nobody_knows_passes_as_it_is() -> None:
    """The upstream was asked for none: no event of ours can be put among such bytes."""
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*LETTERS, headers=[(b"Content-Encoding", b"rot13")]))
        assert played.client.body == b"".join(LETTERS)
        assert played.record.attempts[0].cut_by is None


def test_what_is_recorded_of_it_says_how_it_ended() -> None:
    with World(config(tokens(), extra="telemetry: {capture_content: [ledger]}")) as world:
        content = world.call(STREAM, sse(*LETTERS, SILENCE)).record.content
        assert content is not None
        (said,) = json.loads(content.output_messages or "[]")
        assert said["parts"] == [{"type": "text", "content": "abcdefghijklmnopqrst"}]
        assert said["finish_reason"] == "length"


def test_a_length_that_the_upstream_announced_is_not_promised() -> None:
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*LETTERS, headers=[(b"Content-Length", b"99999")]))
        assert played.client.value("content-length") is None


def test_the_one_that_stands_in_is_cut_by_what_is_left_then() -> None:
    with World(config(tokens(), base=TWO_TARGETS)) as world:
        played = world.call(STREAM, failure(500), sse(*LETTERS, SILENCE))
        assert len(text_of(played)) == HELD_TOKENS
        assert [attempt.cut_by for attempt in played.record.attempts] == [None, "day"]


def test_asked_again_without_our_question_for_usage_it_is_cut_all_the_same() -> None:
    request = chat_stream({"max_completion_tokens": MAX_TOKENS}, asks=False)
    refusal = json_reply({"error": {"message": "stream_options is not supported"}}, 400)
    with World(config(tokens(request))) as world:
        played = world.call(request, refusal, sse(*LETTERS, SILENCE))
        assert len(text_of(played)) == HELD_TOKENS


def test_a_client_that_leaves_before_it_is_used_up_pays_for_what_came() -> None:
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*LETTERS[:10], LEAVES))
        assert (played.record.outcome, played.record.attempts[0].cut_by) == (Outcome.ABANDONED, None)


def test_a_client_that_is_gone_when_it_ends_left_the_call() -> None:
    with World(config(tokens())) as world:
        request = chat_stream({"max_completion_tokens": MAX_TOKENS}, writes_until_gone=HELD_TOKENS)
        played = world.call(request, sse(*LETTERS, SILENCE))
        assert played.record.outcome is Outcome.ABANDONED
        assert played.record.attempts[0].uncounted is not None


def test_an_error_in_the_stream_is_told_as_it_is() -> None:
    broken = event({"error": {"message": "No.", "type": "server_error", "code": "boom"}})
    with World(config(tokens())) as world:
        played = world.call(STREAM, sse(*LETTERS[: HELD_TOKENS - 1], delta("x" * 5) + broken))
        assert (played.record.outcome, played.record.error_type) == (Outcome.INTERRUPTED, "boom")
        assert played.client.body.endswith(broken)


def test_a_reply_that_came_whole_instead_of_a_stream_is_passed_on() -> None:
    with World(config(tokens())) as world:
        played = world.call(STREAM, GOOD)
        assert played.record.status == 200
        assert played.record.attempts[0].cut_by is None


def test_time_that_passes_changes_nothing() -> None:
    with World(config(tokens())) as world:
        slow: list[Step] = [step for letter in LETTERS for step in (letter, Wait(1))]
        assert len(text_of(world.call(STREAM, sse(*slow)))) == HELD_TOKENS
