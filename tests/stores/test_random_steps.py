"""Any order of reserving, settling, crashing, losing Redis: what is spent and held never passes the limit.

A seed that fails stands in the test's name.
"""

from __future__ import annotations

import os
import random
import secrets
import sqlite3

import pytest

from proxy.spending import Fit, Hold, Line, Period, Reserved
from proxy.stores.books import Books
from proxy.stores.embedded import EmbeddedStore
from tests.stores.support import HOUR_MS, SystemClock, crash, is_well, line, redis_store, reserve, unix_ms, until

LIMITS = {"a:usd:": 1000, "b:tokens:": 300, "c:requests:": 12}
START_MS = 1_790_000_000_000


class Truth:
    """What really was held and spent, however the store remembers it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.spent: dict[tuple[str, int], int] = {}
        self.open: list[tuple[list[Hold], object]] = []

    def lines(self, window: Period) -> list[Line]:
        """One to four of them, at times two on the same account."""
        accounts = self.chance.choices(list(LIMITS), k=self.chance.randint(1, 4))
        return [line(window, self.chance.randint(0, LIMITS[account] // 6), LIMITS[account], account) for account in accounts]

    def used(self, account: str, window: Period) -> int:
        held = sum(
            hold.line.amount for holds, _ in self.open for hold in holds if hold.line.account == account and hold.line.window == window
        )
        return held + self.spent.get((account, window.start_ms), 0)

    def check(self, window: Period) -> None:
        for account, limit in LIMITS.items():
            assert self.used(account, window) <= limit, account

    def settle_one(self, now_ms: int) -> None:
        holds, store = self.open.pop(self.chance.randrange(len(self.open)))
        for hold in holds:
            spent = self.chance.choice([0, hold.line.amount, self.chance.randint(0, hold.line.amount)])
            store.settle(hold, spent, now_ms)  # type: ignore[attr-defined]
            if self.chance.random() < 0.2:
                store.settle(hold, 10**6, now_ms)  # type: ignore[attr-defined]  # a second time does nothing
            key = (hold.line.account, hold.line.window.start_ms)  # type: ignore[union-attr]
            self.spent[key] = self.spent.get(key, 0) + spent

    async def step(self, store, window: Period, now_ms: int) -> None:
        if self.open and self.chance.random() < 0.5:
            self.settle_one(now_ms)
        else:
            answer = await reserve(store, self.lines(window), now_ms)
            if isinstance(answer, Reserved):
                self.open.append((answer.holds, store))
        self.check(window)

    def settle_all(self, now_ms: int) -> None:
        while self.open:
            self.settle_one(now_ms)


def window_at(now_ms: int) -> Period:
    start_ms = now_ms // HOUR_MS * HOUR_MS
    return Period(start_ms, start_ms + HOUR_MS, start_ms)


def expect_exact(store, truth: Truth, window: Period, now_ms: int) -> None:
    """Nothing is held, and what was spent is known to the last unit."""
    for account in LIMITS:
        standing = store.standing(account, window, now_ms)
        known = (standing.spent, standing.held) if standing else (0, 0)
        assert known == (truth.spent.get((account, window.start_ms), 0), 0)


@pytest.mark.parametrize("seed", range(5))
async def test_memory(seed) -> None:
    truth, books, now_ms = Truth(seed), Books(), START_MS
    for _ in range(3000):
        now_ms += truth.chance.choice([1, 100, 100, 60_000])
        await truth.step(books, window_at(now_ms), now_ms)
    truth.settle_all(now_ms)
    expect_exact(books, truth, window_at(now_ms), now_ms)


@pytest.mark.parametrize("seed", range(5))
async def test_parts_of_a_rolling_window(seed) -> None:
    truth, books, now_ms = Truth(seed), Books(), START_MS
    booked: list[tuple[int, int]] = []
    for _ in range(2000):
        now_ms += truth.chance.choice([1, 500, 5000])
        part_ms = now_ms // 10_000 * 10_000
        window = Period(part_ms, part_ms + 10_000, part_ms - 60_000)
        answer = books.reserve([line(window, truth.chance.randint(1, 300), 1000)], now_ms)
        if isinstance(answer, Reserved):
            (hold,) = answer.holds
            spent = truth.chance.randint(0, hold.line.amount)
            books.settle(hold, spent, now_ms)
            booked.append((part_ms, spent))
        else:
            wait_ms = answer.shortages[0].retry_after_ms
            assert wait_ms is not None
            later_ms = now_ms + wait_ms
            assert sum(spent for at_ms, spent in booked if at_ms >= later_ms - 60_000) < 1000
        assert sum(spent for at_ms, spent in booked if at_ms >= window.counts_from_ms) <= 1000


async def kill(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kill -9 at this moment: SQLite gets nothing more."""

    def gone(*_) -> None:
        raise sqlite3.OperationalError("killed")

    file = store._writer._file
    assert file is not None
    monkeypatch.setattr(file, "add", gone)
    store._writer.close(5)
    store._journal.close()
    os.close(store._lock)


