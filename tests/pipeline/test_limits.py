"""Limits on the path of a call: how often, how fast, how many at a time; and calls that wait for their turn."""

from __future__ import annotations

import pytest

from proxy.call import Outcome
from proxy.errors import ConnectFailed
from proxy.spending import Rate
from tests.pipeline.fakes import LEAVES, Reply
from tests.pipeline.replies import GOOD, SILENT, USAGE, failure, json_reply, late
from tests.pipeline.scripts import CONFIG, EXPLAIN, TWO_TARGETS, posted
from tests.pipeline.spending_scripts import TENANT, bound_tokens, budget, limited, of_tenant
from tests.pipeline.world import Request, World


def limit(rule: str) -> str:
    return f"limits: [{{name: pace, {rule}}}]\n"


# ------------------------------------------------------------------------------------------------------------ requests


def test_a_call_over_the_limit_is_refused_and_told_how_fast_it_may_be() -> None:
    with World(CONFIG + limit("requests: 2/min")) as world:
        assert [world.call(limited(), GOOD).record.status for _ in range(2)] == [200, 200]
        played = world.call(limited())
    told, client = played.error, played.client
    assert (client.status, told["type"], told["code"], told["param"]) == (429, "postern_refused", "rate_limited", "pace")
    assert told["message"] == "Limit 'pace' is reached: 2 requests per minute. Try again in 30 s, or raise the limit."
    assert (client.value("retry-after"), client.value("x-should-retry")) == ("30", "true")
    assert {name: value for name, value in client.headers if name.startswith(b"x-ratelimit")} == {
        b"x-ratelimit-limit-requests": b"2",
        b"x-ratelimit-remaining-requests": b"0",
        b"x-ratelimit-reset-requests": b"1m0s",
    }
    assert (played.record.rule, played.record.outcome, played.record.attempts) == ("pace", Outcome.REJECTED, [])


def test_a_request_is_let_in_again_exactly_when_it_was_said() -> None:
    with World(CONFIG + limit("requests: 2/min")) as world:
        world.call(limited(), GOOD)
        world.call(limited(), GOOD)
        world.pass_time(29.9)
        assert world.call(limited()).record.status == 429
        world.pass_time(0.1)
        assert world.call(limited(), GOOD).record.status == 200


@pytest.mark.parametrize("replies", [[failure(500), failure(500), GOOD], [failure(400)], [failure(500), GOOD]])
def test_a_call_counts_once_however_many_attempts_it_takes(replies: list[Reply]) -> None:
    with World(TWO_TARGETS + budget("{requests: 10}")) as world:
        played = world.call(limited(), *replies)
        assert len(played.record.attempts) == len(replies)
        assert world.store.spent("day:requests:all") == 1


@pytest.mark.parametrize("request_", [limited(headers=EXPLAIN), limited({"model": 5}), Request("GET", "/v1/chat/completions/c", EXPLAIN)])
def test_a_call_that_is_only_explained_or_not_understood_counts_as_none(request_: Request) -> None:
    with World(CONFIG + budget("{usd: 1, requests: 10}") + limit("requests: 2/min")) as world:
        for _ in range(5):
            assert world.call(request_).record.status in (200, 400)
        assert not any(entry.spent for entry in world.store.entries())
        assert [world.call(limited(), GOOD).record.status for _ in range(2)] == [200, 200]


def test_a_call_of_which_nothing_was_sent_counts_as_none() -> None:
    with World(CONFIG + budget("{requests: 1}")) as world:
        world.call(limited(), ConnectFailed("No connection."))
        assert world.call(limited(), GOOD).record.status == 200
        assert world.call(limited()).record.status == 429


def test_a_refused_call_takes_nothing_of_other_limits() -> None:
    two = "limits:\n  - {name: pace, requests: 2/min}\n  - {name: tight, match: {model: other}, requests: 1/day}\n"
    with World(CONFIG + two) as world:
        assert world.call(limited({"model": "other"}), GOOD).record.status == 200
        assert [world.call(limited({"model": "other"})).record.rule for _ in range(3)] == ["tight"] * 3
        assert world.call(limited(), GOOD).record.status == 200


def test_an_anthropic_client_gets_a_limit_in_its_own_envelope() -> None:
    claude = "targets: {claude: {provider: anthropic, credential: sk-target}}\n"
    request = posted({"model": "claude-opus-4", "messages": [], "max_tokens": 5}, "/v1/messages")
    with World(claude + limit("requests: 1/min")) as world:
        world.call(request, json_reply({"type": "message", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}))
        played = world.call(request)
    assert (played.client.status, played.client.body[:15]) == (429, b'{"type":"error"')
    assert played.client.value("retry-after") == "60"


# -------------------------------------------------------------------------------------------------------------- tokens


def test_tokens_that_were_held_and_not_used_are_given_back() -> None:
    assert 320 - USAGE["total_tokens"] < bound_tokens(limited()) <= 320
    with World(CONFIG + limit("tokens: 320/min")) as world:
        assert world.call(limited(), GOOD).record.status == 200
        refused = world.call(limited())
        assert refused.record.status == 429
        assert refused.client.value("x-ratelimit-remaining-tokens") == str(320 - USAGE["total_tokens"])
        assert world.call(limited({"max_completion_tokens": 1, "messages": []}), GOOD).record.status == 200


def test_a_call_larger_than_all_of_a_rate_waits_until_all_of_it_is_there_and_pays_for_all_it_used() -> None:
    with World(CONFIG + limit("tokens: 60/min")) as world:
        assert world.call(limited(), GOOD).record.status == 200  # 120 tokens
        assert world.call(limited()).client.value("retry-after") == "120"
        world.pass_time(120)
        assert world.call(limited(), GOOD).record.status == 200


