"""A Redis that forgets everything, at any step and again and again: no limit is passed, and nothing stays lost.

On a clock of the test's own. A seed that fails stands in the test's name.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from proxy.spending import Fit, Period, Rate, Reserved, Short, StoreLost
from proxy.stores.account_memory import SETTLE_MS
from proxy.stores.redis_store import RedisStore
from tests.fake_time import in_fake_time, pass_time
from tests.stores.fake_time_redis import FakeTimeRedis, link_of
from tests.stores.support import holds, line, reserve, spend

LIMIT = 100
ACCOUNTS = ("day:usd:tenant=acme", "day:tokens:tenant=acme")
SETTLE_S = SETTLE_MS / 1000
MOST_WAIT_S = 0.105  # twice `timeout_ms`
SELDOM_S = (0.4, 0.5, 0.55, 0.6, 0.74, 0.78, 1.0)
OFTEN_S = (0.001, 0.01, 0.05, 0.25, *SELDOM_S)
SETTLED_S = 3.0  # what nobody claims after a loss is let go by then


class World:
    """Sidecars, their clients, and what really was held and spent."""

    def __init__(self, server, seed: int) -> None:
        self.redis = FakeTimeRedis(server)
        self.chance = random.Random(seed)
        self.stores: list[RedisStore] = []
        self.used = dict.fromkeys(ACCOUNTS, 0)
        self.served = 0

    async def start_sidecar(self) -> RedisStore:
        store = await self.redis.sidecar(is_new=True)
        self.stores.append(store)
        return store

    async def call(self, store: RedisStore, amount: int, takes_s: float) -> bool:
        """A call that spends some of what it holds."""
        lines = [line(self.redis.window, amount, LIMIT, account) for account in self.chance.sample(ACCOUNTS, self.chance.randint(1, 2))]
        now_ms = self.redis.now_ms
        answer = store.reserve(lines, now_ms) or await store.ask(lines, now_ms)
        if not isinstance(answer, Reserved):
            return False
        self.served += 1
        for each in lines:
            self.used[each.account] += amount
            assert self.used[each.account] <= LIMIT, each.account
        await asyncio.sleep(takes_s)
        for hold in answer.holds:
            spent = self.chance.choice([0, 0, amount // 5, self.chance.randint(0, amount)]) if amount > 1 else 1
            self.used[hold.line.account] -= amount - spent
            store.settle(hold, spent, now_ms)
        return True

    async def client(self, store: RedisStore, until_s: float) -> None:
        while store._time() < until_s:
            await self.call(store, self.chance.choice([1, 5, 20, 40]), self.chance.choice([0.001, 0.01, 0.05, 0.3]))
            await asyncio.sleep(self.chance.choice([0, 0.001, 0.02, 0.1, 0.7]))

    async def links_vary(self, until_s: float) -> None:
        while self.stores[0]._time() < until_s:
            for store in self.stores:
                link = link_of(store)
                link.there_s, link.back_s = (self.chance.choice([0.0002, 0.001, 0.005, 0.02]) for _ in range(2))
                link.asked_again_s = self.chance.choice([None, 0.0001, 0.004, 0.03])
            await asyncio.sleep(0.02)

    async def forgets(self, gaps_s: Sequence[float], times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(self.chance.choice(gaps_s))
            self.redis.forget()

    async def all_that_is_left(self, is_exact: bool) -> None:
        """It can be had by one call, and no more than that."""
        await asyncio.sleep(SETTLED_S)
        for account in ACCOUNTS:
            left = LIMIT - self.used[account]
            store = self.chance.choice(self.stores)
            now_ms = self.redis.now_ms
            assert not isinstance(await store.ask([line(self.redis.window, left + 1, LIMIT, account)], now_ms), Reserved)
            if is_exact:
                assert isinstance(await store.ask([line(self.redis.window, left, LIMIT, account)], now_ms), Reserved)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("gaps_s", [SELDOM_S, OFTEN_S], ids=["seldom", "often"])
@in_fake_time
async def test_no_limit_is_passed_whenever_redis_forgets(own_redis, gaps_s, seed) -> None:
    """Who doesn't hear of a loss before the next one may tell something twice, and never too little."""
    world = World(own_redis, seed)
    for _ in range(3):
        await world.start_sidecar()
    until_s = asyncio.get_running_loop().time() + 6.0
    async with asyncio.TaskGroup() as tasks:
        for store in world.stores:
            for _ in range(4):
                tasks.create_task(world.client(store, until_s))
        tasks.create_task(world.links_vary(until_s))
        tasks.create_task(world.forgets(gaps_s, world.chance.randint(1, 12)))
    assert world.served
    await world.all_that_is_left(is_exact=gaps_s is SELDOM_S)
    for store in world.stores:
        await store.close()


@in_fake_time
async def test_who_knows_nothing_is_granted_nothing_before_those_who_know_have_spoken(own_redis) -> None:
    """A sidecar that never heard of the account is the first to ask for it after the loss."""
    redis = FakeTimeRedis(own_redis)
    knowing, new = [await redis.sidecar() for _ in range(2)]
    await spend(knowing, line(redis.window, 60, LIMIT), 60, 0)
    (_,) = holds(await knowing.ask([line(redis.window, 30, LIMIT)], 0))
    await pass_time(1.0)
    redis.forget()
    assert not isinstance(await new.ask([line(redis.window, 50, LIMIT)], 0), Reserved)
    await pass_time(1.0)
    assert not isinstance(await new.ask([line(redis.window, 11, LIMIT)], 0), Reserved)
    assert isinstance(await new.ask([line(redis.window, 10, LIMIT)], 0), Reserved)


