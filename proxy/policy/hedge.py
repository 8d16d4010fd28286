"""Hedging: when a call that waits for its reply's first byte is sent to a second target too, and how many of a route's calls may be.

Here: the estimate of a route's waits, the budget of hedges; time and draws aren't needed. Not here: the race itself (pipeline/hedge.py).
"""

from __future__ import annotations

import math

import msgspec

from proxy.config.schema import HedgeConfig

LEAST_SAMPLES = 20
"""Before as many waits are known there is no quantile worth the name, and no hedge after one."""
MOST_SAMPLES = 1000
"""When as many are known all of them lose half their weight: what the target did some thousand calls ago is forgotten."""
FIRST_BOUND_S = 0.001
GROWTH = 1.05
"""Each bucket ends 5 % above the one before: that is how exact a quantile is."""
BUCKETS = 280  # up to 850 seconds
MOST_SAVED = 10.0
"""Hedges that a quiet route may have in hand: what isn't used in good times doesn't pile up for bad ones."""


class HedgeRule(msgspec.Struct, frozen=True):
    """A route's `hedge`, read."""

    quantile: float | None  # of the route's waits; None: `after_s` says when
    after_s: float
    max_ratio: float


def hedge_rule(config: HedgeConfig) -> HedgeRule:
    """`after` is a quantile, p50 to p99, or a time: 300ms, 1.5s."""
    after = config.after
    if after.startswith("p"):
        return HedgeRule(int(after[1:]) / 100, 0.0, config.max_ratio)
    after_s = float(after[:-2]) / 1000 if after.endswith("ms") else float(after[:-1])
    return HedgeRule(None, after_s, config.max_ratio)


class Waits:
    """How long replies let wait for their first byte: a histogram of bounded size that forgets."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0.0] * (BUCKETS + 1)
        self._total = 0.0

    def add(self, wait_s: float) -> None:
        """Take a sample."""
        over = math.log(max(wait_s, FIRST_BOUND_S) / FIRST_BOUND_S) / math.log(GROWTH)
        self._counts[min(math.ceil(over), BUCKETS)] += 1
        self._total += 1
        if self._total >= MOST_SAMPLES:
            self._counts = [count / 2 for count in self._counts]
            self._total /= 2

    def quantile_s(self, share: float) -> float | None:
        """The time within which this share of replies came, a twentieth too long at most; None while too few are known."""
        if self._total < LEAST_SAMPLES:
            return None
        rank, seen = share * self._total, 0.0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return FIRST_BOUND_S * GROWTH**bucket
        return FIRST_BOUND_S * GROWTH**BUCKETS


class HedgeState:
    """What is known of one route. It outlives a reload, under the route's name. Property: hedges <= max_ratio of calls + 10, in any period;
    from the start on, never more than max_ratio.
    """

    def __init__(self) -> None:
        self._waits = {False: Waits(), True: Waits()}  # a stream's first content comes sooner than a whole reply
        self._tokens = 0.0

    def wait_s(self, rule: HedgeRule, is_stream: bool) -> float | None:
        """How long a call waits before it is hedged; None: it isn't."""
        return rule.after_s if rule.quantile is None else self._waits[is_stream].quantile_s(rule.quantile)

    def waited(self, wait_s: float, is_stream: bool) -> None:
        """A first byte took so long; or, where a hedge was faster, at least so long."""
        self._waits[is_stream].add(wait_s)

    def call_made(self, rule: HedgeRule) -> None:
        """A call was made: it earns its share of a hedge."""
        self._tokens = min(MOST_SAVED, self._tokens + rule.max_ratio)

    def spend(self) -> bool:
        """Whether a hedge may be made now; it is, then."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Hedging(msgspec.Struct, frozen=True):
    """One route's rule, with what is known of it."""

    rule: HedgeRule
    state: HedgeState
