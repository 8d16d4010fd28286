"""What follows where a budget or limit is short: a refusal, other targets, or less than was asked for.

Here: a store's answer in, a decision out, with words that say what to do. Not here: what is asked for (budgets.py), doing it (pipeline/).
The first rule that is short decides, in the order of the file, budgets before limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import msgspec

from proxy.call import NUSD_PER_USD
from proxy.config.schema import TargetChoice
from proxy.policy.budgets import Bound, Draw
from proxy.policy.limits import PERIODS_MS
from proxy.spending import FOREVER_MS, Fit, Period, Rate, Short, Shortage, StoreLost, Unit

TOO_MANY_REQUESTS, UNAVAILABLE = 429, 503
SOON_MS = 1000
"""When to try again where calls under way are in the way: nobody knows when they end."""

STORE_LOST = (
    "the store of budgets and limits doesn't answer, and what was drawn ahead of it is used up (`on_store_lost` is `local`). "
    "Try again shortly, or see why the store is away."
)

RefusalKind = Literal["budget_exceeded", "rate_limited", "store_unavailable"]
"""The `code` of the error."""

KINDS: dict[str, RefusalKind] = {"budget": "budget_exceeded", "limit": "rate_limited"}
PERIOD_NAMES = {ms: name for name, ms in PERIODS_MS.items()} | {1000: "second", 60_000: "minute"}


class Refusal(msgspec.Struct, frozen=True):
    """A rule says no."""

    rule: str
    kind: RefusalKind
    unit: Unit
    scope: str  # as in the account's name
    message: str
    status: int
    retry: bool  # what `x-should-retry` says
    retry_after_ms: int | None  # when it may fit; None: it never will, or nobody knows
    may_wait_ms: int = 0  # from its beginning, the call may wait so long for its turn; 0: it may not, or it would be in vain

    @property
    def retry_after_s(self) -> int | None:
        """For `retry-after`: whole seconds, at least 1."""
        return None if self.retry_after_ms is None else max(1, -(-self.retry_after_ms // 1000))


class Degrade(msgspec.Struct, frozen=True):
    """A rule sends the call elsewhere."""

    rule: str
    to: tuple[TargetChoice, ...]
    instead_of: Refusal


def refusal(draws: Sequence[Draw], answer: Short | StoreLost, now_ms: int, degraded: frozenset[str] = frozenset()) -> Refusal | Degrade:
    """What follows from a store's answer to the lines of `draws`. `degraded`: names of the rules that have sent this call elsewhere."""
    if isinstance(answer, StoreLost):
        return _store_lost(draws[answer.index])
    decisive = min(answer.shortages, key=lambda one: (draws[one.index].rule.position, one.index))
    refused = _refused(draws, answer.shortages, decisive, now_ms)
    rule = draws[decisive.index].rule
    if rule.when_short.degrade_to and rule.name not in degraded:
        return Degrade(rule.name, tuple(rule.when_short.degrade_to), refused)
    return refused


def cut_to_fit(draws: Sequence[Draw], short: Short, least: Bound) -> list[Draw] | None:
    """The same draws, those that are short with what is left; None unless `cut` allows it for each, and more than `least` is left.

    `least` is what is used before a reply could be ended: the input.
    """
    cut = list(draws)
    for shortage in short.shortages:
        draw = draws[shortage.index]
        floor = {"usd": least.cost_nusd, "tokens": least.tokens}.get(draw.unit)
        left = draw.line.limit - shortage.standing.spent - shortage.standing.held
        if not draw.rule.cut or draw.fit is not Fit.WHOLE or floor is None or left <= floor:
            return None
        cut[shortage.index] = msgspec.structs.replace(draw, line=msgspec.structs.replace(draw.line, amount=left))
    return cut


def _store_lost(draw: Draw) -> Refusal:
    message = (
        f"{_named(draw)} can't be checked: the store of budgets and limits doesn't answer, and `on_store_lost` is `closed`. "
        "Try again shortly, or see why the store is away."
    )
    return Refusal(draw.rule.name, "store_unavailable", draw.unit, draw.scope, message, UNAVAILABLE, True, SOON_MS)


def _refused(draws: Sequence[Draw], shortages: Sequence[Shortage], decisive: Shortage, now_ms: int) -> Refusal:
    draw = draws[decisive.index]
    kind = KINDS[draw.rule.kind]
    times_ms = [_fits_in_ms(draws[one.index], one, now_ms) for one in shortages]
    known_ms = [time_ms for time_ms in times_ms if time_ms is not None]
    after_ms = max(known_ms) if len(known_ms) == len(times_ms) else None
    may_wait_ms = min(draws[one.index].rule.wait_ms for one in shortages)
    if after_ms is None or (after_ms > may_wait_ms and not _is_held(draws, shortages)):
        may_wait_ms = 0
    told = _limit_message if kind == "rate_limited" else _budget_message
    message = told(draw, decisive, _fits_in_ms(draw, decisive, now_ms), now_ms)
    if _only_lost(draw, decisive):
        message = f"{_named(draw)}: {STORE_LOST}"
    is_lost = all(_only_lost(draws[one.index], one) for one in shortages)
    if is_lost:
        after_ms = SOON_MS
    retry = after_ms is not None and (is_lost or kind == "rate_limited")
    return Refusal(draw.rule.name, kind, draw.unit, draw.scope, message, TOO_MANY_REQUESTS, retry, after_ms, may_wait_ms)


