"""What follows where a budget or limit is short, and what the client is told."""

from __future__ import annotations

import msgspec
import pytest

from proxy.policy.budgets import Bound, Draw
from proxy.policy.refusals import Degrade, Refusal, amount_text, cut_to_fit, refusal, time_text
from proxy.spending import Short, StoreLost, Unit
from tests.policy.spending_support import ACME, BOUND, NOW_MS, USD, attempt_draws, budget, call_draws, calling, short, spending

HALF_A_DAY_MS = 43_200_000


def refused(draws: list[Draw], answer: Short | StoreLost, degraded: frozenset[str] = frozenset()) -> Refusal:
    decision = refusal(draws, answer, NOW_MS, degraded)
    assert isinstance(decision, Refusal)
    return decision


def test_a_budget_that_is_short_says_what_to_do() -> None:
    draws = attempt_draws(spending(budget(more="per: [tenant]")), Bound(50_000_000, 100))
    told = refused(draws, Short([short(0, 9_980_000_000, 10_000_000)]))
    assert told.message == (
        "Budget 'b' (tenant=acme) has too little left for this call. Limit: 10 USD per day (UTC); spent: 9.98 USD; "
        "held for calls under way: 0.01 USD. This call may use up to 0.05 USD. The window ends at 2026-11-22T00:00:00Z, in 12 h: "
        "wait for that, ask for fewer output tokens (e.g. with `max_tokens`), or raise the limit."
    )
    assert (told.kind, told.rule, told.unit, told.scope) == ("budget_exceeded", "b", "usd", "tenant=acme")
    assert (told.status, told.retry, told.retry_after_ms, told.retry_after_s) == (429, False, HALF_A_DAY_MS, 43_200)


def test_a_call_that_never_fits_is_told_so() -> None:
    told = refused(attempt_draws(spending(budget()), Bound(11 * USD, 1)), Short([short(0, 0)]))
    assert "This call may use up to 11 USD. That is more than the whole limit: ask for fewer output tokens" in told.message
    assert (told.retry, told.retry_after_ms, told.retry_after_s) == (False, None, None)


def test_money_that_is_only_held_may_be_back_soon() -> None:
    told = refused(attempt_draws(spending(budget())), Short([short(0, 1 * USD, 8 * USD, HALF_A_DAY_MS)]))
    assert "Try again when calls under way are done" in told.message
    assert told.retry_after_ms == 1000


def test_a_budget_that_asks_for_anything_left_says_nothing_of_the_calls_bound() -> None:
    told = refused(attempt_draws(spending(budget(more="spend: posthoc"))), Short([short(0, 10 * USD)]))
    assert "This call may use" not in told.message
    assert "The window ends at" in told.message


def test_requests_can_only_be_waited_for() -> None:
    told = refused(call_draws(spending(budget(limit="{requests: 5}"))), Short([short(0, 5)]))
    assert "max_tokens" not in told.message
    assert "Limit: 5 requests per day (UTC); spent: 5 requests; held for calls under way: 0 requests" in told.message


def test_a_rolling_budget_says_when_enough_is_left_again() -> None:
    rules = spending("budgets: [{name: b, window: {rolling_s: 3600}, limit: {usd: 10}}]")
    told = refused(attempt_draws(rules), Short([short(0, 10 * USD, 0, 90_000)]))
    assert "Enough is left again in 2 min" in told.message
    assert told.retry_after_s == 90


def test_a_limit_says_how_fast_and_when_again() -> None:
    rules = spending("limits: [{name: l, per: [user], requests: 100/min, tokens: 5_000/min, concurrency: 8}]")
    told = refused(call_draws(rules), Short([short(0, 100, 0, 601)]))
    assert told.message == "Limit 'l' (user=bob) is reached: 100 requests per minute. Try again in 601 ms, or raise the limit."
    assert (told.kind, told.status, told.retry, told.retry_after_s) == ("rate_limited", 429, True, 1)
    told = refused(attempt_draws(rules), Short([short(0, 4500, 0, 6000)]))
    assert "5,000 tokens per minute. This call may use up to 1,000 tokens. Try again in 6 s" in told.message
    told = refused(call_draws(rules), Short([short(1, 0, 8)]))
    assert told.message == "Limit 'l' (user=bob) is reached: 8 calls at a time. Try again when one of them is done, or raise the limit."
    assert (told.retry, told.retry_after_ms) == (True, 1000)


