"""How long calls wait for Redis, to the millisecond: on a clock of the test's own, with a Redis that does as it is told."""

from __future__ import annotations

import asyncio

import pytest

from proxy.call import Secret
from proxy.config.schema import StoreConfig
from proxy.spending import Fit, Reserved, Short
from proxy.stores.redis_link import RedisLost
from proxy.stores.redis_store import EPOCH, RedisStore
from tests.fake_time import START_UNIX_NS, FakeTimeLoop, in_fake_time, pass_time
from tests.stores.support import line, period

NOW_MS = START_UNIX_NS // 1_000_000
MAX_WAIT_S = 0.1
LONG_AGO_MS = 1_000_000


class ToldLink:
    """Grants everything; or hangs, or refuses."""

    is_cluster = False

    def __init__(self) -> None:
        self.mode = "answers"
        self.round_trips: list[int] = []  # how many accounts each had

    async def run(self, calls, timeout_s, again=()):
        if calls[0].script is EPOCH:
            return [[LONG_AGO_MS]]
        self.round_trips.append(len(calls))
        try:
            await self._as_told(2 * timeout_s if again else timeout_s)
        except RedisLost as error:
            return [error for _ in calls]
        await asyncio.sleep(0.001)
        return [[b"ok", NOW_MS, b"1", 1, self._granted(call.arguments), 0, 0, 0, 0, 0, 0, []] for call in calls]

    def _granted(self, arguments) -> int:
        needs = arguments[20 + 5 * arguments[16] :: 2]
        return sum(int(amount) for amount in (arguments[9], arguments[10], *needs))

    async def _as_told(self, timeout_s: float) -> None:
        if self.mode == "hangs":
            await asyncio.sleep(timeout_s)
        if self.mode != "answers":
            raise RedisLost(f"it {self.mode}")

    async def server_ms(self, timeout_s) -> int:
        await self._as_told(timeout_s)
        return NOW_MS

    async def close(self) -> None:
        return


async def started(link: ToldLink) -> RedisStore:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeTimeLoop)
    store = RedisStore(StoreConfig(kind="redis", url=Secret("redis://told")), loop.clock, link)  # type: ignore[arg-type]
    await store.start()
    return store


async def waited_s(store: RedisStore, lines, calls: int = 1) -> float:
    """The longest of some calls at once."""
    loop = asyncio.get_running_loop()

    async def ask() -> float:
        began_s = loop.time()
        await store.ask(lines, NOW_MS)
        return loop.time() - began_s

    return max(await asyncio.gather(*(ask() for _ in range(calls))))


@pytest.mark.parametrize("mode", ["hangs", "refuses"])
@in_fake_time
async def test_no_call_waits_longer_than_two_timeouts(mode) -> None:
    link = ToldLink()
    store = await started(link)
    link.mode = mode
    assert await waited_s(store, [line(period(NOW_MS), 1, 10)], calls=200) <= MAX_WAIT_S + 1e-6
    assert store.is_lost
    assert await waited_s(store, [line(period(NOW_MS), 1, 10, "other:usd:")], calls=200) == 0.0
    await store.close()


@in_fake_time
async def test_a_call_behind_a_round_trip_that_hangs_waits_no_longer_than_others() -> None:
    link = ToldLink()
    store = await started(link)
    link.mode = "hangs"
    first = asyncio.get_running_loop().create_task(waited_s(store, [line(period(NOW_MS), 1, 10, "a:usd:")]))
    await pass_time(0.04)
    assert await waited_s(store, [line(period(NOW_MS), 1, 10, "b:usd:")]) <= MAX_WAIT_S + 1e-6
    await first
    await store.close()


@in_fake_time
async def test_calls_that_wait_for_one_account_share_a_round_trip() -> None:
    link = ToldLink()
    store = await started(link)
    await waited_s(store, [line(period(NOW_MS), 1, 100_000), line(period(NOW_MS), 1, 100_000, "b:usd:")], calls=60)
    assert link.round_trips == [2]
    await store.close()


@in_fake_time
async def test_spending_is_told_soon_and_many_accounts_at_once() -> None:
    link = ToldLink()
    store = await started(link)
    for number in range(40):
        answer = store.reserve([line(period(NOW_MS), 5, 10, f"a{number}:usd:", fit=Fit.NOTHING)], NOW_MS)
        assert isinstance(answer, Reserved)
        store.settle(answer.holds[0], 5, NOW_MS)
    await pass_time(0.02)
    assert link.round_trips == [40]
    await store.close()


@in_fake_time
async def test_a_lost_redis_is_probed_and_taken_back_without_a_call() -> None:
    link = ToldLink()
    store = await started(link)
    link.mode = "refuses"
    assert isinstance(await store.ask([line(period(NOW_MS), 1, 10)], NOW_MS), Short)
    link.mode = "answers"
    await pass_time(1.0)
    assert not store.is_lost
    assert isinstance(await store.ask([line(period(NOW_MS), 1, 10)], NOW_MS), Reserved)
    await store.close()


@in_fake_time
async def test_a_store_that_is_not_used_asks_nothing() -> None:
    link = ToldLink()
    store = await started(link)
    await pass_time(60.0)
    assert link.round_trips == []
    await store.close()


@in_fake_time
async def test_a_call_that_is_cancelled_leaves_no_trace() -> None:
    link = ToldLink()
    store = await started(link)
    link.mode = "hangs"
    task = asyncio.get_running_loop().create_task(store.ask([line(period(NOW_MS), 1, 10)], NOW_MS))
    await pass_time(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not any(share.waiters or share.is_busy for share in store._shares.values())
    await store.close()


class HalfClusterLink(ToldLink):
    """A cluster, one of whose nodes doesn't answer."""

    is_cluster = True

    async def run(self, calls, timeout_s, again=()):
        replies = await super().run(calls, timeout_s, again)
        away = [any("away" in key for key in call.keys) for call in calls]
        if any(away):
            await asyncio.sleep(2 * timeout_s)
        return [RedisLost("it hangs") if is_away else reply for is_away, reply in zip(away, replies, strict=True)]


@in_fake_time
async def test_a_node_that_is_away_makes_no_other_accounts_lost() -> None:
    link = HalfClusterLink()
    store = await started(link)
    here = [line(period(NOW_MS), 1, 10, f"here{number}:usd:") for number in range(20)]
    for number, each in enumerate(here):
        assert isinstance(await store.ask([line(period(NOW_MS), 1, 10, f"away{number}:usd:")], NOW_MS), Short)
        assert not store.is_lost
        assert isinstance(await store.ask([each], NOW_MS), Reserved)
        await pass_time(0.1)
    await store.close()
