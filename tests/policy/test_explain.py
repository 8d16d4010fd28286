"""What is told of a decision: the routes passed, the places and their reasons, never what may be a secret."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from proxy.call import HeaderList
from proxy.config.schema import (
    Bounds,
    Config,
    FailoverConfig,
    HedgeConfig,
    Match,
    MirrorConfig,
    ModelConfig,
    RouteConfig,
    Strategy,
    TargetChoice,
    TargetConfig,
    TimeOfDay,
)
from proxy.policy.conditions import RouteFacts
from proxy.policy.explain import Explanation, LeftOut, Listener, Refusal, considered, explain, reasons
from proxy.policy.order import Candidate
from proxy.policy.plan import BREAKER_OPEN, Choice, Known
from proxy.policy.routing import CompiledRoute, PlanFacts, RouteDecision, Router

TARGETS = {name: TargetConfig("openai") for name in ("a", "b", "c")}
CALL = RouteFacts("POST", "/v1/chat/completions", "gpt-4o", [(b"X-Team", b"search")], False, {"task": "ads"})
KNOWN = {
    "a": Candidate("a", in_flight=2, latency_s=0.5, headroom=0.25, cost_nusd=2_000_000),
    "b": Candidate("b", in_flight=1, latency_s=0.25, headroom=0.5, cost_nusd=1_000_000),
    "c": Candidate("c"),
}


def routed(strategy: Strategy = "priority", *to: TargetChoice, match: Match | None = None, name: str = "only") -> RouteConfig:
    return RouteConfig(name, list(to) or [TargetChoice("a"), TargetChoice("b"), TargetChoice("c")], match or Match(), strategy)


def told(
    *routes: RouteConfig,
    models: dict[str, ModelConfig] | None = None,
    call: RouteFacts = CALL,
    broken: str = "",
    draw: float = 0.5,
    may_be_copied: bool = False,
) -> Explanation:
    def known(choice: Choice, _: CompiledRoute) -> Known:
        figures = msgspec.structs.replace(KNOWN[choice.target], model=choice.model, weight=choice.weight)
        return Known(figures, breaker_admits=choice.target not in broken)

    listener = Listener(Router(Config(TARGETS, routes=list(routes), models=models or {})).decide)
    decision = listener.decide(call, PlanFacts(known, lambda: draw))
    return explain(routes, listener, decision, None, may_be_copied)


def places(explanation: Explanation) -> list[tuple[str, str]]:
    return [(step.target, step.why) for step in explanation.steps]


def test_a_hedge_and_a_mirror_are_told_of_calls_that_may_be_copied_and_no_others() -> None:
    hedge, mirror = HedgeConfig("p90", 0.1), MirrorConfig([TargetChoice("b")], 0.5)
    route = msgspec.structs.replace(routed(), hedge=hedge, mirror=mirror)
    for may_be_copied, expected in ((True, (hedge, mirror)), (False, (None, None))):
        explained = told(route, may_be_copied=may_be_copied)
        assert (explained.hedge, explained.mirror) == expected
    alone = msgspec.structs.replace(route, to=[TargetChoice("a")])
    assert told(alone, may_be_copied=True).hedge is None


# ------------------------------------------------------------------------------------------------------------ routes


@pytest.mark.parametrize(
    ("match", "because"),
    [
        (Match(model="o3*"), "match.model: the call's is gpt-4o"),
        (Match(path="/v1/responses"), "match.path: the call's is /v1/chat/completions"),
        (Match(method="GET"), "match.method: the call's is POST"),
        (Match(stream=True), "match.stream: the call's is false"),
        (Match(tools=True), "match.tools: the call's is false"),
        (Match(max_tokens=Bounds(over=10)), "match.max_tokens: the call has none"),
        (Match(metadata={"task": "brand"}), "match.metadata.task: the call's is ads"),
        (Match(metadata={"step": "1"}), "match.metadata.step: the call has no such key"),
        (Match(header={"x-team": "ads"}), "match.header.x-team: the call's value is another"),
        (Match(header={"x-env": "prod"}), "match.header.x-env: the call has no such field"),
        (Match(time=TimeOfDay(after="09:00", before="10:00")), "match.time: not at this time"),
        (Match(model="gpt-*", stream=False), None),
    ],
)
def test_the_first_condition_that_does_not_hold_is_told(match: Match, because: str | None) -> None:
    (one,) = considered([routed(match=match)], CALL)
    assert (one.matches, one.because) == (because is None, because)


def test_routes_are_told_up_to_the_one_that_matches() -> None:
    routes = [routed(match=Match(model="o3"), name="first"), routed(name="second"), routed(name="third")]
    explanation = told(*routes)
    assert [(one.route, one.matches) for one in explanation.routes] == [("first", False), ("second", True)]
    assert explanation.route == "second"


def test_a_call_that_no_route_takes_has_no_plan() -> None:
    explanation = told(routed(match=Match(model="o3")))
    assert (explanation.route, explanation.steps, explanation.strategy) == (None, (), None)
    assert [one.matches for one in explanation.routes] == [False]


def test_neither_a_rules_patterns_nor_a_headers_values_are_told() -> None:
    secret = Match(header={"x-team": "rule-secret-*"})
    headers: HeaderList = [(b"x-team", b"call-secret"), (b"authorization", b"Bearer call-secret")]
    explanation = told(routed(match=secret), call=msgspec.structs.replace(CALL, headers=headers))
    assert b"secret" not in msgspec.json.encode(explanation)


def test_a_long_value_is_cut() -> None:
    (one,) = considered([routed(match=Match(model="o3"))], msgspec.structs.replace(CALL, model="m" * 10**6))
    assert len(one.because or "") < 300


# -------------------------------------------------------------------------------------------------------------- plan


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("priority", [("a", "in the rule's order"), ("b", "in the rule's order"), ("c", "in the rule's order")]),
        ("cheapest", [("b", "0.001 USD expected"), ("a", "0.002 USD expected"), ("c", "price unknown")]),
        ("least_busy", [("c", "0 in flight"), ("b", "1 in flight"), ("a", "2 in flight")]),
        ("headroom", [("c", "no rate limit told"), ("b", "50% of its rate limit left"), ("a", "25% of its rate limit left")]),
    ],
)
def test_each_place_has_the_figure_it_was_given_for(strategy: Strategy, expected: list[tuple[str, str]]) -> None:
    explanation = told(routed(strategy))
    assert (explanation.strategy, places(explanation)) == (strategy, expected)


def test_weights_are_told_as_shares_of_what_is_left() -> None:
    rule = routed("weighted", TargetChoice("a", weight=3), TargetChoice("b", weight=1), TargetChoice("c", weight=96))
    explanation = told(rule, broken="c")
    assert places(explanation) == [("a", "drawn with weight 3, 75% of calls"), ("b", "drawn with weight 1, 25% of calls")]
    assert explanation.dropped == (LeftOut("c", BREAKER_OPEN),)


def test_targets_that_are_drawn_only_after_all_others_have_no_share() -> None:
    rule = routed("weighted", TargetChoice("a", weight=0), TargetChoice("b", weight=0))
    assert places(told(rule)) == [("a", "drawn with weight 0"), ("b", "drawn with weight 0")]


def test_of_the_fastest_the_better_of_two_drawn_goes_first() -> None:
    assert sorted(places(told(routed("fastest")))) == [
        ("a", "1.500 s expected, 0% of calls"),
        ("b", "0.500 s expected, 33% of calls"),
        ("c", "not measured yet, 67% of calls"),
    ]
    two = routed("fastest", TargetChoice("a"), TargetChoice("b"))
    assert places(told(two)) == [("b", "0.500 s expected"), ("a", "1.500 s expected")]


@pytest.mark.parametrize("strategy", ["weighted", "fastest"])
def test_shares_are_what_chance_comes_to(strategy: Strategy) -> None:
    chance = random.Random(1).random
    router = Router(Config(TARGETS, routes=[routed(strategy, TargetChoice("a", weight=3), TargetChoice("b"), TargetChoice("c", weight=2))]))
    facts = PlanFacts(lambda choice, _: Known(msgspec.structs.replace(KNOWN[choice.target], weight=choice.weight)), chance)
    decisions = [decision for _ in range(5000) if (decision := router.decide(CALL, facts)) is not None]
    first = Counter(decision.plan.steps[0].target for decision in decisions)
    shares = dict(zip([step.target for step in decisions[0].plan.steps], reasons(decisions[0]), strict=True))
    for target in "abc":
        told_share = float(shares[target].rpartition(", ")[2].partition("%")[0]) / 100
        assert first[target] / 5000 == pytest.approx(told_share, abs=0.03)


def test_draws_are_told_in_the_order_they_were_taken() -> None:
    assert told(routed("weighted"), draw=0.25).draws == (0.25, 0.25, 0.25)
    assert told(routed("priority")).draws == ()


def test_a_target_within_an_alias_has_two_reasons() -> None:
    smart = {"smart": ModelConfig([TargetChoice("a"), TargetChoice("b")], "least_busy")}
    rule = routed("weighted", TargetChoice("smart", weight=4), TargetChoice("c", weight=1))
    assert places(told(rule, models=smart)) == [
        ("b", "drawn with weight 4, 80% of calls; within smart: 1 in flight"),
        ("a", "drawn with weight 4, 80% of calls; within smart: 2 in flight"),
        ("c", "drawn with weight 1, 20% of calls"),
    ]


def test_an_alias_stands_where_the_figures_of_its_first_target_put_it() -> None:
    smart = {"smart": ModelConfig([TargetChoice("a"), TargetChoice("b")])}
    rule = routed("cheapest", TargetChoice("c"), TargetChoice("smart"))
    assert places(told(rule, models=smart))[1] == ("b", "0.002 USD expected; within smart: in the rule's order")


def test_an_alias_that_takes_the_place_of_the_routes_targets_is_named() -> None:
    smart = {"gpt-4o": ModelConfig([TargetChoice("b", "house")])}
    explanation = told(routed(), models=smart)
    assert (explanation.route, explanation.alias, places(explanation)) == ("only", "gpt-4o", [("b", "the only target")])
    assert explanation.steps[0].model == "house"


def test_a_target_named_twice_has_the_reason_of_its_first_place() -> None:
    smart = {"smart": ModelConfig([TargetChoice("a"), TargetChoice("b")], "least_busy")}
    explanation = told(routed("priority", TargetChoice("a"), TargetChoice("smart")), models=smart)
    assert places(explanation)[0] == ("a", "in the rule's order")
    assert [step.target for step in explanation.steps] == ["a", "b"]


def test_with_every_breaker_open_the_last_resort_is_told() -> None:
    explanation = told(routed(), broken="abc")
    assert explanation.last_resort
    assert places(explanation) == [("a", "every breaker is open, and this one closes soonest")]
    assert len(explanation.dropped) == 3


def test_a_decision_without_choice_has_one_reason() -> None:
    only = Router(Config({"a": TARGETS["a"]})).decide(CALL, PlanFacts(lambda choice, _: Known(Candidate(choice.target)), lambda: 0.5))
    assert isinstance(only, RouteDecision)
    assert reasons(only) == ["the only target"]


def test_the_failover_rule_is_told_where_there_is_one() -> None:
    assert told(routed()).failover == FailoverConfig()
    assert told(routed("priority", TargetChoice("a"))).failover is None


# -------------------------------------------------------------------------------------------------------------- value


def test_an_explanation_comes_back_from_json_as_it_went() -> None:
    smart = {"smart": ModelConfig([TargetChoice("a"), TargetChoice("b")], "fastest")}
    explanation = told(routed("weighted", TargetChoice("smart"), TargetChoice("c", "house")), models=smart, broken="a")
    refused = msgspec.structs.replace(explanation, refusal=Refusal(503, "all_targets_failed", "Nobody.", "only"))
    for one in (explanation, refused):
        assert msgspec.json.decode(msgspec.json.encode(one), type=Explanation) == one
