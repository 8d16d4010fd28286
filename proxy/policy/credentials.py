"""Which of a target's credentials is used: the current one until it is refused, then the next, while the refused one rests.

Here: where each stands, by its position; time is an argument. Not here: the credentials themselves, which faults rotate (faults.py).
"""

from __future__ import annotations

from collections.abc import Collection

from proxy.policy.faults import REACTIONS, Fault

REFUSED_S = 600.0  # a key that isn't taken, or an account without money: somebody has to see to it
THROTTLED_S = 60.0  # limits are per minute, where the provider doesn't say when to come back
NS_PER_S = 1_000_000_000


class Credentials:
    """One target's credentials, each known by its position alone: 0, 1, … A target with one or none has no choice, and none rests."""

    __slots__ = ("_back_ns", "_current")

    def __init__(self, count: int) -> None:
        self._current = 0
        self._back_ns = [0] * count  # until when each rests

    def __len__(self) -> int:
        return len(self._back_ns)

    def current(self, now_ns: int) -> int:
        """The position of the one to use: where all rest, of the one that comes back soonest. 0 where there is none."""
        if len(self) > 1 and self._rests(self._current, now_ns):
            following = self.following(now_ns)
            soonest = min(range(len(self)), key=self._back_ns.__getitem__)
            self._current = soonest if following is None else following
        return self._current

    def following(self, now_ns: int, tried: Collection[int] = ()) -> int | None:
        """The first from the current one on, once round, that neither rests nor was tried."""
        ring = ((self._current + step) % len(self) for step in range(len(self)))
        return next((position for position in ring if position not in tried and not self._rests(position, now_ns)), None)

    def failed(self, position: int, fault: Fault, retry_after_s: float | None, now_ns: int) -> None:
        """One had a fault. If that rotates, it rests, and the next becomes current; `retry_after_s` is what the provider asked for."""
        if len(self) < 2 or not REACTIONS[fault].rotates:
            return
        rest_s = REFUSED_S
        if fault is Fault.THROTTLED:
            rest_s = THROTTLED_S if retry_after_s is None else retry_after_s
        self._back_ns[position] = now_ns + int(rest_s * NS_PER_S)
        if position == self._current:
            self._current = (position + 1) % len(self)

    def wait_s(self, retry_after_s: float | None, now_ns: int) -> float | None:
        """How long a retry has to wait: not for the one that was throttled, where another is back sooner."""
        if retry_after_s is None or len(self) < 2:
            return retry_after_s
        return min(retry_after_s, max(0, min(self._back_ns) - now_ns) / NS_PER_S)

    def _rests(self, position: int, now_ns: int) -> bool:
        return self._back_ns[position] > now_ns
