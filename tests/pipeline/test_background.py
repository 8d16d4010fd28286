"""Background Responses, and reads of what was billed before: every token is billed once."""

from __future__ import annotations

import gzip
import json

import pytest

from proxy.call import Outcome
from tests.pipeline.fakes import Reply
from tests.pipeline.replies import GOOD, JSON_TYPE, event, json_reply, sse
from tests.pipeline.scripts import CONFIG, chat, posted
from tests.pipeline.world import Request, World, world_under

QUEUED = {"id": "resp_1", "object": "response", "status": "queued", "background": True, "usage": None}
DONE = QUEUED | {"status": "completed", "model": "gpt-4o", "usage": {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}}
COST_NUSD = 360_000
CREATE = posted({"model": "gpt-4o", "input": "x", "background": True}, "/v1/responses")
READ = Request("GET", "/v1/responses/resp_1")

world = world_under(CONFIG)


def test_a_background_response_is_billed_by_the_first_completed_read_and_never_again(world: World) -> None:
    created = world.call(CREATE, json_reply(QUEUED))
    assert (created.cost_nusd, created.record.attempts[0].uncounted) == (None, None)
    waiting = world.call(READ, json_reply(QUEUED | {"status": "in_progress"}))
    assert (waiting.cost_nusd, waiting.record.billable) == (None, False)
    first = world.call(READ, json_reply(DONE))
    assert (first.cost_nusd, first.record.billable) == (COST_NUSD, True)
    assert first.client.body == json.dumps(DONE).encode()
    again = world.call(READ, json_reply(DONE))
    assert (again.cost_nusd, again.record.billable) == (None, False)


def test_reading_a_response_that_was_billed_when_made_bills_nothing(world: World) -> None:
    made = world.call(posted({"model": "gpt-4o", "input": "x"}, "/v1/responses"), json_reply(DONE))
    read = world.call(READ, json_reply(DONE))
    assert (made.cost_nusd, read.cost_nusd) == (COST_NUSD, None)


def test_a_streamed_replay_is_not_billed(world: World) -> None:
    world.call(posted({"model": "gpt-4o", "input": "x"}, "/v1/responses"), json_reply(DONE))
    stream = [event({"type": "response.output_text.delta", "delta": "Hi"}), event({"type": "response.completed", "response": DONE})]
    played = world.call(Request("GET", "/v1/responses/resp_1?stream=true"), sse(*stream))
    assert played.client.pieces == stream
    assert (played.cost_nusd, played.record.billable, played.record.outcome) == (None, False, Outcome.SUCCEEDED)


def test_a_streamed_read_bills_a_background_response_once(world: World) -> None:
    world.call(CREATE, json_reply(QUEUED))
    stream = sse(event({"type": "response.completed", "response": DONE}))
    costs = [world.call(Request("GET", "/v1/responses/resp_1?stream=true"), stream).cost_nusd for _ in range(2)]
    assert costs == [COST_NUSD, None]


def test_every_background_response_is_billed_by_its_own_read(world: World) -> None:
    world.call(CREATE, json_reply(QUEUED))
    world.call(CREATE, json_reply(QUEUED | {"id": "resp_2"}))
    second = world.call(Request("GET", "/v1/responses/resp_2"), json_reply(DONE | {"id": "resp_2"}))
    first = world.call(READ, json_reply(DONE))
    assert (first.cost_nusd, second.cost_nusd) == (COST_NUSD, COST_NUSD)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/files", "/v1/batches/b", "/v1/chat/completions/c"])
def test_reads_are_free_whatever_they_hold(world: World, path: str) -> None:
    assert world.call(Request("GET", path), GOOD).cost_nusd is None


def test_a_gzipped_request_is_read_and_passes_as_it_is(world: World) -> None:
    packed = gzip.compress(json.dumps({"model": "gpt-4o", "messages": [], "temperature": 0.5}).encode())
    played = world.call(posted(packed, headers=[(b"Content-Encoding", b"gzip")]), GOOD)
    assert played.sent[0].body == packed
    assert played.sent[0].values("content-encoding") == [b"gzip"]
    assert played.record.facts
    assert (played.record.requested_model, played.record.facts.temperature) == ("gpt-4o", 0.5)
    assert played.cost_nusd == COST_NUSD


@pytest.mark.parametrize("routed", [False, True])
def test_a_gzipped_stream_request_is_not_edited_in_its_packed_form(routed: bool) -> None:
    rename = "models: {gpt-4o: {targets: [{target: openai, model: gpt-5}]}}" if routed else ""
    packed = gzip.compress(json.dumps({"model": "gpt-4o", "messages": [], "stream": True}).encode())
    with World(CONFIG + rename) as world:
        played = world.call(posted(packed, headers=[(b"Content-Encoding", b"gzip")]), sse(b"data: [DONE]\n\n"))
    sent = played.sent[0]
    plain = gzip.decompress(sent.body) if sent.values("content-encoding") else sent.body
    assert json.loads(plain)["model"] == ("gpt-5" if routed else "gpt-4o")
    assert played.record.attempts[0].model == json.loads(plain)["model"]


def test_a_request_in_an_unknown_coding_passes_unread(world: World) -> None:
    played = world.call(posted(b"\x01\x02", headers=[(b"Content-Encoding", b"snappy")]), GOOD)
    assert (played.sent[0].body, played.record.requested_model) == (b"\x01\x02", None)


def test_a_cost_that_the_provider_itself_tells_wins() -> None:
    with World("targets: {router: {provider: openrouter, credential: sk-target}}") as world:
        data = json.dumps({"model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": 5, "cost": 0.000012}}).encode()
        played = world.call(chat(), Reply(200, JSON_TYPE, [data]))
    assert played.client.value("x-postern-cost-usd") == "0.000012"
