"""What follows where a budget has too little left: other targets, being let through, more for critical routes; and rules in shadow."""

from __future__ import annotations

import pytest

from proxy.policy.breaker import BreakerState
from tests.pipeline.replies import GOOD, failure, late
from tests.pipeline.scripts import TWO_TARGETS
from tests.pipeline.spending_scripts import BY_REQUEST, BY_REQUEST_NUSD, DAY_USD, USD, budget, limited
from tests.pipeline.world import World

TARGETS = """
targets:
  best: {provider: openai, base_url: "https://best.example/v1", credential: sk-target, price: {per_request: 0.5}}
  good: {provider: openai, base_url: "https://good.example/v1", credential: sk-other-target, price: {per_request: 0.2}}
  free: {provider: ollama, base_url: "http://free.example/v1", price: {free: true}}
"""
ROUTES = "routes: [{name: all, to: [best]}]\n"


def degrading(limit: str, to: str, more: str = "") -> str:
    return TARGETS + ROUTES + more + budget(limit, f"when_short: {{degrade_to: {to}}}")


# ------------------------------------------------------------------------------------------------------------ degraded


def test_where_too_little_is_left_other_targets_are_asked_and_the_decision_says_so() -> None:
    with World(degrading("{usd: 0.8}", "[good]")) as world:
        world.call(limited(), GOOD)
        played = world.call(limited(), GOOD)
        assert world.store.spent(DAY_USD) == 7 * USD // 10
    assert played.asked == ["good"]
    assert played.record.decision == "all>good/gpt-4o (budget day)"
    assert played.client.value("x-postern-target") == "good"
    assert played.record.rule is None


def test_targets_that_do_not_fit_either_are_refused() -> None:
    with World(degrading("{usd: 0.6}", "[good]")) as world:
        world.call(limited(), GOOD)
        played = world.call(limited())
    assert (played.record.status, played.record.rule, played.error["param"]) == (429, "day", "day")


def test_a_target_that_costs_nothing_always_fits() -> None:
    with World(degrading("{usd: 0.5}", "[{target: free, model: llama}]")) as world:
        world.call(limited(), GOOD)
        played = [world.call(limited(), GOOD) for _ in range(3)]
        assert world.store.spent(DAY_USD) == USD // 2
    assert [(one.asked, one.record.decision) for one in played] == [(["free"], "all>free/llama (budget day)")] * 3


def test_an_alias_in_degrade_to_stands_for_its_targets_in_their_order() -> None:
    models = "models: {small: {targets: [{target: good, model: mini}, {target: free, model: llama}]}}\n"
    failing = ROUTES.replace("to: [best]", "to: [best], failover: {attempts: 3}")
    with World(degrading("{usd: 0.8}", "[small]", models).replace(ROUTES, failing)) as world:
        world.call(limited(), GOOD)
        played = world.call(limited(), failure(500), GOOD)
    assert [(sent.target.name, attempt.model) for sent, attempt in zip(played.sent, played.record.attempts, strict=True)] == [
        ("good", "mini"),
        ("free", "llama"),
    ]


def test_a_budget_sends_a_call_elsewhere_once_and_the_next_budget_again() -> None:
    two = (
        degrading("{usd: 0.8}", "[good]") + "  - {name: tight, window: {every: day}, limit: {usd: 0.6}, when_short: {degrade_to: [free]}}\n"
    )
    with World(two) as world:
        world.call(limited(), GOOD)
        played = world.call(limited(), GOOD)
    assert (played.asked, played.record.decision) == (["free"], "all>free/gpt-4o (budget tight)")


def test_a_degraded_call_takes_no_target_whose_price_is_unknown_where_that_is_refused() -> None:
    unpriced = TARGETS + '  mine: {provider: compatible, base_url: "https://mine.example/v1"}\n' + ROUTES
    rules = "prices: {on_unknown: refuse}\n" + budget("{usd: 0.6}", "when_short: {degrade_to: [mine]}")
    with World(unpriced + rules) as world:
        world.call(limited(), GOOD)
        played = world.call(limited())
    assert (played.record.status, played.error["code"]) == (429, "budget_exceeded")


def test_a_degraded_call_asks_a_target_whose_breaker_is_closed_while_there_is_one() -> None:
    with World(degrading("{usd: 0.8}", "[good, free]")) as world:
        world.call(limited(), GOOD)
        trip(world, "good")
        assert world.call(limited(), GOOD).asked == ["free"]
        trip(world, "free")
        assert world.call(limited(), GOOD).asked == ["good"]


def trip(world: World, target: str) -> None:
    """Open a target's breaker for the next minute."""
    breaker = world.gate.states[target].breaker
    breaker.state = BreakerState.OPEN
    breaker.closes_ns = world.clock.monotonic_ns() + 60 * 10**9


