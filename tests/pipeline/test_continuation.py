"""A streamed chat that breaks after text was passed on is gone on with by the next attempt, where the route says so."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from proxy.call import Outcome
from proxy.errors import ConnectFailed
from tests.pipeline.fakes import LEAVES, SILENCE, Reply, Step, Wait, broken
from tests.pipeline.replies import (
    BYE,
    DONE,
    GOOD,
    OVERLOADED,
    ROLE,
    SILENT,
    SSE_TYPE,
    USAGE,
    delta,
    event,
    failure,
    in_pieces,
    sse,
    usage_chunk,
)
from tests.pipeline.scripts import TWO_TARGETS, chat_stream, continued
from tests.pipeline.world import World, world_under

CONFIG = continued(TWO_TARGETS)
WORDS = ("Once ", "upon ", "a ", "time.")

world = world_under(CONFIG)


def other(text: str, finish: str | None = None, role: str | None = None) -> bytes:
    """A chunk of the second target's stream."""
    said = {"content": text} | ({"role": role} if role else {}) if text or role else {}
    return event({"id": "other", "created": 9, "model": "o", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]})


def rest(*texts: str) -> list[bytes]:
    """The second target's stream, from its beginning to its end."""
    return [other("", role="assistant"), *map(other, texts), other("", "stop"), DONE]


def chunks(body: bytes) -> list[dict[str, object]]:
    """What a client makes of a stream: every event must be JSON, but for the end mark."""
    datas = [one.removeprefix(b"data: ") for one in body.split(b"\n\n") if one.strip()]
    return [json.loads(data) for data in datas if data != b"[DONE]"]


def text_of(body: bytes) -> str:
    """The text that a client gets."""
    deltas = [choice["delta"] for chunk in chunks(body) for choice in chunk.get("choices", [])]  # type: ignore[attr-defined]
    return "".join(delta.get("content") or "" for delta in deltas)


