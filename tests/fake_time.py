"""Time for tests: a clock that stands still, and an event loop that moves it, when nothing else is left to do, to its next timer.

An hour of silence passes in no time, and a script under which nothing can ever happen again fails instead of hanging.
"""

from __future__ import annotations

import asyncio
import functools
import math
import selectors
from collections.abc import Callable, Coroutine

NS_PER_S = 1_000_000_000
START_UNIX_NS = 1_790_000_000 * NS_PER_S


class FakeClock:
    """Port: Clock. Starts at START_UNIX_NS; only `advance` moves it."""

    def __init__(self) -> None:
        self._now_ns = 1_000 * NS_PER_S

    def time_ns(self) -> int:
        return START_UNIX_NS - 1_000 * NS_PER_S + self._now_ns

    def monotonic_ns(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        self._now_ns += max(1, math.ceil(seconds * NS_PER_S))


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: where a real one would sleep, the clock jumps."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise AssertionError("the script hangs: nothing is ready, and no timer runs")
        self._clock.advance(timeout)
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that lives by a FakeClock. Sockets whose other end is in the same test work as ever."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        super().__init__(_JumpingSelector(self.clock))

    def time(self) -> float:
        return self.clock.monotonic_ns() / NS_PER_S


def in_fake_time(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    """Run an `async def` test on a loop of its own that lives by a FakeClock."""

    @functools.wraps(test)
    def run(*arguments: object, **fixtures: object) -> None:
        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(test(*arguments, **fixtures))

    return run


async def pass_time(seconds: float) -> None:
    """Let time go by, and with it everything that was due in it."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, done.set_result, None)
    await done