def test_the_first_rule_of_the_file_decides_budgets_before_limits() -> None:
    rules = spending(budget() + "limits: [{name: l, requests: 5/s}]")
    draws = [*call_draws(rules), *attempt_draws(rules)]
    assert [draw.rule.name for draw in draws] == ["l", "b"]
    assert refused(draws, Short([short(0, 5, 0, 200), short(1, 10 * USD)])).rule == "b"
    assert refused(draws, Short([short(0, 5, 0, 200)])).rule == "l"


def test_the_call_may_come_again_when_all_that_is_short_fits() -> None:
    rules = spending("limits: [{name: l, requests: 5/s}, {name: m, requests: 100/min}]")
    told = refused(call_draws(rules), Short([short(0, 5, 0, 200), short(1, 100, 0, 3000)]))
    assert (told.rule, told.retry_after_ms) == ("l", 3000)


def test_a_lost_store_refuses_where_the_rule_is_closed() -> None:
    told = refused(attempt_draws(spending(budget(more="on_store_lost: closed"))), StoreLost(0))
    assert (told.kind, told.status, told.retry, told.retry_after_s) == ("store_unavailable", 503, True, 1)
    assert "`on_store_lost` is `closed`" in told.message


# --------------------------------------------------------------------------------------------------------- degrade, wait


def test_a_budget_that_degrades_sends_the_call_elsewhere_once() -> None:
    draws = attempt_draws(spending(budget(more="when_short: {degrade_to: [local]}")))
    decision = refusal(draws, Short([short(0, 10 * USD)]), NOW_MS)
    assert isinstance(decision, Degrade)
    assert (decision.rule, [choice.target for choice in decision.to], decision.instead_of.kind) == ("b", ["local"], "budget_exceeded")
    assert refused(draws, Short([short(0, 10 * USD)]), frozenset({"b"})).rule == "b"


def test_a_lost_store_degrades_nothing() -> None:
    draws = attempt_draws(spending(budget(more="when_short: {degrade_to: [local]}, on_store_lost: closed")))
    assert refused(draws, StoreLost(0)).kind == "store_unavailable"


@pytest.mark.parametrize(("after_ms", "may_wait_ms"), [(200, 500), (500, 500), (501, 0), (None, 0)])
def test_a_call_waits_for_its_turn_where_that_comes_in_time(after_ms: int | None, may_wait_ms: int) -> None:
    draws = call_draws(spending("limits: [{name: l, requests: 5/s, wait_ms: 500}]"))
    assert refused(draws, Short([short(0, 5, 0, after_ms)])).may_wait_ms == may_wait_ms


def test_a_call_waits_for_another_to_end_as_long_as_it_may() -> None:
    draws = call_draws(spending("limits: [{name: l, concurrency: 2, wait_ms: 500}]"))
    assert refused(draws, Short([short(0, 0, 2)])).may_wait_ms == 500


def test_a_call_waits_only_if_every_rule_that_is_short_lets_it_wait() -> None:
    rules = spending("limits: [{name: l, requests: 5/s, wait_ms: 500}, {name: m, requests: 5/s}, {name: n, requests: 5/s, wait_ms: 300}]")
    draws = call_draws(rules)
    assert refused(draws, Short([short(0, 5, 0, 200), short(1, 5, 0, 200)])).may_wait_ms == 0
    assert refused(draws, Short([short(0, 5, 0, 200), short(2, 5, 0, 200)])).may_wait_ms == 300


# ------------------------------------------------------------------------------------------------------------------- cut


INPUT = Bound(1 * USD, 100)


def cut(more: str = "cut: true", least: Bound = INPUT, bound: Bound = BOUND) -> list[int]:
    draws = attempt_draws(spending(budget(limit="{usd: 10, tokens: 9000}", more=more)), bound)
    made = cut_to_fit(draws, Short([short(0, 7 * USD, 1 * USD)]), least)
    return [] if made is None else [draw.line.amount for draw in made]


