"""One value is always in the same arm, and arms get the shares that they are given."""

from __future__ import annotations

from collections import Counter

import pytest

from proxy.config.schema import Config, ExperimentConfig, ModelConfig, RouteConfig, TargetChoice, TargetConfig
from proxy.policy.conditions import RouteFacts
from proxy.policy.experiment import assigned
from proxy.policy.order import Candidate
from proxy.policy.plan import Choice, Known
from proxy.policy.routing import CompiledRoute, PlanFacts, RouteDecision, Router

TERSE = ExperimentConfig("terse", {"a": 0.2, "b": 0.5, "c": 0.3}, "user")
USERS = [f"user-{number}" for number in range(20_000)]
TARGETS = {"x": TargetConfig("openai")}


PINNED = {"alice": "c", "bob": "b", "carol": "b", "dave": "b", "erin": "b", "frank": "c"}
"""As computed once: in another process, or another version, they are in the same arm."""


def test_a_value_stays_in_its_arm() -> None:
    assert {user: assigned(TERSE, user).arm for user in PINNED} == PINNED


@pytest.mark.parametrize("arms", [{"a": 0.2, "b": 0.5, "c": 0.3}, {"a": 0.01, "b": 0.99}, {"a": 0.5, "b": 0.5}])
def test_shares_are_kept(arms: dict[str, float]) -> None:
    counts = Counter(assigned(ExperimentConfig("terse", arms, "user"), user).arm for user in USERS)
    for arm, share in arms.items():
        assert counts[arm] / len(USERS) == pytest.approx(share, abs=0.01)


def test_arm_without_a_share_gets_nobody() -> None:
    arms = {assigned(ExperimentConfig("terse", {"none": 0.0, "all": 1.0, "no-one": 0.0}, "user"), user).arm for user in USERS}
    assert arms == {"all"}


def test_experiments_of_other_names_draw_anew() -> None:
    other = ExperimentConfig("other", TERSE.arms, "user")
    same = sum(assigned(TERSE, user).arm == assigned(other, user).arm for user in USERS)
    assert same / len(USERS) == pytest.approx(0.2**2 + 0.5**2 + 0.3**2, abs=0.02)


def test_value_that_is_no_text_is_in_an_arm_too() -> None:
    assert assigned(TERSE, "\ud800").arm in TERSE.arms


def decide(route: RouteConfig, model: str = "gpt-4o") -> RouteDecision | None:
    def known(choice: Choice, _: CompiledRoute) -> Known:
        return Known(Candidate(choice.target))

    router = Router(
        Config(TARGETS, routes=[route], models={"smart": ModelConfig([TargetChoice("x", "gpt-5")])} if model == "smart" else {})
    )
    facts = PlanFacts(known, lambda: 0.5, sticky_key=lambda by: f"the call's {by}")
    return router.decide(RouteFacts("POST", "/v1/chat/completions", model, [], False), facts)


@pytest.mark.parametrize("model", ["gpt-4o", "smart"])
def test_route_puts_its_calls_into_arms_by_what_it_says(model: str) -> None:
    decision = decide(RouteConfig("all", [TargetChoice("x")], experiment=TERSE), model)
    assert decision is not None
    assert decision.experiment == assigned(TERSE, "the call's user")


def test_route_without_experiment_has_no_arm() -> None:
    decision = decide(RouteConfig("all", [TargetChoice("x")]))
    assert decision is not None
    assert decision.experiment is None
