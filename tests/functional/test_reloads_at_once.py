"""A reload that comes while another one waits for its store. The whole program, but in this process: here the store can be made slow."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from proxy.app import App, load
from proxy.config.schema import Config
from proxy.ports import Clock
from proxy.stores.embedded import EmbeddedStore
from tests.functional.gate import WAIT_S, two_free_ports


class SlowStore(EmbeddedStore):
    """Starts when it is let."""

    made: list[SlowStore] = []

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(Path(config.state_dir), clock)
        self.may_start = asyncio.Event()
        self.fails_with: Exception | None = None
        self.made.append(self)

    async def start(self) -> None:
        await self.may_start.wait()
        if self.fails_with is not None:
            raise self.fails_with
        await super().start()


class Running:
    """A gate, and the file it is configured by."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "postern.yaml"
        port, admin_port = two_free_ports()
        self._own = f'listen: 127.0.0.1:{port}\nadmin: {{listen: "127.0.0.1:{admin_port}"}}\nstate_dir: {folder}/state\n'
        self.write()
        self.app = App(str(self._file), load(str(self._file), {}), {})
        self._started = asyncio.Event()
        self.life = asyncio.create_task(self.app.run(lambda _: self._started.set()))

    def write(self, limit_usd: int | None = None) -> None:
        budgets = "" if limit_usd is None else f"budgets: [{{name: day, window: {{every: day}}, limit: {{usd: {limit_usd}}}}}]\n"
        self._file.write_text(self._own + "targets: {up: {provider: openai, credential: sk-x}}\n" + budgets)

    async def is_up(self) -> None:
        """Raises what ended it instead."""
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait([self.life, started], return_when=asyncio.FIRST_COMPLETED, timeout=WAIT_S)
        if self.life.done():
            started.cancel()
            self.life.result()

    def digest_in_file(self) -> str:
        return load(str(self._file), {}).digest

    @property
    def config(self) -> dict[str, object]:
        """What /status says of it."""
        told = self.app.status()["config"]
        assert isinstance(told, dict)
        return told


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def garbage() -> Iterator[None]:
    """A gate freezes what there is and sets thresholds, for the whole process."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr("proxy.stores.opening.store_for", SlowStore)
    monkeypatch.setattr(SlowStore, "made", [])
    monkeypatch.setattr("proxy.app.POLL_S", 0.02)
    (tmp_path / "state").mkdir()
    one = Running(tmp_path)
    await one.is_up()
    yield one
    for store in SlowStore.made:
        store.may_start.set()
    one.app.stop()
    async with asyncio.timeout(WAIT_S):
        await one.life


async def change_while_the_store_starts(running: Running, limit_usd: int | None) -> SlowStore:
    """The first budget comes, and with its store still starting the file changes again."""
    running.write(limit_usd=1)
    running.app.reload()
    await until(lambda: bool(SlowStore.made))
    running.write(limit_usd)
    running.app.reload()
    return SlowStore.made[0]


async def test_reloads_at_once_open_one_store_and_end_with_the_newest(running: Running) -> None:
    store = await change_while_the_store_starts(running, 2)
    running.app.reload()
    store.may_start.set()
    await until(lambda: running.config["digest"] == running.digest_in_file())
    assert SlowStore.made == [store]
    assert running.config["last_reload_error"] is None


async def test_change_taken_back_while_the_store_starts_is_not_in_force_at_the_end(running: Running) -> None:
    before = running.config["digest"]
    store = await change_while_the_store_starts(running, None)
    store.may_start.set()
    await until(lambda: running.app.status()["store"] is not None and running.config["digest"] == before)


async def test_change_while_the_store_starts_is_seen_though_nobody_asks(running: Running) -> None:
    running.write(limit_usd=1)
    await until(lambda: bool(SlowStore.made))
    running.write(limit_usd=2)
    SlowStore.made[0].may_start.set()
    await until(lambda: running.config["digest"] == running.digest_in_file())


@pytest.mark.parametrize("error", [OSError("no room"), RuntimeError("no room")], ids=["the disk's fault", "ours"])
async def test_store_that_cannot_be_opened_leaves_all_as_it_was_and_may_come_with_the_next_change(
    running: Running, error: Exception
) -> None:
    before = running.config["digest"]
    running.write(limit_usd=1)
    await until(lambda: bool(SlowStore.made))
    SlowStore.made[0].fails_with = error
    SlowStore.made[0].may_start.set()
    await until(lambda: "no room" in str(running.config["last_reload_error"]))
    assert (running.config["digest"], running.app.status()["store"]) == (before, None)
    running.write(limit_usd=20)
    await until(lambda: len(SlowStore.made) == 2)
    SlowStore.made[1].may_start.set()
    await until(lambda: running.config["digest"] == running.digest_in_file())
    assert running.config["last_reload_error"] is None


async def test_stop_while_the_store_starts_waits_for_nobody(running: Running) -> None:
    running.write(limit_usd=1)
    await until(lambda: bool(SlowStore.made))
    running.app.stop()
    await until(running.life.done)
    assert running.app.status()["store"] is None
