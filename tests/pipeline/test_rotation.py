"""A target with several credentials: which of them a call is made with, when the next is tried, and what is known of them afterwards."""

from __future__ import annotations

import random
import re

import pytest

from proxy.call import Outcome
from proxy.errors import ConnectFailed
from proxy.pipeline.failover import ROTATION
from proxy.policy.breaker import BreakerState
from tests.pipeline.fakes import Reply
from tests.pipeline.replies import BYE, DONE, GOOD, GOOD_STREAM, HELLO, USAGE_NUSD, event, failure, json_reply, sse
from tests.pipeline.scripts import CONFIG, TWO_TARGETS, chat, chat_stream
from tests.pipeline.world import Played, Request, World, world_under

KEYS = "[sk-one-000, sk-two-000, sk-three-000]"
ONE_TARGET = CONFIG.replace("sk-target", KEYS)
"""No rule of failover: the list alone asks for it."""
TWO = TWO_TARGETS.replace("sk-target", KEYS)
REFUSED, NO_MONEY = failure(401, "invalid_api_key"), failure(429, "insufficient_quota")

world = world_under(ONE_TARGET)


two = world_under(TWO)


def throttled(retry_after_s: float | None = None) -> Reply:
    return failure(429, "rate_limit_exceeded", headers=[(b"Retry-After", b"%g" % retry_after_s)] if retry_after_s is not None else None)


def used(played: Played) -> list[str]:
    """What the attempts of a call were made with, as the provider reads it."""
    return [re.sub(r"^Bearer sk-|-000$", "", sent.values("authorization")[0].decode()) for sent in played.sent]


# ------------------------------------------------------------------------------------------------------- within a call


@pytest.mark.parametrize("reply", [REFUSED, failure(402), failure(403), NO_MONEY, throttled(), throttled(600), failure(529)])
def test_the_same_target_is_asked_at_once_with_the_next_credential(world: World, reply: Reply) -> None:
    began_ns = world.clock.monotonic_ns()
    played = world.call(chat(), reply, GOOD)
    assert (used(played), played.client.status) == (["one", "two"], 200)
    assert [attempt.cost.total_nusd for attempt in played.record.attempts if attempt.cost] == [USAGE_NUSD]
    assert world.clock.monotonic_ns() == began_ns


@pytest.mark.parametrize("reply", [failure(400), failure(404), failure(500), failure(503), failure(400, "context_length_exceeded")])
def test_what_is_not_the_credentials_fault_is_passed_on(world: World, reply: Reply) -> None:
    played = world.call(chat(), reply)
    assert (used(played), played.client.status) == (["one"], reply.status)
    assert used(world.call(chat(), GOOD)) == ["one"]


def test_a_target_that_can_not_be_reached_keeps_its_credential(world: World) -> None:
    world.call(chat(), ConnectFailed("Target 'openai' failed: no connection.", param="openai"))
    assert used(world.call(chat(), GOOD)) == ["one"]


def test_each_credential_is_tried_once_and_then_the_client_is_told(world: World) -> None:
    played = world.call(chat(), REFUSED, throttled(), NO_MONEY)
    assert (used(played), played.client.status) == (["one", "two", "three"], 429)
    assert b"insufficient_quota" in played.client.body
    assert [attempt.outcome for attempt in played.record.attempts] == [Outcome.REJECTED, Outcome.THROTTLED, Outcome.THROTTLED]


def test_all_credentials_come_before_the_next_target(two: World) -> None:
    two.reload(TWO.replace("attempts: 3", "attempts: 4"))
    played = two.call(chat(), throttled(), throttled(), throttled(), GOOD)
    assert used(played) == ["one", "two", "three", "other-target"]
    assert played.asked == ["first", "first", "first", "second"]


def test_each_target_has_its_own_credentials_to_try(two: World) -> None:
    lists = TWO.replace(KEYS, "[sk-one-000, sk-two-000]").replace("sk-other-target", "[sk-three-000, sk-four-000]")
    two.reload(lists.replace("attempts: 3", "attempts: 4"))
    assert used(two.call(chat(), REFUSED, REFUSED, REFUSED, GOOD)) == ["one", "two", "three", "four"]


def test_attempts_with_other_credentials_count(two: World) -> None:
    two.reload(TWO.replace("attempts: 3", "attempts: 2"))
    played = two.call(chat(), REFUSED, REFUSED)
    assert (used(played), played.client.status) == (["one", "two"], 401)


def test_a_rule_that_does_not_fail_over_for_throttling_rotates_all_the_same(two: World) -> None:
    two.reload(TWO.replace("attempts: 3", "on: [connect]"))
    assert used(two.call(chat(), throttled(), GOOD)) == ["one", "two"]
    played = two.call(chat(), throttled(), throttled())
    assert (used(played), played.client.status) == (["two", "three"], 429)


def test_a_provider_that_wants_no_retry_is_asked_with_another_credential(world: World) -> None:
    no_retry = failure(429, "rate_limit_exceeded", headers=[(b"x-should-retry", b"false")])
    assert used(world.call(chat(), no_retry, GOOD)) == ["one", "two"]


def test_a_retry_waits_for_the_credential_that_is_back_first(world: World) -> None:
    world.reload(ONE_TARGET.replace(KEYS, "[sk-one-000, sk-two-000]") + "\nroutes: [{name: r, to: [openai], failover: {attempts: 3}}]")
    played = world.call(chat(), throttled(2), throttled(30), GOOD)
    assert (used(played), played.client.status) == (["one", "two", "one"], 200)


def test_an_error_in_the_first_event_of_a_stream_rotates(world: World) -> None:
    first = sse(event({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}))
    played = world.call(chat_stream(), first, GOOD_STREAM)
    assert (used(played), played.client.status) == (["one", "two"], 200)
    assert b"slow down" not in played.client.body


