"""Clients that leave, and a gate that is stopped: the upstream is dropped at once, and the call settles with what had come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from proxy.call import Outcome
from tests.pipeline.fakes import LEAVES, SHUTDOWN, Reply, Step
from tests.pipeline.replies import BYE, DONE, HELLO, JSON_TYPE, SILENT, USAGE_NUSD, sse, usage_chunk
from tests.pipeline.scripts import CONFIG, chat, chat_stream
from tests.pipeline.world import Played, Request, World, world_under

world = world_under(CONFIG)


def assert_abandoned(played: Played) -> None:
    attempt = played.record.attempts[-1]
    assert isinstance(played.raised, asyncio.CancelledError)
    assert (played.record.outcome, attempt.outcome) == (Outcome.ABANDONED, Outcome.ABANDONED)
    assert "finish" not in played.client.events


def test_a_client_that_leaves_during_its_upload_is_one_record(world: World) -> None:
    played = world.call(Request(headers=JSON_TYPE, steps=[b'{"model":', LEAVES]))
    assert (played.record.outcome, played.record.attempts, played.record.status) == (Outcome.ABANDONED, [], None)


@pytest.mark.parametrize("request_", [chat(), chat_stream()])
def test_leaving_before_the_head_may_have_cost_tokens(world: World, request_: Request) -> None:
    played = world.call(request_, Reply(before_head=[LEAVES]))
    assert_abandoned(played)
    attempt = played.record.attempts[0]
    assert (attempt.cost, attempt.status, played.record.status) == (None, None, None)
    assert attempt.uncounted


@pytest.mark.parametrize("before", [(), (HELLO,), (HELLO, HELLO)])
def test_leaving_a_stream_drops_the_upstream_and_leaves_its_text_to_the_tokenizer(world: World, before: Sequence[Step]) -> None:
    played = world.call(chat_stream(), sse(*before, LEAVES))
    assert_abandoned(played)
    attempt, reply = played.record.attempts[0], played.sent[0].reply
    assert reply
    assert reply.ends == ["close"]
    assert (attempt.cost, attempt.status) == (None, 200)
    assert attempt.uncounted
    assert attempt.uncounted.reply == b"".join(step for step in before if isinstance(step, bytes))


def test_leaving_while_short_json_is_read_is_abandoned(world: World) -> None:
    played = world.call(chat(), Reply(200, JSON_TYPE, [b'{"id"', LEAVES]))
    assert_abandoned(played)
    assert played.client.events == []


@pytest.mark.parametrize("leaving", [LEAVES, SHUTDOWN])
@pytest.mark.parametrize("asks", [True, False])
def test_who_leaves_right_after_done_had_all_of_it_and_pays_for_it(world: World, asks: bool, leaving: Step) -> None:
    played = world.call(chat_stream(asks=asks), sse(HELLO, BYE, usage_chunk() + DONE, leaving))
    assert played.record.outcome is Outcome.SUCCEEDED
    assert played.cost_nusd == USAGE_NUSD
    assert played.sent[0].reply
    assert played.sent[0].reply.ends == ["close"]


def test_usage_counts_even_if_the_client_left_before_it_could_be_sent(world: World) -> None:
    request = chat_stream(writes_until_gone=1)
    played = world.call(request, sse(HELLO, BYE + usage_chunk() + DONE))
    assert (played.record.outcome, played.raised) == (Outcome.ABANDONED, None)
    assert played.cost_nusd == USAGE_NUSD


def test_a_client_that_is_gone_at_the_first_write_is_abandoned(world: World) -> None:
    for request, reply in [(chat_stream(writes_until_gone=0), sse(HELLO)), (chat(writes_until_gone=0), Reply(200, JSON_TYPE, [b"{}"]))]:
        played = world.call(request, reply)
        assert (played.record.outcome, played.record.attempts[0].outcome) == (Outcome.ABANDONED, Outcome.ABANDONED)
        assert played.raised is None


def test_usage_of_short_json_counts_though_nobody_took_it(world: World) -> None:
    data = b'{"usage":{"prompt_tokens":100,"completion_tokens":20}}'
    played = world.call(chat(writes_until_gone=0), Reply(200, JSON_TYPE, [data]))
    assert played.cost_nusd == USAGE_NUSD


def test_a_client_that_is_gone_when_an_error_is_told_is_abandoned(world: World) -> None:
    played = world.call(Request(headers=JSON_TYPE, steps=[b"no json"], writes_until_gone=0))
    assert (played.record.outcome, played.record.error_type) == (Outcome.ABANDONED, "invalid_json")


def test_a_stream_cut_by_the_shutdown_is_our_doing(world: World) -> None:
    played = world.call(chat_stream(), sse(HELLO, SHUTDOWN))
    assert (played.record.outcome, played.record.attempts[0].outcome) == (Outcome.INTERRUPTED, Outcome.INTERRUPTED)
    assert played.sent[0].reply
    assert played.sent[0].reply.ends == ["close"]


def test_a_gate_that_drains_finishes_what_runs(world: World) -> None:
    world.gate.stopping = True
    assert world.call(chat_stream(), sse(HELLO, BYE, DONE)).record.outcome is Outcome.SUCCEEDED


def test_no_reply_in_first_byte_s_is_a_timeout_and_not_a_client_that_left(world: World) -> None:
    began_ns = world.clock.monotonic_ns()
    played = world.call(chat(), SILENT)
    assert 20 <= (world.clock.monotonic_ns() - began_ns) / 1e9 < 21
    assert (played.client.status, played.record.outcome, played.record.error_type) == (504, Outcome.FAILED, "timeout")
    assert played.client.value("x-should-retry") == "true"
    assert played.raised is None


def test_a_client_that_leaves_after_a_timeout_was_told_changes_nothing(world: World) -> None:
    first = world.call(chat(), SILENT)
    second = world.call(chat_stream(), sse(HELLO, BYE, DONE))
    assert (first.record.outcome, second.record.outcome) == (Outcome.FAILED, Outcome.SUCCEEDED)
