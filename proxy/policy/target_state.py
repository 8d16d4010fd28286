"""What is known of a target from the attempts made at it: how fast, how busy, what is left of its rate limit, how its breaker stands.

Here: figures that attempts feed and strategies read; time is an argument. Not here: what is done with them (order.py, plan.py).
The state outlives a reload: it belongs to the target's name.
"""

from __future__ import annotations

import math

from proxy.config.schema import BreakerConfig
from proxy.policy.breaker import Breaker
from proxy.policy.retry import RetryBudget

DECAY_S = 10.0  # as in Finagle and linkerd
HEADROOM_S = 60.0  # providers' limits are per minute: what they said is stale after one


class PeakEwma:
    """A moving average that jumps up to every worse sample and comes down slowly. Source: Finagle's peak-EWMA load balancer."""

    __slots__ = ("_at_ns", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self._at_ns = 0

    def add(self, sample: float, now_ns: int) -> None:
        """Take a sample."""
        if self.value is None or sample > self.value:
            self.value = sample
        else:
            weight = math.exp(-max(0, now_ns - self._at_ns) / (DECAY_S * 1e9))
            self.value = self.value * weight + sample * (1 - weight)
        self._at_ns = now_ns


class TargetState:
    """One target's figures. `begin` and one of `succeeded`, `failed`, `released` enclose each attempt."""

    __slots__ = ("_first_byte_s", "_headroom", "_headroom_until_ns", "_total_s", "breaker", "in_flight", "retries")

    def __init__(self, limits: BreakerConfig, now_ns: int) -> None:
        self.breaker = Breaker(limits)
        self.retries = RetryBudget(now_ns)
        self.in_flight = 0
        self._first_byte_s = PeakEwma()
        self._total_s = PeakEwma()
        self._headroom: float | None = None
        self._headroom_until_ns = 0

    @property
    def latency_s(self) -> float | None:
        """The mean of the time to the first byte and of the whole time, each at its peak-EWMA; None before the first success."""
        first, total = self._first_byte_s.value, self._total_s.value
        return None if first is None or total is None else (first + total) / 2

    def headroom(self, now_ns: int) -> float | None:
        """The share of the provider's rate limit that is left, if it told within the last minute."""
        return self._headroom if now_ns < self._headroom_until_ns else None

    def told_headroom(self, share: float | None, now_ns: int) -> None:
        """What a reply's `x-ratelimit-*` fields said; None: nothing."""
        if share is not None:
            self._headroom = share
            self._headroom_until_ns = now_ns + int(HEADROOM_S * 1e9)

    def begin(self, now_ns: int) -> int:
        """An attempt begins. Returns the breaker's ticket."""
        self.in_flight += 1
        return self.breaker.admit(now_ns)

    def succeeded(self, ticket: int, now_ns: int, first_byte_s: float, total_s: float) -> None:
        """It went well."""
        self.in_flight -= 1
        self._first_byte_s.add(first_byte_s, now_ns)
        self._total_s.add(total_s, now_ns)
        self.breaker.succeeded(now_ns, ticket)

    def failed(self, ticket: int, now_ns: int) -> None:
        """It failed, through a fault that the breaker counts."""
        self.in_flight -= 1
        self.breaker.failed(now_ns, ticket)

    def released(self, ticket: int) -> None:
        """It ended without telling anything about the target."""
        self.in_flight -= 1
        self.breaker.released(ticket)
