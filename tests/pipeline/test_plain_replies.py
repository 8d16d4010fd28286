"""Replies that aren't streams of events: what the client sees and what they cost."""

from __future__ import annotations

import gzip
import json

import pytest

from proxy.call import Outcome, Usage
from proxy.pipeline.arrival import WHOLE_BYTES
from tests.pipeline.fakes import Reply, Wait, broken
from tests.pipeline.replies import GOOD, JSON_TYPE, USAGE_NUSD, USAGE_USD, chat_reply, in_pieces, json_reply
from tests.pipeline.scripts import CONFIG, chat, posted
from tests.pipeline.world import Request, World, world_under

READ = Usage(input_tokens=100, output_tokens=20)

world = world_under(CONFIG)


def test_chat_tells_its_cost_in_the_head_and_in_the_record(world: World) -> None:
    reply = GOOD
    played = world.call(chat(), reply)
    assert played.client.body == reply.steps[0]
    assert played.client.value("x-postern-cost-usd") == USAGE_USD
    attempt = played.record.attempts[0]
    assert (attempt.usage, attempt.cost and attempt.cost.total_nusd) == (READ, USAGE_NUSD)
    assert (played.record.outcome, played.record.status) == (Outcome.SUCCEEDED, 200)
    assert played.sent[0].reply
    assert played.sent[0].reply.ends == ["release"]


def test_chunked_json_gets_a_length_and_its_cost(world: World) -> None:
    data = json.dumps(chat_reply()).encode()
    played = world.call(chat(), Reply(200, JSON_TYPE, in_pieces(data, 20)))
    assert played.client.body == data
    assert played.client.value("content-length") == str(len(data))
    assert played.client.value("x-postern-cost-usd") == USAGE_USD


@pytest.mark.parametrize("has_length", [True, False])
def test_json_over_256_kib_passes_through_and_is_billed_at_its_end(world: World, has_length: bool) -> None:
    data = json.dumps({"pad": "x" * 2 * WHOLE_BYTES} | chat_reply()).encode()
    whole = json_reply(data, has_length=has_length)
    played = world.call(chat(), Reply(200, whole.headers, in_pieces(data, 64 << 10)))
    assert played.client.body == data
    assert len(played.client.pieces) > 1
    assert played.client.value("x-postern-cost-usd") is None
    assert played.client.value("content-length") == (str(len(data)) if has_length else None)
    assert played.record.attempts[0].usage == READ


def test_usage_in_the_tail_of_embeddings_over_1_mib_is_found(world: World) -> None:
    vectors = [{"embedding": [0.125] * 1536, "index": index} for index in range(160)]
    document = {"object": "list", "data": vectors, "model": "emb", "usage": {"prompt_tokens": 500, "total_tokens": 500}}
    data = json.dumps(document).encode()
    assert len(data) > 1 << 20
    pieces = [*in_pieces(data[:-200], 100_000), *in_pieces(data[-200:], 7)]
    played = world.call(posted({"model": "emb", "input": "x"}, "/v1/embeddings"), Reply(200, JSON_TYPE, pieces))
    cost = played.record.attempts[0].cost
    assert played.client.body == data
    assert cost
    assert cost.total_nusd == 500 * 2_000


ERROR = {"error": {"message": "No.", "type": "some_type", "code": "some_code", "param": None}}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.REJECTED),
        (401, Outcome.REJECTED),
        (404, Outcome.REJECTED),
        (408, Outcome.FAILED),
        (422, Outcome.REJECTED),
        (429, Outcome.THROTTLED),
        (500, Outcome.FAILED),
        (503, Outcome.FAILED),
        (529, Outcome.THROTTLED),
    ],
)
def test_an_error_status_has_one_outcome_and_no_cost(world: World, status: int, outcome: Outcome) -> None:
    reply = json_reply(ERROR, status, [(b"Retry-After", b"7")])
    played = world.call(chat(), reply)
    assert (played.client.status, played.client.body) == (status, reply.steps[0])
    assert played.client.value("retry-after") == "7"
    record, attempt = played.record, played.record.attempts[0]
    assert (record.outcome, record.error_type, record.error_message) == (outcome, "some_code", "No.")
    assert (attempt.outcome, attempt.cost, attempt.usage, attempt.uncounted) == (outcome, None, None, None)


def test_an_error_without_a_readable_body_is_named_by_its_status(world: World) -> None:
    played = world.call(chat(), Reply(502, [(b"Content-Type", b"text/html")], [b"<html>"]))
    assert (played.record.error_type, played.client.body) == ("502", b"<html>")


def test_an_error_page_over_256_kib_passes_through_whole(world: World) -> None:
    page = b"<p>" * WHOLE_BYTES
    played = world.call(chat(), Reply(500, [(b"Content-Type", b"text/html")], in_pieces(page, 64 << 10)))
    assert (played.client.body, played.record.outcome) == (page, Outcome.FAILED)


def test_an_error_inside_a_200_is_a_failure(world: World) -> None:
    reply = json_reply(ERROR)
    played = world.call(chat(), reply)
    assert (played.client.status, played.client.body) == (200, reply.steps[0])
    assert (played.record.outcome, played.record.error_type) == (Outcome.FAILED, "some_code")
    assert played.client.value("x-postern-cost-usd") is None


def test_reading_a_failed_response_is_no_failure(world: World) -> None:
    document = {"id": "resp_1", "object": "response", "status": "failed", "error": ERROR["error"]}
    played = world.call(Request("GET", "/v1/responses/resp_1"), json_reply(document))
    assert (played.record.outcome, played.record.billable) == (Outcome.SUCCEEDED, False)