BREAKS: dict[str, Sequence[Step]] = {
    "cut": [broken()],
    "silent": [SILENCE],
    "no end mark": [],
    "half an event": [delta("x")[:-9], broken()],
    "an error": [OVERLOADED],
    "an error, then the end": [OVERLOADED + DONE],
    "an error, then cut": [OVERLOADED, broken()],
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_stream_that_breaks_is_gone_on_with(world: World, name: str) -> None:
    played = world.call(chat_stream(), sse(ROLE, delta(WORDS[0]), delta(WORDS[1]), *BREAKS[name]), sse(*rest(*WORDS[2:])))
    body = played.client.body
    assert (text_of(body), body.count(DONE), played.client.events[-1]) == ("".join(WORDS), 1, "finish")
    assert {chunk["id"] for chunk in chunks(body)} == {"chatcmpl-1"}
    assert played.attempts == [("first", Outcome.INTERRUPTED, None), ("second", Outcome.SUCCEEDED, "continuation")]
    assert (played.record.outcome, played.record.error_type) == (Outcome.SUCCEEDED, None)
    assert played.record.attempts[1].seam_chars == len(WORDS[0] + WORDS[1])


def test_the_next_target_gets_the_same_messages_and_the_text_so_far(world: World) -> None:
    played = world.call(chat_stream(), sse(delta("Once "), broken()), sse(*rest("upon")))
    first, second = (json.loads(sent.body) for sent in played.sent)
    assert second == first | {"messages": [*first["messages"], {"role": "assistant", "content": "Once "}]}
    assert played.sent[1].values("authorization") == [b"Bearer sk-other-target"]


CUT_FROM = len(ROLE + delta(WORDS[0]))
STREAM = ROLE + b"".join(map(delta, WORDS)) + BYE


@pytest.mark.parametrize("size", [1, 1000])
def test_wherever_the_stream_is_cut_the_client_has_the_whole_text_once(size: int) -> None:
    config = CONFIG.replace("failures: 5", "failures: 100000")
    with World(config) as world:
        for cut in range(CUT_FROM, len(STREAM) - 2, 1 if size > 1 else 7):
            arrived = STREAM[:cut][: STREAM[:cut].rfind(b"\n\n") + 2]
            said = len([word for word in WORDS if delta(word) in arrived])
            script = sse(*rest(*WORDS[said:]))
            world.upstream.default = lambda script=script: script
            first = sse(*in_pieces(STREAM[:cut], size), broken())
            played = world.call(chat_stream(), first)
            assert text_of(played.client.body) == "".join(WORDS), cut
            assert (played.record.outcome, played.client.body.count(DONE) <= 1) == (Outcome.SUCCEEDED, True)


def test_a_stream_whose_end_mark_had_come_is_whole(world: World) -> None:
    played = world.call(chat_stream(), sse(delta("All."), BYE, broken()))
    assert (played.attempts, text_of(played.client.body)) == ([("first", Outcome.SUCCEEDED, None)], "All.")


def test_without_the_switch_the_client_is_told_in_band() -> None:
    with World(TWO_TARGETS) as world:
        played = world.call(chat_stream(), sse(delta("Once "), broken()))
    assert (played.client.events[-1], played.record.outcome) == ("abort", Outcome.INTERRUPTED)


GOES_WRONG: dict[str, Reply | Step] = {
    "away": ConnectFailed("no"),
    "failing": failure(500),
    "wrong": failure(400, "invalid_value"),
    "no stream": GOOD,
    "cut before content": sse(ROLE, broken()),
    "error first": sse(event({"error": {"message": "no", "type": "server_error"}})),
}


@pytest.mark.parametrize("name", GOES_WRONG)
def test_where_nobody_goes_on_the_client_is_told_in_band_as_ever(name: str) -> None:
    with World(CONFIG.replace("attempts: 3", "attempts: 2")) as world:
        played = world.call(chat_stream(), sse(delta("Once "), broken()), GOES_WRONG[name])
    assert played.client.body.startswith(delta("Once "))
    (error,) = [chunk["error"] for chunk in chunks(played.client.body) if "error" in chunk]
    assert error["code"] == "upstream_closed"  # type: ignore[index]
    assert (played.client.events[-1], played.record.outcome, played.record.error_type) == ("abort", Outcome.INTERRUPTED, "closed")
    assert played.record.attempts[1].cause == "continuation"


def test_an_error_that_nobody_goes_on_from_is_told_as_it_came() -> None:
    with World(CONFIG.replace("attempts: 3", "attempts: 2")) as world:
        played = world.call(chat_stream(), sse(delta("Once "), OVERLOADED, DONE), failure(500))
        assert (played.client.body, played.client.events[-1]) == (delta("Once ") + OVERLOADED + DONE, "finish")
        assert (played.record.outcome, played.record.error_type) == (Outcome.INTERRUPTED, "overloaded_error")


def test_an_error_that_is_the_requests_own_is_told_at_once(world: World) -> None:
    error = event({"error": {"message": "no", "type": "invalid_request_error", "code": "invalid_prompt"}})
    played = world.call(chat_stream(), sse(delta("Once "), error, DONE))
    assert (played.client.body, len(played.record.attempts)) == (delta("Once ") + error + DONE, 1)


def test_who_breaks_off_again_is_gone_on_with_again() -> None:
    third = CONFIG.replace("routes", "  third: {provider: mistral, credential: sk-target}\nroutes").replace("second]", "second, third]")
    with World(third) as world:
        played = world.call(chat_stream(), sse(delta("Once "), broken()), sse(other("upon "), broken()), sse(*rest("a ", "time.")))
    assert text_of(played.client.body) == "".join(WORDS)
    assert [attempt.seam_chars for attempt in played.record.attempts] == [None, 5, 10]
    assert json.loads(played.sent[2].body)["messages"][-1] == {"role": "assistant", "content": "Once upon ", "prefix": True}


def test_attempts_are_bounded_and_the_last_break_is_told() -> None:
    with World(CONFIG.replace("attempts: 3", "attempts: 2")) as world:
        played = world.call(chat_stream(), sse(delta("Once "), broken()), sse(other("upon "), SILENCE))
    assert text_of(played.client.body) == "Once upon "
    (error,) = [chunk["error"] for chunk in chunks(played.client.body) if "error" in chunk]
    assert error["code"] == "upstream_timeout"  # type: ignore[index]
    assert played.record.error_type == "timeout"


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
    ],
)
def test_a_call_that_asks_for_more_than_one_text_is_not_gone_on_with(world: World, body: dict[str, object]) -> None:
    played = world.call(chat_stream(body), sse(delta("Once "), broken()))
    assert [target for target, *_ in played.attempts] == ["first"]


