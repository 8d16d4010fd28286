"""Gives up on upstreams that went silent, at the price of one timer for all attempts instead of some per call.

Here: the time to a reply's head, its idle and its total time.
Not here: the time to connect (upstream/), what follows (attempts.py, relay.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.call import Timeouts
from proxy.ports import Clock

NS_PER_S = 1_000_000_000
TICK_S = 0.25  # how late a silence may be noticed


class IdleGuard:
    """One attempt under watch: when its time is up `give_up` is called, and `expired` says why. It begins with the wait for the head."""

    __slots__ = ("expired", "give_up", "has_head", "is_sending", "last_ns", "started_ns", "timeouts")

    def __init__(self, timeouts: Timeouts, started_ns: int, give_up: Callable[[], object]) -> None:
        self.timeouts = timeouts
        self.started_ns = started_ns
        self.last_ns = started_ns  # when something last went or came
        self.give_up = give_up
        self.has_head = False
        self.is_sending = False  # it is a slow client that is waited for: the upstream isn't asked for more
        self.expired = ""

    def head_arrived(self, now_ns: int, give_up: Callable[[], object]) -> None:
        """From here on it is the reply that is watched."""
        self.has_head = True
        self.last_ns = now_ns
        self.give_up = give_up

    def check(self, now_ns: int) -> bool:
        """Whether the attempt's time is up; then it was given up."""
        timeouts, silent_ns = self.timeouts, now_ns - self.last_ns
        if not self.has_head and silent_ns >= timeouts.first_byte_s * NS_PER_S:
            self.expired = f"no reply within {timeouts.first_byte_s:g} s (timeouts.first_byte_s)"
        elif self.has_head and not self.is_sending and silent_ns >= timeouts.idle_s * NS_PER_S:
            self.expired = f"nothing came for {timeouts.idle_s:g} s (timeouts.idle_s)"
        elif timeouts.total_s is not None and now_ns - self.started_ns >= timeouts.total_s * NS_PER_S:
            self.expired = f"not done after {timeouts.total_s:g} s (timeouts.total_s)"
        else:
            return False
        self.give_up()
        return True


class Watch:
    """All guards of a gate. Ticks only while there is something to watch."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guards: set[IdleGuard] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, guard: IdleGuard) -> None:
        """Watch an attempt."""
        self._guards.add(guard)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def discard(self, guard: IdleGuard) -> None:
        """The attempt is over."""
        self._guards.discard(guard)

    def _tick(self) -> None:
        now_ns = self._clock.monotonic_ns()
        self._guards -= {guard for guard in self._guards if guard.check(now_ns)}
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick) if self._guards else None
