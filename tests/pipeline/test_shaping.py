"""Rules that change requests: what each target is sent, what is told of it, and what is refused because a rule can't be applied."""

from __future__ import annotations

import gzip
import json

import pytest

from proxy.call import Outcome
from proxy.records import RequestFacts
from tests.pipeline.fakes import Reply
from tests.pipeline.replies import DONE, GOOD, JSON_TYPE, delta, json_reply, sse, usage_chunk
from tests.pipeline.scripts import chat, chat_stream, posted
from tests.pipeline.world import Played, Request, World, world_under

CONFIG = """
targets:
  openai:
    provider: openai
    request: {clamp: {max_tokens: 500}, drop: [logit_bias]}
  own:
    provider: compatible
    base_url: https://llm.example/v1
    request: {set: {top_k: 5}}
  plain: {provider: openai}
routes:
  - {name: batch, match: {header: {x-task: batch}}, to: [plain]}
  - name: ads
    match: {header: {x-task: ads}}
    to: [{target: openai, model: gpt-5-nano}, own]
    request: {set: {temperature: 0, user: sk-secret}, clamp: {max_tokens: 800}}
  - {name: rest, to: [openai]}
"""
ADS = [(b"X-Task", b"ads")]
OVERLOADED = json_reply({"error": {"message": "Try again later.", "code": "server_error"}}, 503)

world = world_under(CONFIG)


def with_options(rule: str) -> World:
    """A target that takes `include_usage`, under a rule."""
    return World("targets: {openai: {provider: openai, request: " + rule + "}}")


def assert_refused(played: Played, route: str) -> None:
    assert (played.client.status, played.sent) == (400, [])
    error = played.error
    assert (error["type"], error["code"], error["param"]) == ("postern_refused", "request_not_shapeable", route)
    assert (played.record.outcome, played.record.error_type, played.record.rule) == (Outcome.REJECTED, "request_not_shapeable", route)
    assert played.client.value("x-should-retry") == "false"


def test_the_routes_rule_is_applied_then_the_targets_and_no_other_byte_changes(world: World) -> None:
    body = b'{ "model":"gpt-4o",\n"max_tokens" : 4000,"temperature":1.00, "logit_bias":{"1":2}, "messages":["\\u00e9"],"seed":7.0}'
    sent = world.call(posted(body, headers=ADS), GOOD).sent[0].body
    changed = body.replace(b"4000", b"500").replace(b"1.00", b"0").replace(b', "logit_bias":{"1":2}', b"")
    assert sent == b'{"user":"sk-secret",' + changed[1:].replace(b"gpt-4o", b"gpt-5-nano")


def test_each_target_gets_the_request_by_its_own_rules(world: World) -> None:
    played = world.call(chat(ADS, {"max_tokens": 900, "logit_bias": {}}), *[OVERLOADED] * 2, GOOD)
    first, second = json.loads(played.sent[0].body), json.loads(played.sent[-1].body)
    assert played.record.attempts[-1].target == "own"
    assert (first["model"], first["max_tokens"], first.get("top_k"), "logit_bias" in first) == ("gpt-5-nano", 500, None, False)
    assert (second["model"], second["max_tokens"], second["top_k"], second["logit_bias"]) == ("gpt-4o", 800, 5, {})
    assert first["temperature"] == second["temperature"] == 0


def test_a_target_has_its_rule_under_every_route(world: World) -> None:
    assert json.loads(world.call(chat(body={"max_tokens": 900}), GOOD).sent[0].body)["max_tokens"] == 500


def test_a_target_has_its_rule_where_no_route_is_declared() -> None:
    with with_options("{drop: [seed]}") as world:
        assert "seed" not in json.loads(world.call(chat(body={"seed": 1}), GOOD).sent[0].body)


def test_calls_without_a_rule_are_sent_as_they_came(world: World) -> None:
    request = chat([(b"X-Task", b"batch")], {"max_tokens": 9000, "logit_bias": {}})
    played = world.call(request, GOOD)
    assert (played.sent[0].body, played.client.value("x-postern-changes")) == (request.steps[0], None)


