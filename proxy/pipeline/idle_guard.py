"""Closes upstreams that went silent, at the price of one timer for all replies instead of one per chunk.

Here: idle and total time of replies. Not here: the time until a reply's head (attempts.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.call import Timeouts
from proxy.ports import Clock

NS_PER_S = 1_000_000_000
TICK_S = 0.25  # how late a silence may be noticed


class IdleGuard:
    """One reply under watch: after its time is up `close` is called, and `expired` says why."""

    __slots__ = ("close", "expired", "last_ns", "started_ns", "timeouts")

    def __init__(self, timeouts: Timeouts, started_ns: int, now_ns: int, close: Callable[[], None]) -> None:
        self.timeouts = timeouts
        self.started_ns = started_ns
        self.last_ns = now_ns  # when something last arrived
        self.close = close
        self.expired = ""

    def check(self, now_ns: int) -> bool:
        """Whether the reply's time is up; then its upstream is closed."""
        timeouts = self.timeouts
        if now_ns - self.last_ns >= timeouts.idle_s * NS_PER_S:
            self.expired = f"nothing came for {timeouts.idle_s:g} s (timeouts.idle_s)"
        elif timeouts.total_s is not None and now_ns - self.started_ns >= timeouts.total_s * NS_PER_S:
            self.expired = f"not done after {timeouts.total_s:g} s (timeouts.total_s)"
        else:
            return False
        self.close()
        return True


class Watch:
    """All guards of a gate. Ticks only while there is something to watch."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guards: set[IdleGuard] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, guard: IdleGuard) -> None:
        """Watch a reply."""
        self._guards.add(guard)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def discard(self, guard: IdleGuard) -> None:
        """The reply is over."""
        self._guards.discard(guard)

    def _tick(self) -> None:
        now_ns = self._clock.monotonic_ns()
        self._guards -= {guard for guard in self._guards if guard.check(now_ns)}
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick) if self._guards else None
