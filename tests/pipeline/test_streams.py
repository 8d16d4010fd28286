"""Streams of events: bytes pass untouched, usage is read on a copy, and no cut is taken for an end."""

from __future__ import annotations

import gzip
import json

import pytest

from proxy.call import Outcome, Usage
from proxy.errors import UpstreamClosed
from tests.pipeline.fakes import SILENCE, Step, Wait, broken
from tests.pipeline.replies import BYE, DONE, HELLO, USAGE_NUSD, delta, event, sse, usage_chunk
from tests.pipeline.scripts import CONFIG, chat_stream, posted
from tests.pipeline.world import Played, World, world_under

READ = Usage(input_tokens=100, output_tokens=20)

world = world_under(CONFIG)


def in_band_error(played: Played) -> dict[str, object]:
    """The last event that the client saw, as the error it must be."""
    last = played.client.body.rstrip().rpartition(b"data: ")[2]
    error: dict[str, object] = json.loads(last)["error"]
    return error


def test_a_stream_passes_chunk_by_chunk_and_is_billed(world: World) -> None:
    chunks = [HELLO, BYE, usage_chunk(), DONE]
    played = world.call(chat_stream(), sse(*chunks))
    assert played.client.pieces == chunks
    assert (played.record.outcome, played.cost_nusd) == (Outcome.SUCCEEDED, USAGE_NUSD)
    assert played.client.value("x-postern-cost-usd") is None
    assert played.record.attempts[0].finish_reasons == ["stop"]
    assert played.client.events[-1] == "finish"
    assert played.sent[0].reply
    assert played.sent[0].reply.ends == ["release"]


def test_events_torn_at_any_byte_are_read_the_same(world: World) -> None:
    data = HELLO + BYE + usage_chunk() + DONE
    for at in range(1, len(data), 7):
        played = world.call(chat_stream(), sse(data[:at], data[at:]))
        assert (played.client.body, played.cost_nusd) == (data, USAGE_NUSD)


def test_a_stream_without_usage_has_no_cost_and_is_left_to_the_tokenizer(world: World) -> None:
    played = world.call(chat_stream(), sse(HELLO, BYE, DONE))
    attempt = played.record.attempts[0]
    assert (attempt.usage, attempt.cost, attempt.outcome) == (None, None, Outcome.SUCCEEDED)
    assert attempt.uncounted
    assert HELLO in attempt.uncounted.reply


def test_usage_in_every_chunk_is_not_summed(world: World) -> None:
    chunks = [delta("a", usage={"prompt_tokens": 100, "completion_tokens": count}) for count in (1, 2, 20)]
    played = world.call(chat_stream(), sse(*chunks, BYE, DONE))
    assert played.record.attempts[0].usage == READ


