"""Budgets on the path of a call: held before anything is sent, settled once, never passed."""

from __future__ import annotations

import json

import pytest

from proxy.call import Outcome
from proxy.errors import ConnectFailed
from tests.pipeline.fakes import LEAVES, SHUTDOWN, SILENCE, Reply, Step, Wait, broken
from tests.pipeline.replies import (
    BYE,
    DONE,
    GOOD,
    HELLO,
    JSON_TYPE,
    SILENT,
    USAGE,
    USAGE_NUSD,
    chat_reply,
    delta,
    event,
    failure,
    json_reply,
    late,
    sse,
    usage_chunk,
)
from tests.pipeline.scripts import CONFIG, TWO_TARGETS, chat, chat_stream, posted
from tests.pipeline.spending_scripts import (
    BY_REQUEST,
    BY_REQUEST_NUSD,
    DAY_USD,
    DEARER_SECOND,
    MAX_TOKENS,
    TENANT,
    USD,
    bound_nusd,
    bound_tokens,
    budget,
    limited,
    of_tenant,
)
from tests.pipeline.world import Played, Request, World

STREAM = chat_stream({"max_completion_tokens": MAX_TOKENS})


# ------------------------------------------------------------------------------------------------------ never passed


def test_of_five_calls_at_once_as_many_are_let_in_as_fit() -> None:
    with World(BY_REQUEST + budget("{usd: 0.45}")) as world:
        played = world.together([chat()] * 5, lambda: late(1, GOOD))
        statuses = sorted(one.record.status or 0 for one in played)
        assert statuses == [200, 200, 200, 429, 429]
        assert world.store.spent(DAY_USD) == 3 * BY_REQUEST_NUSD == sum(one.cost_nusd or 0 for one in played)


def test_what_a_call_under_way_gives_back_is_there_for_the_next() -> None:
    request = limited()
    with World(CONFIG + budget(f"{{usd: {bound_nusd(request) / USD}}}")) as world:
        assert world.call(request, GOOD).record.status == 200
        refused = world.call(request)
        smaller = limited({"max_completion_tokens": 1})
        taken = world.call(smaller, GOOD)
    assert (refused.record.status, refused.sent) == (429, [])
    assert bound_nusd(smaller, 1) <= bound_nusd(request) - USAGE_NUSD
    assert taken.record.status == 200


def test_no_account_holds_anything_of_a_call_that_another_one_refuses() -> None:
    rules = "budgets:\n" + "".join(
        f"  - {{name: {name}, window: {{every: day}}, limit: {limit}}}\n"
        for name, limit in (("wide", "{usd: 1, tokens: 100000}"), ("narrow", "{usd: 0.000001}"), ("last", "{requests: 5}"))
    )
    with World(CONFIG + rules + "limits: [{name: slow, concurrency: 3, requests: 5/min}]\n") as world:
        refused = world.call(limited())
        assert refused.record.status == 429
        assert not any(entry.spent or entry.held for entry in world.store.entries())
        assert not world.store.reserved, "a call that is refused holds nothing, not for a moment"


def test_every_scope_has_a_budget_of_its_own() -> None:
    with World(BY_REQUEST + TENANT + budget("{usd: 0.2}", "per: [tenant]")) as world:
        assert world.call(of_tenant("acme"), GOOD).record.status == 200
        assert world.call(of_tenant("acme")).record.status == 429
        assert world.call(of_tenant("beta"), GOOD).record.status == 200
        assert world.call(chat(), GOOD).record.status == 200
        assert {entry.account: entry.spent for entry in world.store.entries()} == {
            "day:usd:tenant=acme": BY_REQUEST_NUSD,
            "day:usd:tenant=beta": BY_REQUEST_NUSD,
            "day:usd:tenant=(none)": BY_REQUEST_NUSD,
        }


def test_the_next_window_begins_with_nothing_spent() -> None:
    with World(BY_REQUEST + budget("{usd: 0.2}")) as world:
        world.call(chat(), GOOD)
        assert world.call(chat()).record.status == 429
        world.pass_time(24 * 3600)
        assert world.call(chat(), GOOD).record.status == 200


