"""What a call draws on which accounts, by the budgets and limits of one configuration.

Here: facts of a call, a moment and an upper bound in, draws out. Not here: the rules (spending_rules.py), how much a call can use
(bounds.py), what a store answers (refusals.py, standings.py), where it is remembered (stores/).
Requests and calls at a time are drawn once a call, USD and tokens once an attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from proxy.call import LABELS
from proxy.config.schema import Config
from proxy.policy.conditions import RouteFacts
from proxy.policy.scopes import MAX_VALUE_CHARS, scope_text
from proxy.policy.spending_rules import HEADER, Measure, Rule, compiled
from proxy.spending import ENDLESS, Fit, Line, Period, Unit, account_name

CALL_UNITS: tuple[Unit, ...] = ("requests", "concurrency")
ATTEMPT_UNITS: tuple[Unit, ...] = ("usd", "tokens")
"""What is drawn once a call, and what once an attempt."""

MAX_KNOWN_SCOPES = 1024
"""Scopes of each rule whose accounts' names are kept ready; the others are made anew."""


class Subject(msgspec.Struct, frozen=True, gc=False):
    """What scopes are read from: who calls, and where the call goes. Where it isn't known yet, the first of the plan."""

    labels: dict[str, str]  # also `key`
    headers: Mapping[bytes, bytes]  # by name in lower case: the first value of each
    model: str | None  # as it is named upstream
    provider: str
    target: str

    def __repr__(self) -> str:
        return f"Subject({self.labels!r}, {self.target!r}, {self.model!r})"  # never the headers


class Bound(msgspec.Struct, frozen=True, gc=False):
    """The most that an attempt can use. None: not known."""

    cost_nusd: int | None
    tokens: int | None  # input and output


class Draw(msgspec.Struct, frozen=True, gc=False):
    """What a call draws on one account, and the rule that says so."""

    rule: Rule
    measure: Measure
    line: Line
    fit: Fit  # what the rule asks for; the line's own is NOTHING where the rule lets everything through

    @property
    def unit(self) -> Unit:
        """What the line is counted in."""
        return self.measure.unit

    @property
    def scope(self) -> str:
        """Whom the account is for, e.g. `tenant=acme`."""
        return self.line.account.split(":", 2)[2]


class Account(msgspec.Struct, frozen=True):
    """What the name of an account says."""

    rule: Rule
    measure: Measure
    scope: str


class Spending:
    """The budgets and limits of one configuration. What it answers depends on its arguments alone."""

    def __init__(self, config: Config) -> None:
        self.rules = tuple(compiled(config))
        self._of_calls = _drawings(self.rules, CALL_UNITS)
        self._of_attempts = _drawings(self.rules, ATTEMPT_UNITS)
        self._of_budgets = {one.rule.name: one for one in _drawings(self.rules, CALL_UNITS + ATTEMPT_UNITS) if one.rule.kind == "budget"}
        self.is_empty = not self.rules
        self.lets_through = any(rule.lets_through for rule in self.rules)
        self.asks = frozenset(condition.key for rule in self.rules for condition in rule.conditions)
        """The keys of all conditions: a fact that none of them stands for may be left out of RouteFacts."""

    def call_draws(self, facts: RouteFacts, subject: Subject, now_ms: int, critical: bool) -> list[Draw]:
        """What a call draws as long as it lasts: requests and calls at a time. In the order of the rules."""
        return _drawn(self._of_calls, facts, subject, _ONE, now_ms, critical)

    def attempt_draws(self, facts: RouteFacts, subject: Subject, bound: Bound, now_ms: int, critical: bool) -> list[Draw]:
        """What an attempt draws: USD, except where it is known to cost nothing, and tokens. In the order of the rules."""
        return _drawn(self._of_attempts, facts, subject, {"usd": bound.cost_nusd, "tokens": bound.tokens}, now_ms, critical)

    def budget_draws(self, budget: str, subject: Subject, now_ms: int) -> list[Draw]:
        """Draws of nothing on all accounts of a budget that a call belongs to, whether it applies or not: to ask how they stand."""
        draws: list[Draw] = []
        if budget in self._of_budgets:
            self._of_budgets[budget].add(draws, subject, _NOTHING_KNOWN, now_ms, False)
        return draws

    def account(self, name: str) -> Account | None:
        """The rule, the measure and the scope of an account; None if no rule has it any more."""
        rule_name, _, rest = name.partition(":")
        unit, _, scope = rest.partition(":")
        found = ((rule, measure) for rule in self.rules if rule.name == rule_name for measure in rule.measures if measure.unit == unit)
        return next((Account(rule, measure, scope) for rule, measure in found), None)


