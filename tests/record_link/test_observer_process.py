"""The observer's lives: it is started again, not too often, and no record stands in its way for ever."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from proxy.record_link.observer_process import (
    FIRST_BACKOFF_S,
    HEALTHY_S,
    MAX_BACKOFF_S,
    MAX_FRUITLESS_LIVES,
    ObserverProcess,
)
from tests.call_records import call_record
from tests.fake_time import in_fake_time, pass_time
from tests.record_link.far_end import SETTINGS, FarEnd


class FakeProcess:
    """Stands for subprocess.Popen: a process that is only its end of the socketpair."""

    def __init__(self, pass_fds: list[int], ends_by_itself: bool, acknowledges_at_end: int) -> None:
        self.pid = 4711
        self.far = FarEnd(socket.socket(fileno=os.dup(pass_fds[0])))
        self.was_killed = False
        self._ends_by_itself = ends_by_itself
        self._acknowledges_at_end = acknowledges_at_end
        self._code: int | None = None
        self.last_words: list[str] = []  # what it had read when it was waited for
        self.saw_end = False

    def poll(self) -> int | None:
        return self._code

    def kill(self) -> None:
        self.was_killed = True
        self.die()

    def wait(self, timeout: float) -> int:
        if self._code is None:
            self.last_words, self.saw_end = self.far.read(), self.far.at_end
            if not self._ends_by_itself:
                raise subprocess.TimeoutExpired("observer", timeout)
            self.far.acknowledge(self._acknowledges_at_end)
            self.die()
        return 0

    def die(self) -> None:
        self._code = -9
        self.far.die()


class Lives:
    """Every observer that was started."""

    def __init__(self) -> None:
        self.all: list[FakeProcess] = []
        self.starts_fail = False
        self.ends_by_itself = True
        self.acknowledges_at_end = 0
        self.started_s: list[float] = []

    def spawn(self, _: object, *, pass_fds: list[int], **__: object) -> FakeProcess:
        if self.starts_fail:
            raise OSError("no more processes")
        self.all.append(FakeProcess(pass_fds, self.ends_by_itself, self.acknowledges_at_end))
        self.started_s.append(asyncio.get_running_loop().time())
        return self.all[-1]

    @property
    def last(self) -> FakeProcess:
        return self.all[-1]


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lives]:
    created = Lives()
    monkeypatch.setattr(subprocess, "Popen", created.spawn)
    yield created
    for process in created.all:
        process.far.die()


def record(process: ObserverProcess, *call_ids: str) -> None:
    for call_id in call_ids:
        process.link.record(call_record(call_id=call_id))


async def die_of_it(lives: Lives) -> None:
    """The observer reads what it was sent, and dies of it; the next one starts."""
    await pass_time(1)
    lives.last.die()
    await pass_time(MAX_BACKOFF_S + 1)


@in_fake_time
async def test_a_dead_observer_is_started_again_and_gets_what_waits(lives: Lives) -> None:
    process = ObserverProcess(SETTINGS)
    process.start()
    record(process, "1", "2")
    await die_of_it(lives)
    assert (len(lives.all), process.restarts, process.pid) == (2, 1, 4711)
    assert lives.last.far.read() == ["1", "2"]


@in_fake_time
async def test_between_two_lives_there_is_no_pid(lives: Lives) -> None:
    process = ObserverProcess(SETTINGS)
    assert process.pid is None
    process.start()
    lives.last.die()
    assert process.pid is None


@in_fake_time
async def test_an_observer_that_keeps_dying_is_started_ever_more_slowly(lives: Lives) -> None:
    ObserverProcess(SETTINGS).start()
    died_s = []
    for _ in range(9):
        died_s.append(asyncio.get_running_loop().time())
        lives.last.die()
        await pass_time(MAX_BACKOFF_S + 1)
    waits = [round(started - died, 1) for died, started in zip(died_s, lives.started_s[1:], strict=True)]
    assert waits == [FIRST_BACKOFF_S, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, MAX_BACKOFF_S, MAX_BACKOFF_S]


@in_fake_time
async def test_after_a_healthy_life_the_next_start_is_quick_again(lives: Lives) -> None:
    ObserverProcess(SETTINGS).start()
    for _ in range(6):
        await die_of_it(lives)
    await pass_time(HEALTHY_S + 1)
    died_s = asyncio.get_running_loop().time()
    lives.last.die()
    await pass_time(MAX_BACKOFF_S)
    assert lives.started_s[-1] - died_s == pytest.approx(FIRST_BACKOFF_S, abs=0.05)


@in_fake_time
async def test_an_observer_that_cannot_be_started_is_tried_again(lives: Lives) -> None:
    lives.starts_fail = True
    process = ObserverProcess(SETTINGS)
    process.start()
    record(process, "1")
    await pass_time(1)
    assert (process.pid, lives.all) == (None, [])
    lives.starts_fail = False
    await pass_time(MAX_BACKOFF_S)
    assert lives.last.far.read() == ["1"]


@in_fake_time
async def test_a_record_that_kills_five_observers_is_dropped_and_the_rest_gets_through(lives: Lives) -> None:
    process = ObserverProcess(SETTINGS)
    process.start()
    record(process, "poison", "2", "3")
    for life in range(1, MAX_FRUITLESS_LIVES + 1):
        assert process.link.dropped == {}, f"dropped after {life - 1} lives"
        await die_of_it(lives)
    assert process.link.dropped == {"poison": 1}
    assert lives.last.far.read() == ["2", "3"]


@in_fake_time
async def test_the_record_after_a_poison_has_five_lives_of_its_own(lives: Lives) -> None:
    process = ObserverProcess(SETTINGS)
    process.start()
    record(process, "poison", "2", "3")
    for _ in range(2 * MAX_FRUITLESS_LIVES - 1):
        await die_of_it(lives)
    assert process.link.dropped == {"poison": 1}
    await die_of_it(lives)
    assert process.link.dropped == {"poison": 2}


@in_fake_time
async def test_one_acknowledged_record_makes_a_life_fruitful(lives: Lives) -> None:
    process = ObserverProcess(SETTINGS)
    process.start()
    record(process, *[str(number) for number in range(20)])
    for _ in range(2 * MAX_FRUITLESS_LIVES):
        await pass_time(1)
        lives.last.far.acknowledge(1)
        await die_of_it(lives)
    assert (process.link.dropped, process.link.acknowledged) == ({}, 2 * MAX_FRUITLESS_LIVES)


@in_fake_time
async def test_lives_without_any_record_are_nobodys_fault(lives: Lives) -> None:
    process = ObserverProcess(SETTINGS)
    process.start()
    for _ in range(MAX_FRUITLESS_LIVES):
        await die_of_it(lives)
    record(process, "1")
    await die_of_it(lives)
    assert process.link.dropped == {}


@in_fake_time
async def test_renewing_lets_the_old_observer_flush_before_the_new_one_starts(lives: Lives) -> None:
    process = ObserverProcess(SETTINGS)
    process.start()
    record(process, "1")
    process.renew(SETTINGS)
    record(process, "2")
    await pass_time(1)
    old = lives.last
    assert (old.far.read(), old.far.at_end, len(lives.all)) == (["1"], True, 1)
    old.far.acknowledge(1)
    old.die()
    await pass_time(0.05)
    assert (len(lives.all), process.restarts) == (2, 0)
    assert lives.last.far.read() == ["2"]


@pytest.mark.parametrize("ends_by_itself", [True, False])
def test_stopping_sends_the_rest_and_kills_only_what_does_not_end(lives: Lives, ends_by_itself: bool) -> None:
    lives.ends_by_itself = ends_by_itself

    async def stop() -> None:
        process = ObserverProcess(SETTINGS)
        process.start()
        record(process, "1")
        await process.stop()
        assert process.pid is None

    asyncio.run(stop())
    assert lives.last.was_killed is not ends_by_itself
    assert (lives.last.last_words, lives.last.saw_end) == (["1"], True)


@pytest.mark.parametrize("acknowledged", [1, 2])
def test_what_no_observer_acknowledged_is_told_at_the_end(lives: Lives, acknowledged: int, caplog: pytest.LogCaptureFixture) -> None:
    lives.acknowledges_at_end = acknowledged

    async def stop() -> None:
        process = ObserverProcess(SETTINGS)
        process.start()
        record(process, "1", "2")
        await process.stop()
        assert process.link.queued == 2 - acknowledged

    asyncio.run(stop())
    assert ("never acknowledged 1 records" in caplog.text) is (acknowledged == 1)


def test_stopping_between_two_lives_is_a_last_try(lives: Lives) -> None:
    async def stop() -> None:
        process = ObserverProcess(SETTINGS)
        process.start()
        lives.last.die()
        while process.restarts == 0:
            await asyncio.sleep(0)
        record(process, "1")
        await process.stop()

    asyncio.run(stop())
    assert len(lives.all) == 2
