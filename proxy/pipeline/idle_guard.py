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
TICK_S = 0.25  # at least that often all attempts are looked at
LEAST_TICK_S = 0.02  # at most that often; so late may a silence be noticed


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

    def soonest_s(self, now_ns: int) -> float:
        """When to look again, in seconds: its time isn't up before. What begins anew with each event ends in `idle_s` at the earliest."""
        timeouts = self.timeouts
        silence_s = timeouts.idle_s if self.has_head else timeouts.first_byte_s
        ends_s = timeouts.idle_s if self.is_sending else silence_s - (now_ns - self.last_ns) / NS_PER_S
        if timeouts.total_s is not None:
            ends_s = min(ends_s, timeouts.total_s - (now_ns - self.started_ns) / NS_PER_S)
        return min(ends_s, timeouts.idle_s)


class Watch:
    """All guards of a gate. Ticks only while there is something to watch, and at the moment when the next time may be up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guards: set[IdleGuard] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_ns = 0  # when it is due

    def add(self, guard: IdleGuard) -> None:
        """Watch an attempt that begins now."""
        self._guards.add(guard)
        timeouts = guard.timeouts
        if self._timer is None:
            self._tick_in(guard.soonest_s(guard.started_ns), guard.started_ns)
        elif timeouts.first_byte_s < TICK_S or timeouts.idle_s < TICK_S or (timeouts.total_s is not None and timeouts.total_s < TICK_S):
            self._tick_sooner(guard)

    def discard(self, guard: IdleGuard) -> None:
        """The attempt is over."""
        self._guards.discard(guard)

    def _tick_sooner(self, guard: IdleGuard) -> None:
        """Bring the next tick forward, if the time of a guard may be up before it."""
        wait_s = guard.soonest_s(guard.started_ns)
        if self._timer is not None and guard.started_ns + wait_s * NS_PER_S < self._next_ns:
            self._timer.cancel()
            self._tick_in(wait_s, guard.started_ns)

    def _tick(self) -> None:
        now_ns = self._clock.monotonic_ns()
        self._guards -= {guard for guard in self._guards if guard.check(now_ns)}
        self._timer = None
        if self._guards:
            self._tick_in(min(guard.soonest_s(now_ns) for guard in self._guards), now_ns)

    def _tick_in(self, wait_s: float, now_ns: int) -> None:
        """Tick when that much time has passed, within the bounds of ticks."""
        wait_s = min(TICK_S, max(LEAST_TICK_S, wait_s))
        self._next_ns = now_ns + int(wait_s * NS_PER_S)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)