def settled_amount(draw: Draw, cost_nusd: int | None, tokens: int | None) -> int:
    """What counts as spent once it is over: cost and tokens of the attempt. What isn't known (None) counts as all that was held."""
    match draw.measure.unit:
        case "requests":
            return 1
        case "concurrency":
            return 0
        case "usd":
            return draw.line.amount if cost_nusd is None else cost_nusd
        case "tokens":
            return draw.line.amount if tokens is None else tokens


# ------------------------------------------------------------------------------------------------------------ drawing

_Amounts = Mapping[Unit, int | None]
_ONE: _Amounts = {"requests": 1, "concurrency": 1}
_NOTHING_KNOWN: _Amounts = dict.fromkeys(CALL_UNITS + ATTEMPT_UNITS)
_Value = str | bytes | None
_Read = Callable[[Subject], _Value]


def _drawn(drawings: Sequence[_Drawing], facts: RouteFacts, subject: Subject, amounts: _Amounts, now_ms: int, critical: bool) -> list[Draw]:
    draws: list[Draw] = []
    for drawing in drawings:
        for condition in drawing.rule.conditions:
            if not condition.holds(facts):
                break
        else:
            drawing.add(draws, subject, amounts, now_ms, critical)
    return draws


def _drawings(rules: Sequence[Rule], units: Sequence[Unit]) -> list[_Drawing]:
    drawings = (_Drawing(rule, tuple(measure for measure in rule.measures if measure.unit in units)) for rule in rules)
    return [drawing for drawing in drawings if drawing.measures]


class _Drawing:
    """Makes the draws of one rule, for some of its measures."""

    __slots__ = ("_asks_nothing", "_known", "_reads", "measures", "rule")

    def __init__(self, rule: Rule, measures: tuple[Measure, ...]) -> None:
        self.rule = rule
        self.measures = measures
        self._reads = tuple(_reader(name) for name in rule.per)
        self._asks_nothing = rule.lets_through
        self._known: dict[tuple[_Value, ...], _Scope] = {}  # by what `per` reads

    def add(self, draws: list[Draw], subject: Subject, amounts: _Amounts, now_ms: int, critical: bool) -> None:
        """Add the draws of a call to which the rule applies."""
        values = tuple([read(subject) for read in self._reads])
        scope = self._known.get(values) or self._scope(values)
        window = self.rule.window
        period = ENDLESS if window is None else window.period(now_ms)
        if amounts is not _ONE:
            self._make(draws, scope, amounts, period, critical)
            return
        if scope.period is not period or scope.critical is not critical:
            scope.period, scope.critical, scope.of_calls = period, critical, []
            self._make(scope.of_calls, scope, _ONE, period, critical)
        draws += scope.of_calls

    def _make(self, draws: list[Draw], scope: _Scope, amounts: _Amounts, period: Period, critical: bool) -> None:
        rule = self.rule
        for measure, account in zip(self.measures, scope.accounts, strict=True):
            amount, fit = amounts[measure.unit], rule.fit
            if amount is None:
                amount, fit = 0, Fit.ANY if fit is Fit.WHOLE else fit
            elif amount == 0 and measure.unit == "usd":
                continue
            elif measure.rate is not None and amount > measure.limit:
                amount = measure.limit  # a call larger than all of a rate waits until all of it is there
            limit = measure.critical_limit if critical else measure.limit
            asked = Fit.NOTHING if self._asks_nothing else fit
            line = Line(account, measure.rate or period, amount, limit, measure.limit, asked, rule.on_store_lost)
            draws.append(Draw(rule, measure, line, fit))

    def _scope(self, values: tuple[_Value, ...]) -> _Scope:
        text = scope_text(self.rule.per, values)
        scope = _Scope([account_name(self.rule.name, measure.unit, text) for measure in self.measures])
        if all(value is None or len(value) <= MAX_VALUE_CHARS for value in values):  # what a client makes long isn't kept
            if len(self._known) >= MAX_KNOWN_SCOPES:
                self._known.clear()
            self._known[values] = scope
        return scope


class _Scope:
    """Those whose calls one rule counts together: their accounts, by measure, and what each of their calls draws as long as it lasts."""

    __slots__ = ("accounts", "critical", "of_calls", "period")

    def __init__(self, accounts: list[str]) -> None:
        self.accounts = accounts
        self.of_calls: list[Draw] = []  # the same in one period for all calls that are critical, or aren't
        self.period: Period | None = None
        self.critical = False


def _reader(name: str) -> _Read:
    """What `per` names, read from a call; None or nothing where the call doesn't have it."""
    if name.startswith(HEADER):
        field = name.removeprefix(HEADER).encode()
        return lambda subject: subject.headers.get(field)
    if name in LABELS:
        return lambda subject: subject.labels.get(name)
    return _PLACES[name]


_PLACES: dict[str, _Read] = {
    "model": lambda subject: subject.model,
    "provider": lambda subject: subject.provider,
    "target": lambda subject: subject.target,
}
