"""Where a budget is heading, and what is told on the way."""

from __future__ import annotations

import pytest

from proxy.policy.budgets import Draw
from proxy.policy.forecast import Warnings, forecast
from proxy.policy.windows import RollingWindow
from proxy.spending import ENDLESS, Period
from tests.policy.spending_support import ACME, FACTS, NOW_MS, USD, attempt_draws, budget, calling, spending

DAY = Period(0, 86_400_000, 0)
DAY_MS = 86_400_000
WARN = "warn_at: [50%, 80%, 95%, 120%]"


@pytest.mark.parametrize(
    ("now_ms", "expected"),
    [(DAY_MS // 2, 200), (DAY_MS // 20, 2000), (DAY_MS, 100), (2 * DAY_MS, 100), (DAY_MS // 20 - 1, None), (0, None)],
)
def test_a_forecast_is_the_line_through_what_was_spent_so_far(now_ms: int, expected: int | None) -> None:
    assert forecast(100, DAY, now_ms) == expected


def test_nothing_spent_is_nothing_to_come() -> None:
    assert forecast(0, DAY, DAY_MS // 2) == 0


def test_a_rolling_window_has_no_end_to_forecast() -> None:
    part = RollingWindow(3_600_000).period(NOW_MS)
    assert forecast(100, part, part.end_ms - 1) is None
    assert forecast(100, ENDLESS, NOW_MS) is None


# --------------------------------------------------------------------------------------------------------------- warnings


def drawn(more: str = WARN, *, limit: str = "{usd: 10}", user: str = "bob", now_ms: int = NOW_MS) -> Draw:
    rules = spending(budget(limit=limit, more=f"per: [user], {more}"))
    (draw,) = rules.budget_draws("b", calling({"user": user}), now_ms)
    return draw


def shares(warnings: Warnings, draw: Draw, usd: float) -> list[float]:
    return [one.share for one in warnings.reached(draw, round(usd * USD))]


def test_each_threshold_is_told_once() -> None:
    warnings, draw = Warnings(), drawn()
    told = [shares(warnings, draw, usd) for usd in (4.99, 5, 5.01, 7.99, 8, 9, 9.5, 10)]
    assert told == [[], [0.5], [], [], [0.8], [], [0.95], []]


def test_several_that_are_reached_at_once_are_told_at_once() -> None:
    assert shares(Warnings(), drawn(), 12) == [0.5, 0.8, 0.95, 1.2]


def test_a_warning_tells_whose_it_is() -> None:
    (told,) = Warnings().reached(drawn(), 6 * USD)
    assert (told.rule, told.unit, told.scope, told.spent, told.limit) == ("b", "usd", "user=bob", 6 * USD, 10 * USD)
    assert told.period.start_ms < NOW_MS < told.period.end_ms


def test_a_threshold_is_not_told_again_after_less_was_spent() -> None:
    warnings, draw = Warnings(), drawn()
    assert [shares(warnings, draw, usd) for usd in (6, 4, 6, 8.5, 7, 9)] == [[0.5], [], [], [0.8], [], []]


def test_a_new_window_begins_anew_and_what_is_settled_late_in_the_old_one_tells_nothing() -> None:
    warnings, today, tomorrow = Warnings(), drawn(), drawn(now_ms=NOW_MS + DAY_MS)
    assert shares(warnings, today, 8) == [0.5, 0.8]
    assert shares(warnings, tomorrow, 5) == [0.5]
    assert shares(warnings, today, 9.5) == []
    assert shares(warnings, tomorrow, 8) == [0.8]


def test_each_scope_has_its_own() -> None:
    warnings = Warnings()
    assert [shares(warnings, drawn(user=user), 6) for user in ("bob", "eve", "bob")] == [[0.5], [0.5], []]


def test_a_raised_limit_is_warned_of_anew() -> None:
    warnings = Warnings()
    assert shares(warnings, drawn(), 6) == [0.5]
    assert [shares(warnings, drawn(limit="{usd: 20}"), usd) for usd in (7, 10, 16)] == [[], [0.5], [0.8]]


def test_a_lowered_limit_is_warned_of_at_once_where_it_is_reached() -> None:
    warnings = Warnings()
    assert shares(warnings, drawn(), 5.5) == [0.5]
    assert shares(warnings, drawn(limit="{usd: 6}"), 5.5) == [0.8]


def test_a_percentage_is_exact() -> None:
    draw = drawn("warn_at: [57%, 7%]", limit="{usd: 1}")
    assert [one.amount for one in draw.measure.warn_at] == [70_000_000, 570_000_000]
    assert shares(Warnings(), draw, 0.03) == []  # a budget that is 3 % used is not at 99 %


def test_a_threshold_between_two_amounts_is_reached_with_the_larger() -> None:
    assert [one.amount for one in drawn("warn_at: [50%, 99%]", limit="{tokens: 3}").measure.warn_at] == [2, 3]


def test_a_rolling_budget_is_warned_of_once_in_its_length() -> None:
    warnings = Warnings()
    rules = spending("budgets: [{name: b, window: {rolling_s: 60}, limit: {usd: 10}, warn_at: [50%]}]")

    def after(seconds: int) -> int:
        (draw,) = rules.budget_draws("b", ACME, NOW_MS + seconds * 1000)
        return len(warnings.reached(draw, 6 * USD))

    assert [after(seconds) for seconds in (0, 1, 30, 60, 61, 62)] == [1, 0, 0, 0, 1, 0]


def test_without_thresholds_nothing_is_told_or_kept() -> None:
    warnings = Warnings()
    assert shares(warnings, drawn("spend: posthoc"), 99) == []
    (limit,) = spending("limits: [{name: l, requests: 5/s}]").call_draws(FACTS, ACME, NOW_MS, False)
    assert list(warnings.reached(limit, 5)) == []
    assert attempt_draws(spending(budget()))[0].measure.warn_at == ()


def test_what_is_kept_is_bounded_and_the_oldest_is_told_again() -> None:
    warnings = Warnings(max_accounts=2)
    assert [shares(warnings, drawn(user=user), 6) for user in ("a", "b", "c", "b", "a")] == [[0.5], [0.5], [0.5], [], [0.5]]
