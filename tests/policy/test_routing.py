"""Which target a call goes to: the first route that matches, and an alias before its target."""

from __future__ import annotations

import msgspec
import pytest

from proxy.call import HeaderList
from proxy.config.schema import (
    Bounds,
    Config,
    FailoverConfig,
    Match,
    ModelConfig,
    RouteConfig,
    TargetChoice,
    TargetConfig,
    TargetLimits,
    TimeOfDay,
)
from proxy.policy.conditions import RouteFacts
from proxy.policy.order import Candidate
from proxy.policy.plan import Abilities, Choice, Known, Needs, Plan
from proxy.policy.routing import IMPLICIT_ROUTE, CompiledRoute, PlanFacts, RouteDecision, Router

TARGETS = {"openai": TargetConfig("openai"), "own": TargetConfig("vllm")}


def facts(
    model: str | None = "gpt-4o",
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: HeaderList | None = None,
    stream: bool = False,
) -> RouteFacts:
    return RouteFacts(method, path, model, headers or [], stream)


def route(name: str, match: Match | None = None, target: str = "openai", model: str | None = None) -> RouteConfig:
    return RouteConfig(name, [TargetChoice(target, model)], match or Match())


def known(choice: Choice, _: CompiledRoute) -> Known:
    return Known(Candidate(choice.target, choice.model, choice.weight))


NOW = PlanFacts(known, lambda: 0.5)


def decide(routes: list[RouteConfig], asked: RouteFacts, models: dict[str, ModelConfig] | None = None) -> RouteDecision | None:
    decided = Router(Config(TARGETS, routes=routes, models=models or {})).decide(asked, NOW)
    return decided and msgspec.structs.replace(decided, group=None)


def to(name: str, *choices: tuple[str, str | None], failover: FailoverConfig | None = None) -> RouteDecision:
    return RouteDecision(name, Plan(tuple(Candidate(target, model) for target, model in choices)), failover)


def matches(match: Match, asked: RouteFacts) -> bool:
    return decide([route("only", match)], asked) is not None


def test_without_routes_the_only_target_takes_every_call() -> None:
    router = Router(Config({"own": TargetConfig("vllm")}))
    expected = to(IMPLICIT_ROUTE, ("own", None))
    assert [router.decide(asked, NOW) for asked in (facts(), facts(None, "/anything", "GET"))] == [expected, expected]


def test_the_first_route_that_matches_wins() -> None:
    routes = [route("a", Match(model="o3*")), route("b", Match(model="gpt-*"), "own"), route("c")]
    assert decide(routes, facts("gpt-4o")) == to("b", ("own", None))
    assert decide(routes, facts("o3-mini")) == to("a", ("openai", None))
    assert decide(routes, facts("other")) == to("c", ("openai", None))


def test_no_route_that_matches_is_no_decision() -> None:
    assert decide([route("a", Match(model="o3*"))], facts("gpt-4o")) is None


def test_a_route_without_conditions_takes_calls_without_model() -> None:
    assert decide([route("all", model="house")], facts(None)) == to("all", ("openai", "house"))


def test_every_condition_must_hold() -> None:
    match = Match(model="gpt-*", path="/v1/chat/*", method="POST", stream=True, header={"x-team": "search"})
    team: HeaderList = [(b"X-Team", b"search")]
    assert matches(match, facts(headers=team, stream=True))
    for other in (
        facts("o3", headers=team, stream=True),
        facts(path="/v1/responses", headers=team, stream=True),
        facts(method="GET", headers=team, stream=True),
        facts(headers=[(b"X-Team", b"ads")], stream=True),
        facts(headers=[], stream=True),
        facts(headers=team, stream=False),
    ):
        assert not matches(match, other)


@pytest.mark.parametrize(
    ("pattern", "model", "expected"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "my-gpt-4o", False),
        ("gpt-*", "gpt-", True),
        ("gpt-?", "gpt-5", True),
        ("gpt-[45]", "gpt-5", True),
        ("gpt-4.1", "gpt-4x1", False),
        ("GPT-4o", "gpt-4o", False),
        ("*", None, False),
        ("a|b", "a", False),
        ("*", "two\nlines", True),
        ("gpt-4o", "gpt-4o\n", False),
        (["o3", "gpt-*"], "gpt-5", True),
        (["o3", "gpt-*"], "o3-mini", False),
    ],
)
def test_globs_match_whole_models(pattern: str | list[str], model: str | None, expected: bool) -> None:
    assert matches(Match(model=pattern), facts(model)) is expected