# --------------------------------------------------------------------------------------------------------- concurrency


def test_no_more_calls_at_a_time_than_the_limit_says() -> None:
    with World(CONFIG + limit("concurrency: 2")) as world:
        played = world.together([limited()] * 5, lambda: late(1, GOOD))
        assert sorted(one.record.status or 0 for one in played) == [200, 200, 429, 429, 429]
        told = next(one for one in played if one.record.status == 429)
        assert (
            told.error["message"] == "Limit 'pace' is reached: 2 calls at a time. Try again when one of them is done, or raise the limit."
        )
        assert (told.client.value("retry-after"), told.client.value("x-should-retry")) == ("1", "true")
        assert world.call(limited(), GOOD).record.status == 200


@pytest.mark.parametrize("reply", [failure(500), SILENT, Reply(before_head=[LEAVES]), GOOD])
def test_a_call_gives_its_place_back_however_it_ends(reply: Reply) -> None:
    with World(CONFIG + limit("concurrency: 1")) as world:
        world.call(limited(), reply)
        assert world.call(limited(), GOOD).record.status == 200


def test_a_call_that_another_rule_refuses_takes_no_place() -> None:
    with World(CONFIG + TENANT + budget("{usd: 0.000001}", "per: [tenant], match: {tenant: poor}") + limit("concurrency: 1")) as world:
        assert world.call(of_tenant("poor")).record.status == 429
        assert world.call(of_tenant("rich"), GOOD).record.status == 200


# ------------------------------------------------------------------------------------------------------------- waiting


def test_a_call_waits_for_its_turn_of_a_rate_to_the_millisecond() -> None:
    with World(CONFIG + limit("requests: 60/min, wait_ms: 1500")) as world:
        line = Rate(60, 60_000)
        for _ in range(60):
            world.call(limited(), GOOD)
        began_ns = world.clock.monotonic_ns()
        played = world.call(limited(), GOOD)
        waited_ms = (world.clock.monotonic_ns() - began_ns) / 1e6
    assert played.record.status == 200
    assert line.period_ms / line.burst <= waited_ms < line.period_ms / line.burst + 2


def test_waiting_for_a_turn_is_not_our_own_time() -> None:
    with World(CONFIG + limit("requests: 1/s, wait_ms: 1500")) as world:
        world.call(limited(), GOOD)
        played = world.call(limited(), GOOD)
    assert played.record.end_ns - played.record.start_ns >= 990_000_000
    assert played.record.overhead_ns < 1_000_000


def test_a_call_that_would_wait_in_vain_is_refused_at_once() -> None:
    with World(CONFIG + limit("requests: 1/min, wait_ms: 1500")) as world:
        world.call(limited(), GOOD)
        began_ns = world.clock.monotonic_ns()
        assert world.call(limited()).record.status == 429
        assert world.clock.monotonic_ns() - began_ns < 1_000_000


def test_a_call_waits_for_one_under_way_to_end_and_goes_on() -> None:
    with World(CONFIG + limit("concurrency: 1, wait_ms: 5000")) as world:
        played = world.together([limited()] * 3, lambda: late(1, GOOD))
        ends_s = sorted(one.record.end_ns - one.record.start_ns for one in played)
    assert [one.record.status for one in played] == [200] * 3
    assert [round(end / 1e9, 1) for end in ends_s] == [1.0, 2.0, 3.0]


def test_a_call_whose_turn_does_not_come_in_time_is_refused_then() -> None:
    with World(CONFIG + limit("concurrency: 1, wait_ms: 500")) as world:
        first, second = world.together([limited()] * 2, lambda: late(2, GOOD))
    assert (first.record.status, second.record.status) == (200, 429)
    assert 0.5 <= (second.record.end_ns - second.record.start_ns) / 1e9 < 0.52


def test_a_call_whose_turn_another_one_took_waits_no_longer_than_it_may() -> None:
    with World(CONFIG + limit("requests: 1/s, wait_ms: 1500")) as world:
        world.call(limited(), GOOD)
        played = world.together([limited()] * 2, lambda: GOOD)
        waited_s = [round((one.record.end_ns - one.record.start_ns) / 1e9, 2) for one in played]
    assert [one.record.status for one in played] == [200, 429]
    assert waited_s == [1.0, 1.5]


def test_a_client_that_leaves_while_its_call_waits_holds_nothing() -> None:
    with World(CONFIG + budget() + limit("concurrency: 1, wait_ms: 5000")) as world:
        played = world.together([limited()] * 2, lambda: late(3, GOOD), leaving=(1, 1.0))
        assert world.call(limited(), GOOD).record.status == 200
    assert [one.record.status for one in played] == [200, None]
    assert (played[1].record.outcome, played[1].record.attempts) == (Outcome.ABANDONED, [])


def test_budgets_are_not_waited_for() -> None:
    with World(CONFIG + budget("{requests: 1}") + limit("concurrency: 5, wait_ms: 5000")) as world:
        world.call(limited(), GOOD)
        began_ns = world.clock.monotonic_ns()
        assert world.call(limited()).record.rule == "day"
        assert world.clock.monotonic_ns() - began_ns < 1_000_000


@pytest.mark.parametrize("what", ["concurrency: 1", "requests: 50/s"])
def test_many_calls_that_wait_look_hardly_more_often_together_than_a_few(what: str) -> None:
    """Each look costs the other calls time: 200 that look as soon as there may be room would do so 10,000 times in this second."""
    with World(CONFIG + limit(f"{what}, wait_ms: 1000")) as world:
        world.together([limited()] * 200, lambda: late(2, GOOD))
        assert len(world.store.asked) < 2000
