"""The plan of a call."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import Strategy
from proxy.policy.order import Candidate
from proxy.policy.plan import BREAKER_OPEN, Abilities, Choice, Group, Known, Needs, Plan, make_plan

NOTHING = Needs()
STRATEGIES: tuple[Strategy, ...] = ("priority", "weighted", "cheapest", "fastest", "least_busy", "headroom", "sticky")


def known(choice: Choice, **changes: object) -> Known:
    return Known(Candidate(choice.target, choice.model, choice.weight), **changes)  # type: ignore[arg-type]


def planned(group: Group, needs: Needs = NOTHING, seed: int = 1, **told: Known) -> Plan:
    return make_plan(group, lambda choice: told.get(choice.target) or known(choice), needs, random.Random(seed).random, lambda _: "alice")


def targets(plan: Plan) -> list[str]:
    return [step.target for step in plan.steps]


choices = st.builds(Choice, st.sampled_from("abcde"), st.sampled_from([None, "m"]), st.floats(0, 10))
groups = st.recursive(
    st.builds(Group, st.lists(choices, min_size=1, max_size=4).map(tuple), st.sampled_from(STRATEGIES)),
    lambda inner: st.builds(
        Group, st.lists(choices | inner, min_size=1, max_size=4).map(tuple), st.sampled_from(STRATEGIES), st.floats(0, 10)
    ),
    max_leaves=6,
)


@given(groups, st.integers(), st.sets(st.sampled_from("abcde")))
def test_no_plan_repeats_a_target_and_none_is_forgotten(group: Group, seed: int, broken: set[str]) -> None:
    plan = make_plan(
        group,
        lambda choice: known(choice, breaker_admits=choice.target not in broken),
        Needs(),
        random.Random(seed).random,
        lambda _: "key",
    )
    steps = [(step.target, step.model) for step in plan.steps]
    assert len(steps) == len(set(steps))
    named = set(_named(group))
    kept = {choice for choice in named if choice[0] not in broken}
    assert set(steps) == kept or (not kept and plan.last_resort and len(steps) == 1)
    assert {(drop.target, drop.model) for drop in plan.dropped} == named - kept


def _named(group: Group) -> list[tuple[str, str | None]]:
    found = []
    for member in group.members:
        found += [(member.target, member.model)] if isinstance(member, Choice) else _named(member)
    return found


def test_a_nested_group_keeps_its_own_order_in_its_place() -> None:
    smart = Group((Choice("b", weight=0), Choice("c")), "weighted", alias="smart")
    assert targets(planned(Group((Choice("a"), smart, Choice("d"))))) == ["a", "c", "b", "d"]


def test_a_nested_group_is_weighed_as_a_whole() -> None:
    smart = Group((Choice("b"), Choice("c")), weight=0)
    assert all(targets(planned(Group((smart, Choice("a")), "weighted"), seed=seed)) == ["a", "b", "c"] for seed in range(50))


def test_a_target_whose_breaker_is_open_is_left_out_and_said_so() -> None:
    plan = planned(Group((Choice("a"), Choice("b"))), a=known(Choice("a"), breaker_admits=False))
    assert targets(plan) == ["b"]
    assert [(drop.target, drop.why) for drop in plan.dropped] == [("a", BREAKER_OPEN)]


def test_with_every_breaker_open_the_one_that_closes_soonest_is_asked() -> None:
    plan = planned(
        Group((Choice("a"), Choice("b"))),
        a=known(Choice("a"), breaker_admits=False, breaker_closes_ns=9),
        b=known(Choice("b"), breaker_admits=False, breaker_closes_ns=3),
    )
    assert targets(plan) == ["b"]
    assert plan.last_resort


def test_the_last_resort_is_never_a_target_that_could_not_take_the_call() -> None:
    blind = known(Choice("a"), abilities=Abilities(lacks=frozenset({"vision"})), breaker_admits=False)
    plan = planned(Group((Choice("a"),)), Needs(frozenset({"vision"})), a=blind)
    assert plan.steps == ()
    assert plan.dropped[0].why == "it lacks vision"


@pytest.mark.parametrize(("input_tokens", "fits"), [(None, True), (4096, True), (4097, False)])
def test_a_prompt_goes_only_where_it_fits(input_tokens: int | None, fits: bool) -> None:
    small = known(Choice("small"), abilities=Abilities(context_window=4096))
    plan = planned(Group((Choice("small"), Choice("large"))), Needs(input_tokens=input_tokens), small=small)
    assert targets(plan) == (["small", "large"] if fits else ["large"])


def test_a_target_with_all_its_calls_in_flight_is_left_out() -> None:
    full = Known(Candidate("a", in_flight=8), concurrency=8)
    assert targets(planned(Group((Choice("a"), Choice("b"))), a=full)) == ["b"]