def test_methods_are_named_in_any_case() -> None:
    assert matches(Match(method=["get", "Post"]), facts(method="POST"))


def test_false_asks_for_calls_that_do_not_stream() -> None:
    assert matches(Match(stream=False), facts(stream=False))
    assert not matches(Match(stream=False), facts(stream=True))


def test_one_of_several_values_of_a_header_is_enough() -> None:
    match = Match(header={"X-Team": ["search", "ads*"]})
    assert matches(match, facts(headers=[(b"x-team", b"other"), (b"x-team", b"ads-2")]))
    assert not matches(match, facts(headers=[(b"x-team", b"other")]))


def test_a_headers_bytes_are_compared_as_they_are() -> None:
    assert matches(Match(header={"x-team": "\xe9"}), facts(headers=[(b"x-team", b"\xe9")]))


SMART = (("own", "house-7b"), ("openai", None))
ALIAS = {"smart": ModelConfig([TargetChoice("own", "house-7b"), TargetChoice("openai")])}


def test_an_alias_wins_over_a_routes_target_but_not_over_its_conditions() -> None:
    routes = [route("never", Match(model="o3")), route("all", model="gpt-5")]
    assert decide(routes, facts("smart"), ALIAS) == to("all", *SMART, failover=FailoverConfig())
    assert decide(routes, facts("gpt-4o"), ALIAS) == to("all", ("openai", "gpt-5"))
    assert decide(routes, facts(None), ALIAS) == to("all", ("openai", "gpt-5"))


def test_an_alias_is_reached_though_no_route_matches() -> None:
    assert decide([route("o3", Match(model="o3"))], facts("smart"), ALIAS) == to(IMPLICIT_ROUTE, *SMART, failover=FailoverConfig())


def test_a_target_list_may_name_an_alias_with_its_own_strategy() -> None:
    rule = RouteConfig("all", [TargetChoice("smart"), TargetChoice("openai", "gpt-5")])
    assert decide([rule], facts("gpt-4o"), ALIAS) == to("all", *SMART, ("openai", "gpt-5"), failover=FailoverConfig())


def test_a_rule_with_one_target_passes_its_failures_on() -> None:
    assert decide([route("one")], facts()) == to("one", ("openai", None), failover=None)


def test_a_rule_that_says_how_to_fail_over_does_so_with_one_target_too() -> None:
    failover = FailoverConfig(attempts=2)
    rule = RouteConfig("one", [TargetChoice("openai")], failover=failover)
    assert decide([rule], facts()) == to("one", ("openai", None), failover=failover)


def test_router_tells_which_facts_its_rules_ask_for() -> None:
    match = Match(model="gpt-*", tools=True, input_tokens=Bounds(over=10), time=TimeOfDay("09:00"), header={"X-Team": "a"})
    assert Router(Config(TARGETS, routes=[route("a", match), route("b")])).asks == {
        "model", "tools", "input_tokens", "time", "header.X-Team",
    }  # fmt: skip
    assert Router(Config({"own": TargetConfig("vllm")})).asks == frozenset()


# ---------------------------------------------------------------------------------------------------------- planning


class Asked:
    """Tells nothing, and keeps what it was asked."""

    def __init__(self, lacks: str = "") -> None:
        self._lacks = lacks
        self.needs: list[CompiledRoute] = []
        self.sticky: list[str | None] = []
        self.by_cost: list[bool] = []

    def facts(self) -> PlanFacts:
        return PlanFacts(self._known, lambda: 0.5, self._needs, self._sticky_key)

    def _known(self, choice: Choice, route: CompiledRoute) -> Known:
        self.by_cost.append(route.goes_by_cost)
        abilities = Abilities(lacks=frozenset({"tools"} if choice.target == self._lacks else ()))
        return Known(Candidate(choice.target, choice.model, choice.weight), abilities)

    def _needs(self, route: CompiledRoute) -> Needs:
        self.needs.append(route)
        return Needs(frozenset({"tools"}))

    def _sticky_key(self, sticky_by: str | None) -> str:
        self.sticky.append(sticky_by)
        return "alice"


