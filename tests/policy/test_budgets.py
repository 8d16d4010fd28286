"""What a call draws on which accounts."""

from __future__ import annotations

import msgspec
import pytest

from proxy.policy import budgets
from proxy.policy.budgets import Bound, Draw, Subject, settled_amount
from proxy.spending import ENDLESS, Fit, Period, Rate
from tests.policy.spending_support import ACME, BOUND, FACTS, NOW_MS, USD, attempt_draws, budget, call_draws, calling, spending

DAY_MS = 86_400_000
TODAY = Period(NOW_MS - DAY_MS // 2, NOW_MS + DAY_MS // 2, NOW_MS - DAY_MS // 2)
LIMITS = "limits: [{name: l, requests: 100/min, tokens: 5_000/min, concurrency: 8}]\n"


def told(draws: list[Draw]) -> list[tuple[str, int, int]]:
    return [(draw.line.account, draw.line.amount, draw.line.limit) for draw in draws]


def accounts(text: str, subject: Subject) -> list[str]:
    return [draw.line.account for draw in attempt_draws(spending(text), subject=subject)]


def test_without_rules_nothing_is_drawn() -> None:
    rules = spending("")
    assert rules.is_empty
    assert (call_draws(rules), attempt_draws(rules)) == ([], [])


def test_a_budget_has_an_account_for_each_thing_it_counts() -> None:
    rules = spending(budget(limit="{usd: 10, tokens: 2_000_000, requests: 50}", more="per: [tenant]"))
    assert told(call_draws(rules)) == [("b:requests:tenant=acme", 1, 50)]
    assert told(attempt_draws(rules)) == [("b:usd:tenant=acme", 5 * USD, 10 * USD), ("b:tokens:tenant=acme", 1000, 2_000_000)]
    assert not rules.is_empty


def test_a_budgets_lines_are_booked_in_its_window() -> None:
    draws = [*call_draws(spending(budget(limit="{requests: 1}"))), *attempt_draws(spending(budget()))]
    assert [draw.line.window for draw in draws] == [TODAY, TODAY]


def test_a_limit_draws_requests_and_calls_at_a_time_once_a_call_and_tokens_once_an_attempt() -> None:
    rules = spending(LIMITS)
    assert told(call_draws(rules)) == [("l:requests:all", 1, 100), ("l:concurrency:all", 1, 8)]
    assert told(attempt_draws(rules)) == [("l:tokens:all", 1000, 5000)]
    assert [draw.line.window for draw in call_draws(rules)] == [Rate(100, 60_000), ENDLESS]
    assert {draw.line.fit for draw in [*call_draws(rules), *attempt_draws(rules)]} == {Fit.WHOLE}


def test_a_call_larger_than_all_of_a_rate_asks_for_all_of_it() -> None:
    assert told(attempt_draws(spending(LIMITS), Bound(None, 9000))) == [("l:tokens:all", 5000, 5000)]


def test_budgets_come_first_each_in_the_order_of_the_file() -> None:
    text = LIMITS + "budgets: [{name: z, window: {every: day}, limit: {tokens: 9}}, {name: a, window: {every: hour}, limit: {tokens: 9}}]\n"
    assert [draw.rule.name for draw in attempt_draws(spending(text))] == ["z", "a", "l"]


# -------------------------------------------------------------------------------------------------------------- amounts


@pytest.mark.parametrize(("spend", "fit"), [("strict", Fit.WHOLE), ("headroom", Fit.ANY), ("posthoc", Fit.SETTLED)])
def test_what_must_be_left_is_said_by_spend(spend: str, fit: Fit) -> None:
    rules = spending(budget(limit="{usd: 1, tokens: 1, requests: 1}", more=f"spend: {spend}"))
    assert {draw.line.fit for draw in [*call_draws(rules), *attempt_draws(rules)]} == {fit}


@pytest.mark.parametrize("more", ["mode: shadow", "when_short: {allow: true}"])
def test_what_lets_every_call_through_asks_for_nothing_and_remembers_what_it_would_ask_for(more: str) -> None:
    (draw,) = attempt_draws(spending(budget(more=more)))
    assert (draw.line.fit, draw.fit) == (Fit.NOTHING, Fit.WHOLE)


def test_a_call_that_costs_nothing_always_fits_a_budget_of_usd() -> None:
    rules = spending(budget(limit="{usd: 1, tokens: 5}"))
    assert [draw.unit for draw in attempt_draws(rules, Bound(0, 10))] == ["tokens"]
    assert [draw.unit for draw in attempt_draws(rules, Bound(0, 0))] == ["tokens"]


@pytest.mark.parametrize(("spend", "fit"), [("strict", Fit.ANY), ("headroom", Fit.ANY), ("posthoc", Fit.SETTLED)])
def test_where_the_bound_is_not_known_nothing_is_held_and_something_must_be_left(spend: str, fit: Fit) -> None:
    draws = attempt_draws(spending(budget(limit="{usd: 1, tokens: 5}", more=f"spend: {spend}")), Bound(None, None))
    assert [(draw.line.amount, draw.line.fit) for draw in draws] == [(0, fit), (0, fit)]


@pytest.mark.parametrize(
    ("usd", "nusd"), [("0.1", 10**8), ("0.29", 290_000_000), ("1e-9", 1), ("1234567.891", 1_234_567_891_000_000), ("0.0000000019", 1)]
)
def test_usd_become_nano_usd_as_they_were_written(usd: str, nusd: int) -> None:
    assert attempt_draws(spending(budget(limit=f"{{usd: {usd}}}")))[0].line.limit == nusd


def test_critical_calls_have_a_limit_of_their_own_in_exact_integers() -> None:
    rules = spending(budget(limit="{usd: 0.7, requests: 3}", more="critical_multiplier: 1.1"))
    (line,) = [draw.line for draw in attempt_draws(rules, critical=True)]
    assert (line.limit, line.ordinary_limit) == (770_000_000, 700_000_000)
    assert [draw.line.limit for draw in call_draws(rules, critical=True)] == [3]  # 3.3
    (line,) = [draw.line for draw in attempt_draws(rules)]
    assert (line.limit, line.ordinary_limit) == (700_000_000, 700_000_000)


def test_what_calls_draw_follows_the_period_and_whether_they_are_critical_from_one_call_to_the_next() -> None:
    rules = spending(budget(limit="{requests: 50}", more="critical_multiplier: 1.5"))
    ordinary, critical, ordinary_again = (call_draws(rules, critical=one)[0].line for one in (False, True, False))
    assert (ordinary.limit, critical.limit, ordinary_again) == (50, 75, ordinary)
    (tomorrow,) = rules.call_draws(FACTS, ACME, NOW_MS + DAY_MS, False)
    assert tomorrow.line.window == Period(TODAY.start_ms + DAY_MS, TODAY.end_ms + DAY_MS, TODAY.start_ms + DAY_MS)
    (other,) = call_draws(rules, calling({"tenant": "other"}))
    assert other.line.window == TODAY


def test_limits_know_no_critical_calls() -> None:
    assert [draw.line.limit for draw in call_draws(spending(LIMITS), critical=True)] == [100, 8]


# --------------------------------------------------------------------------------------------------------------- scopes


@pytest.mark.parametrize(
    ("per", "subject", "scope"),
    [
        ("[]", ACME, "all"),
        ("[tenant, user]", ACME, "tenant=acme,user=bob"),
        ("[user, tenant]", ACME, "user=bob,tenant=acme"),
        ("[key]", ACME, "key=web"),
        ("[task]", ACME, "task=(none)"),
        ("[model, provider, target]", ACME, "model=gpt-4o,provider=openai,target=openai"),
        ("[model]", calling(), "model=(none)"),
        ("['header:X-Team']", calling(headers=[(b"x-other", b"1"), (b"X-TEAM", b"a b"), (b"x-team", b"second")]), "header:x-team=a%20b"),
        ("['header:x-team']", calling(), "header:x-team=(none)"),
    ],
)
def test_each_combination_of_values_has_an_account_of_its_own(per: str, subject: Subject, scope: str) -> None:
    assert accounts(budget(more=f"per: {per}"), subject) == [f"b:usd:{scope}"]


def test_the_account_of_another_is_never_reached_by_a_chosen_text() -> None:
    chosen = calling({"tenant": "x", "user": "y,tenant=acme"})
    assert accounts(budget(more="per: [tenant, user]"), chosen) == ["b:usd:tenant=x,user=y%2Ctenant%3Dacme"]


def test_the_names_kept_ready_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MAX_KNOWN_SCOPES", 4)
    rules = spending(budget(more="per: [user]"))
    named = {
        user: attempt_draws(rules, subject=calling({"user": user}))[0].line.account for user in ("u1", "u2", "u3", "u4", "u5", "x" * 500)
    }
    assert len(set(named.values())) == 6
    (drawing,) = rules._of_attempts
    assert list(drawing._known) == [("u5",)]


def test_an_account_is_the_same_whatever_the_limit_and_the_window() -> None:
    before = accounts(budget(more="per: [tenant]"), ACME)
    after = accounts("budgets: [{name: b, per: [tenant], window: {rolling_s: 60}, limit: {usd: 99}, spend: posthoc}]", ACME)
    assert before == after


def test_a_rule_draws_only_on_calls_that_it_matches() -> None:
    rules = spending(budget(limit="{requests: 5}", more="match: {model: 'gpt-*', tools: true}"))
    assert rules.asks == {"model", "tools"}
    assert call_draws(rules) == []
    assert len(call_draws(rules, facts=msgspec.structs.replace(FACTS, tools=True))) == 1


# ------------------------------------------------------------------------------------------------------------- the rest


def test_what_is_done_without_the_store_is_the_rules_or_else_the_stores() -> None:
    text = "store: {on_lost: closed}\n" + budget() + "limits: [{name: l, tokens: 5/s, on_store_lost: open}]\n"
    assert [draw.line.on_store_lost for draw in attempt_draws(spending(text))] == ["closed", "open"]


def test_a_rule_in_shadow_refuses_nothing_without_the_store() -> None:
    (draw,) = attempt_draws(spending(budget(more="mode: shadow, on_store_lost: closed")))
    assert draw.line.on_store_lost == "open"


def test_a_budget_can_be_asked_how_it_stands_without_drawing() -> None:
    rules = spending(budget(limit="{usd: 10, requests: 5}", more="per: [tenant], match: {model: other}"))
    draws = rules.budget_draws("b", ACME, NOW_MS)
    assert told(draws) == [("b:usd:tenant=acme", 0, 10 * USD), ("b:requests:tenant=acme", 0, 5)]
    assert rules.budget_draws("x", ACME, NOW_MS) == []


def test_an_account_tells_its_rule_measure_and_scope() -> None:
    rules = spending(budget(more="per: ['header:x-team']"))
    account = rules.account("b:usd:header:x-team=a:b")
    assert account is not None
    assert (account.rule.name, account.measure.limit, account.scope) == ("b", 10 * USD, "header:x-team=a:b")
    assert rules.account("b:tokens:all") is None
    assert rules.account("gone:usd:all") is None


def test_what_was_spent_is_settled_by_unit() -> None:
    rules = spending(budget(limit="{usd: 10, tokens: 9000, requests: 5}") + LIMITS)
    draws = [*call_draws(rules), *attempt_draws(rules)]
    settled = [(draw.unit, settled_amount(draw, 7, 70)) for draw in draws]
    assert settled == [("requests", 1), ("requests", 1), ("concurrency", 0), ("usd", 7), ("tokens", 70), ("tokens", 70)]


def test_what_is_not_known_counts_as_all_that_was_held() -> None:
    rules = spending(budget(limit="{usd: 10, tokens: 9000}"))
    assert [settled_amount(draw, None, None) for draw in attempt_draws(rules)] == [5 * USD, 1000]
    assert [settled_amount(draw, None, None) for draw in attempt_draws(rules, Bound(None, None))] == [0, 0]
    assert [settled_amount(draw, 0, 0) for draw in attempt_draws(rules)] == [0, 0]


def test_a_subject_tells_no_headers() -> None:
    assert "s3cret" not in repr(calling(headers=[(b"x-team", b"s3cret")]))
    assert BOUND.cost_nusd == 5 * USD