@pytest.mark.parametrize("seed", range(3))
async def test_embedded_through_crashes(seed, tmp_path, monkeypatch) -> None:
    truth, now_ms = Truth(seed), unix_ms()
    store = EmbeddedStore(tmp_path, SystemClock())
    await store.start()
    window = window_at(now_ms)
    for _ in range(800):
        await truth.step(store, window, now_ms)
        if truth.chance.random() < 0.02:
            await kill(store, monkeypatch)
            truth.open.clear()  # their calls died with the process
            store = EmbeddedStore(tmp_path, SystemClock())
            await store.start()
            expect_exact(store, truth, window, now_ms)
    truth.settle_all(now_ms)
    expect_exact(store, truth, window, now_ms)
    await store.close()


@pytest.mark.parametrize("seed", range(3))
async def test_redis_through_crashes_losses_and_flushes(seed, own_redis) -> None:
    truth, now_ms = Truth(seed), unix_ms()
    window = Period(now_ms - HOUR_MS, now_ms + HOUR_MS, now_ms - HOUR_MS)
    config = {"prefix": f"test-{secrets.token_hex(4)}", "lease_s": 0.6, "timeout_ms": 100}
    contexts = [redis_store(own_redis.url, **config) for _ in range(3)]
    stores = [await context.__aenter__() for context in contexts]
    for number in range(240):
        await truth.step(truth.chance.choice(stores), window, now_ms)
        if number % 60 == 20:
            own_redis.pause()
            for _ in range(10):
                await truth.step(truth.chance.choice(stores), window, now_ms)
            own_redis.go_on()
            await until(lambda: all(is_well(store) for store in stores))
        elif number % 60 == 40:
            for store in stores:  # each hears how things stand: a sidecar that is new and knows nothing can't tell a flush from a beginning
                await until(lambda s=store: not s._syncer._dirty)
            for share in [share for store in stores for share in store._shares.values()]:
                share.synced_s = -1e9
            for store in stores:
                await store.ask([line(window, 0, limit, account, fit=Fit.ANY) for account, limit in LIMITS.items()], now_ms)
            own_redis.command("FLUSHALL")
        elif number % 60 == 59:
            index = truth.chance.randrange(3)
            await until(lambda i=index: not stores[i]._syncer._dirty)
            await crash(stores[index])
            truth.open = [(holds, store) for holds, store in truth.open if store is not stores[index]]
            contexts[index] = redis_store(own_redis.url, **config)
            stores[index] = await contexts[index].__aenter__()
    truth.settle_all(now_ms)
    await until(lambda: not any(share.is_busy for store in stores for share in store._shares.values()))
    for context in contexts:
        await context.__aexit__(None, None, None)
    async with redis_store(own_redis.url, **config) as last:
        await last.ask([line(window, 0, limit, account, fit=Fit.ANY) for account, limit in LIMITS.items()], now_ms)
        for account in LIMITS:
            standing = last.standing(account, window, now_ms)
            assert standing is not None
            assert standing.spent >= truth.spent.get((account, window.start_ms), 0)