@in_fake_time
async def test_a_sidecar_that_starts_after_the_loss_is_granted_nothing_before_others_have_spoken(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    knowing = await redis.sidecar()
    await spend(knowing, line(redis.window, 60, LIMIT), 60, 0)
    await pass_time(1.0)
    redis.forget()
    new = await redis.sidecar(is_new=True)
    assert not isinstance(await new.ask([line(redis.window, 41, LIMIT)], 0), Reserved)
    await pass_time(SETTLE_S)
    assert not isinstance(await new.ask([line(redis.window, 41, LIMIT)], 0), Reserved)
    assert isinstance(await new.ask([line(redis.window, 40, LIMIT)], 0), Reserved)


@in_fake_time
async def test_a_sidecar_that_ends_after_the_loss_tells_all_before(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    ending, other = [await redis.sidecar() for _ in range(2)]
    await spend(ending, line(redis.window, 60, LIMIT), 60, 0)
    await pass_time(1.0)
    redis.forget()
    await ending.close()
    await pass_time(1.0)
    assert not isinstance(await other.ask([line(redis.window, 41, LIMIT)], 0), Reserved)
    assert isinstance(await other.ask([line(redis.window, 40, LIMIT)], 0), Reserved)


@in_fake_time
async def test_a_sidecar_that_is_busy_with_rates_notices_a_loss(own_redis) -> None:
    redis, rate = FakeTimeRedis(own_redis), Rate(1_000_000, 1000)
    busy, new = [await redis.sidecar() for _ in range(2)]
    await spend(busy, line(redis.window, 60, LIMIT), 60, 0)
    await pass_time(1.0)
    redis.forget()
    for _ in range(200):
        await spend(busy, line(rate, 1, 1_000_000, "calls:requests:"), 1, 0)
        await pass_time(0.005)
    assert not isinstance(await new.ask([line(redis.window, 41, LIMIT)], 0), Reserved)
    assert isinstance(await new.ask([line(redis.window, 40, LIMIT)], 0), Reserved)


@in_fake_time
async def test_only_the_first_sidecar_of_a_new_redis_lets_it_settle(own_redis) -> None:
    redis, loop = FakeTimeRedis(own_redis), asyncio.get_running_loop()
    began_s = loop.time()
    await redis.sidecar(is_new=True)
    assert SETTLE_S <= loop.time() - began_s < SETTLE_S + 0.01
    began_s = loop.time()
    await redis.sidecar(is_new=True)
    assert loop.time() - began_s < 0.01


@in_fake_time
async def test_the_first_call_of_an_account_waits_for_nobody(own_redis) -> None:
    redis, loop = FakeTimeRedis(own_redis), asyncio.get_running_loop()
    store = await redis.sidecar()
    began_s = loop.time()
    assert isinstance(await store.ask([line(redis.window, 1, LIMIT)], 0), Reserved)
    assert loop.time() - began_s < 0.005


@pytest.mark.parametrize(("on_store_lost", "expected"), [("open", Reserved), ("closed", StoreLost), ("local", Short)])
@in_fake_time
async def test_who_would_have_to_wait_for_others_to_tell_does_as_if_redis_were_lost(own_redis, on_store_lost, expected) -> None:
    redis, loop = FakeTimeRedis(own_redis), asyncio.get_running_loop()
    store = await redis.sidecar()
    await spend(store, line(redis.window, 1, LIMIT), 1, 0)
    await pass_time(1.0)
    redis.forget()
    began_s = loop.time()
    answer = await store.ask([line(redis.window, 1, LIMIT, on_store_lost=on_store_lost)], 0)
    assert loop.time() - began_s <= MOST_WAIT_S
    assert isinstance(answer, expected)
    if isinstance(answer, Short):
        assert answer.shortages[0].is_store_lost
    await pass_time(SETTLE_S)
    assert isinstance(await store.ask([line(redis.window, 1, LIMIT, on_store_lost=on_store_lost)], 0), Reserved)


@in_fake_time
async def test_calls_at_a_steady_pace_do_not_notice_a_loss_while_there_is_plenty(own_redis) -> None:
    redis, loop = FakeTimeRedis(own_redis), asyncio.get_running_loop()
    store = await redis.sidecar()
    plenty = line(redis.window, 10, 1_000_000)
    for number in range(400):
        if number == 200:
            redis.forget()
        began_s = loop.time()
        (hold,) = holds(await reserve(store, [plenty], 0))
        assert loop.time() - began_s < 0.01
        await pass_time(0.01)
        store.settle(hold, 10, 0)


@in_fake_time
async def test_thousands_of_accounts_are_told_again_once_and_in_time(own_redis) -> None:
    redis, count = FakeTimeRedis(own_redis), 2000
    store = await redis.sidecar()
    for number in range(count):
        await spend(store, line(redis.window, 1, LIMIT, f"a{number}:usd:", fit=Fit.NOTHING), 1, 0)
    await pass_time(1.0)
    redis.forget()
    link_of(store).accounts = 0
    await pass_time(SETTLE_S)
    assert {share.is_settling for share in store._shares.values()} == {True}
    assert link_of(store).accounts < 5 * count


@in_fake_time
async def test_an_account_whose_window_is_over_is_not_spoken_of_any_more(own_redis) -> None:
    """Redis forgets it a minute later: that is no loss."""
    redis = FakeTimeRedis(own_redis)
    store = await redis.sidecar()
    ending = Period(redis.now_ms - 1000, redis.now_ms + 1000, redis.now_ms - 1000)
    await spend(store, line(ending, 1, LIMIT), 1, 0)
    await pass_time(63.0)
    link_of(store).round_trips = 0
    await pass_time(60.0)
    assert link_of(store).round_trips == 0