def test_a_rule_that_changes_nothing_leaves_the_clients_own_bytes_packed_as_they_are(world: World) -> None:
    packed = gzip.compress(b'{"model":"gpt-4o","max_tokens":500}')
    played = world.call(posted(packed, headers=[(b"Content-Encoding", b"gzip")]), GOOD)
    assert (played.sent[0].body, played.sent[0].values("content-encoding")) == (packed, [b"gzip"])
    assert (played.client.value("x-postern-changes"), played.record.attempts[0].changes) == (None, None)


def test_a_packed_body_that_was_changed_is_sent_unpacked(world: World) -> None:
    packed = gzip.compress(b'{"model":"gpt-4o","max_tokens":501}')
    played = world.call(posted(packed, headers=[(b"Content-Encoding", b"gzip")]), GOOD)
    assert (played.sent[0].body, played.sent[0].values("content-encoding")) == (b'{"model":"gpt-4o","max_tokens":500}', [])


# ---- what is told


def test_changes_are_named_to_the_client_and_in_the_record_without_values_that_were_set(world: World) -> None:
    played = world.call(chat(ADS, {"max_tokens": 900, "logit_bias": {}}), GOOD)
    told = "set temperature; set user; clamp max_tokens 500; drop logit_bias"
    assert (played.client.value("x-postern-changes"), played.record.attempts[0].changes) == (told, told)


def test_changes_are_those_of_the_target_that_answered(world: World) -> None:
    played = world.call(chat(ADS), *[OVERLOADED] * 2, GOOD)
    assert played.client.value("x-postern-changes") == "set temperature; set user; set top_k"
    assert [one.changes for one in played.record.attempts][0::2] == ["set temperature; set user", "set temperature; set user; set top_k"]


def test_a_transparent_gate_tells_the_client_nothing() -> None:
    with World("transparent: true\n" + CONFIG) as world:
        played = world.call(chat(ADS), GOOD)
    assert played.client.value("x-postern-changes") is None
    assert played.record.attempts[0].changes == "set temperature; set user"


def test_the_record_has_what_was_asked_of_each_target_beside_what_the_client_asked(world: World) -> None:
    record = world.call(chat(ADS, {"max_tokens": 900, "temperature": 1}), GOOD).record
    assert record.facts == RequestFacts(max_tokens=900, temperature=1)
    assert record.attempts[0].asked == RequestFacts(max_tokens=500, temperature=0)
    assert world.call(chat(), GOOD).record.attempts[0].asked is None


# ---- what can't be changed


@pytest.mark.parametrize(
    "request_",
    [
        Request(headers=[(b"Content-Type", b"application/x-protobuf")], steps=[b"\x00\x01"]),
        posted(b"\x00packed", headers=[(b"Content-Encoding", b"snappy")]),
        posted(b'{"model":"gpt-4o","\xff\\n":1}'),
    ],
    ids=["not-said-to-be-json", "unknown-coding", "a-key-that-is-no-text"],
)
def test_a_body_that_a_rule_cannot_be_applied_to_is_refused(world: World, request_: Request) -> None:
    assert_refused(world.call(request_), "rest")


def test_a_body_that_the_targets_model_cannot_be_put_into_is_refused() -> None:
    with World("targets: {own: {provider: openai}}\nroutes: [{name: all, to: [{target: own, model: gpt-5-nano}]}]") as world:
        assert_refused(world.call(posted(b'{"model":"gpt-4o","user":"\\u00e9","\xff\\n":1}')), "all")


def test_usage_is_not_asked_for_in_a_body_that_the_question_cannot_be_put_into() -> None:
    body = b'{"model":"gpt-4o","stream":true,"user":"\\u00e9","\xff\\n":1}'
    with World("targets: {own: {provider: openai}}") as world:
        played = world.call(posted(body), sse(delta("Hi", "stop"), DONE))
    assert (played.record.outcome, played.sent[0].body) == (Outcome.SUCCEEDED, body)