def test_a_gzipped_reply_passes_as_it_is_and_is_billed(world: World) -> None:
    packed = gzip.compress(json.dumps(chat_reply()).encode())
    played = world.call(chat(), json_reply(packed, headers=[(b"Content-Encoding", b"gzip")]))
    assert (played.client.body, played.client.value("content-encoding")) == (packed, "gzip")
    assert played.client.value("x-postern-cost-usd") == USAGE_USD


def test_a_reply_in_an_unknown_coding_passes_and_its_cost_is_unknown(world: World) -> None:
    played = world.call(chat(), json_reply(b"\x00\x01", headers=[(b"Content-Encoding", b"aws-chunked")]))
    assert played.client.body == b"\x00\x01"
    assert played.record.attempts[0].cost is None


@pytest.mark.parametrize("status", [200, 404])
def test_head_keeps_the_length_of_a_body_that_never_comes(world: World, status: int) -> None:
    played = world.call(Request("HEAD", "/v1/models"), Reply(status, [*JSON_TYPE, (b"Content-Length", b"1234")]))
    assert (played.client.status, played.client.body) == (status, b"")
    assert played.client.value("content-length") == "1234"
    assert played.client.events[-1] == "finish"


def test_no_length_is_made_up_for_a_head_reply(world: World) -> None:
    played = world.call(Request("HEAD", "/v1/models"), Reply(404, JSON_TYPE))
    assert played.client.value("content-length") is None


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body_passes(world: World, status: int) -> None:
    played = world.call(Request("GET", "/v1/files/f"), Reply(status))
    assert (played.client.status, played.client.body, played.record.outcome) == (status, b"", Outcome.SUCCEEDED)


def test_a_download_passes_as_it_comes(world: World) -> None:
    pieces = [b"a" * 10, b"b" * 20]
    played = world.call(Request("GET", "/v1/files/f/content"), Reply(200, [(b"Content-Type", b"application/octet-stream")], pieces))
    assert played.client.pieces == pieces


def test_a_download_that_breaks_is_interrupted_and_the_client_sees_it(world: World) -> None:
    reply = Reply(200, [(b"Content-Type", b"application/octet-stream")], [b"abc", broken()])
    played = world.call(Request("GET", "/v1/files/f/content"), reply)
    assert (played.client.body, played.client.events[-1]) == (b"abc", "abort")
    assert (played.record.outcome, played.record.error_type) == (Outcome.INTERRUPTED, "closed")


def test_short_json_that_breaks_is_answered_with_502(world: World) -> None:
    played = world.call(chat(), Reply(200, JSON_TYPE, [b'{"id":', broken()]))
    assert (played.client.status, played.record.outcome) == (502, Outcome.FAILED)
    assert played.error["code"] == "upstream_closed"
    assert played.client.value("x-should-retry") == "true"


def test_usage_without_price_is_unknown_and_counted() -> None:
    with World("targets: {own: {provider: compatible, base_url: 'https://llm.example/v1'}}") as world:
        played = world.call(chat(body={"model": "house-blend"}), json_reply({"model": "house-blend", "usage": {"prompt_tokens": 5}}))
    attempt = played.record.attempts[0]
    assert (attempt.cost, attempt.unpriced, attempt.usage) == (None, True, Usage(input_tokens=5))
    assert played.client.value("x-postern-cost-usd") is None


def test_a_reply_without_usage_is_left_to_the_tokenizer(world: World) -> None:
    reply = json_reply(chat_reply(usage=None))
    attempt = world.call(chat(), reply).record.attempts[0]
    assert (attempt.usage, attempt.cost) == (None, None)
    assert attempt.uncounted
    assert attempt.uncounted.reply == reply.steps[0]


def test_zero_cost_is_only_said_of_what_is_free() -> None:
    with World("targets: {own: {provider: vllm, base_url: 'http://llm.example/v1', price: {free: true}}}") as world:
        played = world.call(chat(), GOOD)
    assert played.client.value("x-postern-cost-usd") == "0"


def test_a_price_by_the_hour_needs_no_usage() -> None:
    with World("targets: {own: {provider: vllm, base_url: 'http://llm.example/v1', price: {per_gpu_hour: 3.6}}}") as world:
        data = json.dumps(chat_reply(usage=None)).encode()
        played = world.call(chat(), Reply(200, JSON_TYPE, [data], before_head=[Wait(2.0)]))
    assert played.client.value("x-postern-cost-usd") == "0.002"


def test_overhead_is_the_gates_share_alone(world: World) -> None:
    data = json.dumps(chat_reply()).encode()
    played = world.call(chat(), Reply(200, JSON_TYPE, [data[:9], Wait(2.0), data[9:]], before_head=[Wait(3.0)]))
    assert played.record.overhead_ns < 1_000_000
    assert played.record.end_ns - played.record.start_ns >= 5_000_000_000


@pytest.mark.parametrize(("status", "cost_nusd"), [(200, 10_000_000), (500, None), (429, None)])
def test_a_price_by_request_is_paid_for_replies_and_not_for_errors(status: int, cost_nusd: int | None) -> None:
    with World("targets: {local: {provider: vllm, base_url: 'http://local/v1', price: {per_request: 0.01}}}") as world:
        played = world.call(chat(), Reply(status, JSON_TYPE, [b"{}"]))
    cost = played.record.attempts[0].cost
    assert (cost.total_nusd if cost else None) == cost_nusd
