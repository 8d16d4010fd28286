"""Copies of calls go to further targets: they cost, they are told apart, and the client never knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from proxy.call import Outcome
from proxy.errors import ConnectFailed
from proxy.pipeline.background import Background
from tests.pipeline.fakes import LEAVES, Reply, Step, Wait, broken
from tests.pipeline.replies import GOOD, GOOD_STREAM, HELLO, SILENT, STREAM, USAGE_NUSD, chat_reply, event, failure, json_reply, sse
from tests.pipeline.scripts import TWO_TARGETS, chat, chat_stream, mirrored, posted
from tests.pipeline.world import Request, World

MIRRORED = mirrored(TWO_TARGETS)


@pytest.fixture
def world() -> Iterator[World]:
    with World(MIRRORED) as created:
        created.upstream.copies["local"] = lambda: GOOD
        yield created


def test_a_copy_is_sent_as_any_request_of_its_target(world: World) -> None:
    played = world.call(chat([(b"Authorization", b"Bearer sk-client")]), GOOD)
    (copy,) = world.upstream.copied
    assert copy.url == "http://127.0.0.1:11434/v1/chat/completions"
    assert json.loads(copy.body) == json.loads(played.sent[0].body) | {"model": "small"}
    assert copy.values("authorization") == []


def test_a_copy_is_a_call_of_its_own_that_says_whose(world: World) -> None:
    played = world.call(chat(), GOOD)
    (copy,) = played.copies
    own = played.record
    assert (copy.mirror_of, copy.parent_span_id, copy.trace_id, copy.route) == (own.call_id, own.span_id, own.trace_id, own.route)
    assert copy.call_id not in (own.call_id, "")
    assert copy.decision == f"mirror of {own.call_id}: both>local/small"
    assert (copy.outcome, copy.attempts[0].target, copy.attempts[0].cost and copy.attempts[0].cost.total_nusd) == (
        Outcome.SUCCEEDED, "local", USAGE_NUSD,
    )  # fmt: skip
    assert (own.mirror_of, len(own.attempts), played.client.value("x-postern-attempts")) == (None, 1, "1")


def test_a_copied_stream_is_read_to_its_end_and_metered(world: World) -> None:
    world.upstream.copies["local"] = lambda: GOOD_STREAM
    played = world.call(chat_stream(), GOOD_STREAM)
    assert played.client.body == b"".join(STREAM)
    (attempt,) = played.copies[0].attempts
    assert (attempt.outcome, attempt.cost and attempt.cost.total_nusd) == (Outcome.SUCCEEDED, USAGE_NUSD)
    assert world.upstream.copied[0].reply is not None
    assert world.upstream.copied[0].reply.ends == ["release"]


COPIES_GO_WRONG: dict[str, Callable[[], Reply | Step]] = {
    "slow": lambda: Reply(before_head=[Wait(100)]),
    "silent": lambda: SILENT,
    "failing": lambda: failure(500),
    "away": lambda: ConnectFailed("Target failed: no connection."),
    "cut": lambda: sse(HELLO, broken()),
    "an error in a stream": lambda: sse(event({"error": {"message": "no", "type": "server_error"}})),
    "nonsense": lambda: json_reply(b"<html>"),
}


@pytest.mark.parametrize("name", COPIES_GO_WRONG)
def test_whatever_becomes_of_a_copy_the_client_isnt_touched(world: World, name: str) -> None:
    world.upstream.copies["local"] = COPIES_GO_WRONG[name]
    played = world.call(chat(), GOOD)
    assert (played.client.status, json.loads(played.client.body)) == (200, chat_reply())
    assert played.record.outcome is Outcome.SUCCEEDED
    assert played.record.end_ns - played.record.start_ns < 1e6
    assert len(played.copies) == 1


def test_a_copy_that_fails_counts_at_its_targets_breaker_and_is_not_sent_while_that_is_open(world: World) -> None:
    world.upstream.copies["local"] = lambda: failure(500)
    for _ in range(5):
        assert world.call(chat(), GOOD).copies[0].outcome is Outcome.FAILED
    assert world.gate.states["local"].breaker.state == "open"
    assert world.call(chat(), GOOD).copies == []
    assert world.gate.unmirrored == {"unavailable": 1}


def test_a_copy_goes_on_when_the_client_leaves(world: World) -> None:
    played = world.call(chat(), Reply(before_head=[Wait(1), LEAVES]))
    assert (played.record.outcome, played.copies[0].outcome) == (Outcome.ABANDONED, Outcome.SUCCEEDED)


def test_a_call_that_fails_is_copied_all_the_same(world: World) -> None:
    played = world.call(chat(), failure(500), failure(500), failure(500))
    assert (played.client.status, played.copies[0].outcome) == (500, Outcome.SUCCEEDED)


def test_copies_beyond_the_bound_are_let_go_and_counted(world: World) -> None:
    world.gate.mirrors = Background(0)
    assert world.call(chat(), GOOD).copies == []
    assert world.gate.unmirrored == {"busy": 1}


@pytest.mark.parametrize(("ratio", "least", "most"), [("0%", 0, 0), ("25%", 60, 140), ("100%", 400, 400)])
def test_as_many_calls_are_copied_as_the_ratio_says(ratio: str, least: int, most: int) -> None:
    with World(MIRRORED.replace("model: small}]", "model: small}], ratio: " + ratio)) as world:
        world.upstream.copies["local"] = lambda: GOOD
        copied = sum(len(world.call(chat(), GOOD).copies) for _ in range(400))
    assert least <= copied <= most


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/v1/models"),
        posted({"model": "gpt-4o", "background": True}, "/v1/responses"),
        posted({"model": "gpt-4o"}, "/v1/threads"),
        Request(target="/v1/audio/transcriptions", headers=[(b"Content-Type", b"multipart/form-data")], steps=[b"audio"]),
        Request(target="/v1/chat/completions", headers=[(b"Content-Type", b"text/plain")], steps=[b"hello"]),
    ],
)
def test_only_calls_that_generate_are_copied(world: World, request_: Request) -> None:
    assert world.call(request_, json_reply({"id": "r"})).copies == []


def test_a_route_in_shadow_copies_nothing() -> None:
    shadow = "routes: [{name: shade, to: [second], mode: shadow, mirror: {to: [local]}}, {name: both, to: [first]}]"
    with World(MIRRORED[: MIRRORED.index("routes:")] + shadow) as world:
        world.upstream.copies["local"] = lambda: GOOD
        assert world.call(chat(), GOOD).copies == []


def test_a_call_that_is_only_explained_is_not_copied(world: World) -> None:
    played = world.call(chat([(b"x-postern-explain", b"1")]))
    assert (played.copies, world.upstream.copied) == ([], [])


def test_each_target_of_the_list_gets_a_copy() -> None:
    with World(MIRRORED.replace("[{target: local, model: small}]", "[local, second]").replace("[first, second]", "[first]")) as world:
        world.upstream.copies |= {"local": lambda: GOOD, "second": lambda: GOOD}
        copies = world.call(chat(), GOOD).copies
    assert sorted(copy.attempts[0].target for copy in copies) == ["local", "second"]
    assert len({copy.call_id for copy in copies}) == 2


def test_a_mirrors_own_rules_of_requests_apply() -> None:
    config = MIRRORED.replace("{provider: ollama,", "{provider: ollama, request: {drop: [messages2], clamp: {max_tokens: 5}},")
    with World(config) as world:
        world.upstream.copies["local"] = lambda: GOOD
        world.call(chat(body={"max_tokens": 50, "messages2": 1}), GOOD)
    assert json.loads(world.upstream.copied[0].body)["max_tokens"] == 5


def test_a_mirror_without_a_price_is_not_sent_where_prices_must_be_known() -> None:
    config = MIRRORED.replace("{target: local, model: small}", "{target: extra, model: house-7b}").replace(
        "routes:", "  extra: {provider: vllm, base_url: http://127.0.0.1:9/v1}\nprices: {on_unknown: refuse}\nroutes:"
    )
    with World(config) as world:
        world.upstream.copies["extra"] = lambda: GOOD
        assert world.call(chat(), GOOD).copies == []
        assert world.gate.unmirrored == {"unavailable": 1}
