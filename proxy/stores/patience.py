"""Time-outs that don't count the time in which this process itself was held up.

Here: a clock that goes on only while the event loop does. Not here: what is waited for.
A loop that has five hundred calls to begin comes to a reply late, however quickly it was sent: by the machine's clock, a Redis that answers
in a fraction of a millisecond would be taken for lost under load, when budgets need it most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

TICK_S = 0.0025
MOST_S = 3 * TICK_S
"""What one turn of the loop counts at most, however long it took."""


class Patience:
    """One event loop's. `now_s` goes on while anybody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._limits: dict[asyncio.Timeout, float] = {}
        self._waiting = 0
        self._at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        """Time goes on."""
        self._waiting += 1
        self._go_on()
        try:
            yield
        finally:
            self._waiting -= 1

    @contextlib.asynccontextmanager
    async def until(self, until_s: float) -> AsyncIterator[None]:
        """As asyncio.timeout_at, by `now_s`."""
        async with asyncio.timeout(None) as limit:
            self._limits[limit] = until_s
            self._go_on()
            try:
                yield
            finally:
                self._limits.pop(limit, None)

    def timeout(self, seconds: float) -> contextlib.AbstractAsyncContextManager[None]:
        """As asyncio.timeout."""
        return self.until(self.now_s + seconds)

    def _go_on(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._at_s = loop.time()
            self._timer = loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        now_s = loop.time()
        self.now_s += min(now_s - self._at_s, MOST_S)
        for limit in [limit for limit, until_s in self._limits.items() if until_s <= self.now_s]:
            del self._limits[limit]
            limit.reschedule(now_s)
        if self._waiting or self._limits:
            self._go_on()
