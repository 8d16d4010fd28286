"""How all budgets and limits stand, as operators ask for it; and what they set by hand.

Here: accounts told by the rules in force. Not here: the store, the admin listener, the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from proxy.call import NUSD_PER_USD
from proxy.policy.budgets import Account, Spending
from proxy.policy.forecast import forecast
from proxy.policy.scopes import EVERYBODY
from proxy.spending import ENDLESS, FOREVER_MS, Entry, Period, Unit, account_name


class BudgetRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One account of a budget or limit. USD as numbers of USD; the other units as they are."""

    rule: str
    kind: str  # budget | limit
    scope: str
    unit: Unit
    limit: float
    used: float
    held: float
    left: float
    share: float  # of the limit, spent and held
    window: str | None = None
    ends: str | None = None  # of a calendar window, in UTC
    forecast: float | None = None  # what it will have come to by then
    mode: str = "enforce"


def budget_rows(spending: Spending, entries: Iterable[Entry], now_ms: int) -> list[BudgetRow]:
    """A row for each account that a rule in force has, in the order of the rules, the fullest scope first."""
    known: dict[str, tuple[Account, Period]] = {}
    sums: dict[str, tuple[int, int]] = {}
    for entry in entries:
        found = known.get(entry.account) or _found(spending, entry.account, now_ms)
        if found is None:
            continue
        known[entry.account] = found
        spent, held = sums.get(entry.account, (0, 0))
        counts = entry.start_ms >= found[1].counts_from_ms
        sums[entry.account] = (spent + entry.spent, held + entry.held) if counts else (spent, held + entry.held)
    ordered = sorted(sums, key=lambda name: (known[name][0].rule.position, -sum(sums[name]) / known[name][0].measure.limit, name))
    return [_row(*known[name], *sums[name], now_ms) for name in ordered]


def _found(spending: Spending, name: str, now_ms: int) -> tuple[Account, Period] | None:
    account = spending.account(name)
    if account is None or account.measure.rate is not None:
        return None
    return account, ENDLESS if account.rule.window is None else account.rule.window.period(now_ms)


def _row(account: Account, period: Period, spent: int, held: int, now_ms: int) -> BudgetRow:
    rule, measure = account.rule, account.measure
    is_calendar = rule.window is not None and period.counts_from_ms == period.start_ms
    expected = forecast(spent, period, now_ms) if is_calendar else None
    return BudgetRow(
        rule.name,
        rule.kind,
        account.scope,
        measure.unit,
        _shown(measure.unit, measure.limit),
        _shown(measure.unit, spent),
        _shown(measure.unit, held),
        _shown(measure.unit, max(0, measure.limit - spent - held)),
        round((spent + held) / measure.limit, 6),
        rule.window_told or None,
        datetime.fromtimestamp(period.end_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if is_calendar else None,
        None if expected is None else _shown(measure.unit, expected),
        "shadow" if rule.is_shadow else "enforce",
    )


def _shown(unit: Unit, amount: int) -> float:
    return amount / NUSD_PER_USD if unit == "usd" else amount


class SetSpent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator sets: of one scope of a budget, or of all that are known."""

    rule: str
    scope: str | None = None  # as it is listed; None: all
    unit: Unit | None = None  # None: all, to nothing
    spent: float = 0.0


class Change(msgspec.Struct, frozen=True):
    """An account whose spending is to be set."""

    account: str
    period: Period
    spent: int


def changes_for(spending: Spending, asked: SetSpent, known_accounts: Iterable[str], now_ms: int) -> list[Change]:
    """The accounts to set; a scope that was never used is made. Raises ValueError, saying what is wrong."""
    rule = next((rule for rule in spending.rules if rule.name == asked.rule and rule.kind == "budget"), None)
    if rule is None or rule.window is None:
        raise ValueError(f"there is no budget named '{asked.rule}'")
    measures = [measure for measure in rule.measures if asked.unit in (None, measure.unit)]
    if not measures:
        raise ValueError(f"budget '{asked.rule}' has no limit of {asked.unit}")
    if asked.scope is not None and not _is_scope_of(rule.per, asked.scope):
        example = ",".join(f"{name}=…" for name in _names(rule.per)) or EVERYBODY
        raise ValueError(f"budget '{asked.rule}' has no scope '{asked.scope[:200]}': write it as `postern budgets` lists it, as {example}")
    period = rule.window.period(now_ms)
    changes = []
    for measure in measures:
        spent = _counted(measure.unit, asked)
        prefix = account_name(rule.name, measure.unit, "")
        names = [name for name in known_accounts if name.startswith(prefix)] if asked.scope is None else [prefix + asked.scope]
        changes += [Change(name, period, spent) for name in dict.fromkeys(names)]
    return changes


def _is_scope_of(per: Sequence[str], scope: str) -> bool:
    """Whether a rule's calls may have this scope: the names of its `per` with values, as they are listed."""
    if not per:
        return scope == EVERYBODY
    names = [part.partition("=")[0] for part in scope.split(",")]
    return names == _names(per) and all("!" <= character <= "~" for character in scope)


def _names(per: Sequence[str]) -> list[str]:
    return [quote(name, safe=":") for name in per]


def _counted(unit: Unit, asked: SetSpent) -> int:
    """What is set, in the account's unit. Raises ValueError."""
    counted = asked.spent * NUSD_PER_USD if unit == "usd" else asked.spent
    if not 0 <= counted < FOREVER_MS:
        raise ValueError(f"{asked.spent} is no amount that can be spent")
    if counted and asked.unit is None:
        raise ValueError("say which unit is set: usd, tokens or requests")
    if unit != "usd" and counted != round(counted):
        raise ValueError(f"{asked.spent} {unit}: they are counted in whole numbers")
    return round(counted)
