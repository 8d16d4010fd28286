"""The strategies."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import Strategy
from proxy.policy.order import Candidate, order

STRATEGIES: tuple[Strategy, ...] = ("priority", "weighted", "cheapest", "fastest", "least_busy", "headroom", "sticky")


def asked(candidates: list[Candidate], strategy: Strategy, seed: int = 1, key: str = "") -> list[str]:
    return [one.target for one in order(candidates, strategy, random.Random(seed).random, key)]


candidates = st.lists(
    st.builds(
        Candidate,
        target=st.sampled_from("abcdefgh"),
        weight=st.floats(0, 100),
        in_flight=st.integers(0, 50),
        latency_s=st.none() | st.floats(0, 60),
        headroom=st.none() | st.floats(0, 1),
        cost_nusd=st.none() | st.integers(0, 10**12),
    ),
    max_size=8,
    unique_by=lambda one: one.target,
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(candidates, st.integers(), st.text())
def test_every_target_has_exactly_one_place(strategy: Strategy, given_candidates: list[Candidate], seed: int, key: str) -> None:
    assert sorted(asked(given_candidates, strategy, seed, key)) == sorted(one.target for one in given_candidates)


def test_priority_is_the_order_of_the_rule() -> None:
    assert asked([Candidate("b"), Candidate("a")], "priority") == ["b", "a"]


def test_weights_converge() -> None:
    chance = random.Random(7).random
    three = [Candidate("a", weight=70), Candidate("b", weight=20), Candidate("c", weight=10)]
    first = Counter(order(three, "weighted", chance, "")[0].target for _ in range(20_000))
    assert first["a"] / 20_000 == pytest.approx(0.7, abs=0.02)
    assert first["b"] / 20_000 == pytest.approx(0.2, abs=0.02)
    assert first["c"] / 20_000 == pytest.approx(0.1, abs=0.02)


def test_weight_zero_is_asked_only_after_the_others() -> None:
    two = [Candidate("spare", weight=0), Candidate("a", weight=1)]
    assert all(asked(two, "weighted", seed) == ["a", "spare"] for seed in range(200))


def test_cheapest_is_by_the_cost_of_this_call_and_unknown_comes_last() -> None:
    three = [Candidate("unknown"), Candidate("dear", cost_nusd=9), Candidate("cheap", cost_nusd=2)]
    assert asked(three, "cheapest") == ["cheap", "dear", "unknown"]


def test_fastest_counts_the_calls_that_wait_already() -> None:
    two = [Candidate("busy", latency_s=0.1, in_flight=9), Candidate("slow", latency_s=0.5)]
    assert asked(two, "fastest") == ["slow", "busy"]


def test_fastest_tries_a_target_that_was_not_measured_yet() -> None:
    assert asked([Candidate("known", latency_s=0.01), Candidate("new")], "fastest") == ["new", "known"]


def test_fastest_of_many_is_the_better_of_two_drawn() -> None:
    ten = [Candidate(str(index), latency_s=float(index + 1)) for index in range(10)]
    first = Counter(asked(ten, "fastest", seed)[0] for seed in range(2000))
    assert first["9"] == 0  # the slowest is never the better one
    assert first["0"] / 2000 == pytest.approx(0.2, abs=0.04)  # 1 - (9/10 * 8/9)


def test_least_busy() -> None:
    assert asked([Candidate("a", in_flight=3), Candidate("b", in_flight=1)], "least_busy") == ["b", "a"]


def test_headroom_is_what_the_provider_says_is_left() -> None:
    assert asked([Candidate("low", headroom=0.05), Candidate("high", headroom=0.9)], "headroom") == ["high", "low"]


def test_sticky_keeps_a_key_at_its_target() -> None:
    three = [Candidate("a"), Candidate("b"), Candidate("c")]
    assert all(asked(three, "sticky", seed, "alice") == asked(three, "sticky", 0, "alice") for seed in range(20))
    assert asked(three, "sticky", key="alice") == asked(three[::-1], "sticky", key="alice")


def test_sticky_moves_only_the_keys_of_a_target_that_goes() -> None:
    four = [Candidate(name) for name in "abcd"]
    keys = [f"user-{index}" for index in range(4000)]
    before = {key: asked(four, "sticky", key=key) for key in keys}
    after = {key: asked(four[:3], "sticky", key=key)[0] for key in keys}
    moved = [key for key in keys if before[key][0] != after[key]]
    assert all(before[key][0] == "d" for key in moved)
    assert len(moved) / len(keys) == pytest.approx(0.25, abs=0.03)
    assert all(after[key] == before[key][1] for key in moved)


def test_sticky_honours_weights() -> None:
    two = [Candidate("a", weight=3), Candidate("b", weight=1)]
    first = Counter(asked(two, "sticky", key=str(index))[0] for index in range(8000))
    assert first["a"] / 8000 == pytest.approx(0.75, abs=0.03)