def _is_held(draws: Sequence[Draw], shortages: Sequence[Shortage]) -> bool:
    """Whether calls under way are all that is in the way: any moment may be the one."""
    return all(_only_held(draws[one.index], one) for one in shortages)


def _only_held(draw: Draw, shortage: Shortage) -> bool:
    return isinstance(draw.line.window, Period) and shortage.standing.spent + _need(draw) <= draw.line.limit


def _only_lost(draw: Draw, shortage: Shortage) -> bool:
    """Whether it would fit, if the store answered: as far as is known, the money isn't spent."""
    return shortage.is_store_lost and shortage.standing.spent + _need(draw) <= draw.line.limit


def _need(draw: Draw) -> int:
    """What must be left for the call."""
    return draw.line.amount if draw.fit is Fit.WHOLE else 1


def _fits_in_ms(draw: Draw, shortage: Shortage, now_ms: int) -> int | None:
    line = draw.line
    if _need(draw) > line.limit:
        return None
    if _only_held(draw, shortage):
        return SOON_MS
    if shortage.retry_after_ms is not None or isinstance(line.window, Rate):
        return shortage.retry_after_ms
    return max(0, line.window.end_ms - now_ms)


# -------------------------------------------------------------------------------------------------------------- words


def _named(draw: Draw) -> str:
    of = "" if draw.rule.per == () else f" ({draw.scope})"
    return f"{draw.rule.kind.capitalize()} '{draw.rule.name}'{of}"


def _budget_message(draw: Draw, shortage: Shortage, after_ms: int | None, now_ms: int) -> str:
    line, unit, standing = draw.line, draw.unit, shortage.standing
    spent, held = amount_text(unit, standing.spent), amount_text(unit, standing.held)
    told = [
        f"{_named(draw)} has too little left for this call.",
        f"Limit: {amount_text(unit, line.limit)} per {draw.rule.window_told}; spent: {spent}; held for calls under way: {held}.",
    ]
    smaller = "" if unit == "requests" else "ask for fewer output tokens (e.g. with `max_tokens`), "
    if draw.fit is Fit.WHOLE:
        told.append(f"This call may use up to {amount_text(unit, line.amount)}.")
    if after_ms is None:
        told.append(f"That is more than the whole limit: {smaller}or raise the limit.")
    elif _only_held(draw, shortage):
        told.append(f"Try again when calls under way are done, {smaller}or raise the limit.")
    else:
        told.append(f"{_end_text(line.window, after_ms, now_ms)}: wait for that, {smaller}or raise the limit.")
    return " ".join(told)


def _end_text(window: Period | Rate, after_ms: int, now_ms: int) -> str:
    if isinstance(window, Period) and window.counts_from_ms == window.start_ms and window.end_ms < FOREVER_MS:
        end = datetime.fromtimestamp(window.end_ms // 1000, UTC)
        return f"The window ends at {end:%Y-%m-%dT%H:%M:%SZ}, in {time_text(window.end_ms - now_ms)}"
    return f"Enough is left again in {time_text(after_ms)}"


def _limit_message(draw: Draw, shortage: Shortage, after_ms: int | None, now_ms: int) -> str:
    rate = draw.line.window
    if not isinstance(rate, Rate):
        most = amount_text(draw.unit, draw.line.limit)
        return f"{_named(draw)} is reached: {most} at a time. Try again when one of them is done, or raise the limit."
    per = PERIOD_NAMES[rate.period_ms]
    asked = f" This call may use up to {amount_text(draw.unit, draw.line.amount)}." if draw.unit == "tokens" else ""
    when = "later" if after_ms is None else f"in {time_text(after_ms)}"
    return f"{_named(draw)} is reached: {amount_text(draw.unit, rate.burst)} per {per}.{asked} Try again {when}, or raise the limit."


def amount_text(unit: Unit, amount: int) -> str:
    """An amount as people read it: `0.25 USD`, `2,000,000 tokens`."""
    if unit == "usd":
        return f"{_plain(Decimal(amount) / NUSD_PER_USD)} USD"
    noun = "calls" if unit == "concurrency" else unit
    return f"{amount:,} {noun.removesuffix('s') if amount == 1 else noun}"


def _plain(number: Decimal) -> str:
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def time_text(ms: int) -> str:
    """A time as people read it, rounded up: `12 ms`, `1.5 s`, `6 min`, `9 h 12 min`, `3 days 4 h`."""
    if ms < 60_000:
        return f"{ms} ms" if ms < 1000 else f"{-(-ms // 100) / 10:g} s"
    minutes = -(-ms // 60_000)
    hours, minutes = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days} day{'s' if days > 1 else ''}" + (f" {hours_left} h" if hours_left else "")
    if hours:
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    return f"{minutes} min"
