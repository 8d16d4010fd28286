"""Several sidecars on one Redis: nothing is spent twice, and nobody is refused for what others hold and don't use."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack

import pytest

from proxy.spending import Fit, Rate, Reserved, Short
from tests.stores.support import (
    HOUR_MS,
    SkewedClock,
    at_once,
    crash,
    holds,
    line,
    period,
    redis_store,
    reserve,
    spend,
    unix_ms,
    until,
)

PATIENT = {"timeout_ms": 1000}  # how long a busy machine takes is other tests' matter


@pytest.fixture
async def sidecars(shared_redis):
    prefix = f"test-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:

        async def start(clock=None, **config):
            config = {**PATIENT, "prefix": prefix, **config}
            return await stack.enter_async_context(redis_store(shared_redis.url, clock, **config))

        yield start


@pytest.mark.parametrize("amount", [1, 7, 13])
async def test_exactly_what_fits_gets_in_over_all_sidecars(sidecars, amount) -> None:
    stores = [await sidecars() for _ in range(4)]
    now_ms = unix_ms()
    lines = [line(period(now_ms), amount, 100 * amount + amount - 1)]
    answers = await asyncio.gather(*(reserve(store, lines, now_ms) for _ in range(500) for store in stores))
    assert sum(isinstance(answer, Reserved) for answer in answers) == 100


async def test_calls_in_all_sizes_never_pass_the_limit(sidecars) -> None:
    stores = [await sidecars() for _ in range(4)]
    now_ms, limit = unix_ms(), 10_000
    today = period(now_ms)
    answers = await asyncio.gather(
        *(reserve(store, [line(today, 1 + (number * 37) % 211, limit)], now_ms) for number in range(200) for store in stores)
    )
    held = [hold for answer in answers if isinstance(answer, Reserved) for hold in answer.holds]
    total = sum(hold.line.amount for hold in held)
    assert limit - 211 < total <= limit


async def test_warm_accounts_are_reserved_from_without_asking(sidecars) -> None:
    store = await sidecars()
    now_ms = unix_ms()
    lines = [line(period(now_ms), 10, 1_000_000, f"{name}:usd:") for name in "abc"] + [
        line(Rate(1_000_000, HOUR_MS), 1, 1_000_000, "d:requests:")
    ]
    for _ in range(50):
        for hold in holds(await reserve(store, lines, now_ms)):
            store.settle(hold, 5, now_ms)
    for hold in holds(store.reserve(lines, now_ms)):
        store.settle(hold, 5, now_ms)


async def test_what_a_sidecar_drew_and_does_not_use_is_there_for_others(sidecars) -> None:
    busy, other = await sidecars(), await sidecars()
    now_ms, limit = unix_ms(), 100_000
    for _ in range(100):
        await spend(busy, line(period(now_ms), 100, limit), 0, now_ms)
    await until(lambda: busy._shares and not any(share.idle for share in busy._shares.values()))
    assert isinstance(await reserve(other, [line(period(now_ms), limit, limit)], now_ms), Reserved)


async def test_a_call_waits_a_little_for_what_others_do_not_use(sidecars) -> None:
    busy, other = await sidecars(), await sidecars(timeout_ms=50)
    now_ms, limit = unix_ms(), 100_000
    for _ in range(300):
        await spend(busy, line(period(now_ms), 100, limit), 0, now_ms)
    assert any(share.idle for share in busy._shares.values())
    async with asyncio.timeout(5):
        while not isinstance(await reserve(other, [line(period(now_ms), limit, limit)], now_ms), Reserved):
            continue  # a busy machine may be slower than a call waits


async def test_a_dead_sidecars_holds_are_back_when_its_lease_ends(sidecars) -> None:
    dead, other = await sidecars(lease_s=0.5), await sidecars(lease_s=0.5)
    now_ms = unix_ms()
    today = period(now_ms)
    await spend(dead, line(today, 40, 100), 30, now_ms)
    holds(await reserve(dead, [line(today, 70, 100), at_once(1)], now_ms))
    await until(lambda: not dead._syncer._dirty)
    await crash(dead)
    assert isinstance(await reserve(other, [line(today, 70, 100)], now_ms), Short)
    await asyncio.sleep(0.6)
    assert isinstance(await reserve(other, [line(today, 71, 100)], now_ms), Short)  # what it spent stays spent
    assert isinstance(await reserve(other, [line(today, 70, 100), at_once(1)], now_ms), Reserved)


async def test_a_lease_lasts_as_long_as_its_sidecar(sidecars) -> None:
    alive, other = await sidecars(lease_s=0.6), await sidecars(lease_s=0.6)
    now_ms = unix_ms()
    holds(await reserve(alive, [line(period(now_ms), 70, 100)], now_ms))
    await asyncio.sleep(1.5)
    assert isinstance(await reserve(other, [line(period(now_ms), 70, 100)], now_ms), Short)


async def test_closing_gives_everything_back(shared_redis, sidecars) -> None:
    other = await sidecars(prefix="test-closing-" + secrets.token_hex(4))
    now_ms = unix_ms()
    async with redis_store(shared_redis.url, prefix=other._prefix, **PATIENT) as closing:
        for _ in range(50):
            await spend(closing, line(period(now_ms), 10, 1000), 1, now_ms)
    assert isinstance(await reserve(other, [line(period(now_ms), 951, 1000)], now_ms), Short)
    assert isinstance(await reserve(other, [line(period(now_ms), 950, 1000)], now_ms), Reserved)


@pytest.mark.parametrize("skew_ms", [-5 * HOUR_MS, 3000, 5 * HOUR_MS])
async def test_a_wrong_clock_does_no_harm(sidecars, skew_ms) -> None:
    wrong, right = await sidecars(SkewedClock(skew_ms)), await sidecars()
    now_ms = wrong.now_ms(unix_ms() + skew_ms)
    assert now_ms == pytest.approx(unix_ms(), abs=1000)
    await spend(wrong, line(period(now_ms), 60, 100), 60, now_ms)
    await until(lambda: not wrong._syncer._dirty)
    assert isinstance(await reserve(right, [line(period(now_ms), 50, 100)], now_ms), Short)


async def test_a_clock_that_jumps_is_put_right_by_the_next_answer(sidecars) -> None:
    clock = SkewedClock(0)
    store = await sidecars(clock)
    clock.skew_ms = 5 * HOUR_MS
    jumped_ms = store.now_ms(unix_ms() + clock.skew_ms)
    answer = await reserve(store, [line(period(jumped_ms), 10, 100)], jumped_ms)
    assert isinstance(answer, Short)
    assert answer.shortages[0].retry_after_ms == 0
    now_ms = store.now_ms(unix_ms() + clock.skew_ms)
    assert isinstance(await reserve(store, [line(period(now_ms), 10, 100)], now_ms), Reserved)


async def test_what_is_said_twice_counts_once(sidecars) -> None:
    store, other = await sidecars(), await sidecars()
    now_ms = unix_ms()
    today = period(now_ms)
    await spend(store, line(today, 40, 100), 40, now_ms)
    (share,) = store._shares.values()
    call = share.request(store._time())
    for _ in range(3):
        await store._link.run([call], 1.0)
    await spend(store, line(today, 0, 100, fit=Fit.NOTHING), 10, now_ms)
    newer = share.request(store._time())
    await store._link.run([newer], 1.0)
    (late,) = await store._link.run([call], 1.0)
    assert late[0] == b"old"
    assert isinstance(await reserve(other, [line(today, 51, 100)], now_ms), Short)
    assert isinstance(await reserve(other, [line(today, 50, 100)], now_ms), Reserved)


async def test_a_rate_is_shared(sidecars) -> None:
    stores = [await sidecars() for _ in range(3)]
    now_ms, rate = unix_ms(), Rate(100, 100 * HOUR_MS)
    lines = [line(rate, 1, 100, "calls:requests:")]
    answers = await asyncio.gather(*(reserve(store, lines, now_ms) for _ in range(60) for store in stores))
    assert sum(isinstance(answer, Reserved) for answer in answers) == 100


async def test_no_key_outlives_what_it_counts(shared_redis, sidecars) -> None:
    store = await sidecars()
    now_ms = unix_ms()
    for each in (line(period(now_ms), 10, 100), at_once(5), line(Rate(10, 1000), 1, 10, "calls:requests:")):
        await spend(store, each, each.amount, now_ms)
    await until(lambda: not store._syncer._dirty)
    keys = shared_redis.command("KEYS", f"{store._prefix}*").split()
    assert len(keys) >= 4
    assert all(int(shared_redis.command("PTTL", key)) > 0 for key in keys)


async def test_shares_nobody_uses_are_forgotten(sidecars) -> None:
    store = await sidecars()
    now_ms = unix_ms()
    holds(await reserve(store, [line(period(now_ms), 1, 100, "busy:usd:")], now_ms))
    for number in range(50):
        await spend(store, line(period(now_ms), 0, 100, f"a{number}:usd:", fit=Fit.NOTHING), 0, now_ms)
    for share in store._shares.values():
        share.used_s -= 3600
    await spend(store, line(period(now_ms), 0, 100, "new:usd:", fit=Fit.NOTHING), 0, now_ms)
    assert {account for account, _ in store._shares} == {"busy:usd:", "new:usd:"}
