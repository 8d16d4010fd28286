"""A route in shadow takes no calls: it makes no route dead, and it is no place for calls to go."""

from __future__ import annotations

import pytest

from tests.config.support import MINIMAL, TWO_TARGETS, load, only_problem

ENFORCED = "{name: last, to: [openai]}"


def routes(*rules: str, head: str = TWO_TARGETS) -> str:
    return f"{head}routes: [{', '.join(rules)}]\n"


def test_route_is_enforced_unless_it_says_otherwise() -> None:
    config = load(
        routes("{name: a, mode: shadow, to: [local]}", "{name: b, mode: enforce, match: {model: x}, to: [local]}", ENFORCED)
    ).config
    assert [route.mode for route in config.routes] == ["shadow", "enforce", "enforce"]


def test_other_modes_are_refused() -> None:
    assert "routes[0].mode: expected one of enforce, shadow" in only_problem(routes("{name: a, mode: shadowed, to: [local]}", ENFORCED))


@pytest.mark.parametrize("empty", ["", "null", "'${env:MODE:-}'"])
def test_mode_left_empty_is_refused_rather_than_enforced(empty: str) -> None:
    assert "routes[0].mode" in only_problem(routes(f"{{name: a, mode: {empty}, match: {{model: x}}, to: [local]}}", ENFORCED))


def test_route_in_shadow_makes_no_enforced_one_dead() -> None:
    assert load(routes("{name: a, mode: shadow, to: [local]}", ENFORCED)).config.routes


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_route_in_shadow_that_can_tell_nothing_is_dead(mode: str) -> None:
    rules = [
        f"{{name: wide, mode: {mode}, match: {{model: 'gpt-*'}}, to: [openai]}}",
        "{name: b, mode: shadow, match: {model: gpt-4o}, to: [local]}",
    ]
    assert "routes[1]: never matches: routes[0] ('wide')" in only_problem(routes(*rules, ENFORCED))


def test_one_route_at_least_is_enforced_where_there_are_several_targets() -> None:
    problem = only_problem(routes("{name: a, mode: shadow, to: [local]}"))
    assert "routes: are all of mode shadow, with 2 targets" in problem


def test_with_one_target_all_routes_may_be_in_shadow() -> None:
    config = load(routes("{name: a, mode: shadow, to: [{target: openai, model: gpt-5}]}", head=MINIMAL)).config
    assert [route.mode for route in config.routes] == ["shadow"]


# ------------------------------------------------------------------------------------------------------- experiments


def experiment(text: str) -> str:
    return f"{MINIMAL}routes: [{{name: a, to: [openai], experiment: {text}}}]\n"


def test_experiment_names_arms_by_their_shares() -> None:
    told = load(experiment("{name: terse, arms: {a: 20%, b: 0.8}, by: tenant}")).config.routes[0].experiment
    assert told is not None
    assert (told.name, told.arms, told.by) == ("terse", {"a": 0.2, "b": 0.8}, "tenant")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{name: t, arms: {a: 50%, b: 40%}, by: user}", "routes[0].experiment.arms: must add up to 100%, and come to 90.0000%"),
        ("{name: t, arms: {a: 100%}, by: user}", "routes[0].experiment.arms: must name two arms at least"),
        ("{name: t, arms: {}, by: user}", "routes[0].experiment.arms: must name two arms at least"),
        ("{name: t, arms: {a: 50%, '': 50%}, by: user}", "routes[0].experiment.arms: has an arm without a name"),
        ("{name: t, arms: {a: 150%, b: 1%}, by: user}", "routes[0].experiment.arms.a"),
        ("{name: t, arms: {a: 50%, b: 50%}, by: nobody}", "routes[0].experiment.by: must be an identity label, key, model or header:NAME"),
        ("{name: t, arms: {a: 50%, b: 50%}}", "routes[0].experiment.by"),
        ("{name: '', arms: {a: 50%, b: 50%}, by: user}", "routes[0].experiment.name"),
    ],
)
def test_experiment_that_makes_no_sense_is_refused(text: str, expected: str) -> None:
    assert expected in only_problem(experiment(text))


def test_three_thirds_are_a_whole() -> None:
    assert load(experiment("{name: t, arms: {a: 33.33333%, b: 33.33333%, c: 33.33334%}, by: user}")).config.routes
