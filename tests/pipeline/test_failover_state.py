"""What calls leave behind for those after them: breakers, budgets of retries, reloads; and targets that are named for one fault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxy.call import Outcome
from proxy.policy.breaker import BreakerState
from tests.pipeline.fakes import LEAVES, SHUTDOWN, Reply, Step
from tests.pipeline.replies import GOOD, NO_CONNECTION, failure
from tests.pipeline.scripts import TWO_TARGETS, chat
from tests.pipeline.world import Played, World, world_under

THIRD = "  third: {provider: openai, base_url: 'https://third.example/v1', credential: sk-other-target}\nroutes"
TOO_LONG, FILTERED = failure(400, "context_length_exceeded"), failure(400, "content_filter")

world = world_under(TWO_TARGETS)


def state_of(world: World, target: str) -> BreakerState:
    return world.gate.states[target].breaker.state


def open_first(world: World) -> None:
    for _ in range(5):
        world.call(chat(), NO_CONNECTION, GOOD)
    assert state_of(world, "first") is BreakerState.OPEN


def meanwhile(world: World, act: Callable[[], None]) -> None:
    """Let something happen while the next call's first attempt is made."""
    original = world.upstream.open

    async def opened(*arguments: object) -> object:
        if not world.upstream.sent:
            act()
        return await original(*arguments)  # type: ignore[arg-type]

    world.upstream.open = opened  # type: ignore[method-assign,assignment]


# ------------------------------------------------------------------------------------------------------------ breakers


def test_a_target_that_keeps_failing_is_left_out_and_comes_back_by_its_probes(world: World) -> None:
    open_first(world)
    assert world.call(chat(), GOOD).asked == ["second"]
    world.pass_time(15)
    assert world.call(chat(), GOOD).asked == ["first"]
    assert state_of(world, "first") is BreakerState.HALF_OPEN
    assert world.call(chat(), GOOD).asked == ["first"]
    assert state_of(world, "first") is BreakerState.CLOSED


def test_a_probe_that_fails_costs_its_call_no_more_than_any_failure(world: World) -> None:
    open_first(world)
    world.pass_time(15)
    played = world.call(chat(), failure(500), GOOD)
    assert (played.asked, played.client.status) == (["first", "second"], 200)
    assert world.call(chat(), GOOD).asked == ["second"]


@pytest.mark.parametrize("reply", [failure(400), failure(401), failure(429), failure(429, "insufficient_quota"), TOO_LONG, FILTERED])
def test_no_breaker_opens_for_what_is_not_the_targets_fault(world: World, reply: Reply) -> None:
    for _ in range(20):
        world.upstream.default = lambda: reply
        world.call(chat())
    assert state_of(world, "first") is BreakerState.CLOSED


def test_a_failure_counts_once_though_the_call_went_on(world: World) -> None:
    for _ in range(4):
        world.call(chat(), failure(500), GOOD)
    assert state_of(world, "first") is BreakerState.CLOSED
    world.call(chat(), failure(500), GOOD)
    assert state_of(world, "first") is BreakerState.OPEN


def test_a_target_whose_breaker_this_call_opened_is_not_asked_again() -> None:
    with World(TWO_TARGETS.replace("to: [first, second]", "to: [first]")) as world:
        world.call(chat(), failure(500), failure(500), failure(500))
        played = world.call(chat(), failure(500), failure(500))
    assert played.asked == ["first", "first"]


def test_a_target_that_is_out_by_now_is_passed_over(world: World) -> None:
    world.reload(TWO_TARGETS.replace("to: [first, second]", "to: [first, second, third]").replace("routes", THIRD))
    breaker = world.gate.states["second"].breaker

    def open_second() -> None:
        breaker.state, breaker.closes_ns = BreakerState.OPEN, world.clock.monotonic_ns() + 10**9

    meanwhile(world, open_second)
    assert world.call(chat(), NO_CONNECTION, GOOD).asked == ["first", "third"]


def test_with_every_breaker_open_the_one_that_closes_soonest_is_asked_once(world: World) -> None:
    for _ in range(5):
        world.upstream.default = lambda: failure(500)
        world.call(chat())
    assert (state_of(world, "first"), state_of(world, "second")) == (BreakerState.OPEN, BreakerState.OPEN)
    played = world.call(chat(), failure(503, "busy"))
    assert (played.client.status, len(played.asked)) == (503, 1)
    assert world.call(chat(), GOOD).client.status == 200


def test_a_target_at_its_limit_of_calls_is_passed_over() -> None:
    with World(TWO_TARGETS.replace("idle_s: 10}\n    breaker", "idle_s: 10}\n    limits: {concurrency: 1}\n    breaker")) as world:
        second = world.gate.states["second"]

        def fill_second() -> None:
            ticket = second.begin(world.clock.monotonic_ns())
            asyncio.get_running_loop().call_soon(second.released, ticket)

        meanwhile(world, fill_second)
        played = world.call(chat(), failure(401))
    assert (played.asked, played.client.status) == (["first"], 401)


# ------------------------------------------------------------------------------------------- targets named for one fault


def own_lists(lists: str, more: str = "") -> World:
    return World(TWO_TARGETS.replace("attempts: 3", f"attempts: 3, {lists}").replace("routes", THIRD) + more)


