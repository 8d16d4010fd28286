"""A route in shadow decides beside the others, and changes nothing about what they decide."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import pytest

from proxy.config.schema import Config, FailoverConfig, Match, ModelConfig, RequestConfig, RouteConfig, Strategy, TargetChoice, TargetConfig
from proxy.pipeline.request_rules import request_rules
from proxy.policy.conditions import RouteFacts
from proxy.policy.explain import Considered, Explanation, Listener, explain
from proxy.policy.order import Candidate
from proxy.policy.plan import Choice, Known
from proxy.policy.recording import capture_rules
from proxy.policy.routing import IMPLICIT_ROUTE, CompiledRoute, PlanFacts, RouteDecision, Router
from proxy.policy.telemetry_environment import TelemetryEnvironment

TARGETS = {name: TargetConfig("openai") for name in ("a", "b", "c")}
ONE = {"a": TargetConfig("openai")}
ALL = [TargetChoice("a"), TargetChoice("b"), TargetChoice("c")]


def call(model: str = "gpt-4o") -> RouteFacts:
    return RouteFacts("POST", "/v1/chat/completions", model, [], False)


def known(choice: Choice, _: CompiledRoute) -> Known:
    return Known(Candidate(choice.target, choice.model, choice.weight))


def rule(name: str, target: str, match: Match | None = None, *, shadow: bool = False) -> RouteConfig:
    return RouteConfig(name, [TargetChoice(target)], match or Match(), mode="shadow" if shadow else "enforce")


def decide(
    routes: list[RouteConfig],
    facts: RouteFacts | None = None,
    models: dict[str, ModelConfig] | None = None,
    targets: dict[str, TargetConfig] = TARGETS,
    chance: Callable[[], float] = lambda: 0.5,
) -> RouteDecision | None:
    return Router(Config(targets, routes=routes, models=models or {})).decide(facts or call(), PlanFacts(known, chance))


def told(decision: RouteDecision | None) -> tuple[str, str | None]:
    assert decision is not None
    return decision.told("gpt-4o"), None if decision.shadow is None else decision.shadow.told("gpt-4o")


def test_shadow_that_matches_first_tells_its_plan_and_the_call_goes_on() -> None:
    assert told(decide([rule("try", "b", shadow=True), rule("all", "a")])) == ("all>a/gpt-4o", "try>b/gpt-4o")


def test_shadow_after_the_route_that_takes_the_call_tells_nothing() -> None:
    assert told(decide([rule("first", "a", Match(model="gpt-*")), rule("try", "b", shadow=True), rule("all", "a")])) == (
        "first>a/gpt-4o",
        None,
    )


def test_shadow_whose_conditions_do_not_hold_tells_nothing() -> None:
    assert told(decide([rule("try", "b", Match(model="o3*"), shadow=True), rule("all", "a")])) == ("all>a/gpt-4o", None)


def test_of_several_shadows_the_first_is_told() -> None:
    routes = [
        rule("no", "b", Match(model="o3"), shadow=True),
        rule("one", "b", shadow=True),
        rule("two", "c", shadow=True),
        rule("all", "a"),
    ]
    assert told(decide(routes)) == ("all>a/gpt-4o", "one>b/gpt-4o")


def test_shadow_takes_no_call_that_nobody_else_takes() -> None:
    assert decide([rule("try", "b", shadow=True), rule("o3", "a", Match(model="o3"))]) is None


def test_with_shadows_alone_calls_go_to_the_only_target() -> None:
    only = [RouteConfig("try", [TargetChoice("a", "gpt-5")], mode="shadow")]
    assert told(decide(only, targets=ONE)) == (f"{IMPLICIT_ROUTE}>a/gpt-4o", "try>a/gpt-5")


def test_alias_takes_the_place_of_the_targets_of_a_shadow_too() -> None:
    models = {"smart": ModelConfig([TargetChoice("b", "gpt-5"), TargetChoice("c")])}
    shadow = msgspec.structs.replace(rule("try", "a", shadow=True), failover=FailoverConfig(attempts=2))
    decision = decide([shadow, rule("all", "a")], call("smart"), models)
    assert decision is not None
    assert told(decision)[1] == "try>b/gpt-5,c/gpt-4o"
    assert decision.shadow is not None
    assert decision.shadow.failover == FailoverConfig(attempts=2)


def test_alias_that_no_route_matches_is_no_shadow_whatever_the_shadows_name() -> None:
    models = {"smart": ModelConfig([TargetChoice("b")])}
    routes = [rule(IMPLICIT_ROUTE, "c", Match(model="o3"), shadow=True), rule("o4", "a", Match(model="o4"))]
    assert told(decide(routes, call("smart"), models)) == (f"{IMPLICIT_ROUTE}>b/gpt-4o", None)


@pytest.mark.parametrize("strategy", ["weighted", "fastest"])
def test_shadow_takes_no_draw_from_the_route_that_acts(strategy: Strategy) -> None:
    acting = RouteConfig("all", ALL, strategy=strategy)
    shadow = RouteConfig("try", ALL, strategy="weighted", mode="shadow")
    differing = 0
    for seed in range(50):
        alone = decide([acting], chance=Random(seed).random)
        beside = decide([shadow, acting], chance=Random(seed).random)
        assert alone is not None
        assert beside is not None
        assert beside.plan == alone.plan
        differing += told(beside)[1] != told(beside)[0].replace("all>", "try>")
    assert differing > 10


def test_conditions_of_a_shadow_are_asked_for() -> None:
    routes = [rule("try", "b", Match(images=True), shadow=True), rule("all", "a")]
    assert "images" in Router(Config(TARGETS, routes=routes)).asks


def test_changes_and_capture_of_a_shadow_do_not_act() -> None:
    changes = RequestConfig(drop=["user"])
    shadow = RouteConfig(IMPLICIT_ROUTE, [TargetChoice("a")], request=changes, capture_content="span", mode="shadow")
    config = Config(ONE, routes=[shadow])
    assert (request_rules(config), capture_rules(config, TelemetryEnvironment())) == ({}, {})
    acting = Config(ONE, routes=[msgspec.structs.replace(shadow, mode="enforce")])
    assert request_rules(acting)
    assert capture_rules(acting, TelemetryEnvironment())


# ------------------------------------------------------------------------------------------------------------ explain


def explained(routes: list[RouteConfig]) -> Explanation:
    listener = Listener(Router(Config(TARGETS, routes=routes)).decide)
    return explain(routes, listener, listener.decide(call(), PlanFacts(known, lambda: 0.5)), None)


def test_shadow_is_told_with_its_places_and_why() -> None:
    shadow = RouteConfig("try", ALL, strategy="least_busy", mode="shadow")
    explanation = explained([shadow, rule("all", "b")])
    assert explanation.routes == (Considered("try", True, shadow=True), Considered("all", True))
    assert [step.target for step in explanation.steps] == ["b"]
    would = explanation.shadow
    assert would is not None
    assert (would.route, would.strategy, would.differs, would.failover) == ("try", "least_busy", True, FailoverConfig())
    assert [(step.target, step.why) for step in would.steps] == [(name, "0 in flight") for name in "abc"]


def test_same_target_for_another_model_differs_and_what_follows_does_not() -> None:
    def differs(*to: TargetChoice) -> bool:
        would = explained([RouteConfig("try", list(to), mode="shadow"), rule("all", "a")]).shadow
        assert would is not None
        return would.differs

    assert not differs(TargetChoice("a"))
    assert not differs(TargetChoice("a"), TargetChoice("b"))
    assert differs(TargetChoice("a", "gpt-5"))
    assert differs(TargetChoice("b"))
