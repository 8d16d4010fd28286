"""A real Redis whose scripts live by a test's own clock: leases, time-outs and what a loss costs, to the millisecond and without waiting.

Here: a RedisLink that a FakeTimeLoop can drive; sidecars with it. Not here: what they should do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import redis

from proxy.call import Secret
from proxy.config.schema import StoreConfig
from proxy.spending import Period
from proxy.stores.redis_link import RedisLost, Reply, ScriptCall
from proxy.stores.redis_store import RedisStore
from tests.fake_time import FakeTimeLoop
from tests.redis_servers import RedisServer
from tests.stores.support import HOUR_MS

REAL_TIME = "redis.call('TIME')"
US_PER_S = 1_000_000
WAY_S = 0.0005


class FakeTimeRedis:
    """A server, and the time by which its scripts live: it begins with that of the machine, so that no key is over before it was made."""

    def __init__(self, server: RedisServer) -> None:
        self.client = redis.Redis(port=server.port)
        self._loop = asyncio.get_running_loop()
        self._began_us = time.time_ns() // 1000 - round(self._loop.time() * US_PER_S)
        self.window = Period(self.now_ms - HOUR_MS, self.now_ms + HOUR_MS, self.now_ms - HOUR_MS)  # of all its calls

    @property
    def now_us(self) -> int:
        return self._began_us + round(self._loop.time() * US_PER_S)

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def forget(self) -> None:
        """All of it is gone."""
        self.client.flushall()

    async def sidecar(self, *, is_new: bool = False, **config) -> RedisStore:
        """A store that has begun. `is_new`: it may find that this Redis has only just begun, and lets it settle."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FakeTimeLoop)
        if not is_new:
            self.client.set("postern:epoch", 0, nx=True)
        store = RedisStore(StoreConfig(kind="redis", url=Secret("redis://told"), **config), loop.clock, FakeTimeLink(self))
        await store.start()
        return store


class FakeTimeLink:
    """Runs scripts at once, on a connection that blocks; before and after it waits as long as it is told."""

    is_cluster = False

    def __init__(self, server: FakeTimeRedis) -> None:
        self._server = server
        self.there_s = self.back_s = WAY_S
        self.is_cut = False  # a round trip that began takes place all the same
        self.asked_again_s: float | None = None  # so long after an answer Redis hears the same question once more
        self.round_trips = self.accounts = 0

    async def run(self, calls: Sequence[ScriptCall], timeout_s: float, again: Sequence[ScriptCall] = ()) -> list[Reply | RedisLost]:
        self.round_trips += 1
        self.accounts += len(calls)
        try:
            await self._reached(2 * timeout_s if again else timeout_s)
        except RedisLost as error:
            return [error] * len(calls)
        replies: list[Reply | RedisLost] = [self._run(call) for call in calls]
        if self.asked_again_s is not None:
            asyncio.get_running_loop().call_later(self.asked_again_s, lambda: [self._run(call) for call in again])
        await asyncio.sleep(self.back_s)
        return replies

    def _run(self, call: ScriptCall) -> Reply:
        seconds, microseconds = divmod(self._server.now_us, US_PER_S)
        source = call.script.source.replace(REAL_TIME, f"{{'{seconds}', '{microseconds}'}}")
        reply: Reply = self._server.client.eval(source, len(call.keys), *call.keys, *call.arguments)
        return reply

    async def _reached(self, timeout_s: float) -> None:
        if self.is_cut:
            await asyncio.sleep(timeout_s)
            raise RedisLost("cut")
        await asyncio.sleep(self.there_s)

    async def server_ms(self, timeout_s: float) -> int:
        await self._reached(timeout_s)
        return self._server.now_ms

    async def close(self) -> None:
        return

    def keys(self, pattern: str) -> AsyncIterator[str]:
        raise NotImplementedError

    async def fields(self, key: str) -> dict[str, str]:
        raise NotImplementedError

    async def add_field(self, key: str, name: str, value: str) -> bool:
        raise NotImplementedError

    async def drop_field(self, key: str, name: str) -> bool:
        raise NotImplementedError


def link_of(store: RedisStore) -> FakeTimeLink:
    link = store._link
    assert isinstance(link, FakeTimeLink)
    return link
