from __future__ import annotations

import random

import pytest

from proxy.config.schema import HedgeConfig
from proxy.policy.hedge import GROWTH, LEAST_SAMPLES, MOST_SAMPLES, MOST_SAVED, HedgeRule, HedgeState, Waits, hedge_rule

RULE = hedge_rule(HedgeConfig())


@pytest.mark.parametrize(
    ("after", "quantile", "after_s"), [("p95", 0.95, 0), ("p50", 0.5, 0), ("300ms", None, 0.3), ("1.5s", None, 1.5), ("2s", None, 2)]
)
def test_after_is_a_quantile_or_a_time(after: str, quantile: float | None, after_s: float) -> None:
    assert hedge_rule(HedgeConfig(after)) == HedgeRule(quantile, after_s, 0.05)


def test_no_hedge_by_quantile_until_enough_waits_are_known() -> None:
    state = HedgeState()
    for _ in range(LEAST_SAMPLES - 1):
        state.waited(0.2, is_stream=True)
    assert state.wait_s(RULE, is_stream=True) is None
    state.waited(0.2, is_stream=True)
    assert state.wait_s(RULE, is_stream=True) == pytest.approx(0.2, rel=0.05)


def test_a_time_needs_no_samples() -> None:
    assert HedgeState().wait_s(hedge_rule(HedgeConfig("300ms")), is_stream=False) == 0.3


def test_streams_and_whole_replies_are_waited_for_differently() -> None:
    state = HedgeState()
    for _ in range(LEAST_SAMPLES):
        state.waited(0.1, is_stream=True)
        state.waited(5.0, is_stream=False)
    waits = [state.wait_s(RULE, is_stream) for is_stream in (True, False)]
    assert waits == [pytest.approx(0.1, rel=0.05), pytest.approx(5.0, rel=0.05)]


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("seed", range(5))
def test_a_quantile_is_that_of_the_sorted_waits_and_a_twentieth_too_long_at_most(share: float, seed: int) -> None:
    chance, waits = random.Random(seed), Waits()
    samples = sorted(chance.lognormvariate(-1, 1) for _ in range(MOST_SAMPLES - 1))
    for sample in chance.sample(samples, len(samples)):
        waits.add(sample)
    found, exact = waits.quantile_s(share), samples[-(-int(share * 1000) * len(samples) // 1000) - 1]
    assert found is not None
    assert exact * (1 - 1e-9) <= found <= exact * GROWTH * (1 + 1e-9)


def test_what_is_long_ago_is_forgotten() -> None:
    waits = Waits()
    for _ in range(5 * MOST_SAMPLES):
        waits.add(0.1)
    for _ in range(4 * MOST_SAMPLES):
        waits.add(3.0)
    assert waits.quantile_s(0.1) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("wait_s", [0.0, -1.0, 1e-9, 1e6])
def test_any_wait_is_taken(wait_s: float) -> None:
    waits = Waits()
    for _ in range(LEAST_SAMPLES):
        waits.add(wait_s)
    assert waits.quantile_s(0.95) is not None


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_hedges_never_pass_their_share_of_calls(ratio: float, seed: int) -> None:
    chance, state, rule = random.Random(seed), HedgeState(), HedgeRule(0.95, 0.0, ratio)
    hedged: list[bool] = []
    for _ in range(2000):
        state.call_made(rule)
        hedged.append(chance.random() < 0.7 and state.spend())
        assert sum(hedged) <= ratio * len(hedged) + 1e-6
    for length in (50, 200, 1000):
        assert all(sum(hedged[at : at + length]) <= ratio * length + MOST_SAVED for at in range(len(hedged) - length))


def test_a_quiet_time_saves_no_more_than_a_few_hedges() -> None:
    state = HedgeState()
    for _ in range(10_000):
        state.call_made(RULE)
    assert sum(state.spend() for _ in range(100)) == MOST_SAVED