def test_a_call_is_counted_in_the_window_in_which_it_was_let_in() -> None:
    with World(BY_REQUEST + budget("{usd: 0.2}")) as world:
        slow = late(19, GOOD)
        start_ms = world.clock.time_ns() // 1_000_000
        world.pass_time((86_400_000 - start_ms % 86_400_000) / 1000 - 10)
        before = world.call(chat(), slow)
        after = world.call(chat(), GOOD)
    assert (before.record.status, after.record.status) == (200, 200)
    assert [entry.spent for entry in world.store.entries()] == [BY_REQUEST_NUSD, BY_REQUEST_NUSD]


# ------------------------------------------------------------------------------------------------------ settled once

SAID = (HELLO, delta(", world"))
ENDS: dict[str, tuple[Request, Reply | Step, Outcome, bool]] = {
    "success": (limited(), GOOD, Outcome.SUCCEEDED, True),
    "stream": (STREAM, sse(*SAID, BYE, usage_chunk(), DONE), Outcome.SUCCEEDED, True),
    "rejected": (limited(), failure(400), Outcome.REJECTED, False),
    "throttled": (limited(), failure(429), Outcome.THROTTLED, False),
    "failed": (limited(), failure(500), Outcome.FAILED, False),
    "no connection": (limited(), ConnectFailed("No connection."), Outcome.FAILED, False),
    "no head in time": (limited(), SILENT, Outcome.FAILED, True),
    "JSON cut off": (limited(), Reply(200, JSON_TYPE, [b'{"id": "c", "choices": [', broken()]), Outcome.FAILED, True),
    "error cut off": (limited(), Reply(500, JSON_TYPE, [b'{"error": ', broken()]), Outcome.FAILED, False),
    "left before the head": (limited(), Reply(before_head=[Wait(1), LEAVES]), Outcome.ABANDONED, True),
    "left mid-stream": (STREAM, sse(*SAID, LEAVES), Outcome.ABANDONED, True),
    "cut mid-stream": (STREAM, sse(*SAID, broken()), Outcome.INTERRUPTED, True),
    "silent mid-stream": (STREAM, sse(*SAID, SILENCE), Outcome.INTERRUPTED, True),
    "no end marker": (STREAM, sse(*SAID), Outcome.INTERRUPTED, True),
    "error in band": (STREAM, sse(event({"error": {"message": "no", "type": "server_error"}})), Outcome.FAILED, False),
    "error after content": (STREAM, sse(*SAID, event({"error": {"message": "no", "type": "server_error"}})), Outcome.INTERRUPTED, True),
    "shutdown": (STREAM, sse(*SAID, SHUTDOWN), Outcome.INTERRUPTED, True),
    "usage not told": (limited(), json_reply(chat_reply(None)), Outcome.SUCCEEDED, True),
}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_a_call_ends_with_it_is_settled_once_with_what_was_spent(end: str) -> None:
    request, reply, outcome, costs = ENDS[end]
    with World(CONFIG + budget("{usd: 1, tokens: 10000}")) as world:
        played = world.call(request, reply)  # which checks that nothing is held any more
        spent, tokens = world.store.spent(DAY_USD), world.store.spent("day:tokens:all")
    assert played.record.attempts[0].outcome is outcome
    assert (spent > 0, tokens > 0) == (costs, costs)
    assert spent <= bound_nusd(request)
    assert tokens <= bound_tokens(request)
    if played.cost_nusd:
        assert (spent, tokens) == (played.cost_nusd, USAGE["total_tokens"])


def test_an_error_of_our_own_gives_back_what_was_held() -> None:
    for request in (limited(edge_fault=RuntimeError("edge")), chat_stream({"max_completion_tokens": 5}, edge_fault=RuntimeError("edge"))):
        with World(CONFIG + budget("{usd: 1}")) as world:
            played = world.call(request, GOOD if request.steps == limited().steps else sse(*SAID))
            assert isinstance(played.raised, RuntimeError)
            assert world.store.spent(DAY_USD) == (played.cost_nusd or 0)


# --------------------------------------------------------------------------------------------------- further attempts


def test_a_failed_attempt_gives_back_what_it_held_before_the_next_target_is_covered() -> None:
    request = limited()
    with World(TWO_TARGETS + budget(f"{{usd: {bound_nusd(request) / USD}}}")) as world:
        played = world.call(request, failure(500), GOOD)
        assert world.store.spent(DAY_USD) == USAGE_NUSD
    assert played.asked == ["first", "second"]
    assert played.record.status == 200