@pytest.mark.parametrize(
    "said", [{"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{"}}]}, {"content": "x", "refusal": "No"}]
)
def test_a_stream_with_more_than_text_in_it_is_not_gone_on_with(world: World, said: dict[str, object]) -> None:
    chunk = event({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": said, "finish_reason": None}]})
    played = world.call(chat_stream(), sse(chunk, broken()))
    assert [target for target, *_ in played.attempts] == ["first"]
    assert played.client.events[-1] == "abort"


def test_usage_that_was_not_asked_for_stays_out(world: World) -> None:
    played = world.call(chat_stream(asks=False), sse(delta("Once "), broken()), sse(other("upon"), other("", "stop"), usage_chunk(), DONE))
    assert b"usage" not in played.client.body
    assert (text_of(played.client.body), played.client.body.count(DONE)) == ("Once upon", 1)
    assert played.record.attempts[1].usage


def test_usage_that_was_asked_for_is_told_once(world: World) -> None:
    played = world.call(chat_stream(), sse(delta("Once "), broken()), sse(other("upon"), other("", "stop"), usage_chunk(), DONE))
    assert [chunk["usage"] for chunk in chunks(played.client.body) if "usage" in chunk] == [USAGE]


def test_a_client_that_leaves_ends_the_one_that_goes_on(world: World) -> None:
    played = world.call(chat_stream(), sse(delta("Once "), broken()), sse(other("upon"), Wait(1), LEAVES))
    assert played.attempts[1] == ("second", Outcome.ABANDONED, "continuation")
    assert played.record.outcome is Outcome.ABANDONED
    assert played.sent[1].reply is not None
    assert played.sent[1].reply.ends == ["close"]


def test_the_break_counts_at_the_breaker_of_the_target_that_broke(world: World) -> None:
    for _ in range(5):
        world.call(chat_stream(), sse(delta("Once "), broken()), sse(*rest("upon")))
    assert (world.gate.states["first"].breaker.state, world.gate.states["second"].breaker.state) == ("open", "closed")


def test_the_time_to_the_first_content_is_that_of_the_first_stream(world: World) -> None:
    played = world.call(chat_stream(), sse(delta("Once "), Wait(2), broken()), sse(*rest("upon")))
    assert played.record.first_chunk_ns is not None
    assert played.record.first_chunk_ns - played.record.start_ns < 1e9


def test_what_is_recorded_of_it_is_the_whole_text() -> None:
    with World("telemetry: {capture_content: ledger}\n" + CONFIG) as world:
        played = world.call(chat_stream(), sse(ROLE, delta("Once "), delta("x")[:-9], broken()), sse(*rest("upon ", "a time.")))
    assert played.record.content is not None
    assert "Once upon a time." in (played.record.content.output_messages or "")


FAULTS = (ConnectFailed("no"), failure(500), failure(429), sse(ROLE, broken()), SILENT, GOOD)


@pytest.mark.parametrize("hedge", ["", "hedge: {after: 2s, max_ratio: 100%}, "])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_targets_do_a_client_never_has_a_word_twice_nor_half_an_event(seed: int, hedge: str) -> None:
    chance = random.Random(seed)
    words = [f"word{number} " for number in range(12)]
    config = CONFIG.replace("continue_midstream", "attempts: 6, continue_midstream").replace(", attempts: 3}", "}")

    def answered() -> Reply | Step:
        if chance.random() < 0.2:
            return chance.choice(FAULTS)
        last = json.loads(running.upstream.sent[-1].body)["messages"][-1]
        said = last["content"] if last["role"] == "assistant" else ""
        stream = b"".join(rest(*words[len(said.split()) :]))
        cut = chance.randrange(len(stream) * 2)
        breaks: list[Step] = [broken(), SILENCE, OVERLOADED, LEAVES]
        ends = [chance.choice(breaks)]
        if cut >= stream.index(other("", "stop")):  # it had come to its end
            cut, ends = len(stream), []
        if ends == [OVERLOADED]:
            cut = stream[:cut].rfind(b"\n\n") + 2 if b"\n\n" in stream[:cut] else 0
        return Reply(200, SSE_TYPE, [*in_pieces(stream[:cut], 90), *ends], [Wait(chance.choice([0, 0, 4]))])

    whole = 0
    with World(config.replace("failover:", hedge + "failover:").replace("failures: 5", "failures: 100000")) as running:
        running.upstream.default = answered
        for _ in range(60):
            played = running.call(chat_stream())
            if played.client.status != 200 or played.client.value("content-type") == "application/json":
                continue
            text = text_of(played.client.body)
            assert "".join(words).startswith(text)
            assert len(played.record.attempts) <= 6
            if played.record.outcome is Outcome.SUCCEEDED:
                assert (text, played.client.body.count(DONE) <= 1) == ("".join(words), True)
                whole += len(played.record.attempts) > 1
    assert whole > 3
