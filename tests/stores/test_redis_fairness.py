"""Nobody is refused for what nobody spends: grants that come late, that nobody takes, that another sidecar has.

On a clock of the test's own.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from proxy.spending import Line, Reserved, Short
from proxy.stores.redis_link import ScriptCall
from proxy.stores.redis_store import RedisStore
from tests.fake_time import in_fake_time, pass_time
from tests.stores.fake_time_redis import FakeTimeRedis, link_of
from tests.stores.support import crash, holds, line, spend

USD, REQUESTS = "day:usd:tenant=acme", "day:requests:tenant=acme"
WANTED = 11  # among a script's arguments: what is wanted for calls to come
HELD = 4  # in its answer
PATIENCE_S = 0.1  # twice `timeout_ms`
MOST_WAIT_S = 0.5


def of(redis: FakeTimeRedis, amount: int, limit: int, account: str = USD) -> Line:
    return line(redis.window, amount, limit, account)


async def timed(store: RedisStore, lines: list[Line]) -> tuple[object, float]:
    """What a call is answered, and how long it waited."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    return await store.ask(lines, 0), loop.time() - began_s


async def draw_ahead(store: RedisStore, redis: FakeTimeRedis, limit: int = 1000) -> None:
    """Until the store has drawn what it doesn't use."""
    for _ in range(200):
        await spend(store, of(redis, 10, limit), 0, 0)
        await pass_time(0.001)
    assert any(share.idle for share in store._shares.values())


@pytest.mark.parametrize("answer_s", [0.09, 0.095, 0.099, 0.1])
@in_fake_time
async def test_a_grant_that_comes_as_patience_ends_is_taken(own_redis, answer_s) -> None:
    redis = FakeTimeRedis(own_redis)
    store = await redis.sidecar()
    link_of(store).back_s = answer_s - link_of(store).there_s
    answer, _ = await timed(store, [of(redis, 1, 1)])
    assert isinstance(answer, Reserved)


