"""Calls that end before or without a reply: each has one answer, one class, and one record."""

from __future__ import annotations

import json

import pytest

from proxy.call import Outcome
from proxy.errors import BadRequest, BodyTooLarge, ConnectFailed, UpstreamGarbage
from tests.pipeline.fakes import Reply, Wait
from tests.pipeline.replies import GOOD, HELLO, JSON_TYPE, json_reply, sse
from tests.pipeline.scripts import CONFIG, chat, chat_stream, posted
from tests.pipeline.world import Played, Request, World, world_under

UPLOAD = [(b"Content-Type", b"multipart/form-data; boundary=b")]

world = world_under(CONFIG + "max_body_mib: 0.001")


def assert_refused(played: Played, status: int, code: str, outcome: Outcome = Outcome.REJECTED) -> None:
    assert (played.client.status, played.error["code"]) == (status, code)
    assert (played.record.status, played.record.outcome) == (status, outcome)
    assert played.client.value("content-length") == str(len(played.client.body))
    assert played.client.value("x-postern-call-id") == played.record.call_id


# ------------------------------------------------------------------------------------------- nothing was sent upstream


@pytest.mark.parametrize(
    ("body", "code"), [(b"", "invalid_json"), (b"{", "invalid_json"), (b"[1]", "invalid_type"), (b'{"model":7}', "invalid_type")]
)
def test_what_is_no_request_is_never_sent(world: World, body: bytes, code: str) -> None:
    played = world.call(posted(body))
    assert_refused(played, 400, code)
    assert (played.record.error_type, played.client.value("x-should-retry")) == (code, "false")
    assert played.sent == []


@pytest.mark.parametrize("declared", [2000, None])
def test_a_body_over_the_limit_is_413_and_never_sent(world: World, declared: int | None) -> None:
    played = world.call(Request(headers=JSON_TYPE, steps=[b"x" * 1000, b"x" * 1000], declared_bytes=declared))
    assert_refused(played, 413, "body_too_large")
    assert played.error["param"] == "max_body_mib"
    assert played.sent == []


def test_a_declared_body_over_the_limit_is_not_even_read(world: World) -> None:
    played = world.call(Request(headers=JSON_TYPE, steps=[AssertionError("it was read")], declared_bytes=2000))
    assert_refused(played, 413, "body_too_large")


def test_a_body_that_breaks_off_is_the_clients_fault(world: World) -> None:
    played = world.call(Request(headers=JSON_TYPE, steps=[b'{"mod', BadRequest("The request body is broken.")]))
    assert_refused(played, 400, "bad_request")


def test_no_route_is_404() -> None:
    with World(CONFIG + "routes: [{name: only, match: {model: gpt-5*}, to: [openai]}]") as world:
        played = world.call(chat())
    assert_refused(played, 404, "no_route")
    assert "'gpt-4o'" in str(played.error["message"])
    assert played.record.route is None


def test_an_unknown_price_may_be_refused() -> None:
    config = "targets: {own: {provider: compatible, base_url: 'https://llm.example/v1'}}\nprices: {on_unknown: refuse}"
    with World(config) as world:
        played = world.call(chat(body={"model": "house-blend"}))
        read = world.call(Request("GET", "/v1/models/house-blend"), json_reply({}))
    assert_refused(played, 403, "unknown_price")
    assert read.client.status == 200


def test_a_path_that_climbs_is_refused(world: World) -> None:
    assert_refused(world.call(Request("GET", "/v1/../admin")), 400, "bad_request")


def test_anthropics_clients_are_refused_in_their_own_envelope(world: World) -> None:
    played = world.call(posted(b"{", "/v1/messages"))
    assert json.loads(played.client.body)["type"] == "error"


# -------------------------------------------------------------------------------------------------- upstream failures


def test_no_connection_is_502_and_nothing_was_billed(world: World) -> None:
    played = world.call(chat(), ConnectFailed("Target 'openai' failed: no connection.", param="openai"))
    assert_refused(played, 502, "upstream_connect_failed", Outcome.FAILED)
    attempt = played.record.attempts[0]
    assert (attempt.outcome, attempt.error_type, attempt.status) == (Outcome.FAILED, "connect", None)
    assert (attempt.cost, attempt.uncounted) == (None, None)
    assert (played.record.error_type, played.client.value("x-should-retry")) == ("connect", "true")


