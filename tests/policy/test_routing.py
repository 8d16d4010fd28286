"""Which target a call goes to: the first route that matches, and an alias before its target."""

from __future__ import annotations

import pytest

from proxy.call import HeaderList
from proxy.config.schema import Config, Match, ModelConfig, RouteConfig, TargetChoice, TargetConfig
from proxy.policy.routing import IMPLICIT_ROUTE, RouteDecision, RouteFacts, Router

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


def decide(routes: list[RouteConfig], asked: RouteFacts, models: dict[str, ModelConfig] | None = None) -> RouteDecision | None:
    return Router(Config(TARGETS, routes=routes, models=models or {})).decide(asked)


def matches(match: Match, asked: RouteFacts) -> bool:
    return decide([route("only", match)], asked) is not None


def test_without_routes_the_only_target_takes_every_call() -> None:
    router = Router(Config({"own": TargetConfig("vllm")}))
    expected = RouteDecision(IMPLICIT_ROUTE, "own", None)
    assert [router.decide(asked) for asked in (facts(), facts(None, "/anything", "GET"))] == [expected, expected]


def test_the_first_route_that_matches_wins() -> None:
    routes = [route("a", Match(model="o3*")), route("b", Match(model="gpt-*"), "own"), route("c")]
    assert decide(routes, facts("gpt-4o")) == RouteDecision("b", "own", None)
    assert decide(routes, facts("o3-mini")) == RouteDecision("a", "openai", None)
    assert decide(routes, facts("other")) == RouteDecision("c", "openai", None)


def test_no_route_that_matches_is_no_decision() -> None:
    assert decide([route("a", Match(model="o3*"))], facts("gpt-4o")) is None


def test_a_route_without_conditions_takes_calls_without_model() -> None:
    assert decide([route("all", model="house")], facts(None)) == RouteDecision("all", "openai", "house")


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


ALIAS = {"smart": ModelConfig([TargetChoice("own", "house-7b"), TargetChoice("openai")])}


def test_an_alias_wins_over_a_routes_target_but_not_over_its_conditions() -> None:
    routes = [route("never", Match(model="o3")), route("all", model="gpt-5")]
    assert decide(routes, facts("smart"), ALIAS) == RouteDecision("all", "own", "house-7b")
    assert decide(routes, facts("gpt-4o"), ALIAS) == RouteDecision("all", "openai", "gpt-5")
    assert decide(routes, facts(None), ALIAS) == RouteDecision("all", "openai", "gpt-5")


def test_an_alias_is_reached_though_no_route_matches() -> None:
    assert decide([route("o3", Match(model="o3"))], facts("smart"), ALIAS) == RouteDecision(IMPLICIT_ROUTE, "own", "house-7b")
