"""How much output what is held is enough for: whatever a price is made of, what comes up to there is within it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Target
from proxy.pipeline.cut import OutputLimit, output_limit
from proxy.policy.bounds import UsageBound
from proxy.policy.budgets import Bound
from proxy.policy.pricing import PriceBook
from proxy.policy.refusals import cut_to_fit
from proxy.spending import Short, Shortage, Standing
from tests.pipeline.world import shipped_prices
from tests.policy.spending_support import USD, attempt_draws, budget, spending

WHOLE, INPUT = Bound(5 * USD, 1000), Bound(1 * USD, 200)
BOTH = "{usd: 10, tokens: 10000}"
PRICES = PriceBook(shipped_prices(), {})
MODELS = ["gpt-4o", "gpt-5.2", "o3", "gpt-4o-audio-preview"]
AT_UNIX_S = 1_795_000_000.0


def limit_of(*spent: int, whole: Bound = WHOLE, least: Bound = INPUT, limit: str = BOTH) -> OutputLimit | None:
    """The limit where so much was spent of each account."""
    draws = attempt_draws(spending(budget(limit=limit, more="cut: true")), whole)
    short = Short([Shortage(index, Standing(amount, 0), None) for index, amount in enumerate(spent) if amount])
    cut = cut_to_fit(draws, short, least)
    return None if cut is None else output_limit(draws, cut, whole, least)


def test_tokens_are_what_is_left_beside_the_input() -> None:
    assert limit_of(0, 9_500) == OutputLimit(300, "b")


def test_usd_are_shared_out_as_the_bound_grows_with_the_output() -> None:
    assert limit_of(7 * USD - 1, 0) == OutputLimit(400, "b")  # 2 of 4 USD for output, of 800 tokens
    assert limit_of(7 * USD, 0) == OutputLimit(399, "b")  # bounds are rounded up: a token too few rather than one too many


def test_the_account_that_has_least_left_decides() -> None:
    assert limit_of(7 * USD, 9_500) == OutputLimit(300, "b")
    assert limit_of(8 * USD - 1, 9_500) == OutputLimit(200, "b")


@pytest.mark.parametrize("least", [Bound(3 * USD, 200), Bound(None, 200), Bound(3 * USD - 1, 200)])
def test_what_is_not_enough_for_a_token_is_none(least: Bound) -> None:
    assert limit_of(7 * USD, 0, least=least) is None


def test_what_is_held_whole_has_no_limit() -> None:
    draws = attempt_draws(spending(budget(limit=BOTH, more="cut: true")), WHOLE)
    assert output_limit(draws, draws, WHOLE, INPUT) is None


@given(
    st.sampled_from(MODELS),
    st.integers(0, 500_000),
    st.integers(1, 200_000),
    st.integers(1, 10**6),
    st.sampled_from([None, "priority", "flex"]),
)
def test_so_much_output_never_costs_more_than_is_held(
    model: str, input_tokens: int, output_tokens: int, share: int, tier: str | None
) -> None:
    target = Target("openai", "openai", "")

    def bound_of(output: int) -> Bound:
        usage = UsageBound(input_tokens, output)
        return Bound(PRICES.bound_nusd(target, model, usage, AT_UNIX_S, tier), usage.tokens)

    whole, least = bound_of(output_tokens), bound_of(0)
    if whole.cost_nusd is None or least.cost_nusd is None:
        return
    left = least.cost_nusd + (whole.cost_nusd - least.cost_nusd) * share // 10**6
    spent = 10**6 * USD - left
    found = limit_of(spent, whole=whole, least=least, limit="{usd: 1000000}")
    if found is not None:
        assert 0 < found.tokens <= output_tokens
        assert (bound_of(found.tokens).cost_nusd or 0) <= left