def test_garbage_is_502(world: World) -> None:
    played = world.call(chat_stream(), UpstreamGarbage("Target 'openai' failed: its reply is not HTTP/1.1."))
    assert_refused(played, 502, "upstream_invalid_reply", Outcome.FAILED)


# --------------------------------------------------------------------------------------------------------- own faults


def test_a_fault_of_our_own_leaves_one_record_and_no_half_reply(world: World) -> None:
    played = world.call(chat(), RuntimeError("sk-client"))
    assert isinstance(played.raised, RuntimeError)
    assert played.client.events == []
    record = played.record
    assert (record.outcome, record.error_type, record.error_message) == (Outcome.FAILED, "internal_error", "RuntimeError")


def test_a_fault_while_reading_drops_the_upstream(world: World) -> None:
    played = world.call(chat(), Reply(200, JSON_TYPE, [KeyError("x")]))
    assert played.sent[0].reply
    assert played.sent[0].reply.ends == ["close"]
    assert played.record.error_type == "internal_error"


def test_a_fault_after_the_head_leaves_one_record_too(world: World) -> None:
    played = world.call(chat_stream(edge_fault=RuntimeError("bug")), sse(HELLO))
    assert (played.record.error_type, played.record.status) == ("internal_error", 200)


# ------------------------------------------------------------------------------------------------------------ uploads


def test_an_upload_is_passed_on_in_pieces_and_never_read_whole(world: World) -> None:
    request = Request(target="/v1/files", headers=UPLOAD, steps=[b"a" * 300, b"b" * 300])
    played = world.call(request, json_reply({"id": "file-1"}))
    sent = played.sent[0]
    assert (sent.body, sent.pieces, played.body.was_read_whole) == (b"a" * 300 + b"b" * 300, 2, False)
    assert sent.values("content-length") == [b"600"]
    assert (played.record.request_bytes, played.record.outcome) == (600, Outcome.SUCCEEDED)


def test_a_chunked_upload_stays_chunked(world: World) -> None:
    request = Request(target="/v1/files", headers=UPLOAD, steps=[b"a" * 300], declared_bytes=None)
    assert world.call(request, json_reply({})).sent[0].values("content-length") == []


def test_an_upload_of_unknown_length_is_stopped_at_the_limit(world: World) -> None:
    request = Request(target="/v1/files", headers=UPLOAD, steps=[b"a" * 900, b"b" * 900], declared_bytes=None)
    played = world.call(request, Reply())
    assert_refused(played, 413, BodyTooLarge.code)
    assert played.record.attempts[0].outcome is Outcome.REJECTED


def test_an_upload_that_breaks_is_the_clients_fault_and_not_the_targets(world: World) -> None:
    request = Request(target="/v1/files", headers=UPLOAD, steps=[b"a" * 300, BadRequest("The request body is broken.")])
    played = world.call(request, Reply())
    assert_refused(played, 400, "bad_request")
    attempt = played.record.attempts[0]
    assert (attempt.outcome, attempt.error_type) == (Outcome.REJECTED, "bad_request")


def test_an_answer_that_comes_before_the_upload_is_done_is_passed_on(world: World) -> None:
    request = Request(target="/v1/files", headers=UPLOAD, steps=[b"a" * 300, b"b" * 300])
    refusal = json_reply({"error": {"message": "Too large.", "code": "too_large"}}, 413)
    played = world.call(request, Reply(413, refusal.headers, refusal.steps, before_upload_ends=True))
    assert (played.client.status, played.client.body) == (413, refusal.steps[0])
    assert played.record.error_type == "too_large"


def test_an_upload_may_take_longer_than_the_targets_time_to_answer() -> None:
    steps = [step for _ in range(5) for step in (b"a" * 10, Wait(15.0))]
    with World(CONFIG) as world:
        played = world.call(Request(target="/v1/files", headers=UPLOAD, steps=steps), json_reply({}))
    assert played.client.status == 200


def test_a_body_that_is_no_json_of_a_json_endpoint_passes_unread(world: World) -> None:
    request = Request(headers=[(b"Content-Type", b"application/x-protobuf")], steps=[b"\x00\x01"])
    played = world.call(request, GOOD)
    assert (played.sent[0].body, played.record.requested_model) == (b"\x00\x01", None)