def test_zero_usage_never_overwrites_a_real_one(world: World) -> None:
    zero = delta("", "stop", usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    played = world.call(chat_stream(), sse(HELLO, usage_chunk(), zero, DONE))
    assert played.cost_nusd == USAGE_NUSD


def test_usage_beside_choices_counts(world: World) -> None:
    last = delta("!", "stop", usage={"prompt_tokens": 100, "completion_tokens": 20})
    assert world.call(chat_stream(), sse(HELLO, last, DONE)).cost_nusd == USAGE_NUSD


def test_a_stream_cut_by_an_error_is_interrupted_in_band_and_on_the_wire(world: World) -> None:
    played = world.call(chat_stream(), sse(HELLO, broken()))
    assert played.client.body.startswith(HELLO)
    assert in_band_error(played)["code"] == UpstreamClosed.code
    assert played.client.events[-1] == "abort"
    assert (played.record.outcome, played.record.error_type, played.record.status) == (Outcome.INTERRUPTED, "closed", 200)
    assert played.cost_nusd is None
    assert played.record.attempts[0].uncounted


def test_a_stream_that_ends_without_its_marker_is_interrupted(world: World) -> None:
    played = world.call(chat_stream(), sse(HELLO))
    assert in_band_error(played)["code"] == UpstreamClosed.code
    assert played.client.events[-1] == "abort"
    assert played.record.outcome is Outcome.INTERRUPTED


def test_a_finish_reason_is_a_marker_too(world: World) -> None:
    played = world.call(chat_stream(), sse(HELLO, BYE))
    assert (played.record.outcome, played.client.body) == (Outcome.SUCCEEDED, HELLO + BYE)


def test_one_finished_choice_of_two_is_no_end(world: World) -> None:
    played = world.call(chat_stream({"n": 2}), sse(HELLO, BYE))
    assert played.record.outcome is Outcome.INTERRUPTED


def test_an_upstream_that_breaks_after_the_end_marker_broke_nothing(world: World) -> None:
    played = world.call(chat_stream(), sse(HELLO, BYE, usage_chunk(), DONE, broken()))
    assert (played.record.outcome, played.record.error_type, played.cost_nusd) == (Outcome.SUCCEEDED, None, USAGE_NUSD)
    assert played.client.events[-1] == "finish"


def test_a_cut_stream_is_billed_by_the_usage_seen(world: World) -> None:
    played = world.call(chat_stream(), sse(delta("a", usage={"prompt_tokens": 100, "completion_tokens": 20}), broken()))
    assert (played.record.outcome, played.cost_nusd) == (Outcome.INTERRUPTED, USAGE_NUSD)


@pytest.mark.parametrize("before", [(), (HELLO,)])
def test_a_silent_stream_is_given_up_after_idle_s(world: World, before: tuple[Step, ...]) -> None:
    began_ns = world.clock.monotonic_ns()
    played = world.call(chat_stream(), sse(*before, SILENCE))
    waited_s = (world.clock.monotonic_ns() - began_ns) / 1e9
    assert in_band_error(played)["code"] == "upstream_timeout"
    assert "idle_s" in str(in_band_error(played)["message"])
    assert (played.record.outcome, played.record.error_type) == (Outcome.INTERRUPTED, "timeout")
    assert 10 <= waited_s < 11


def test_a_slow_stream_is_not_a_silent_one(world: World) -> None:
    steps = [step for _ in range(5) for step in (Wait(9.0), HELLO)]
    assert world.call(chat_stream(), sse(*steps, DONE)).record.outcome is Outcome.SUCCEEDED


def test_total_s_ends_a_stream_that_never_falls_silent() -> None:
    with World(CONFIG.replace("idle_s: 10", "idle_s: 10, total_s: 30")) as world:
        began_ns = world.clock.monotonic_ns()
        played = world.call(chat_stream(), sse(*[step for _ in range(99) for step in (HELLO, Wait(1.0))]))
    assert "total_s" in str(in_band_error(played)["message"])
    assert 30 <= (world.clock.monotonic_ns() - began_ns) / 1e9 < 31
    assert played.record.error_type == "timeout"


def test_an_error_event_before_content_is_a_failure(world: World) -> None:
    error = event({"error": {"message": "No.", "type": "overloaded", "code": "busy"}})
    played = world.call(chat_stream(), sse(error))
    assert (played.client.body, played.client.events[-1]) == (error, "finish")
    assert (played.record.outcome, played.record.error_type, played.record.error_message) == (Outcome.FAILED, "busy", "No.")


def test_an_error_event_after_content_is_an_interruption(world: World) -> None:
    played = world.call(chat_stream(), sse(HELLO, event({"error": {"message": "No.", "type": "overloaded"}})))
    assert (played.record.outcome, played.record.error_type) == (Outcome.INTERRUPTED, "overloaded")


def test_an_error_status_to_a_streamed_call_is_read_whole(world: World) -> None:
    reply = sse(b'{"error":{"message":"No.","code":"busy"}}')
    played = world.call(chat_stream(), type(reply)(429, reply.headers, reply.steps))
    assert (played.client.status, played.record.outcome, played.record.error_type) == (429, Outcome.THROTTLED, "busy")


def test_the_first_chunk_is_the_first_content(world: World) -> None:
    role = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
    played = world.call(chat_stream(), sse(role, Wait(2.0), HELLO, Wait(3.0), BYE, DONE))
    first_ns = played.record.first_chunk_ns
    assert first_ns
    assert 2.0 <= (first_ns - played.record.start_ns) / 1e9 < 2.1
    assert played.record.end_ns - played.record.start_ns >= 5_000_000_000


def test_the_head_goes_out_before_a_slow_first_chunk(world: World) -> None:
    reply = sse(Wait(2.0), HELLO, DONE)
    slow = world.call(chat_stream(), type(reply)(200, reply.headers, reply.steps, has_data=False))
    assert slow.client.events[:2] == ["start", "flush"]
    assert world.call(chat_stream(), reply).client.events[:2] == ["start", "write"]


def test_a_compressed_stream_passes_as_it_is_and_is_billed(world: World) -> None:
    packed = gzip.compress(HELLO + BYE + usage_chunk() + DONE)
    played = world.call(chat_stream(), sse(packed[:30], packed[30:], headers=[(b"Content-Encoding", b"gzip")]))
    assert (played.client.body, played.cost_nusd) == (packed, USAGE_NUSD)


def test_no_event_of_ours_goes_into_compressed_bytes(world: World) -> None:
    packed = gzip.compress(HELLO)[:-9]
    played = world.call(chat_stream(), sse(packed, broken(), headers=[(b"Content-Encoding", b"gzip")]))
    assert (played.client.body, played.client.events[-1]) == (packed, "abort")
    assert played.record.outcome is Outcome.INTERRUPTED


def anthropic_event(name: str, **members: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | members)}\n\n".encode()


def test_an_anthropic_stream_is_billed_with_its_cache_beside_its_input(world: World) -> None:
    start = {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 1}}
    chunks = [
        anthropic_event("message_start", message=start),
        anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"}),
        anthropic_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 20}),
        anthropic_event("message_stop"),
    ]
    request = posted({"model": "claude-x", "stream": True, "messages": []}, "/v1/messages")
    played = world.call(request, sse(*chunks))
    usage = played.record.attempts[0].usage
    assert played.client.pieces == chunks
    assert usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (100, 40, 20)
    cut = world.call(request, sse(*chunks[:2], broken()))
    assert cut.client.body.endswith(b"}\n\n")
    assert in_band_error(cut)["type"] == "api_error"
    assert cut.record.attempts[0].uncounted, "half of its usage was never told"


def test_a_responses_stream_is_cut_without_a_terminal_event(world: World) -> None:
    created = event({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}})
    text = event({"type": "response.output_text.delta", "delta": "Hi"})
    played = world.call(posted({"model": "gpt-4o", "stream": True, "input": "x"}, "/v1/responses"), sse(created, text))
    last = json.loads(played.client.body.rstrip().rpartition(b"data: ")[2])
    assert (last["type"], played.record.outcome) == ("error", Outcome.INTERRUPTED)
