"""The embedded store: nothing settled is lost, whatever becomes of the process and of the disk."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time

import pytest

from proxy.spending import ENDLESS, Fit, Period, Rate, Reserved, Short, Standing
from proxy.stores import writer
from proxy.stores.embedded import EmbeddedStore, StateDirUnusable
from proxy.stores.journal import Journal
from proxy.stores.sqlite_file import StoreFile
from tests.project.tree import ROOT
from tests.stores.support import DAY_MS, HOUR_MS, SystemClock, holds, line, period, reserve, spend, unix_ms, until

KILLS = 50
ACCOUNT = "day:usd:tenant=acme"


@pytest.fixture
async def open_store(tmp_path):
    opened: list[EmbeddedStore] = []

    async def start() -> EmbeddedStore:
        store = EmbeddedStore(tmp_path / "state", SystemClock())
        await store.start()
        opened.append(store)
        return store

    yield start
    for store in opened:
        await close(store)


async def close(store: EmbeddedStore) -> None:
    if not store._journal._map.closed:
        await store.close()


def entries_total(state_dir) -> int:
    """What the next process would know."""

    async def total() -> int:
        store = EmbeddedStore(state_dir, SystemClock())
        await store.start()
        spent = sum(entry.spent for entry in await store.accounts())
        await store.close()
        return spent

    return asyncio.run(total())


def test_kill_minus_nine_loses_nothing_that_was_settled(tmp_path) -> None:
    chance = random.Random(5)
    settled = 0
    for _ in range(KILLS):
        command = [sys.executable, "-m", "tests.stores.killed_process", str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.25))
        process.kill()
        said = process.stdout.read().split(b"\n")
        process.wait()
        process.stdout.close()
        settled += int(said[-2]) if len(said) > 1 else 7
        known = entries_total(tmp_path)
        assert 0 <= known - settled <= 7  # the last amount may be settled and not said
        settled = known


async def test_what_was_spent_is_there_after_a_restart_and_what_was_held_is_not(open_store) -> None:
    store = await open_store()
    now_ms = unix_ms()
    today, rate = period(now_ms, DAY_MS), Rate(10, 100 * HOUR_MS)
    await spend(store, line(today, 60, 100), 60, now_ms)
    holds(await reserve(store, [line(today, 40, 100), line(ENDLESS, 1, 1, "jobs:concurrency:")], now_ms))
    holds(await reserve(store, [line(rate, 10, 10, "calls:requests:")], now_ms))
    await store.close()
    again = await open_store()
    assert again.standing(ACCOUNT, today, now_ms) == Standing(60, 0)
    assert isinstance(await reserve(again, [line(ENDLESS, 1, 1, "jobs:concurrency:")], now_ms), Reserved)
    assert isinstance(await reserve(again, [line(rate, 1, 10, "calls:requests:")], now_ms), Short)


async def test_two_processes_do_not_share_a_state_dir(open_store, tmp_path) -> None:
    await open_store()
    with pytest.raises(StateDirUnusable, match=r"Another Postern.*state_dir.*redis"):
        await EmbeddedStore(tmp_path / "state", SystemClock()).start()


async def test_a_state_dir_that_cannot_be_written_is_refused_at_the_start(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateDirUnusable, match="can't be kept"):
        await EmbeddedStore(tmp_path / "file" / "state", SystemClock()).start()


async def test_a_disk_without_room_for_the_journal_is_told_at_the_start(tmp_path, monkeypatch) -> None:
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("proxy.stores.journal._allocate", full)
    with pytest.raises(StateDirUnusable, match="No space left"):
        await EmbeddedStore(tmp_path, SystemClock()).start()
    monkeypatch.undo()
    store = EmbeddedStore(tmp_path, SystemClock())  # the lock was given back
    await store.start()
    await store.close()


async def test_a_broken_database_is_moved_aside_and_said_loudly(open_store, tmp_path, caplog) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "store.db").write_bytes(b"this is no database" * 1000)
    store = await open_store()
    assert [path.name for path in state.glob("store.db.corrupt-*")]
    assert "postern budgets set" in caplog.text
    now_ms = unix_ms()
    await spend(store, line(period(now_ms), 60, 100), 60, now_ms)


async def test_a_newer_schema_is_moved_aside_not_guessed_at(open_store, tmp_path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with sqlite3.connect(state / "store.db") as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    await open_store()
    assert list(state.glob("store.db.corrupt-*"))


async def test_a_database_that_was_deleted_takes_its_journal_along(open_store, tmp_path) -> None:
    store = await open_store()
    now_ms = unix_ms()
    await spend(store, line(period(now_ms), 60, 100), 60, now_ms)
    await store.close()
    for path in (tmp_path / "state").glob("store.db*"):
        path.unlink()
    again = await open_store()
    assert await again.accounts() == []


async def test_a_full_disk_loses_nothing_while_the_process_lives(open_store, monkeypatch, caplog) -> None:
    monkeypatch.setattr(writer, "FIRST_RETRY_S", 0.01)
    store = await open_store()
    now_ms = unix_ms()
    today = period(now_ms, DAY_MS)
    add = StoreFile.add

    def full(*_) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(StoreFile, "add", full)
    for _ in range(10):
        await spend(store, line(today, 1, 100), 1, now_ms)
    await until(lambda: store.failures >= 2)
    assert store.unwritten
    assert store.standing(ACCOUNT, today, now_ms) == Standing(10, 0)
    monkeypatch.setattr(StoreFile, "add", add)
    await until(lambda: not store.unwritten)
    await store.close()
    assert caplog.text.count("can't be written") == 1
    again = await open_store()
    assert again.standing(ACCOUNT, today, now_ms) == Standing(10, 0)


async def test_a_database_that_breaks_later_is_written_anew_from_memory(open_store, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(writer, "FIRST_RETRY_S", 0.01)
    store = await open_store()
    now_ms = unix_ms()
    today = period(now_ms, DAY_MS)
    await spend(store, line(today, 1, 100), 1, now_ms)
    await until(lambda: not store.unwritten)
    add = StoreFile.add
    calls: list[int] = []

    def broken(self, rows, applied) -> None:
        if not calls:
            calls.append(1)
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            from proxy.stores.sqlite_file import StoreUnreadable

            raise StoreUnreadable(str(error)) from error
        add(self, rows, applied)

    monkeypatch.setattr(StoreFile, "add", broken)
    await spend(store, line(today, 2, 100), 2, now_ms)
    await until(lambda: not store.unwritten and calls and (tmp_path / "state" / "store.db").exists())
    await spend(store, line(today, 4, 100), 4, now_ms)
    await store.close()
    assert list((tmp_path / "state").glob("store.db.corrupt-*"))
    again = await open_store()
    assert again.standing(ACCOUNT, today, now_ms) == Standing(7, 0)


async def test_a_full_journal_is_counted_and_loses_nothing_while_the_process_lives(open_store, tmp_path, monkeypatch) -> None:
    store = await open_store()
    store._journal.close()
    store._journal = Journal(tmp_path / "small", 600)
    monkeypatch.setattr(writer, "BATCH_S", 30.0)
    now_ms = unix_ms()
    today = period(now_ms, DAY_MS)
    for _ in range(50):
        await spend(store, line(today, 1, 100), 1, now_ms)
    assert store.journal_full > 0
    await store.close()
    again = await open_store()
    assert again.standing(ACCOUNT, today, now_ms) == Standing(50, 0)


async def test_a_clock_that_jumps_ahead_and_back_forgets_nothing(open_store) -> None:
    store = await open_store()
    now_ms = unix_ms()
    today = period(now_ms, DAY_MS)
    await spend(store, line(today, 60, 100), 60, now_ms)
    ahead_ms = now_ms + DAY_MS
    tomorrow = Period(today.end_ms, today.end_ms + DAY_MS, today.end_ms)
    for _ in range(3):
        await spend(store, line(tomorrow, 0, 100, fit=Fit.NOTHING), 0, ahead_ms)
        ahead_ms += 2000
    assert isinstance(await reserve(store, [line(today, 41, 100)], now_ms), Short)
    assert isinstance(await reserve(store, [line(today, 40, 100)], now_ms), Reserved)


async def test_setting_a_rolling_window_clears_its_older_parts(open_store) -> None:
    store = await open_store()
    now_ms = unix_ms()
    old = Period(now_ms - HOUR_MS, now_ms, now_ms - 3 * HOUR_MS)
    new = Period(now_ms, now_ms + HOUR_MS, now_ms - 2 * HOUR_MS)
    await spend(store, line(old, 80, 100), 80, now_ms)
    await store.put_spent(ACCOUNT, new, 30)
    await store.close()
    again = await open_store()
    later = Period(new.end_ms, new.end_ms + HOUR_MS, now_ms)  # the older part is out
    assert again.standing(ACCOUNT, new, now_ms) == Standing(30, 0)
    assert again.standing(ACCOUNT, later, now_ms) == Standing(30, 0)
