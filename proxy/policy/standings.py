"""What the standings of a call's accounts say: to its client, and of rules that let it through.

Here: draws and how their accounts stand in, plain values out. Not here: refusals (refusals.py), warnings (forecast.py).
Standings come in the order of the draws, with what the call itself holds; None where nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from proxy.call import HeaderList
from proxy.policy.budgets import Draw
from proxy.policy.refusals import KINDS, RefusalKind
from proxy.spending import Fit, Rate, Standing, Unit

Standings = Sequence[Standing | None]

TOLD_UNITS: tuple[Unit, ...] = ("requests", "tokens")
"""Rates that OpenAI has fields for."""


class LetThrough(msgspec.Struct, frozen=True):
    """A rule that had too little left for a call, and let it through: it is in shadow, or `allow` says so."""

    rule: str
    kind: RefusalKind
    unit: Unit
    scope: str
    would: Literal["refuse", "degrade", "allow"]  # if it were enforced


def shadow_refusals(draws: Sequence[Draw], standings: Standings) -> list[LetThrough]:
    """The rules that let a call through for which they had too little left, once its lines are held."""
    return [
        LetThrough(draw.rule.name, KINDS[draw.rule.kind], draw.unit, draw.scope, _would(draw))
        for draw, standing in _known(draws, standings)
        if draw.rule.lets_through and _is_short(draw, standing)
    ]


def _would(draw: Draw) -> Literal["refuse", "degrade", "allow"]:
    when_short = draw.rule.when_short
    return "allow" if when_short.allow else "degrade" if when_short.degrade_to else "refuse"


def _is_short(draw: Draw, standing: Standing) -> bool:
    limit = draw.line.limit
    match draw.fit:
        case Fit.WHOLE:
            return standing.spent + standing.held > limit
        case Fit.ANY:
            return standing.spent + standing.held - draw.line.amount >= limit
        case Fit.SETTLED:
            return standing.spent >= limit
        case Fit.NOTHING:
            return False


def remaining_nusd(draws: Sequence[Draw], standings: Standings) -> int | None:
    """What the tightest USD budget in force has left, never below 0; None if there is none."""
    left = [
        max(0, draw.line.limit - standing.spent - standing.held)
        for draw, standing in _known(draws, standings)
        if draw.unit == "usd" and not draw.rule.is_shadow
    ]
    return min(left, default=None)


def used_share(draws: Sequence[Draw], standings: Standings) -> float | None:
    """The largest share that is spent and held of what the draws' accounts may come to; 0.8 is 80 %. None: nothing is known."""
    shares = [(standing.spent + standing.held) / draw.measure.limit for draw, standing in _known(draws, standings)]
    return max(shares, default=None)


def rate_limit_headers(draws: Sequence[Draw], standings: Standings) -> HeaderList:
    """The `x-ratelimit-*` fields, as OpenAI's, of the tightest limit of requests, and of tokens: the one with the smallest share left."""
    tightest: dict[Unit, tuple[float, int, Rate]] = {}
    for draw, standing in _known(draws, standings):
        rate = draw.line.window
        if isinstance(rate, Rate) and draw.unit in TOLD_UNITS and not draw.rule.is_shadow:
            left = max(0, rate.burst - standing.spent - standing.held)
            share = left / rate.burst
            if draw.unit not in tightest or share < tightest[draw.unit][0]:
                tightest[draw.unit] = (share, left, rate)
    return [field for unit in TOLD_UNITS if unit in tightest for field in _fields(unit, *tightest[unit][1:])]


def _fields(unit: Unit, left: int, rate: Rate) -> HeaderList:
    reset_ms = -(-(rate.burst - left) * rate.period_ms // rate.burst)  # until all of it is there again
    told = {"limit": str(rate.burst), "remaining": str(left), "reset": _duration(reset_ms)}
    return [(f"x-ratelimit-{what}-{unit}".encode(), value.encode()) for what, value in told.items()]


def _duration(ms: int) -> str:
    """As OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    if ms < 1000:
        return f"{ms}ms"
    minutes, left_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{left_ms / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _known(draws: Sequence[Draw], standings: Standings) -> Iterator[tuple[Draw, Standing]]:
    for draw, standing in zip(draws, standings, strict=True):
        if standing is not None:
            yield draw, standing
