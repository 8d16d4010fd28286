"""Streams whose rule has another target: held until their first content, and not a moment longer; then nothing follows any more."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence

import pytest

from proxy.call import Outcome
from proxy.pipeline.startup import MAX_HELD_BYTES, MAX_HELD_CHUNKS, read_start
from proxy.wire.stream_reader import StreamReader
from tests.pipeline.fakes import LEAVES, SILENCE, FakeClientReply, FakeUpstreamReply, Reply, Step, Wait, broken
from tests.pipeline.replies import (
    BYE,
    DONE,
    HELLO,
    JSON_TYPE,
    OVERLOADED,
    ROLE,
    SSE_TYPE,
    USAGE_NUSD,
    delta,
    event,
    json_reply,
    sse,
    usage_chunk,
)
from tests.pipeline.scripts import TWO_TARGETS, chat_stream, posted
from tests.pipeline.world import World, world_under

KEEP_ALIVE = b": OPENROUTER PROCESSING\n\n"
STREAM = [ROLE, HELLO, BYE, usage_chunk(), DONE]
GOOD = sse(*STREAM)

world = world_under(TWO_TARGETS)


FAILING: dict[str, tuple[Reply, Outcome, str]] = {
    "cut at once": (sse(broken()), Outcome.FAILED, "closed"),
    "cut before content": (sse(ROLE, KEEP_ALIVE, broken()), Outcome.FAILED, "closed"),
    "cut within the first event": (sse(HELLO[:40], broken()), Outcome.FAILED, "closed"),
    "ended before content": (sse(ROLE), Outcome.FAILED, "closed"),
    "empty": (sse(), Outcome.FAILED, "closed"),
    "silent before content": (sse(KEEP_ALIVE, ROLE, SILENCE), Outcome.FAILED, "timeout"),
    "error first": (sse(OVERLOADED), Outcome.FAILED, "overloaded_error"),
    "error after the role": (sse(ROLE, OVERLOADED, DONE), Outcome.FAILED, "overloaded_error"),
    "error in pieces": (sse(OVERLOADED[:20], OVERLOADED[20:]), Outcome.FAILED, "overloaded_error"),
    "error as JSON": (json_reply({"error": {"message": "no", "code": "server_error"}}), Outcome.FAILED, "server_error"),
    "status": (Reply(503, SSE_TYPE, [b""]), Outcome.FAILED, "503"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_stream_that_fails_before_its_first_content_is_another_targets(world: World, name: str) -> None:
    script, outcome, error_type = FAILING[name]
    played = world.call(chat_stream(), script, GOOD)
    assert (played.client.status, played.client.body) == (200, b"".join(STREAM))
    first, second = played.record.attempts
    assert (first.outcome, first.error_type, second.outcome) == (outcome, error_type, Outcome.SUCCEEDED)
    assert played.record.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("target", "events"),
    [
        ("/v1/responses", [{"type": "response.created", "response": {}}, {"type": "error", "code": "server_error", "message": "no"}]),
        ("/v1/responses", [{"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}}]),
        ("/v1/messages", [{"type": "message_start", "message": {}}, {"type": "error", "error": {"type": "overloaded_error"}}]),
    ],
)
def test_an_event_that_tells_an_error_first_counts_in_every_dialect(world: World, target: str, events: Sequence[dict[str, object]]) -> None:
    played = world.call(posted({"model": "gpt-4o", "stream": True}, target), sse(*map(event, events)), json_reply({}))
    assert played.asked == ["first", "second"]


@pytest.mark.parametrize(
    ("end", "code"),
    [((broken(),), "upstream_closed"), ((SILENCE,), "upstream_timeout"), ((), "upstream_closed"), ((OVERLOADED,), "overloaded_error")],
)
def test_after_the_first_content_nobody_else_is_asked(world: World, end: Sequence[Step], code: str) -> None:
    played = world.call(chat_stream(), sse(ROLE, HELLO, *end))
    assert (played.asked, played.record.outcome) == (["first"], Outcome.INTERRUPTED)
    assert played.client.body.startswith(ROLE + HELLO)
    told = json.loads(played.client.body.removeprefix(ROLE + HELLO).strip().removeprefix(b"data: "))["error"]
    assert code in (told["code"], told["type"])


def test_a_stream_that_breaks_after_content_counts_against_the_target(world: World) -> None:
    for _ in range(5):
        world.call(chat_stream(), sse(HELLO, broken()))
    assert world.gate.states["first"].breaker.state == "open"


def test_where_every_stream_fails_before_content_the_client_gets_an_error_and_no_half_reply() -> None:
    with World(TWO_TARGETS.replace("attempts: 3", "attempts: 2")) as world:
        played = world.call(chat_stream(), sse(ROLE, broken()), sse(KEEP_ALIVE))
    error = played.error
    assert (played.client.status, error["code"]) == (502, "all_targets_failed")
    assert error["message"] == "None of 2 attempts succeeded (first: closed; second: closed)."


def test_the_last_targets_error_event_is_passed_on_as_it_came(world: World) -> None:
    played = world.call(chat_stream(), sse(broken()), sse(ROLE, event({"error": {"message": "no", "code": "invalid_prompt"}}), DONE))
    assert (played.client.status, played.client.body) == (200, ROLE + event({"error": {"message": "no", "code": "invalid_prompt"}}) + DONE)
    assert (played.record.outcome, played.record.error_type) == (Outcome.FAILED, "invalid_prompt")


def test_an_answer_without_any_content_is_no_failure(world: World) -> None:
    played = world.call(chat_stream(), sse(ROLE, BYE, DONE))
    assert (played.asked, played.record.outcome) == (["first"], Outcome.SUCCEEDED)
    assert played.client.body == ROLE + BYE + DONE


def test_usage_told_by_a_stream_that_failed_is_billed(world: World) -> None:
    failed = sse(event({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20}, "error": {"message": "broke"}}))
    played = world.call(chat_stream(), failed, GOOD)
    assert [attempt.cost and attempt.cost.total_nusd for attempt in played.record.attempts] == [USAGE_NUSD, USAGE_NUSD]


# ------------------------------------------------------------------------------------------------------- what is held


def test_what_was_held_goes_out_unchanged_with_the_first_content(world: World) -> None:
    played = world.call(chat_stream(), sse(KEEP_ALIVE, ROLE, *STREAM[1:]))
    assert played.client.pieces == [KEEP_ALIVE + ROLE + HELLO, *STREAM[2:]]


def test_what_was_held_of_a_compressed_stream_goes_out_as_it_came(world: World) -> None:
    data = gzip.compress(KEEP_ALIVE + b"".join(STREAM))
    pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
    played = world.call(chat_stream(), sse(*pieces, headers=[(b"Content-Encoding", b"gzip")]))
    assert (played.client.body, played.client.value("content-encoding")) == (data, "gzip")
    cost = played.record.attempts[0].cost
    assert cost
    assert cost.total_nusd == USAGE_NUSD


def test_an_error_is_found_in_a_compressed_stream(world: World) -> None:
    failed = sse(gzip.compress(OVERLOADED), headers=[(b"Content-Encoding", b"gzip")])
    assert world.call(chat_stream(), failed, GOOD).asked == ["first", "second"]


def test_a_coding_that_cannot_be_read_is_not_held(world: World) -> None:
    played = world.call(chat_stream(), sse(b"?", b"?", headers=[(b"Content-Encoding", b"x-own")]))
    assert played.client.pieces == [b"?", b"?"]


def test_keep_alives_are_no_content_however_many(world: World) -> None:
    played = world.call(chat_stream(), sse(*[KEEP_ALIVE] * (MAX_HELD_CHUNKS - 1), broken()), GOOD)
    assert played.asked == ["first", "second"]


@pytest.mark.parametrize("held", [[KEEP_ALIVE] * MAX_HELD_CHUNKS, [b":" + b"x" * MAX_HELD_BYTES]])
def test_no_more_is_held_than_so_many_chunks_and_bytes(world: World, held: list[bytes]) -> None:
    played = world.call(chat_stream(), sse(*held, broken()))
    assert (played.asked, played.record.outcome) == (["first"], Outcome.INTERRUPTED)
    assert played.client.body.startswith(b"".join(held))


def test_the_time_to_the_first_content_is_when_it_came(world: World) -> None:
    record = world.call(chat_stream(), sse(ROLE, Wait(2), HELLO, Wait(3), BYE, DONE)).record
    assert record.first_chunk_ns
    assert record.attempts[0].last_chunk_ns
    assert (record.first_chunk_ns - record.start_ns) / 1e9 == pytest.approx(2, abs=0.01)
    assert (record.attempts[0].last_chunk_ns - record.start_ns) / 1e9 == pytest.approx(5, abs=0.01)


def test_the_first_content_is_written_in_the_turn_of_the_loop_in_which_it_came(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    read, write = FakeUpstreamReply.read_chunk, FakeClientReply.write

    async def watched_read(reply: FakeUpstreamReply) -> bytes:
        chunk = await read(reply)
        if chunk == HELLO:
            asyncio.get_running_loop().call_soon(happened.append, "the turn is over")
        return chunk

    async def watched_write(reply: FakeClientReply, data: bytes) -> None:
        if HELLO in data:
            happened.append("written")
        await write(reply, data)

    monkeypatch.setattr(FakeUpstreamReply, "read_chunk", watched_read)
    monkeypatch.setattr(FakeClientReply, "write", watched_write)
    world.call(chat_stream(), sse(ROLE, Wait(1), HELLO, Wait(1), DONE))
    assert happened == ["written", "the turn is over"]


def test_reading_stops_at_the_chunk_with_the_first_content() -> None:
    chunks = [KEEP_ALIVE, ROLE, HELLO, delta("more")]

    async def read() -> bytes:
        return chunks.pop(0)

    held = asyncio.run(read_start(read, StreamReader("chat"), None))
    assert (held, chunks) == (KEEP_ALIVE + ROLE + HELLO, [delta("more")])


# ------------------------------------------------------------------------------------------------------- not a stream


def test_json_where_events_were_asked_for_is_read_whole(world: World) -> None:
    played = world.call(chat_stream(), Reply(200, JSON_TYPE, [b'{"choices":[', Wait(1), b"]}"]))
    assert (played.asked, played.client.body) == (["first"], b'{"choices":[]}')


def test_a_stream_of_json_lines_is_not_held(world: World) -> None:
    played = world.call(chat_stream(), Reply(200, [(b"Content-Type", b"application/x-ndjson")], [b'{"error":1}\n', b"{}\n"]))
    assert (played.asked, played.client.pieces) == (["first"], [b'{"error":1}\n', b"{}\n"])


@pytest.mark.parametrize("steps", [(broken(),), (SILENCE,)])
def test_a_download_that_breaks_before_its_first_byte_is_another_targets(world: World, steps: Sequence[Step]) -> None:
    audio = [(b"Content-Type", b"audio/mpeg")]
    request = posted({"model": "tts-1", "input": "Hello", "voice": "alloy"}, "/v1/audio/speech")
    played = world.call(request, Reply(200, audio, steps), Reply(200, audio, [b"\xff\xfb", b"\x90"]))
    assert (played.asked, played.client.body) == (["first", "second"], b"\xff\xfb\x90")
    assert played.record.overhead_ns == 0


def test_waiting_for_a_downloads_first_byte_is_no_overhead_of_ours(world: World) -> None:
    request = posted({"model": "tts-1", "input": "Hello", "voice": "alloy"}, "/v1/audio/speech")
    played = world.call(request, Reply(200, [(b"Content-Type", b"audio/mpeg")], [Wait(2), b"\xff\xfb"]))
    assert played.record.overhead_ns == 0
    assert played.record.first_chunk_ns
    assert (played.record.first_chunk_ns - played.record.start_ns) / 1e9 == pytest.approx(2, abs=0.01)


def test_a_client_that_leaves_while_a_stream_is_held_closes_the_upstream(world: World) -> None:
    played = world.call(chat_stream(), sse(ROLE, LEAVES))
    assert played.sent[0].reply
    assert (played.sent[0].reply.ends, played.client.events) == (["close"], [])
    assert (played.record.outcome, played.record.attempts[0].outcome) == (Outcome.ABANDONED, Outcome.ABANDONED)
