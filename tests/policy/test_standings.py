"""What the standings of a call's accounts say."""

from __future__ import annotations

import pytest

from proxy.policy.budgets import Bound
from proxy.policy.standings import rate_limit_headers, remaining_nusd, shadow_refusals, used_share
from proxy.spending import Standing
from tests.policy.spending_support import USD, attempt_draws, budget, call_draws, spending


@pytest.mark.parametrize(
    ("spend", "spent", "held", "is_told"),
    [
        ("strict", 5, 5, False),
        ("strict", 5, 6, True),
        ("headroom", 9, 5, False),  # 5 of what is held is the call's own
        ("headroom", 10, 5, True),
        ("posthoc", 9, 50, False),
        ("posthoc", 10, 5, True),
    ],
)
def test_a_budget_in_shadow_tells_what_it_would_have_refused(spend: str, spent: int, held: int, is_told: bool) -> None:
    draws = attempt_draws(spending(budget(more=f"spend: {spend}, mode: shadow, per: [tenant]")), Bound(5 * USD, 1))
    told = shadow_refusals(draws, [Standing(spent * USD, held * USD)])
    assert [(one.rule, one.kind, one.unit, one.scope, one.would) for one in told] == (
        [("b", "budget_exceeded", "usd", "tenant=acme", "refuse")] if is_told else []
    )


@pytest.mark.parametrize(
    ("more", "would"),
    [("when_short: {allow: true}", "allow"), ("mode: shadow, when_short: {degrade_to: [local]}", "degrade")],
)
def test_it_tells_what_would_have_followed(more: str, would: str) -> None:
    draws = attempt_draws(spending(budget(more=more)))
    assert [one.would for one in shadow_refusals(draws, [Standing(10 * USD, 1)])] == [would]


def test_a_rule_that_is_enforced_or_of_which_nothing_is_known_tells_nothing() -> None:
    assert shadow_refusals(attempt_draws(spending(budget())), [Standing(99 * USD, 0)]) == []
    assert shadow_refusals(attempt_draws(spending(budget(more="mode: shadow"))), [None]) == []


def test_a_limit_in_shadow_tells_too() -> None:
    draws = call_draws(spending("limits: [{name: l, requests: 5/s, concurrency: 2, mode: shadow}]"))
    told = shadow_refusals(draws, [Standing(5, 1), Standing(0, 2)])
    assert [(one.kind, one.unit) for one in told] == [("rate_limited", "requests")]


# ----------------------------------------------------------------------------------------------------------- what is left

TWO = (
    "budgets: [{name: a, window: {every: day}, limit: {usd: 10, tokens: 100}}, {name: b, window: {every: month}, limit: {usd: 20}}, "
    "{name: c, window: {every: day}, limit: {usd: 1}, mode: shadow}]"
)


def test_the_tightest_budget_says_what_is_left() -> None:
    draws = attempt_draws(spending(TWO))
    standings = [Standing(3 * USD, 1 * USD), Standing(99, 0), Standing(15 * USD, 0), Standing(0, 0)]
    assert [draw.rule.name for draw in draws] == ["a", "a", "b", "c"]
    assert remaining_nusd(draws, standings) == 5 * USD
    assert remaining_nusd(draws, [None, None, None, None]) is None


def test_what_is_left_is_never_below_nothing() -> None:
    assert remaining_nusd(attempt_draws(spending(budget())), [Standing(9 * USD, 2 * USD)]) == 0


def test_without_a_budget_of_usd_nothing_is_said() -> None:
    assert remaining_nusd(attempt_draws(spending(budget(limit="{tokens: 5}"))), [Standing(0, 0)]) is None


def test_the_share_used_is_the_largest_of_what_a_budget_counts() -> None:
    draws = attempt_draws(spending(budget(limit="{usd: 10, tokens: 100}")))
    assert used_share(draws, [Standing(3 * USD, 1 * USD), Standing(80, 10)]) == 0.9
    assert used_share(draws, [Standing(12 * USD, 0), None]) == 1.2
    assert used_share(draws, [None, None]) is None


# ---------------------------------------------------------------------------------------------------------------- headers


def told(text: str, standings: list[Standing | None]) -> dict[bytes, bytes]:
    rules = spending(text)
    return dict(rate_limit_headers([*call_draws(rules), *attempt_draws(rules)], standings))


def test_rates_are_told_as_openai_tells_its_own() -> None:
    assert told("limits: [{name: l, requests: 100/min, tokens: 5000/h, concurrency: 3}]", [Standing(10, 0), None, Standing(2000, 500)]) == {
        b"x-ratelimit-limit-requests": b"100",
        b"x-ratelimit-remaining-requests": b"90",
        b"x-ratelimit-reset-requests": b"6s",
        b"x-ratelimit-limit-tokens": b"5000",
        b"x-ratelimit-remaining-tokens": b"2500",
        b"x-ratelimit-reset-tokens": b"30m0s",
    }


def test_the_tightest_limit_is_told() -> None:
    text = "limits: [{name: a, requests: 10/s}, {name: b, requests: 1000/day}, {name: c, requests: 2/s, mode: shadow}]"
    fields = told(text, [Standing(5, 0), Standing(900, 0), Standing(2, 0)])
    assert (fields[b"x-ratelimit-limit-requests"], fields[b"x-ratelimit-remaining-requests"]) == (b"1000", b"100")


@pytest.mark.parametrize(
    ("rate", "spent", "reset"),
    [
        ("10/s", 0, b"0ms"),
        ("10/s", 1, b"100ms"),
        ("10/s", 99, b"1s"),
        ("1000/min", 25, b"1.5s"),
        ("10/h", 1, b"6m0s"),
        ("24/day", 3, b"3h0m0s"),
    ],
)
def test_a_reset_is_when_all_of_it_is_there_again(rate: str, spent: int, reset: bytes) -> None:
    assert told(f"limits: [{{name: l, requests: {rate}}}]", [Standing(spent, 0)])[b"x-ratelimit-reset-requests"] == reset


def test_budgets_and_calls_at_a_time_have_no_such_fields() -> None:
    assert told(budget(limit="{requests: 5}") + "limits: [{name: l, concurrency: 5}]", [Standing(1, 0), Standing(1, 0)]) == {}