@in_fake_time
async def test_what_was_given_back_while_a_call_waited_is_taken_before_it_is_refused(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    drawing, store = [await redis.sidecar() for _ in range(2)]
    (hold,) = holds(await store.ask([of(redis, 60, 100)], 0))
    link_of(drawing).back_s = MOST_WAIT_S
    drawn = asyncio.get_running_loop().create_task(drawing.ask([of(redis, 20, 100)], 0))
    await pass_time(0.01)
    waiting = asyncio.get_running_loop().create_task(timed(store, [of(redis, 40, 100)]))  # it fits if the other doesn't use its 20
    await pass_time(0.01)
    link_of(store).is_cut = True
    await pass_time(0.02)  # it has asked again
    store.settle(hold, 0, 0)
    answer, _ = await waiting
    assert isinstance(answer, Reserved)
    drawn.cancel()


@in_fake_time
async def test_what_was_granted_to_a_call_that_left_is_there_for_one_that_waits(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    leaving, other = [await redis.sidecar() for _ in range(2)]
    link_of(leaving).back_s = 0.02
    left = asyncio.get_running_loop().create_task(leaving.ask([of(redis, 100, 100)], 0))
    await pass_time(0.005)  # Redis has granted it
    left.cancel()
    answer, waited_s = await timed(other, [of(redis, 100, 100)])
    assert isinstance(answer, Reserved)
    assert waited_s < PATIENCE_S


@in_fake_time
async def test_a_sidecar_that_is_busy_with_one_account_gives_back_what_it_drew_of_another(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    busy, other = [await redis.sidecar() for _ in range(2)]
    await draw_ahead(busy, redis, 100_000)
    for _ in range(100):
        await spend(busy, of(redis, 1, 1_000_000, REQUESTS), 1, 0)
        await pass_time(0.005)
    answer, waited_s = await timed(other, [of(redis, 100_000, 100_000)])
    assert isinstance(answer, Reserved)
    assert waited_s < PATIENCE_S


@in_fake_time
async def test_a_call_waits_for_a_sidecar_that_is_held_up(own_redis) -> None:
    """It has drawn what it doesn't use, and takes longer to give it back than a lost Redis is waited for."""
    redis = FakeTimeRedis(own_redis)
    busy, other = [await redis.sidecar() for _ in range(2)]
    await draw_ahead(busy, redis)
    link_of(busy).there_s = 2 * PATIENCE_S
    answer, waited_s = await timed(other, [of(redis, 1000, 1000)])
    assert isinstance(answer, Reserved)
    assert PATIENCE_S < waited_s < MOST_WAIT_S


@in_fake_time
async def test_what_a_dead_sidecar_had_drawn_is_not_waited_for_long(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    dead, other = [await redis.sidecar() for _ in range(2)]
    await draw_ahead(dead, redis)
    await crash(dead)
    answer, waited_s = await timed(other, [of(redis, 1000, 1000)])
    assert isinstance(answer, Short)
    assert waited_s <= MOST_WAIT_S + 0.01
    await pass_time(MOST_WAIT_S)
    answer, waited_s = await timed(other, [of(redis, 1000, 1000)])
    assert isinstance(answer, Short)
    assert waited_s < 0.01


@in_fake_time
async def test_what_is_in_use_is_refused_at_once(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    busy, other = [await redis.sidecar() for _ in range(2)]
    holds(await busy.ask([of(redis, 60, 100)], 0))
    await pass_time(PATIENCE_S)  # Redis has heard that it was taken
    answer, waited_s = await timed(other, [of(redis, 50, 100)])
    assert isinstance(answer, Short)
    assert waited_s < 0.01


@in_fake_time
async def test_a_question_that_is_heard_twice_takes_back_nothing(own_redis) -> None:
    """The sidecar goes by the first answer; meanwhile an account got low of which more was granted than calls needed."""
    redis = FakeTimeRedis(own_redis)
    store, other = [await redis.sidecar() for _ in range(2)]
    holds(await store.ask([of(redis, 10, 1000)], 0))
    (share,) = store._shares.values()
    asked = share.request(store._time())
    wanted = [*asked.arguments[:WANTED], 100, *asked.arguments[WANTED + 1 :]]
    (first,) = await link_of(store).run([ScriptCall(asked.script, asked.keys, wanted)], 1.0)
    holds(await other.ask([of(redis, 890, 1000)], 0))
    (second,) = await link_of(store).run([ScriptCall(asked.script, asked.keys, wanted)], 1.0)
    assert [first[HELD], second[HELD]] == [110, 110]  # type: ignore[index]


@in_fake_time
async def test_hundreds_of_calls_that_wait_ask_less_and_less_often(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    busy, other = [await redis.sidecar() for _ in range(2)]
    await draw_ahead(busy, redis)
    await crash(busy)
    link_of(other).round_trips = 0
    await asyncio.gather(*(timed(other, [of(redis, 1000, 1000)]) for _ in range(300)))
    assert link_of(other).round_trips <= 20


@in_fake_time
async def test_a_waiting_call_gives_up_on_a_redis_that_falls_silent(own_redis) -> None:
    redis = FakeTimeRedis(own_redis)
    busy, other = [await redis.sidecar() for _ in range(2)]
    await draw_ahead(busy, redis)
    await crash(busy)
    waiting = asyncio.get_running_loop().create_task(timed(other, [of(redis, 1000, 1000)]))
    await pass_time(0.05)
    link_of(other).is_cut = True
    answer, waited_s = await waiting
    assert isinstance(answer, Short)
    assert waited_s <= 0.05 + 0.06 + PATIENCE_S  # the next time it asks, and two time-outs


@pytest.mark.parametrize("seed", range(8))
@in_fake_time
async def test_of_two_calls_for_the_last_of_two_accounts_one_gets_it(own_redis, seed) -> None:
    """Each is granted the last of one account, and finds that of the other taken: one of them has to have both."""
    redis, chance = FakeTimeRedis(own_redis), random.Random(seed)
    stores = [await redis.sidecar() for _ in range(3)]
    lines = [of(redis, 1, 1), of(redis, 1, 1, REQUESTS)]

    async def ask(store: RedisStore, backwards: bool) -> bool:
        link_of(store).there_s, link_of(store).back_s = (chance.choice([0.0002, 0.001, 0.004]) for _ in range(2))
        await pass_time(chance.choice([0.0001, 0.001, 0.002]))
        return isinstance(await store.ask(lines[::-1] if backwards else lines, 0), Reserved)

    answers = await asyncio.gather(*(ask(store, chance.random() < 0.5) for store in stores for _ in range(2)))
    assert sum(answers) == 1


@pytest.mark.parametrize("seed", range(6))
@in_fake_time
async def test_a_crowd_gets_all_there_is_however_slow_its_sidecars_are(own_redis, seed) -> None:
    redis, chance = FakeTimeRedis(own_redis), random.Random(seed)
    stores = [await redis.sidecar() for _ in range(4)]
    crowd_s = 0.3

    async def call(store: RedisStore) -> bool:
        await pass_time(chance.uniform(0.0001, crowd_s))
        answer = await store.ask([of(redis, 1, 100)], 0)
        if not isinstance(answer, Reserved):
            return False
        await pass_time(0.03)
        store.settle(answer.holds[0], 1, 0)
        return True

    async def links_vary() -> None:
        while True:
            for store in stores:
                link_of(store).there_s, link_of(store).back_s = (chance.choice([0.0005, 0.002, 0.04]) for _ in range(2))
            await pass_time(0.03)

    varying = asyncio.get_running_loop().create_task(links_vary())
    answers = await asyncio.gather(*(call(store) for store in stores for _ in range(100)))
    varying.cancel()
    assert sum(answers) == 100
