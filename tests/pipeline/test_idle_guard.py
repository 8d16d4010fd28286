"""Silence is noticed when its time is up, not at the next look at everybody."""

from __future__ import annotations

import asyncio

import pytest

from proxy.call import Timeouts
from proxy.pipeline.idle_guard import LEAST_TICK_S, NS_PER_S, TICK_S, IdleGuard, Watch
from tests.fake_time import FakeClock, FakeTimeLoop, in_fake_time, pass_time

LONG = Timeouts()


def running_clock() -> FakeClock:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeTimeLoop)
    return loop.clock


class Watched:
    """An attempt under watch, and when it was given up."""

    def __init__(self, watch: Watch, timeouts: Timeouts) -> None:
        self._clock = running_clock()
        self.began_ns = self._clock.monotonic_ns()
        self.ended_s: float | None = None
        self.guard = IdleGuard(timeouts, self.began_ns, self.give_up)
        watch.add(self.guard)

    def give_up(self) -> None:
        self.ended_s = (self._clock.monotonic_ns() - self.began_ns) / NS_PER_S

    def head_arrives(self) -> None:
        self.guard.head_arrived(self._clock.monotonic_ns(), self.give_up)

    def hears(self) -> None:
        self.guard.last_ns = self._clock.monotonic_ns()


class CountingWatch(Watch):
    ticks = 0

    def _tick(self) -> None:
        self.ticks += 1
        super()._tick()


def is_exact(ended_s: float | None, due_s: float) -> bool:
    return ended_s is not None and due_s - 1e-6 <= ended_s <= due_s + LEAST_TICK_S + 1e-6


@pytest.mark.parametrize("key", ["first_byte_s", "total_s"])
@pytest.mark.parametrize("due_s", [0.05, 0.1, 0.3, 0.61, 1.37, 20.0])
@pytest.mark.parametrize("begun_s", [0.0, 0.01, 0.13, 0.249])
@in_fake_time
async def test_an_attempt_without_a_head_ends_when_its_time_is_up(key: str, due_s: float, begun_s: float) -> None:
    watch = Watch(running_clock())
    Watched(watch, LONG)
    await pass_time(begun_s)
    attempt = Watched(watch, Timeouts(**{key: due_s}))
    await pass_time(due_s + 1)
    assert is_exact(attempt.ended_s, due_s)


@pytest.mark.parametrize("idle_s", [0.05, 0.12, 0.4, 3.3])
@pytest.mark.parametrize("head_s", [0.01, 0.2, 0.33])
@in_fake_time
async def test_a_reply_that_falls_silent_ends_when_its_idle_time_is_up(idle_s: float, head_s: float) -> None:
    watch = Watch(running_clock())
    attempt = Watched(watch, Timeouts(idle_s=idle_s))
    await pass_time(head_s)
    attempt.head_arrives()
    await pass_time(idle_s * 0.7)
    attempt.hears()
    await pass_time(idle_s + 1)
    assert is_exact(attempt.ended_s, head_s + idle_s * 1.7)


@in_fake_time
async def test_a_slow_client_is_waited_for() -> None:
    watch = CountingWatch(running_clock())
    attempt = Watched(watch, Timeouts(idle_s=1.0))
    attempt.head_arrives()
    attempt.guard.is_sending = True
    await pass_time(30)
    assert attempt.ended_s is None
    assert watch.ticks <= 30 / TICK_S


@in_fake_time
async def test_many_deadlines_are_looked_at_together() -> None:
    watch = CountingWatch(running_clock())
    attempts = [Watched(watch, Timeouts(first_byte_s=1 + number / 1000)) for number in range(500)]
    await pass_time(2)
    assert all(is_exact(attempt.ended_s, 1 + number / 1000) for number, attempt in enumerate(attempts))
    assert watch.ticks <= 1 / TICK_S + 0.5 / LEAST_TICK_S + 2


@in_fake_time
async def test_long_times_cost_a_tick_now_and_then() -> None:
    watch = CountingWatch(running_clock())
    for _ in range(100):
        Watched(watch, LONG)
    await pass_time(10)
    assert watch.ticks <= 10 / TICK_S


@in_fake_time
async def test_nothing_ticks_where_nothing_is_watched() -> None:
    watch = CountingWatch(running_clock())
    attempt = Watched(watch, LONG)
    watch.discard(attempt.guard)
    await pass_time(TICK_S * 2)
    ticks = watch.ticks
    await pass_time(60)
    assert watch.ticks == ticks == 1
