"""A call that waits too long for its first byte is sent to the next target as well: who wins, what becomes of the loser, and how often."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence

import pytest

from proxy.call import Outcome
from proxy.errors import ConnectFailed
from proxy.pipeline.hedge import _let_go
from proxy.policy.hedge import LEAST_SAMPLES
from tests.fake_time import in_fake_time
from tests.pipeline.fakes import LEAVES, SHUTDOWN, SILENCE, ClientLeaves, Reply, Step, Wait, broken
from tests.pipeline.replies import (
    BYE,
    DONE,
    GOOD,
    GOOD_STREAM,
    HELLO,
    ROLE,
    SILENT,
    STREAM,
    USAGE_NUSD,
    USAGE_USD,
    chat_reply,
    failure,
    json_reply,
    late,
    sse,
)
from tests.pipeline.scripts import TWO_TARGETS, chat, chat_stream, hedged, posted
from tests.pipeline.world import Played, World, world_under

HEDGED = hedged(TWO_TARGETS)
BY_QUANTILE = HEDGED.replace("after: 2s", "after: p95")

world = world_under(HEDGED)


def ends(played: Played) -> list[list[str] | None]:
    """How each upstream reply was given back; None where none came."""
    return [sent.reply.ends if sent.reply else None for sent in played.sent]


SLOW_FIRST: dict[str, Reply] = {
    "no head": SILENT,
    "a head and no body": Reply(200, GOOD.headers, [SILENCE]),
    "late": late(9, GOOD),
}


@pytest.mark.parametrize("name", SLOW_FIRST)
def test_a_hedge_that_is_faster_answers_and_the_loser_is_closed_at_once(world: World, name: str) -> None:
    played = world.call(chat(), SLOW_FIRST[name], GOOD)
    assert (played.client.status, json.loads(played.client.body)) == (200, chat_reply())
    assert played.attempts == [("first", Outcome.ABANDONED, None), ("second", Outcome.SUCCEEDED, "hedge")]
    assert ends(played) in ([None, ["release"]], [["close"], ["release"]])
    assert played.record.end_ns - played.record.start_ns == pytest.approx(2e9, rel=0.01)
    assert (played.record.outcome, played.record.answered_by, played.client.value("x-postern-target")) == (
        Outcome.SUCCEEDED,
        None,
        "second",
    )


def test_a_stream_is_hedged_until_its_first_content(world: World) -> None:
    played = world.call(chat_stream(), sse(ROLE, Wait(5), *STREAM), GOOD_STREAM)
    assert played.client.body == b"".join(STREAM)
    assert played.attempts == [("first", Outcome.ABANDONED, None), ("second", Outcome.SUCCEEDED, "hedge")]
    assert ends(played) == [["close"], ["release"]]


def test_after_the_first_content_nobody_is_asked_beside(world: World) -> None:
    played = world.call(chat_stream(), sse(HELLO, Wait(8), BYE, DONE))
    assert played.attempts == [("first", Outcome.SUCCEEDED, None)]


def test_a_reply_in_time_is_not_hedged(world: World) -> None:
    assert world.call(chat(), late(1.9, GOOD)).attempts == [("first", Outcome.SUCCEEDED, None)]


def test_the_first_may_win_after_all_and_is_told_as_the_one_that_answered(world: World) -> None:
    played = world.call(chat(), late(3, GOOD), SILENT)
    assert played.attempts == [("first", Outcome.SUCCEEDED, None), ("second", Outcome.ABANDONED, "hedge")]
    assert (played.record.outcome, played.record.error_type, played.record.answered_by) == (Outcome.SUCCEEDED, None, 1)
    assert (played.client.value("x-postern-target"), played.client.value("x-postern-attempts")) == ("first", "2")


def test_the_waits_of_both_are_no_overhead(world: World) -> None:
    played = world.call(chat(), late(3, GOOD), SILENT)
    assert played.record.overhead_ns < 1e6


def test_what_the_loser_cost_is_not_known_so_the_reply_tells_no_cost(world: World) -> None:
    played = world.call(chat(), SILENT, GOOD)
    assert played.client.value("x-postern-cost-usd") is None
    loser, winner = played.record.attempts
    assert (loser.cost, winner.cost and winner.cost.total_nusd) == (None, USAGE_NUSD)
    assert loser.uncounted, "the observer is to count what it may be billed for"


def test_a_loser_that_was_never_reached_costs_nothing(world: World) -> None:
    played = world.call(chat(), Reply(before_head=[Wait(3), ConnectFailed("no")]), late(4, GOOD))
    assert played.attempts == [("first", Outcome.FAILED, None), ("second", Outcome.SUCCEEDED, "hedge")]
    assert played.client.value("x-postern-cost-usd") == USAGE_USD


def test_a_loser_that_came_at_the_same_moment_is_paid_for(world: World) -> None:
    played = world.call(chat(), late(3, GOOD), late(1, GOOD))
    assert sorted(attempt.outcome for attempt in played.record.attempts) == [Outcome.ABANDONED, Outcome.SUCCEEDED]
    known = [attempt.cost.total_nusd for attempt in played.record.attempts if attempt.cost]
    assert USAGE_NUSD in known
    assert all(attempt.cost is not None or attempt.uncounted for attempt in played.record.attempts)


def test_the_losers_breaker_is_not_told_of_a_failure(world: World) -> None:
    for _ in range(8):
        world.call(chat(), SILENT, GOOD)
    assert world.gate.states["first"].breaker.state == "closed"
    assert world.gate.states["first"].in_flight == 0


@pytest.mark.parametrize("fault", [failure(500), failure(401), Reply(before_head=[ConnectFailed("no")]), json_reply(b"<html>")])
def test_a_hedge_that_fails_changes_nothing(world: World, fault: Reply) -> None:
    played = world.call(chat(), late(5, GOOD), fault)
    assert (played.client.status, json.loads(played.client.body)) == (200, chat_reply())
    assert [target for target, *_ in played.attempts] == ["first", "second"]
    assert played.record.answered_by == 1


@pytest.mark.parametrize("fault", [failure(500), failure(429), Reply(before_head=[broken()]), failure(400, "context_length_exceeded")])
def test_a_first_that_fails_while_the_hedge_runs_is_waited_out(world: World, fault: Reply) -> None:
    slow = late(3, fault)
    played = world.call(chat(), slow, late(5, GOOD))
    assert (played.client.status, played.record.outcome) == (200, Outcome.SUCCEEDED)
    assert played.attempts[1] == ("second", Outcome.SUCCEEDED, "hedge")


def test_a_request_that_the_first_calls_wrong_is_answered_so(world: World) -> None:
    played = world.call(chat(), late(3, failure(400, "invalid_value")), SILENT)
    assert (played.client.status, played.record.outcome, played.record.answered_by) == (400, Outcome.REJECTED, 1)


def test_a_request_that_only_the_hedge_calls_wrong_waits_for_the_first(world: World) -> None:
    played = world.call(chat(), late(5, GOOD), failure(400, "unsupported_parameter"))
    assert (played.client.status, played.record.answered_by) == (200, 1)


@pytest.mark.parametrize(("first_s", "second_s"), [(3, 1), (3, 5)])
def test_where_both_fail_failover_goes_on_from_the_hedge(first_s: float, second_s: float) -> None:
    third = HEDGED.replace("routes", "  third: {provider: mistral, credential: sk-target}\nroutes").replace("second]", "second, third]")
    with World(third) as world:
        played = world.call(chat(), late(first_s, failure(500)), late(second_s, failure(503)), GOOD)
    assert [target for target, *_ in played.attempts] == ["first", "second", "third"]
    assert (played.client.status, played.record.answered_by) == (200, None)


def test_where_all_fail_the_last_ones_reply_is_the_clients() -> None:
    with World(HEDGED.replace("attempts: 3", "attempts: 2")) as world:
        played = world.call(chat(), late(3, failure(500, "one")), late(2, failure(503, "two")))
    assert (played.client.status, played.error["code"]) == (503, "two")
    assert played.record.outcome is Outcome.FAILED


def test_where_neither_ever_answers_the_client_is_told_of_both() -> None:
    with World(HEDGED.replace("attempts: 3", "attempts: 2")) as world:
        played = world.call(chat(), SILENT, SILENT)
    assert played.client.status == 504
    assert played.error["message"] == "None of 2 attempts succeeded (first: timeout; second: timeout)."


@pytest.mark.parametrize(("end", "outcome"), [(LEAVES, Outcome.ABANDONED), (SHUTDOWN, Outcome.INTERRUPTED)])
@pytest.mark.parametrize("before_head", [True, False])
def test_a_client_that_leaves_ends_both(world: World, end: Step, outcome: Outcome, before_head: bool) -> None:
    steps = [Wait(1), end]
    second = Reply(before_head=steps) if before_head else sse(ROLE, *steps)
    played = world.call(chat_stream(), sse(ROLE, SILENCE), second)
    assert [one for _, one, _ in played.attempts] == [outcome, outcome]
    assert played.record.outcome is outcome
    assert all(one in (None, ["close"]) for one in ends(played))


@pytest.mark.parametrize("at_s", [0.5, 1.99])
def test_a_client_that_leaves_before_the_hedge_is_told_as_ever(world: World, at_s: float) -> None:
    played = world.call(chat(), Reply(before_head=[Wait(at_s), LEAVES]))
    assert played.attempts == [("first", Outcome.ABANDONED, None)]


@pytest.mark.parametrize(
    "request_",
    [
        posted({"model": "gpt-4o", "background": True}, "/v1/responses"),
        posted({"model": "gpt-4o"}, "/v1/threads"),
        posted({"model": "gpt-4o"}, "/v1/batches"),
        posted(b"audio", "/v1/audio/transcriptions"),
        posted({"input": "x", "model": "m"}, "/v1/moderations"),
    ],
)
def test_what_does_more_than_generate_is_not_hedged(world: World, request_: object) -> None:
    played = world.call(request_, late(9, json_reply({"id": "r"})))  # type: ignore[arg-type]
    assert [target for target, *_ in played.attempts] == ["first"]


@pytest.mark.parametrize("target", ["/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"])
def test_every_call_that_generates_is_hedged(world: World, target: str) -> None:
    played = world.call(posted({"model": "gpt-4o"}, target), late(9, json_reply({"id": "r"})), json_reply({"id": "r"}))
    assert [target for target, *_ in played.attempts] == ["first", "second"]


def test_a_target_that_takes_no_calls_is_no_hedge(world: World) -> None:
    breaker = world.gate.states["second"].breaker
    for _ in range(5):
        breaker.failed(world.clock.monotonic_ns(), 0)
    assert world.call(chat(), late(9, GOOD)).attempts == [("first", Outcome.SUCCEEDED, None)]


def test_a_call_is_hedged_once() -> None:
    third = HEDGED.replace("routes", "  third: {provider: mistral, credential: sk-target}\nroutes").replace("second]", "second, third]")
    with World(third.replace("attempts: 3", "attempts: 5")) as world:
        played = world.call(chat(), late(3, failure(500)), late(2, failure(500)), late(9, GOOD))
    assert [cause for *_, cause in played.attempts] == [None, "hedge", None]


def test_the_hedge_takes_its_targets_own_credential_model_and_shape() -> None:
    config = HEDGED.replace("[first, second]", "[first, {target: second, model: other}]")
    with World(config) as world:
        played = world.call(chat(), SILENT, GOOD)
    assert played.sent[1].values("authorization") == [b"Bearer sk-other-target"]
    assert json.loads(played.sent[1].body)["model"] == "other"


def test_a_refused_credential_of_the_hedge_rests() -> None:
    config = HEDGED.replace("credential: sk-other-target", "credential: [sk-other-target, sk-target]")
    with World(config) as world:
        world.call(chat(), late(5, GOOD), failure(401))
        assert world.gate.runtime.credentials["second"].current(world.clock.monotonic_ns()) == 1


def test_usage_that_the_hedge_wont_tell_is_asked_for_no_more(world: World) -> None:
    refusal = json_reply({"error": {"message": "no stream_options"}}, 400)
    played = world.call(chat_stream(asks=False), sse(SILENCE), refusal, GOOD_STREAM)
    assert [(one.target, one.outcome) for one in played.record.attempts] == [
        ("first", Outcome.ABANDONED), ("second", Outcome.REJECTED), ("second", Outcome.SUCCEEDED),
    ]  # fmt: skip


class Answered:
    """Stands for an attempt that has an answer."""

    def __init__(self) -> None:
        self.is_abandoned = False

    def abandon(self) -> None:
        self.is_abandoned = True


@pytest.mark.parametrize("client_leaves", [True, False])
def test_a_client_that_leaves_while_the_loser_ends_leaves_no_answer_behind(client_leaves: bool) -> None:
    answer, ended = Answered(), []

    async def loser() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append(True)

    async def winner() -> Answered:
        return answer

    @in_fake_time
    async def play() -> None:
        racers = [asyncio.ensure_future(loser()), asyncio.ensure_future(winner())]
        await asyncio.sleep(0)
        ending = asyncio.ensure_future(_let_go(racers, answer))  # type: ignore[arg-type]
        await asyncio.sleep(0.5)
        if client_leaves:
            ending.cancel()
        await asyncio.wait([ending])
        assert ending.cancelled() is client_leaves

    play()
    assert (answer.is_abandoned, ended) == (client_leaves, [True])


def test_a_fault_of_ours_in_the_hedge_is_told_in_the_log_and_the_first_answers(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.gate.runtime.request_rules["both", "second"] = 5  # type: ignore[assignment]  # no rules at all: whoever reads them fails
    played = world.call(chat(), late(5, GOOD))
    assert (played.client.status, "fault of Postern's own" in caplog.text) == (200, True)


# ---------------------------------------------------------------------------------------------------------- when, how often


def test_no_call_is_hedged_by_quantile_before_waits_are_known() -> None:
    with World(BY_QUANTILE) as world:
        for _ in range(LEAST_SAMPLES):
            assert len(world.call(chat(), late(1, GOOD)).sent) == 1
        played = world.call(chat(), late(9, GOOD), GOOD)
    assert len(played.sent) == 2
    assert played.record.end_ns - played.record.start_ns == pytest.approx(1e9, rel=0.06)


def test_waits_outlive_a_reload_and_belong_to_the_routes_name() -> None:
    with World(BY_QUANTILE) as world:
        for _ in range(LEAST_SAMPLES):
            world.call(chat(), late(1, GOOD))
        world.reload(BY_QUANTILE.replace("p95", "p50"))
        assert len(world.call(chat(), late(9, GOOD), GOOD).sent) == 2
        world.reload(BY_QUANTILE.replace("name: both", "name: other"))
        assert len(world.call(chat(), late(9, GOOD)).sent) == 1


def test_hedges_that_win_dont_make_the_next_ones_come_sooner() -> None:
    with World(BY_QUANTILE) as world:
        for _ in range(LEAST_SAMPLES):
            world.call(chat(), late(1, GOOD))
        for number in range(400):
            first = [late(9, GOOD), late(0.1, GOOD)] if number % 25 == 0 else [late(1, GOOD)]
            assert len(world.call(chat(), *first).sent) == len(first)
        wait_s = world.gate.hedges["both"].wait_s(world.gate.runtime.hedges["both"].rule, is_stream=False)
    assert wait_s is not None
    assert wait_s >= 1


@pytest.mark.parametrize("ratio", ["0%", "5%", "30%"])
@pytest.mark.parametrize("seed", range(3))
def test_hedges_never_pass_their_share_of_the_calls(ratio: str, seed: int) -> None:
    chance, share = random.Random(seed), float(ratio[:-1]) / 100
    with World(HEDGED.replace("100%", ratio)) as world:
        world.upstream.default = lambda: late(chance.choice([0.1, 3, 9]), GOOD)
        hedges = 0
        for calls in range(1, 150):
            hedges += sum(attempt.cause == "hedge" for attempt in world.call(chat()).record.attempts)
            assert hedges <= share * calls + 1e-9
    assert (hedges > 0) == (share > 0)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_targets_do_a_hedged_call_has_one_beginning(seed: int) -> None:
    chance = random.Random(seed)
    bad: Sequence[Reply | Step] = [
        failure(500),
        failure(400),
        failure(429),
        SILENT,
        ConnectFailed("no"),
        sse(broken()),
    ]

    def answered() -> Reply | Step:
        reply = chance.choice(bad) if chance.random() < 0.4 else sse(ROLE, *STREAM)
        if chance.random() < 0.1:
            return Reply(before_head=[Wait(chance.random() * 5), ClientLeaves()])
        return late(chance.choice([0.0, 2.0, 4.0]), reply) if isinstance(reply, Reply) and not reply.before_head else reply

    with World(HEDGED) as world:
        world.upstream.default = answered
        for _ in range(60):
            played = world.call(chat_stream())
            assert played.client.body in (b"", ROLE + b"".join(STREAM)) or played.client.status != 200
            answering = [one for one in played.record.attempts if one.outcome is Outcome.SUCCEEDED]
            assert len(answering) == (played.record.outcome is Outcome.SUCCEEDED)
            world.pass_time(20)