def test_a_retry_holds_anew() -> None:
    once_more = CONFIG + "routes: [{name: one, to: [openai], failover: {attempts: 2}}]\n"
    request = limited()
    with World(once_more + budget()) as world:
        played = world.call(request, failure(500), GOOD)
        assert len(played.record.attempts) == 2
        assert world.store.reserved[DAY_USD] == 2 * bound_nusd(request)
        assert world.store.settled[DAY_USD] == USAGE_NUSD


def test_a_failed_attempt_that_told_usage_is_paid_for_beside_the_next() -> None:
    with World(TWO_TARGETS + budget("{usd: 1, tokens: 10000}")) as world:
        broken_off = json_reply(chat_reply() | {"error": {"message": "no", "code": "server_error"}})
        played = world.call(limited(), broken_off, GOOD)
        assert played.cost_nusd == 2 * USAGE_NUSD == world.store.spent(DAY_USD)
        assert world.store.spent("day:tokens:all") == 2 * USAGE["total_tokens"]


def test_a_dearer_target_that_does_not_fit_is_not_asked() -> None:
    with World(DEARER_SECOND + budget("{usd: 0.9}")) as world:
        played = world.call(limited(), failure(500))
        assert world.store.spent(DAY_USD) == 0
    assert played.asked == ["first"]
    told = played.error
    assert (played.record.status, told["code"]) == (502, "all_targets_failed")
    assert "second: day: too little is left" in str(told["message"])
    assert "first: 500" in str(told["message"])
    assert played.client.value("x-should-retry") == "false"


def test_a_dearer_target_that_does_not_fit_is_passed_over_for_the_next() -> None:
    third = DEARER_SECOND.replace("routes", "  third: {provider: openai, credential: sk-target, price: {free: true}}\nroutes")
    with World(third.replace("[first, second]", "[first, second, third]") + budget("{usd: 0.9}")) as world:
        played = world.call(limited(), failure(500), GOOD)
    assert played.asked == ["first", "third"]
    assert played.record.status == 200


def test_a_dearer_target_that_fits_holds_what_it_may_cost_itself() -> None:
    request = limited()
    with World(DEARER_SECOND + budget("{usd: 1.5}")) as world:
        played = world.call(request, failure(500), GOOD)
        assert world.store.reserved[DAY_USD] == bound_nusd(request) + 1 * USD
        assert world.store.spent(DAY_USD) == 1 * USD == played.cost_nusd


def test_the_same_request_without_our_question_for_usage_keeps_what_is_held() -> None:
    request = chat_stream({"max_completion_tokens": MAX_TOKENS}, asks=False)
    refusal = json_reply({"error": {"message": "unknown field stream_options"}}, 400)
    with World(CONFIG + budget(f"{{usd: {bound_nusd(request) / USD}}}")) as world:
        played = world.call(request, refusal, sse(*SAID, BYE, DONE))
        assert len(played.record.attempts) == 2
        assert world.store.reserved[DAY_USD] == bound_nusd(request)
        assert 0 < world.store.spent(DAY_USD) < bound_nusd(request)


def test_a_target_where_a_rule_makes_the_request_smaller_holds_less() -> None:
    clamped = CONFIG + "routes: [{name: one, to: [openai], request: {clamp: {max_completion_tokens: 10}}}]\n"
    with World(clamped + budget()) as world:
        played = world.call(limited(), GOOD)
        sent_bytes = len(played.sent[0].body)
        assert world.store.reserved[DAY_USD] == (sent_bytes + 128) * 2_000 + 10 * 8_000


# -------------------------------------------------------------------------------------------------- what a client sees


def test_a_refused_call_is_told_which_budget_and_when_to_come_again() -> None:
    with World(BY_REQUEST + budget("{usd: 0.2}")) as world:
        world.call(chat(), GOOD)
        played = world.call(chat())
    told, client = played.error, played.client
    assert (client.status, told["type"], told["code"], told["param"]) == (429, "postern_refused", "budget_exceeded", "day")
    assert str(told["message"]).startswith("Budget 'day' has too little left for this call. Limit: 0.2 USD per day (UTC); spent: 0.12 USD;")
    assert client.value("x-should-retry") == "false"
    now_s = world.clock.time_ns() // 10**9
    assert client.value("retry-after") == str(86_400 - now_s % 86_400)
    assert client.value("x-postern-budget-remaining-usd") == "0.08"
    assert (played.record.rule, played.record.outcome, played.record.error_type) == ("day", Outcome.REJECTED, "budget_exceeded")
    assert (played.record.attempts, played.record.budget_left_nusd) == ([], 80_000_000)


