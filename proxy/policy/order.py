"""Strategies: in which order a rule's targets are asked.

Here: pure orderings of candidates by what is known of their targets; chance is an argument. Not here: which candidates there are, and which
are dropped (plan.py), how the figures are measured (target_state.py).
Every ordering names all candidates: the first is asked, the others follow where it fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import assert_never

import msgspec

from proxy.config.schema import Strategy

Chance = Callable[[], float]
"""Uniform in [0, 1)."""

_HASH_RANGE = 1 << 64


class Candidate(msgspec.Struct, frozen=True):
    """A target that may be asked, with what the strategies go by. None = not known yet."""

    target: str
    model: str | None = None  # sent upstream instead of the client's
    weight: float = 1.0
    in_flight: int = 0
    latency_s: float | None = None  # peak-EWMA of the time to the first byte and of the whole
    headroom: float | None = None  # share of the provider's own rate limit that is left
    cost_nusd: int | None = None  # what this call is expected to cost there


def order(candidates: Sequence[Candidate], strategy: Strategy, chance: Chance, sticky_key: str) -> list[Candidate]:
    """The candidates in the order of a strategy.

    `sticky_key` is what sticky goes by; `chance` is drawn from only by weighted and fastest.
    """
    match strategy:
        case "priority":
            return list(candidates)
        case "weighted":
            return _weighted(candidates, chance)
        case "fastest":
            return _fastest(candidates, chance)
        case "sticky":
            return sorted(candidates, key=lambda one: -_rendezvous(one, sticky_key))
        case "cheapest" | "least_busy" | "headroom":
            return sorted(candidates, key=_FIGURES[strategy])  # equals stay in the order they were declared in
        case _:
            assert_never(strategy)


def reason(one: Candidate, strategy: Strategy) -> str:
    """The figure that a candidate has its place by, for people."""
    match strategy:
        case "priority":
            return "in the rule's order"
        case "weighted":
            return f"drawn with weight {one.weight:g}"
        case "fastest":
            return "not measured yet" if one.latency_s is None else f"{load(one):.3f} s expected"
        case "sticky":
            return "by hash"
        case "cheapest":
            return "price unknown" if one.cost_nusd is None else f"{one.cost_nusd / 1e9:.6g} USD expected"
        case "least_busy":
            return f"{one.in_flight} in flight"
        case "headroom":
            return "no rate limit told" if one.headroom is None else f"{one.headroom:.0%} of its rate limit left"
        case _:
            assert_never(strategy)


def load(one: Candidate) -> float:
    """How long one more call would take: the latency, for each call that is waiting already. A target not asked yet is taken for fast."""
    return (one.latency_s or 0.0) * (one.in_flight + 1)


_FIGURES: dict[str, Callable[[Candidate], float]] = {
    "cheapest": lambda one: math.inf if one.cost_nusd is None else one.cost_nusd,
    "least_busy": lambda one: one.in_flight,
    "headroom": lambda one: -1.0 if one.headroom is None else -one.headroom,
}
"""What a strategy sorts by, the smallest first."""


def _weighted(candidates: Sequence[Candidate], chance: Chance) -> list[Candidate]:
    """Each place is drawn by weight from those left (Efraimidis and Spirakis 2006); weight 0 comes only after all others."""
    drawn = [(-math.log(1 - chance()) / one.weight if one.weight > 0 else math.inf, one) for one in candidates]
    drawn.sort(key=lambda pair: pair[0])
    return [one for _, one in drawn]


def _fastest(candidates: Sequence[Candidate], chance: Chance) -> list[Candidate]:
    """The better of two drawn at random goes first, so that all gates don't run to the same target; the others follow by load."""
    ranked = sorted(candidates, key=load)
    if len(ranked) > 2:
        first = int(chance() * len(ranked))
        second = int(chance() * (len(ranked) - 1))
        second += second >= first
        ranked.insert(0, ranked.pop(min(first, second)))
    return ranked


def _rendezvous(one: Candidate, key: str) -> float:
    """Weighted rendezvous hashing: when a target goes, only its own keys move, and each of them to the next on its own list."""
    told = f"{one.target}\0{one.model or ''}\0{key}".encode("utf-8", "surrogatepass")
    share = (int.from_bytes(blake2b(told, digest_size=8).digest(), "big") + 0.5) / _HASH_RANGE
    return one.weight / -math.log(share)