def test_no_credential_is_tried_after_the_reply_started_but_the_next_call_has_another(world: World) -> None:
    cut_short = event({"error": {"message": "slow down", "code": "rate_limit_exceeded"}})
    played = world.call(chat_stream(), sse(HELLO, cut_short))
    assert used(played) == ["one"]
    assert used(world.call(chat(), GOOD)) == ["two"]


def test_an_upload_that_was_passed_on_is_not_sent_twice_but_the_next_call_has_another_credential(world: World) -> None:
    upload = Request(target="/v1/files", headers=[(b"content-type", b"multipart/form-data; boundary=b")], steps=[b"a", b"b"])
    played = world.call(upload, REFUSED)
    assert (used(played), played.client.status) == (["one"], 401)
    assert used(world.call(chat(), GOOD)) == ["two"]


def test_asking_again_without_usage_is_made_with_the_same_credential(world: World) -> None:
    refuses = json_reply({"error": {"message": "unknown field stream_options"}}, 400)
    played = world.call(chat_stream(asks=False), refuses, REFUSED, sse(HELLO, BYE, DONE))
    assert used(played) == ["one", "one", "two"]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_provider_says_no_call_tries_a_credential_twice_nor_more_than_three(seed: int) -> None:
    chance = random.Random(seed)
    replies = [GOOD, REFUSED, NO_MONEY, throttled(), throttled(0), throttled(3), failure(400), failure(500), failure(403)]
    with World(ONE_TARGET.replace(KEYS, "[sk-1, sk-2, sk-3, sk-4, sk-5]")) as world:
        world.upstream.default = lambda: chance.choice(replies)
        for _ in range(100):
            made_with = used(world.call(chat()))
            assert 1 <= len(made_with) == len(set(made_with)) <= ROTATION.attempts
            world.pass_time(chance.random() * 30)


# ------------------------------------------------------------------------------------------------------ between calls


def test_one_that_works_is_kept_until_it_fails_too(world: World) -> None:
    world.call(chat(), throttled(5), GOOD)
    world.pass_time(6)
    assert used(world.call(chat(), GOOD)) == ["two"]
    assert used(world.call(chat(), throttled(), GOOD)) == ["two", "three"]


@pytest.mark.parametrize(("reply", "rest_s"), [(REFUSED, 600), (NO_MONEY, 600), (throttled(), 60), (throttled(7), 7)])
def test_one_that_failed_is_not_used_while_it_rests(world: World, reply: Reply, rest_s: float) -> None:
    world.reload(ONE_TARGET.replace(KEYS, "[sk-one-000, sk-two-000]"))
    world.call(chat(), reply, GOOD)
    world.pass_time(rest_s - 1)
    assert used(world.call(chat(), failure(401))) == ["two"]
    world.pass_time(1)
    assert used(world.call(chat(), GOOD)) == ["one"]


def test_where_all_rest_one_is_used_and_the_next_target_follows(two: World) -> None:
    two.call(chat(), REFUSED, throttled(300), throttled(30))
    assert used(two.call(chat(), throttled(30), GOOD)) == ["three", "other-target"]


def test_breakers_do_not_count_what_is_the_credentials_fault(two: World) -> None:
    for _ in range(10):
        two.call(chat(), REFUSED, REFUSED, REFUSED)
        two.pass_time(600)
    assert two.gate.states["first"].breaker.state is BreakerState.CLOSED


def test_a_target_whose_breaker_opened_meanwhile_is_not_asked_with_another_credential(two: World) -> None:
    original = two.upstream.open

    async def opened(*arguments: object) -> object:
        breaker, now_ns = two.gate.states["first"].breaker, two.clock.monotonic_ns()
        if not two.upstream.sent:
            for _ in range(5):
                breaker.failed(now_ns, breaker.admit(now_ns))
        return await original(*arguments)  # type: ignore[arg-type]

    two.upstream.open = opened  # type: ignore[method-assign,assignment]
    assert used(two.call(chat(), REFUSED, GOOD)) == ["one", "other-target"]


# ------------------------------------------------------------------------------------------------- reloads, and secrecy


def test_a_reload_with_the_same_list_keeps_what_is_known(world: World) -> None:
    world.call(chat(), REFUSED, GOOD)
    world.reload(ONE_TARGET.replace("idle_s: 10", "idle_s: 11"))
    assert used(world.call(chat(), throttled(), GOOD)) == ["two", "three"]


@pytest.mark.parametrize("keys", ["[sk-one-000, sk-two-000]", "[sk-one-000, sk-three-000, sk-two-000]", "sk-one-000"])
def test_a_reload_with_another_list_begins_anew(world: World, keys: str) -> None:
    world.call(chat(), REFUSED, GOOD)
    world.reload(ONE_TARGET.replace(KEYS, keys))
    assert used(world.call(chat(), GOOD)) == ["one"]


def test_a_call_that_began_before_a_reload_goes_by_its_own_list(world: World) -> None:
    original = world.upstream.open

    async def opened(*arguments: object) -> object:
        if not world.upstream.sent:
            world.reload(CONFIG)
        return await original(*arguments)  # type: ignore[arg-type]

    world.upstream.open = opened  # type: ignore[method-assign,assignment]
    assert used(world.call(chat(), REFUSED, throttled(), GOOD)) == ["one", "two", "three"]


def test_no_credential_of_the_list_is_recorded(world: World) -> None:
    told = json_reply({"error": {"message": "sk-one-000, sk-two-000 and sk-three-000 are known here"}}, 401)
    played = world.call(chat(), told, told, GOOD)
    assert "-000" not in repr(played.record)
    assert played.record.attempts[0].error_message == "***, *** and *** are known here"