def test_a_call_larger_than_the_whole_limit_is_not_told_to_come_again() -> None:
    with World(BY_REQUEST + budget("{usd: 0.1}")) as world:
        played = world.call(chat())
    assert played.client.status == 429
    assert played.client.value("retry-after") is None
    assert "more than the whole limit" in str(played.error["message"])


def test_an_anthropic_client_is_refused_in_its_own_envelope() -> None:
    with World(
        "targets: {claude: {provider: anthropic, credential: sk-target, price: {per_request: 1}}}\n" + budget("{usd: 0.5}")
    ) as world:
        played = world.call(posted({"model": "claude", "messages": [], "max_tokens": 5}, "/v1/messages"))
    told = json.loads(played.client.body)
    assert (played.client.status, told["type"]) == (429, "error")
    assert told["error"]["message"].startswith("Budget 'day' has too little left")
    assert played.client.value("x-should-retry") == "false"


def test_what_is_left_is_exact_after_a_reply_that_came_whole() -> None:
    with World(CONFIG + budget("{usd: 1}") + "  - {name: small, window: {every: day}, limit: {usd: 0.5}}\n") as world:
        for count in (1, 2):
            played = world.call(limited(), GOOD)
            left_nusd = USD // 2 - count * USAGE_NUSD
            assert played.client.value("x-postern-budget-remaining-usd") == f"{left_nusd / USD:.5f}".rstrip("0")
            assert played.record.budget_left_nusd == left_nusd


def test_what_is_left_of_a_stream_is_told_without_its_bound_and_recorded_as_it_is() -> None:
    with World(CONFIG + budget("{usd: 1}")) as world:
        played = world.call(STREAM, sse(*SAID, BYE, usage_chunk(), DONE))
    assert played.client.value("x-postern-budget-remaining-usd") == str((USD - bound_nusd(STREAM)) / USD)
    assert played.record.budget_left_nusd == USD - USAGE_NUSD


@pytest.mark.parametrize("refused", [False, True])
def test_transparent_gates_tell_nothing_of_budgets(refused: bool) -> None:
    with World("transparent: true\n" + BY_REQUEST + budget("{usd: 0.1}" if refused else "{usd: 1}")) as world:
        played = world.call(chat(), *([] if refused else [GOOD]))
    assert not [name for name, _ in played.client.headers if b"postern" in name]
    assert played.record.budget_left_nusd is not None


def test_without_budgets_in_usd_nothing_is_left_to_tell() -> None:
    with World(CONFIG + budget("{tokens: 10000}")) as world:
        played = world.call(limited(), GOOD)
    assert (played.client.value("x-postern-budget-remaining-usd"), played.record.budget_left_nusd) == (None, None)


def test_without_rules_a_call_reserves_nothing() -> None:
    with World(CONFIG) as world:
        world.call(limited(), GOOD)
        assert not world.store.asked


# ------------------------------------------------------------------------------------------------------------ warnings


def warned(played: Played) -> list[tuple[str, str, str, float]]:
    return [(one.budget, one.scope, one.unit, one.share) for one in played.record.warnings]


def test_each_threshold_is_warned_of_once_by_the_call_that_reaches_it() -> None:
    with World(BY_REQUEST + budget("{usd: 0.5}", "warn_at: [20%, 24%, 90%]")) as world:
        told = [warned(world.call(chat(), GOOD)) for _ in range(4)]
    assert told == [[("day", "all", "usd", 0.2), ("day", "all", "usd", 0.24)], [], [], [("day", "all", "usd", 0.9)]]


def test_what_is_held_is_not_warned_of() -> None:
    with World(BY_REQUEST + budget("{usd: 0.2}", "warn_at: [50%]")) as world:
        assert warned(world.call(chat(), failure(500))) == []
        assert warned(world.call(chat())) == []
        assert warned(world.call(chat(), GOOD)) == [("day", "all", "usd", 0.5)]
