"""What tests of stores share: lines, periods around now, stores opened and closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from redis.exceptions import RedisError

from proxy.call import Secret
from proxy.config.schema import StoreConfig
from proxy.ports import BudgetStore
from proxy.spending import ENDLESS, Answer, Hold, Line, Period, Rate, Reserved
from proxy.stores.redis_link import ClientLink
from proxy.stores.redis_store import RedisStore

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class SystemClock:
    time_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)


class SkewedClock(SystemClock):
    """A sidecar whose clock is wrong."""

    def __init__(self, skew_ms: int) -> None:
        self.skew_ms = skew_ms

    def time_ns(self) -> int:
        return time.time_ns() + self.skew_ms * 1_000_000


def unix_ms() -> int:
    return time.time_ns() // 1_000_000


def period(now_ms: int, length_ms: int = HOUR_MS) -> Period:
    """A calendar's window in whose middle we are."""
    return Period(now_ms - length_ms // 2, now_ms + length_ms - length_ms // 2, now_ms - length_ms // 2)


def line(window: Period | Rate, amount: int, limit: int, account: str = "day:usd:tenant=acme", **fields) -> Line:
    return Line(account, window, amount, limit, fields.pop("ordinary_limit", limit), **fields)


def at_once(limit: int, account: str = "jobs:concurrency:user=ada") -> Line:
    """A call at a time."""
    return Line(account, ENDLESS, 1, limit, limit)


async def reserve(store: BudgetStore, lines: Sequence[Line], now_ms: int) -> Answer:
    """As the pipeline does it."""
    return store.reserve(lines, now_ms) or await store.ask(lines, now_ms)


def holds(answer: Answer) -> list[Hold]:
    assert isinstance(answer, Reserved), answer
    return answer.holds


async def spend(store: BudgetStore, one: Line, spent: int, now_ms: int) -> None:
    """Hold what a line asks for, and settle it."""
    (hold,) = holds(await reserve(store, [one], now_ms))
    store.settle(hold, spent, now_ms)


@contextlib.asynccontextmanager
async def redis_store(url: str, clock=None, *, is_new=False, **config) -> AsyncIterator[RedisStore]:
    """`is_new`: what a store begins with in a Redis that has nothing; else it finds one that began long ago, and needn't let it settle."""
    store = RedisStore(StoreConfig(kind="redis", url=Secret(url), **config), clock or SystemClock())
    if not is_new:
        await began_long_ago(store)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def began_long_ago(store: RedisStore) -> None:
    """Redis has forgotten nothing of late, if it is there."""
    link = store._link
    if isinstance(link, ClientLink) and link._client is not None:
        with contextlib.suppress(RedisError, OSError):
            await link._client.set(f"{store._prefix}:epoch", 0, nx=True)


async def crash(store: RedisStore) -> None:
    """The process is gone: nothing more is told, nothing given back."""
    await store._syncer.stop()
    await store._link.close()


def is_well(store: RedisStore) -> bool:
    """Nothing of it is lost, and everybody has told what Redis may have forgotten."""
    return not store.is_lost and not any(share.is_lost or share.is_settling for share in store._shares.values())


async def until(condition, timeout_s: float = 10.0) -> None:
    """Wait for what happens by itself."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