def test_a_prompt_that_is_too_long_goes_to_the_targets_named_for_that() -> None:
    with own_lists("context_window_to: [{target: third, model: gpt-long}]") as world:
        played = world.call(chat(), TOO_LONG, GOOD)
        assert [(one.target, one.model) for one in played.record.attempts] == [("first", "gpt-4o"), ("third", "gpt-long")]
        assert world.call(chat(), FILTERED, GOOD).asked == ["first", "second"]
        assert world.call(chat(), failure(500), GOOD).asked == ["first", "second"]


def test_a_prompt_that_is_filtered_goes_to_the_targets_named_for_that() -> None:
    with own_lists("content_filter_to: [third]") as world:
        assert world.call(chat(), FILTERED, GOOD).asked == ["first", "third"]
        assert world.call(chat(), TOO_LONG, GOOD).asked == ["first", "second"]


def test_the_rest_of_the_plan_is_not_asked_after_them() -> None:
    with own_lists("context_window_to: [third]") as world:
        played = world.call(chat(), TOO_LONG, TOO_LONG)
    assert (played.asked, played.client.status, played.client.body) == (["first", "third"], 400, TOO_LONG.steps[0])


def test_they_are_asked_in_their_order_and_each_of_them_once() -> None:
    with own_lists("context_window_to: [first, third, second]") as world:
        played = world.call(chat(), TOO_LONG, failure(500), GOOD)
    assert played.asked == ["first", "third", "second"]


def test_an_alias_among_them_stands_for_its_targets() -> None:
    with own_lists("context_window_to: [long]", "models: {long: {targets: [{target: third, model: gpt-long}]}}") as world:
        played = world.call(chat(), TOO_LONG, GOOD)
    assert [(one.target, one.model) for one in played.record.attempts] == [("first", "gpt-4o"), ("third", "gpt-long")]


def test_one_without_a_price_is_not_asked_where_that_is_refused() -> None:
    with own_lists("context_window_to: [{target: third, model: house-blend}]", "prices: {on_unknown: refuse}") as world:
        assert world.call(chat(), TOO_LONG).asked == ["first"]


# ------------------------------------------------------------------------------------------------------------- reloads


def test_what_is_known_of_a_target_outlives_a_reload(world: World) -> None:
    open_first(world)
    world.reload(TWO_TARGETS.replace("attempts: 3", "attempts: 2"))
    assert world.call(chat(), GOOD).asked == ["second"]


def test_a_breakers_new_limits_hold_at_once(world: World) -> None:
    world.reload(TWO_TARGETS.replace("failures: 5", "failures: 1"))
    world.call(chat(), failure(500), GOOD)
    assert state_of(world, "first") is BreakerState.OPEN


def test_a_target_that_is_gone_is_forgotten_and_comes_back_as_a_new_one(world: World) -> None:
    open_first(world)
    world.reload("targets: {second: {provider: openai, credential: sk-target}}")
    assert set(world.gate.states) == {"second"}
    world.reload(TWO_TARGETS)
    assert state_of(world, "first") is BreakerState.CLOSED


def test_a_call_goes_on_by_the_configuration_it_began_with(world: World) -> None:
    meanwhile(world, lambda: world.reload("targets: {another: {provider: openai, credential: sk-target}}"))
    played = world.call(chat(), failure(500), GOOD)
    assert (played.asked, played.client.status) == (["first", "second"], 200)
    assert set(world.gate.states) == {"another"}


# ------------------------------------------------------------------------------------------- clients that leave, a drain


def wait_then(world: World, step: Step) -> Played:
    """The call's last target asks for a wait; a second into it, the step is played."""

    async def call() -> Played:
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: loop.create_task(world.play(step, asyncio.Event(), None)))
        return await world._call(chat(), [NO_CONNECTION, failure(429, headers=[(b"Retry-After", b"5")])])

    return world._runner.run(call())


@pytest.mark.parametrize(("step", "outcome"), [(LEAVES, Outcome.ABANDONED), (SHUTDOWN, Outcome.THROTTLED)])
def test_a_call_that_ends_during_a_wait_asks_nobody_any_more(world: World, step: Step, outcome: Outcome) -> None:
    began_ns = world.clock.monotonic_ns()
    played = wait_then(world, step)
    assert isinstance(played.raised, asyncio.CancelledError)
    assert (played.asked, played.record.outcome) == (["first", "second"], outcome)
    assert (world.clock.monotonic_ns() - began_ns) / 1e9 == pytest.approx(1, abs=0.01)
    assert (played.client.events, played.record.status, played.record.overhead_ns) == ([], None, 0)
    assert [sent.reply and sent.reply.ends for sent in played.sent] == [None, ["release"]]


@pytest.mark.parametrize("first", [NO_CONNECTION, failure(500)])
def test_a_client_that_leaves_during_the_second_attempt_closes_it(world: World, first: Step | Reply) -> None:
    played = world.call(chat(), first, Reply(200, [(b"Content-Type", b"application/json")], [b"{", LEAVES]))
    assert [attempt.outcome for attempt in played.record.attempts] == [Outcome.FAILED, Outcome.ABANDONED]
    assert played.record.outcome is Outcome.ABANDONED
    assert played.sent[1].reply
    assert played.sent[1].reply.ends == ["close"]


def test_a_gate_that_drains_still_fails_over(world: World) -> None:
    world.gate.stopping = True
    assert world.call(chat(), failure(500), GOOD).client.status == 200