def planned(asked: Asked, rule: RouteConfig, models: dict[str, ModelConfig] | None = None, model: str = "gpt-4o") -> list[str]:
    decision = Router(Config(TARGETS, routes=[rule], models=models or {})).decide(facts(model), asked.facts())
    assert decision is not None
    return [step.target for step in decision.plan.steps]


BOTH = [TargetChoice("openai"), TargetChoice("own")]


def test_a_target_that_lacks_what_the_call_needs_is_left_out_where_there_is_another() -> None:
    asked = Asked(lacks="openai")
    assert planned(asked, RouteConfig("both", BOTH)) == ["own"]
    assert len(asked.needs) == 1


@pytest.mark.parametrize("to", [["openai"], ["openai", "openai"]])
def test_the_only_target_is_never_left_out_for_a_guess(to: list[str]) -> None:
    asked = Asked(lacks="openai")
    rule = RouteConfig("only", [TargetChoice(target) for target in to], Match(model="gpt-*"))
    assert planned(asked, rule) == ["openai"]
    assert asked.needs == []


def test_a_route_tells_what_its_targets_lack_those_within_aliases_too() -> None:
    targets = {
        "a": TargetConfig("vllm", lacks=["vision"]),
        "b": TargetConfig("vllm", lacks=["tools"], context_window=4096),
        "c": TargetConfig("vllm"),
    }
    models = {"inner": ModelConfig([TargetChoice("b"), TargetChoice("c", "m")])}
    router = Router(Config(targets, routes=[RouteConfig("all", [TargetChoice("a"), TargetChoice("inner")])], models=models))
    compiled = router.route(facts())
    assert compiled is not None
    assert compiled.lacking == {"vision", "tools"}
    assert [choice.target for choice in compiled.choices] == ["a", "b", "c"]
    assert router.abilities["b"] == Abilities(4096, frozenset({"tools"}))


def test_costs_are_asked_for_only_where_a_strategy_goes_by_them() -> None:
    inner = {"smart": ModelConfig(BOTH, "cheapest")}
    for rule, expected in (
        (RouteConfig("a", BOTH, strategy="cheapest"), [True, True]),
        (RouteConfig("a", BOTH, strategy="weighted"), [False, False]),
        (RouteConfig("a", [TargetChoice("smart"), TargetChoice("openai", "gpt-5")]), [True, True, True]),
    ):
        asked = Asked()
        planned(asked, rule, inner)
        assert asked.by_cost == expected


def test_every_list_is_sticky_by_what_it_says_itself() -> None:
    models = {"smart": ModelConfig(BOTH, "sticky", sticky_by="model")}
    for rule, model, expected in (
        (RouteConfig("a", BOTH, strategy="sticky", sticky_by="user"), "gpt-4o", ["user"]),
        (RouteConfig("a", [TargetChoice("smart"), TargetChoice("openai", "gpt-5")]), "gpt-4o", ["model"]),
        (RouteConfig("a", BOTH, strategy="sticky", sticky_by="user"), "smart", ["model"]),
        (RouteConfig("a", BOTH), "gpt-4o", []),
    ):
        asked = Asked()
        planned(asked, rule, models, model)
        assert asked.sticky == expected


def test_an_alias_keeps_the_failover_of_the_route_that_takes_it() -> None:
    failover = FailoverConfig(attempts=2)
    rule = RouteConfig("all", [TargetChoice("openai")], failover=failover)
    decision = decide([rule], facts("smart"), ALIAS)
    assert decision == to("all", *SMART, failover=failover)


def test_the_only_targets_own_limit_is_kept() -> None:
    router = Router(Config({"own": TargetConfig("vllm", limits=TargetLimits(concurrency=1))}))
    busy = PlanFacts(lambda choice, _: Known(Candidate(choice.target, in_flight=1), concurrency=1), lambda: 0.5)
    decision = router.decide(facts(), busy)
    assert decision is not None
    assert decision.plan.steps == ()


def test_an_alias_with_one_target_passes_its_failures_on_whatever_the_routes_targets_are() -> None:
    one = {"mine": ModelConfig([TargetChoice("own", "house-7b")])}
    assert decide([RouteConfig("both", BOTH)], facts("mine"), one) == to("both", ("own", "house-7b"))
