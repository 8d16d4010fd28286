"""Routes that ask how much of a budget is used, and budgets whose configuration changes while calls are under way."""

from __future__ import annotations

from tests.pipeline.fakes import Reply
from tests.pipeline.replies import GOOD, late
from tests.pipeline.spending_scripts import BY_REQUEST, BY_REQUEST_NUSD, DAY_USD, TENANT, USD, budget, limited, of_tenant
from tests.pipeline.world import World

TARGETS = (
    TENANT
    + """
targets:
  best: {provider: openai, base_url: "https://best.example/v1", credential: sk-target, price: {per_request: 0.1}}
  free: {provider: ollama, base_url: "http://free.example/v1", price: {free: true}}
"""
)
LATE = "routes:\n  - {name: late, match: {budget_used: {budget: day, over: 25%}}, to: [free]}\n  - {name: all, to: [best]}\n"
EARLY = "routes:\n  - {name: early, match: {budget_used: {budget: day, under: 25%}}, to: [best]}\n  - {name: all, to: [free]}\n"


# --------------------------------------------------------------------------------------------------------------- routes


def test_a_route_for_when_much_of_a_budget_is_used_takes_calls_from_then_on() -> None:
    with World(TARGETS + LATE + budget("{usd: 0.4}")) as world:
        assert [world.call(limited(), GOOD).asked for _ in range(4)] == [["best"], ["best"], ["free"], ["free"]]
        assert world.store.spent(DAY_USD) == 2 * USD // 10
        world.pass_time(24 * 3600)
        assert world.call(limited(), GOOD).asked == ["best"]


def test_a_route_for_when_little_is_used_takes_the_first_call_of_every_scope() -> None:
    with World(TARGETS + EARLY + budget("{usd: 0.4}", "per: [tenant]")) as world:
        for tenant in ("acme", "beta", "acme", "beta", "acme"):
            world.call(of_tenant(tenant), GOOD)
        targets = [record.attempts[0].target for record in world.recorder.records]
    assert targets == ["best", "best", "free", "free", "free"]


def test_what_calls_under_way_hold_counts_as_used() -> None:
    with World(TARGETS + LATE + budget("{usd: 0.4}")) as world:
        slow = late(1, GOOD)
        played = world.together([limited()] * 4, lambda: slow)
    assert [one.record.attempts[0].target for one in played] == ["best", "best", "free", "free"]


def test_a_route_may_ask_for_a_budget_of_requests() -> None:
    with World(TARGETS + LATE + budget("{requests: 4}")) as world:
        assert [world.call(limited(), GOOD).asked for _ in range(3)] == [["best"], ["best"], ["free"]]


def test_to_ask_how_a_budget_stands_spends_nothing_of_it() -> None:
    with World(TARGETS + EARLY + budget("{requests: 4}", "match: {model: other}")) as world:
        for _ in range(8):
            assert world.call(limited(), GOOD).asked == ["best"]
        assert not any(entry.spent for entry in world.store.entries())


# --------------------------------------------------------------------------------------------------------------- reload


def test_a_changed_limit_keeps_what_was_spent() -> None:
    with World(BY_REQUEST + budget("{usd: 0.3}")) as world:
        for _ in range(2):
            world.call(limited(), GOOD)
        assert world.call(limited()).record.status == 429
        world.reload(BY_REQUEST + budget("{usd: 0.4}"))
        assert world.call(limited(), GOOD).record.status == 200
        assert world.call(limited()).record.status == 429
        world.reload(BY_REQUEST + budget("{usd: 0.2}"))
        assert world.call(limited()).record.status == 429
        assert world.store.spent(DAY_USD) == 3 * BY_REQUEST_NUSD


def test_a_changed_rate_keeps_what_was_used() -> None:
    rules = "limits: [{{name: pace, requests: {}/min}}]\n"
    with World(BY_REQUEST + rules.format(2)) as world:
        for _ in range(2):
            world.call(limited(), GOOD)
        world.reload(BY_REQUEST + rules.format(1))
        assert world.call(limited()).record.status == 429
        world.pass_time(60)
        assert world.call(limited(), GOOD).record.status == 200


def test_a_call_that_began_before_a_reload_settles_with_the_rules_it_began_with() -> None:
    with World(BY_REQUEST + budget("{usd: 0.3}", "warn_at: [40%]")) as world:
        reloads = [budget("{usd: 10}", name="other")]

        def reply() -> Reply:
            world.reload(BY_REQUEST + reloads.pop())
            return late(1, GOOD)

        (played,) = world.together([limited()], reply)
        assert world.store.spent(DAY_USD) == BY_REQUEST_NUSD
        assert world.store.spent("other:usd:all") == 0
        assert [one.budget for one in played.record.warnings] == ["day"]
        world.call(limited(), GOOD)
        assert world.store.spent("other:usd:all") == BY_REQUEST_NUSD


def test_a_rule_that_comes_back_has_what_was_spent_before() -> None:
    with World(BY_REQUEST + budget("{usd: 0.3}")) as world:
        world.call(limited(), GOOD)
        world.reload(BY_REQUEST)
        world.call(limited(), GOOD)
        world.reload(BY_REQUEST + budget("{usd: 0.3}"))
        assert world.call(limited(), GOOD).record.budget_left_nusd == 6 * USD // 100
