"""Rules of budgets and limits, compiled from YAML.

Here: Rule, its measures in exact integers, how it is made. Not here: what a call draws on it (budgets.py).
No float is ever added up: USD become nano-USD as they were written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

import msgspec

from proxy.call import NUSD_PER_USD
from proxy.config.schema import BudgetConfig, Config, LimitConfig, WhenShort
from proxy.policy.conditions import Condition, conditions_of
from proxy.policy.limits import parse_rate
from proxy.policy.windows import Window, window_of
from proxy.spending import Fit, OnStoreLost, Rate, Unit

HEADER = "header:"
"""Begins what `per` says of a header."""

SPEND_FIT = {"strict": Fit.WHOLE, "headroom": Fit.ANY, "posthoc": Fit.SETTLED}
"""What must be left, by `spend`."""


class Threshold(msgspec.Struct, frozen=True, gc=False):
    """A share of a limit at which a warning is due."""

    share: float  # as YAML says it; 0.8 is 80 %
    amount: int  # the smallest that reaches it


class Measure(msgspec.Struct, frozen=True, gc=False):
    """One thing that a rule counts, and up to where."""

    unit: Unit
    limit: int
    critical_limit: int  # for calls of critical routes
    rate: Rate | None = None  # of a limit; None: it counts in the window of its rule, or calls at a time
    warn_at: tuple[Threshold, ...] = ()  # the lowest first


class Rule(msgspec.Struct, frozen=True, eq=False):
    """A budget or limit, ready to be asked."""

    name: str
    kind: Literal["budget", "limit"]
    position: int  # budgets come before limits, each in the order of the file
    conditions: tuple[Condition, ...]
    per: tuple[str, ...]
    measures: tuple[Measure, ...]
    fit: Fit  # if it is enforced
    window: Window | None = None  # of a budget
    window_told: str = ""  # of a budget, e.g. `day (Europe/Berlin)`
    when_short: WhenShort = WhenShort(refuse=True)
    wait_ms: int = 0  # how long a call may wait for its turn
    is_shadow: bool = False
    cut: bool = False
    on_store_lost: OnStoreLost = "local"

    @property
    def lets_through(self) -> bool:
        """Whether it only counts and tells."""
        return self.is_shadow or self.when_short.allow


def compiled(config: Config) -> Iterator[Rule]:
    """All rules, in their order."""
    for position, budget in enumerate(config.budgets):
        yield _budget(budget, position, _on_store_lost(budget, config))
    for position, limit in enumerate(config.limits, len(config.budgets)):
        yield _limit(limit, position, _on_store_lost(limit, config))


def _on_store_lost(rule: BudgetConfig | LimitConfig, config: Config) -> OnStoreLost:
    return "open" if rule.mode == "shadow" else rule.on_store_lost or config.store.on_lost  # what is in shadow refuses nothing


def _budget(budget: BudgetConfig, position: int, on_store_lost: OnStoreLost) -> Rule:
    return Rule(
        budget.name,
        "budget",
        position,
        conditions_of(budget.match),
        _per(budget.per),
        tuple(_budget_measures(budget)),
        SPEND_FIT[budget.spend],
        window=window_of(budget.window),
        window_told=_window_told(budget),
        when_short=budget.when_short,
        is_shadow=budget.mode == "shadow",
        cut=budget.cut,
        on_store_lost=on_store_lost,
    )


def _budget_measures(budget: BudgetConfig) -> Iterator[Measure]:
    limit = budget.limit
    amounts: dict[Unit, float | None] = {"usd": limit.usd, "tokens": limit.tokens, "requests": limit.requests}
    for unit, amount in amounts.items():
        if amount is not None:
            exact = _exact(amount) * (NUSD_PER_USD if unit == "usd" else 1)
            ordinary = _floor(exact)
            warn_at = tuple(Threshold(share, _ceiling(ordinary * _exact(share))) for share in sorted(budget.warn_at))
            yield Measure(unit, ordinary, _floor(exact * _exact(budget.critical_multiplier)), warn_at=warn_at)


def _limit(limit: LimitConfig, position: int, on_store_lost: OnStoreLost) -> Rule:
    return Rule(
        limit.name,
        "limit",
        position,
        conditions_of(limit.match),
        _per(limit.per),
        tuple(_limit_measures(limit)),
        Fit.WHOLE,
        wait_ms=round(limit.wait_ms or 0),
        is_shadow=limit.mode == "shadow",
        on_store_lost=on_store_lost,
    )


def _limit_measures(limit: LimitConfig) -> Iterator[Measure]:
    rates: dict[Unit, str | None] = {"requests": limit.requests, "tokens": limit.tokens}
    for unit, text in rates.items():
        if text is not None:
            rate = parse_rate(text)
            yield Measure(unit, rate.burst, rate.burst, rate)
    if limit.concurrency is not None:
        yield Measure("concurrency", limit.concurrency, limit.concurrency)


def _per(names: Sequence[str]) -> tuple[str, ...]:
    """Names of headers are without case, and accounts are named by them."""
    return tuple(name.lower() if name.startswith(HEADER) else name for name in names)


def _window_told(budget: BudgetConfig) -> str:
    window = budget.window
    if window.rolling_s is not None:
        return f"{window.rolling_s:g} s"
    return f"{window.every} ({window.time_zone})"


def _exact(number: float) -> Decimal:
    """The number as it was written: 0.1 is a tenth, which no float is."""
    return Decimal(str(number))


def _floor(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_FLOOR))


def _ceiling(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_CEILING))
