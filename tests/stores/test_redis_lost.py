"""Redis is stopped, killed, flushed, replaced: calls don't wait for it, rules do as they say, and nothing spent is forgotten."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.spending import Fit, Reserved, Short, StoreLost
from tests.redis_servers import Cluster, Sentinels
from tests.stores.support import holds, is_well, line, period, redis_store, reserve, spend, unix_ms, until

MAX_WAIT_S = 0.12
SLACK_S = 0.1  # what a busy machine adds to a timer; test_redis_waiting.py is exact


async def longest_ask_s(store, lines, now_ms: int, calls: int = 30) -> float:
    async def ask() -> float:
        began_s = time.perf_counter()
        await reserve(store, lines, now_ms)
        return time.perf_counter() - began_s

    return max(await asyncio.gather(*(ask() for _ in range(calls))))


@pytest.mark.parametrize("how", ["pause", "kill"])
async def test_no_call_waits_long_for_a_redis_that_is_gone(own_redis, how) -> None:
    now_ms = unix_ms()
    async with redis_store(own_redis.url) as store:
        await spend(store, line(period(now_ms), 10, 1000), 10, now_ms)
        getattr(own_redis, how)()
        lines = [line(period(now_ms), 500, 1000)]
        assert await longest_ask_s(store, lines, now_ms) < MAX_WAIT_S + SLACK_S
        await until(lambda: store.is_lost)
        assert store.reserve([line(period(now_ms), 5, 1000, "other:usd:")], now_ms) is not None  # nobody waits any more
        if how == "pause":
            own_redis.go_on()
        else:
            own_redis.start()
        await until(lambda: is_well(store))
        assert isinstance(await reserve(store, lines, now_ms), Reserved)


async def test_a_redis_that_was_never_there_is_lost_from_the_start() -> None:
    async with redis_store("redis://127.0.0.1:1/0") as store:
        now_ms = store.now_ms(unix_ms())
        assert store.is_lost
        assert isinstance(await reserve(store, [line(period(now_ms), 5, 10, on_store_lost="open")], now_ms), Reserved)


async def test_each_line_does_as_its_rule_says(own_redis) -> None:
    now_ms = unix_ms()
    async with redis_store(own_redis.url) as store:
        today = period(now_ms)
        for account in ("a:usd:", "b:usd:", "c:usd:"):
            await spend(store, line(today, 10, 1000, account), 10, now_ms)
        own_redis.kill()
        await longest_ask_s(store, [line(today, 500, 1000, "a:usd:")], now_ms, calls=1)
        await until(lambda: store.is_lost)
        lines = [
            line(today, 500, 1000, f"{account}:usd:", on_store_lost=rule)
            for account, rule in zip("abc", ("open", "closed", "local"), strict=True)
        ]
        assert isinstance(await reserve(store, lines[:1], now_ms), Reserved)
        assert await reserve(store, lines[:2], now_ms) == StoreLost(1)
        answer = await reserve(store, [lines[0], lines[2]], now_ms)
        assert isinstance(answer, Short)
        assert answer.shortages[0].index == 1
        assert answer.shortages[0].standing.spent == 10


async def test_what_was_drawn_can_be_used_without_redis_until_its_lease_ends(own_redis) -> None:
    now_ms = unix_ms()
    async with redis_store(own_redis.url, lease_s=2.0) as store:
        today = period(now_ms)
        for _ in range(100):
            await spend(store, line(today, 10, 100_000), 0, now_ms)
        (share,) = store._shares.values()
        drawn = share.idle
        assert drawn > 0
        own_redis.kill()
        answers = [await reserve(store, [line(today, 10, 100_000)], now_ms) for _ in range(drawn // 10 + 5)]
        assert 0 < sum(isinstance(answer, Reserved) for answer in answers) <= drawn // 10
        await asyncio.sleep(2.1)
        for answer in answers:
            if isinstance(answer, Reserved):
                store.settle(answer.holds[0], 0, now_ms)
        assert isinstance(await reserve(store, [line(today, 10, 100_000)], now_ms), Short)


async def test_what_was_spent_without_redis_is_told_when_it_is_back(own_redis) -> None:
    now_ms = unix_ms()
    async with redis_store(own_redis.url) as store, redis_store(own_redis.url) as other:
        today = period(now_ms)
        (hold,) = holds(await reserve(store, [line(today, 60, 100)], now_ms))
        own_redis.pause()
        await longest_ask_s(store, [line(today, 1, 100)], now_ms, calls=1)
        store.settle(hold, 60, now_ms)
        own_redis.go_on()
        await until(lambda: not any(share.is_lost for share in store._shares.values()) and not store._syncer._dirty)
        await until(lambda: not other.is_lost)
        assert isinstance(await reserve(other, [line(today, 41, 100)], now_ms), Short)
        assert isinstance(await reserve(other, [line(today, 40, 100)], now_ms), Reserved)


@pytest.mark.parametrize("command", [("FLUSHALL",), ("SCRIPT", "FLUSH")])
async def test_a_flush_forgets_neither_spending_nor_holds(own_redis, command) -> None:
    now_ms = unix_ms()
    async with redis_store(own_redis.url, timeout_ms=500) as store, redis_store(own_redis.url, timeout_ms=500) as other:
        today = period(now_ms)
        await spend(store, line(today, 30, 100), 30, now_ms)
        await spend(other, line(today, 20, 100), 20, now_ms)
        await until(lambda: not store._syncer._dirty and not other._syncer._dirty)
        (hold,) = holds(await reserve(store, [line(today, 25, 100)], now_ms))
        await other.ask([line(today, 45, 100)], now_ms)  # it hears of both
        own_redis.command(*command)
        assert isinstance(await reserve(other, [line(today, 26, 100)], now_ms), Short)
        (last,) = holds(await reserve(other, [line(today, 25, 100)], now_ms))
        store.settle(hold, 10, now_ms)
        other.settle(last, 25, now_ms)
        async with asyncio.timeout(10):
            while not isinstance(answer := await reserve(store, [line(today, 15, 100)], now_ms), Reserved):
                await asyncio.sleep(0.05)  # what nobody claims after the loss is let go within seconds
        store.settle(answer.holds[0], 15, now_ms)
        assert isinstance(await reserve(other, [line(today, 1, 100)], now_ms), Short)


async def test_a_flush_under_load_passes_no_limit(own_redis) -> None:
    now_ms, limit = unix_ms(), 3000
    today = period(now_ms)
    spent = 0

    async def call(store) -> None:
        nonlocal spent
        answer = await reserve(store, [line(today, 10, limit)], now_ms)
        if isinstance(answer, Reserved):
            await asyncio.sleep(0.002)
            spent += 8
            store.settle(answer.holds[0], 8, now_ms)

    async def load(store) -> None:
        for _ in range(60):
            await asyncio.gather(*(call(store) for _ in range(4)))

    async with redis_store(own_redis.url, timeout_ms=500) as one, redis_store(own_redis.url, timeout_ms=500) as two:
        loads = [asyncio.get_running_loop().create_task(load(store)) for store in (one, two)]
        for _ in range(5):
            await asyncio.sleep(0.05)
            own_redis.command("FLUSHALL")
        await asyncio.gather(*loads)
        assert 0 < spent <= limit
        async with asyncio.timeout(10):  # what nobody claims after a loss is let go within seconds
            while not isinstance(await reserve(one, [line(today, limit - spent, limit)], now_ms), Reserved):
                await asyncio.sleep(0.05)


async def test_a_failover_under_load_loses_no_call_and_no_spending() -> None:
    sentinels = Sentinels()
    try:
        now_ms = unix_ms()
        today = period(now_ms)
        async with redis_store(sentinels.url) as store:
            await spend(store, line(today, 60, 100), 60, now_ms)
            await until(lambda: not store._syncer._dirty)
            old = sentinels.master_port
            sentinels.master.pause()
            assert await longest_ask_s(store, [line(today, 30, 100)], now_ms) < MAX_WAIT_S + SLACK_S
            async with asyncio.timeout(30):
                while sentinels.master_port == old or store.is_lost or any(share.is_lost for share in store._shares.values()):
                    assert await longest_ask_s(store, [line(today, 30, 100)], now_ms, calls=3) < MAX_WAIT_S + SLACK_S
                    await asyncio.sleep(0.1)
            assert isinstance(await reserve(store, [line(today, 41, 100)], now_ms), Short)
            assert isinstance(await reserve(store, [line(today, 40, 100)], now_ms), Reserved)
    finally:
        sentinels.close()


@pytest.mark.parametrize("dead", [0, 1])  # the first is the one that was connected to
async def test_a_dead_node_of_a_cluster_hurts_its_own_accounts_only(dead) -> None:
    cluster = Cluster()
    try:
        now_ms = unix_ms()
        today = period(now_ms)
        lines = [line(today, 1, 1000, f"a{number}:usd:") for number in range(12)]
        async with redis_store(cluster.url) as store:
            for each in lines:
                await reserve(store, [each], now_ms)
            cluster.nodes[dead].pause()
            await asyncio.gather(*(reserve(store, [line(today, 300, 1000, each.account)], now_ms) for each in lines))
            for _ in range(5):
                assert not store.is_lost
                answers = [await reserve(store, [line(today, 100, 1000, each.account, fit=Fit.WHOLE)], now_ms) for each in lines]
                assert {type(answer) for answer in answers} == {Reserved, Short}
                for answer in answers:
                    if isinstance(answer, Reserved):
                        store.settle(answer.holds[0], 0, now_ms)
                await asyncio.sleep(0.1)
            cluster.nodes[dead].go_on()
            await until(lambda: not any(share.is_lost for share in store._shares.values()))
            answers = [await reserve(store, [line(today, 300, 1000, each.account)], now_ms) for each in lines]
            assert {type(answer) for answer in answers} == {Reserved}
    finally:
        cluster.close()