def test_what_is_refused_at_a_target_with_a_rule_passes_at_one_without(world: World) -> None:
    body = b'{"model":"gpt-4o","\xff\\n":1}'
    assert world.call(posted(body, headers=[(b"X-Task", b"batch")]), GOOD).sent[0].body == body


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/v1/models"),
        Request(target="/v1/files", headers=[(b"Content-Type", b"multipart/form-data; boundary=b")], steps=[b"--b\r\n"]),
        posted({"input_file_id": "file-1", "max_tokens": 9000}, "/v1/batches"),
    ],
    ids=["no-body", "upload", "names-no-model"],
)
def test_calls_that_name_no_model_in_a_json_body_are_no_rules_matter(world: World, request_: Request) -> None:
    played = world.call(request_, json_reply({}))
    assert (played.client.status, played.sent[0].body) == (200, b"".join(step for step in request_.steps if isinstance(step, bytes)))


# ---- together with the question for a stream's usage


def test_usage_is_asked_for_on_top_of_other_changes(world: World) -> None:
    played = world.call(chat_stream({"max_tokens": 900}, asks=False), sse(delta("Hi", "stop", usage=None), usage_chunk(), DONE))
    sent = json.loads(played.sent[0].body)
    assert (sent["max_tokens"], sent["stream_options"]) == (500, {"include_usage": True})
    assert played.client.body == delta("Hi", "stop") + DONE
    assert played.client.value("x-postern-changes") == "clamp max_tokens 500"


def test_a_target_that_refuses_the_question_is_sent_the_changed_request_without_it(world: World) -> None:
    refusal = json_reply({"error": {"message": "Unknown field stream_options."}}, 400)
    played = world.call(chat_stream({"max_tokens": 900}, asks=False), refusal, sse(delta("Hi", "stop"), DONE))
    sent = json.loads(played.sent[1].body)
    assert (sent["max_tokens"], "stream_options" in sent) == (500, False)
    assert [one.changes for one in played.record.attempts] == ["clamp max_tokens 500"] * 2


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("{set: {stream_options: {include_usage: false}}}", {"include_usage": False}),
        ("{set: {stream_options: {include_obfuscation: false}}}", {"include_obfuscation": False}),
        ("{drop: [stream_options]}", None),
    ],
)
@pytest.mark.parametrize("asks", [True, False])
def test_stream_options_of_a_rule_win(rule: str, options: object, asks: bool) -> None:
    with with_options(rule) as world:
        played = world.call(chat_stream(asks=asks), sse(delta("Hi", "stop"), DONE))
    assert json.loads(played.sent[0].body).get("stream_options") == options
    assert played.client.body == delta("Hi", "stop") + DONE


def test_usage_that_a_rule_asks_for_is_the_clients_to_see() -> None:
    chunks = [delta("Hi", "stop", usage=None), usage_chunk(), DONE]
    with with_options("{set: {stream_options: {include_usage: true}}}") as world:
        played = world.call(chat_stream(asks=False), sse(*chunks))
    assert played.client.body == b"".join(chunks)
    assert played.record.attempts[0].usage


def test_the_length_of_a_changed_body_is_its_own(world: World) -> None:
    played = world.call(chat(body={"max_tokens": 900}, headers=[(b"Content-Length", b"9999")]), Reply(200, JSON_TYPE, [b"{}"]))
    assert played.sent[0].values("content-length") == []


@pytest.mark.parametrize("is_long", [False, True])
def test_a_stream_ends_with_as_many_choices_as_were_asked_of_the_target(is_long: bool) -> None:
    chunks = [delta("Hi", "stop"), *([DONE] if is_long else [])]
    with with_options("{clamp: {n: 1}, drop: [stream_options]}") as world:
        played = world.call(chat_stream({"n": 3}), Reply(200, [(b"Content-Type", b"text/event-stream")], chunks))
    assert (played.record.outcome, played.client.body) == (Outcome.SUCCEEDED, b"".join(chunks))
