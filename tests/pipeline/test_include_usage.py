"""Usage that Postern asks for: nothing of it reaches the client, and a target that refuses the question isn't asked twice."""

from __future__ import annotations

import json

import pytest

from proxy.call import Outcome
from tests.pipeline.fakes import Reply, broken
from tests.pipeline.replies import BYE, DONE, HELLO, JSON_TYPE, USAGE_NUSD, delta, json_reply, sse, usage_chunk
from tests.pipeline.scripts import CONFIG, chat_stream
from tests.pipeline.world import World, world_under

ASKED = [delta("Hello", usage=None), delta("", "stop", usage=None), usage_chunk(), DONE]
UNASKED = [HELLO, BYE, DONE]
REFUSAL = json_reply({"error": {"message": "Unknown field stream_options.", "type": "invalid_request_error"}}, 400)

world = world_under(CONFIG)


def options_sent(body: bytes) -> object:
    return json.loads(body).get("stream_options")


def test_the_usage_that_was_asked_for_is_billed_and_hidden(world: World) -> None:
    played = world.call(chat_stream(asks=False), sse(*ASKED))
    assert options_sent(played.sent[0].body) == {"include_usage": True}
    assert played.client.body == b"".join(UNASKED)
    cost = played.record.attempts[0].cost
    assert cost
    assert cost.total_nusd == USAGE_NUSD


def test_hiding_holds_at_every_torn_byte(world: World) -> None:
    data = b"".join(ASKED)
    for at in range(1, len(data), 11):
        assert world.call(chat_stream(asks=False), sse(data[:at], data[at:])).client.body == b"".join(UNASKED)


def test_a_client_that_says_false_keeps_its_false(world: World) -> None:
    request = chat_stream({"stream_options": {"include_usage": False}}, asks=False)
    played = world.call(request, sse(*ASKED))
    assert options_sent(played.sent[0].body) == {"include_usage": True}
    assert played.client.body == b"".join(UNASKED)


def test_a_client_that_asks_itself_gets_its_usage_chunk_and_its_own_bytes_are_sent(world: World) -> None:
    request = chat_stream()
    played = world.call(request, sse(*ASKED))
    assert (played.sent[0].body, played.client.body) == (request.steps[0], b"".join(ASKED))


def test_an_edited_stream_is_asked_for_uncompressed(world: World) -> None:
    asked = world.call(chat_stream(asks=False, headers=[(b"Accept-Encoding", b"gzip")]), sse(*ASKED))
    untouched = world.call(chat_stream(headers=[(b"Accept-Encoding", b"gzip")]), sse(*ASKED))
    assert asked.sent[0].values("accept-encoding") == [b"identity"]
    assert untouched.sent[0].values("accept-encoding") == [b"gzip"]


def test_the_length_of_an_edited_stream_is_not_passed_on(world: World) -> None:
    played = world.call(chat_stream(asks=False), sse(*ASKED, headers=[(b"Content-Length", b"%d" % len(b"".join(ASKED)))]))
    assert played.client.value("content-length") is None


def test_what_was_held_back_goes_out_when_the_stream_breaks(world: World) -> None:
    played = world.call(chat_stream(asks=False), sse(ASKED[0], b'data: {"choices":[{"delta"', broken()))
    assert played.client.body.startswith(UNASKED[0] + b'data: {"choices":[{"delta"\n\ndata: {"error"')
    assert played.record.outcome is Outcome.INTERRUPTED


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_of_the_question_is_retried_once_without_it_and_remembered(world: World, status: int) -> None:
    request = chat_stream(asks=False)
    played = world.call(request, Reply(status, REFUSAL.headers, REFUSAL.steps), sse(*UNASKED))
    assert [options_sent(sent.body) for sent in played.sent] == [{"include_usage": True}, None]
    assert played.sent[1].body == request.steps[0]
    assert (played.client.status, played.client.body) == (200, b"".join(UNASKED))
    assert played.client.value("x-postern-attempts") == "2"
    first, second = played.record.attempts
    assert (first.outcome, first.error_type, first.cost) == (Outcome.REJECTED, "include_usage_refused", None)
    assert (second.outcome, played.record.outcome) == (Outcome.SUCCEEDED, Outcome.SUCCEEDED)
    assert played.record.error_type is None
    again = world.call(request, sse(*UNASKED))
    assert [sent.body for sent in again.sent] == [request.steps[0]]


def test_what_one_model_refuses_another_is_still_asked(world: World) -> None:
    world.call(chat_stream(asks=False), REFUSAL, sse(*UNASKED))
    other = world.call(chat_stream({"model": "gpt-5"}, asks=False), sse(*ASKED))
    assert options_sent(other.sent[0].body) == {"include_usage": True}


def test_a_target_that_refuses_for_another_reason_is_not_asked_again(world: World) -> None:
    refusal = json_reply({"error": {"message": "Unknown model.", "code": "model_not_found"}}, 400)
    played = world.call(chat_stream(asks=False), refusal)
    assert (played.client.status, played.client.body) == (400, refusal.steps[0])
    assert played.record.error_type == "model_not_found"
    again = world.call(chat_stream(asks=False), sse(*ASKED))
    assert options_sent(again.sent[0].body) == {"include_usage": True}


def test_the_clients_own_question_refused_is_the_clients_to_see(world: World) -> None:
    played = world.call(chat_stream(), REFUSAL)
    assert (played.client.status, played.client.body) == (400, REFUSAL.steps[0])


def test_another_status_that_names_stream_options_is_not_retried(world: World) -> None:
    played = world.call(chat_stream(asks=False), Reply(500, REFUSAL.headers, REFUSAL.steps))
    assert played.client.status == 500


def test_the_second_attempt_may_fail_for_a_reason_of_its_own(world: World) -> None:
    played = world.call(chat_stream(asks=False), REFUSAL, Reply(503, JSON_TYPE, [b'{"error":{"code":"busy"}}']))
    assert (played.client.status, played.record.outcome, played.record.error_type) == (503, Outcome.FAILED, "busy")
    assert len(played.record.attempts) == 2


def test_an_unknown_provider_is_not_asked() -> None:
    with World("targets: {own: {provider: compatible, base_url: 'https://llm.example/v1'}}") as world:
        request = chat_stream(asks=False)
        played = world.call(request, sse(*UNASKED))
    assert (played.sent[0].body, played.client.body) == (request.steps[0], b"".join(UNASKED))
    assert played.record.attempts[0].uncounted