def test_a_stream_that_may_be_cut_gets_what_is_left() -> None:
    assert cut() == [2 * USD, 1000]


@pytest.mark.parametrize("least", [Bound(2 * USD, 1), Bound(None, None)])
def test_it_must_be_more_than_the_input(least: Bound) -> None:
    assert cut(least=least) == []


def test_only_what_says_cut_is_cut() -> None:
    assert cut(more="") == []
    assert cut(bound=Bound(None, 1000)) == []  # no bound is held that could be cut


def test_one_line_that_may_not_be_cut_is_enough_to_refuse() -> None:
    rules = spending(
        "budgets: [{name: a, window: {every: day}, limit: {usd: 10}, cut: true}, {name: b, window: {every: day}, limit: {usd: 10}}]"
    )
    draws = attempt_draws(rules)
    assert cut_to_fit(draws, Short([short(0, 8 * USD), short(1, 8 * USD)]), Bound(0, 0)) is None
    assert cut_to_fit(draws, Short([short(0, 8 * USD)]), Bound(0, 0)) is not None


# ----------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        ("usd", 10 * USD, "10 USD"),
        ("usd", 1, "0.000000001 USD"),
        ("usd", 1_234_500_000_000, "1,234.5 USD"),
        ("usd", 0, "0 USD"),
        ("tokens", 2_000_000, "2,000,000 tokens"),
        ("requests", 1, "1 request"),
        ("concurrency", 8, "8 calls"),
    ],
)
def test_amounts_are_told_in_full(unit: Unit, amount: int, text: str) -> None:
    assert amount_text(unit, amount) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(12, "12 ms"), (1500, "1.5 s"), (59_999, "60 s"), (60_000, "1 min"), (3_600_000, "1 h"), (33_120_000, "9 h 12 min"),
     (86_400_000, "1 day"), (273_600_001, "3 days 4 h")],
)  # fmt: skip
def test_times_are_told_as_people_say_them(ms: int, text: str) -> None:
    assert time_text(ms) == text


def test_a_message_has_no_character_that_a_client_could_smuggle_in() -> None:
    draws = attempt_draws(spending(budget(more="per: [user]")), subject=calling({"user": "<b>\n\x00é"}))
    assert "user=%3Cb%3E%0A%00%C3%A9" in refused(draws, Short([short(0, 10 * USD)])).message
    assert ACME.labels["user"] == "bob"


def test_a_store_that_is_lost_is_told_as_the_cause_and_may_be_back_soon() -> None:
    draws = attempt_draws(spending(budget()))
    lost = msgspec.structs.replace(short(0, 1 * USD), is_store_lost=True)
    told = refused(draws, Short([lost]))
    assert "store of budgets and limits doesn't answer" in told.message
    assert (told.kind, told.status, told.retry, told.retry_after_s) == ("budget_exceeded", 429, True, 1)
    used_up = msgspec.structs.replace(short(0, 10 * USD, 0, HALF_A_DAY_MS), is_store_lost=True)
    assert "doesn't answer" not in refused(draws, Short([used_up])).message


def test_a_client_is_not_told_to_try_again_soon_while_a_budget_beside_the_lost_one_is_used_up() -> None:
    rules = ", ".join(f"{{name: {name}, window: {{every: day}}, limit: {{usd: 10}}}}" for name in ("day", "week"))
    draws = attempt_draws(spending(f"budgets: [{rules}]"))
    lost = msgspec.structs.replace(short(0, 1 * USD), is_store_lost=True)
    told = refused(draws, Short([lost, short(1, 10 * USD)]))
    assert "doesn't answer" in told.message
    assert (told.retry, told.retry_after_s) == (False, HALF_A_DAY_MS // 1000)


@pytest.mark.parametrize(("most", "told"), [(1, "1 call at a time"), (8, "8 calls at a time")])
def test_a_limit_of_one_call_at_a_time_is_told_as_one(most: int, told: str) -> None:
    draws = call_draws(spending(f"limits: [{{name: few, concurrency: {most}}}]"))
    assert told in refused(draws, Short([short(0, 0, held=most)])).message