# ---------------------------------------------------------------------------------------------------- allowed, critical


def test_allow_lets_calls_through_and_counts_them() -> None:
    with World(BY_REQUEST + budget("{usd: 0.2}", "when_short: {allow: true}, warn_at: [100%, 150%]")) as world:
        played = [world.call(limited(), GOOD) for _ in range(3)]
        assert world.store.spent(DAY_USD) == 3 * BY_REQUEST_NUSD
    assert [one.record.status for one in played] == [200] * 3
    assert [[warning.share for warning in one.record.warnings] for one in played] == [[], [1.0], [1.5]]
    assert [one.record.shadow_refusals for one in played] == [[], ["day"], ["day"]], "told as what a rule let through"
    assert played[-1].client.value("x-postern-budget-remaining-usd") == "0"


CRITICAL = BY_REQUEST + (
    "routes:\n  - {name: urgent, match: {header: {x-urgent: '1'}}, to: [openai], critical: true}\n  - {name: all, to: [openai]}\n"
)
URGENT = [(b"x-urgent", b"1")]


def test_calls_of_a_critical_route_may_go_up_to_its_multiplier() -> None:
    with World(CRITICAL + budget("{usd: 0.3}", "critical_multiplier: 2")) as world:
        ordinary = [world.call(limited(), *replies).record.status for replies in ([GOOD], [GOOD], [])]
        urgent = [world.call(limited(headers=URGENT), *replies).record.status for replies in ([GOOD], [GOOD], [GOOD], [])]
        assert world.store.spent(DAY_USD) == 5 * BY_REQUEST_NUSD == 6 * USD // 10
    assert (ordinary, urgent) == ([200, 200, 429], [200, 200, 200, 429])


def test_what_critical_calls_leave_over_is_nobody_elses() -> None:
    with World(CRITICAL + budget("{usd: 0.3}", "critical_multiplier: 2")) as world:
        for _ in range(3):
            assert world.call(limited(headers=URGENT), GOOD).record.status == 200
        assert world.call(limited()).record.status == 429
        assert world.call(limited(headers=URGENT), GOOD).record.status == 200


# -------------------------------------------------------------------------------------------------------------- shadow


def test_a_rule_in_shadow_counts_and_tells_and_never_refuses() -> None:
    trial = "  - {name: trial, mode: shadow, window: {every: day}, limit: {usd: 0.2, requests: 2}, warn_at: [50%]}\n"
    with World(BY_REQUEST + budget("{usd: 1}") + trial + "limits: [{name: pace, mode: shadow, requests: 1/min}]\n") as world:
        played = [world.call(limited(), GOOD) for _ in range(3)]
        assert world.store.spent("trial:usd:all") == 3 * BY_REQUEST_NUSD
        assert world.store.spent("trial:requests:all") == 3
    assert [one.record.status for one in played] == [200] * 3
    assert [sorted(one.record.shadow_refusals) for one in played] == [[], ["pace", "trial"], ["pace", "trial"]]
    assert {warning.budget for one in played for warning in one.record.warnings} == {"trial"}
    assert played[-1].record.budget_left_nusd == USD - 3 * BY_REQUEST_NUSD, "what is in shadow has nothing that could be used up"


def test_degrade_in_shadow_asks_nobody_else() -> None:
    with World(degrading("{usd: 0.6}", "[good], ").replace("when_short", "mode: shadow, when_short")) as world:
        played = [world.call(limited(), GOOD) for _ in range(2)]
    assert [one.asked for one in played] == [["best"]] * 2
    assert played[1].record.shadow_refusals == ["day"]


@pytest.mark.parametrize(
    ("spend", "statuses"), [("strict", [200, 200, 429, 429]), ("headroom", [200, 200, 200, 429]), ("posthoc", [200] * 4)]
)
def test_how_much_must_be_left_is_as_spend_says(spend: str, statuses: list[int]) -> None:
    with World(BY_REQUEST + budget("{usd: 0.3}", f"spend: {spend}")) as world:
        slow = late(1, GOOD)
        played = world.together([limited()] * 4, lambda: slow)
        assert sorted(one.record.status or 0 for one in played) == statuses
        assert world.call(limited()).record.status == 429


def test_the_failover_of_a_degraded_call_stays_with_the_targets_it_was_sent_to() -> None:
    both = TWO_TARGETS.replace("{per_million: {input: 2, output: 8}}", "{per_request: 0.5}").replace(
        "routes", '  free: {provider: ollama, base_url: "http://free.example/v1", price: {free: true}}\nroutes'
    )
    with World(both + budget("{usd: 0.4}", "when_short: {degrade_to: [free]}")) as world:
        played = world.call(limited(), failure(500))
    assert played.asked == ["free"] * len(played.sent)
