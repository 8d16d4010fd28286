"""The gate, wired: objects built, listeners opened, configurations swapped, drained, closed.

Here: start, reload, drain, exit. Not here: decisions, the path of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from proxy import __version__
from proxy.budget_desk import BudgetDesk
from proxy.call import Target
from proxy.config.changes import needs_restart, refused_until_restart
from proxy.config.endpoints import parse_address
from proxy.config.load import LoadedConfig, load_config, read_text_file
from proxy.config.notes import notes
from proxy.config.problems import ConfigError
from proxy.config.schema import Config
from proxy.data.price_data import read_prices
from proxy.observer_settings import encode_settings, observer_settings
from proxy.pipeline.breakers import BreakerLog, breaker_states
from proxy.pipeline.handle_call import handle_call
from proxy.pipeline.runtime import Gate, Runtime
from proxy.policy.price_match import ShippedPrices
from proxy.policy.pricing import PriceBook
from proxy.policy.telemetry_environment import read_telemetry_environment
from proxy.ports import BudgetStore
from proxy.receivers.admin import AdminServer
from proxy.receivers.http import GateServer
from proxy.record_link.observer_process import ObserverProcess
from proxy.records import GateReport
from proxy.stores.books import Books
from proxy.upstream.http import HttpUpstream
from proxy.upstream.tunnel import TcpTunnelDialer
from proxy.wire.dialects.table import dialect

if TYPE_CHECKING:
    from proxy.simulated.server import SimulatedServer
    from proxy.stores.opening import OwnedStore
    from proxy.stores.shared_keys import SharedKeys

BACKLOG = 1024
POLL_S = 2.0
REPORT_S = 1.0
DRAIN_STEP_S = 0.05
GC_THRESHOLDS = (10_000, 20, 50)  # a call leaves next to no cycles: Python's default of 700 costs 7 % of its CPU

log = logging.getLogger("postern")


class SystemClock:
    """The machine's clocks. Port: Clock."""

    time_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)


def load(path: str, environment: Mapping[str, str]) -> LoadedConfig:
    """The configuration in a file. Raises ConfigError."""
    return load_config(path, environment, read_text_file, lambda provider: dialect(provider).default_base_url)


class App:
    """One running Postern."""

    def __init__(self, path: str, loaded: LoadedConfig, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._loaded = loaded
        self._loaded_at_s = SystemClock.time_ns() / 1e9
        self._reload_error = ""
        self._fingerprint = _fingerprint(path, loaded)
        self._patient = True  # the drain waits for calls
        self._stop = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._telemetry_environment, self._warnings = read_telemetry_environment(environment)
        self._simulated: SimulatedServer | None = None
        self._store: OwnedStore | None = None
        self._shared_keys: SharedKeys | None = None
        self.addresses: list[str] = []
        self.admin_addresses: list[str] = []

    @property
    def config_file(self) -> str:
        """Where the configuration was read."""
        return self._path

    @property
    def simulates(self) -> bool:
        """Whether models of the simulated provider can be asked for."""
        return self._simulated is not None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self, started: Callable[[App], None]) -> None:
        """Open, serve until a signal, drain, close. Raises OSError if a listener can't be bound or state_dir not be used."""
        config = self._loaded.config
        for warning in [*self._warnings, *notes(config)]:
            log.warning("%s", warning)
        self._observer = ObserverProcess(_settings(self._loaded))
        await self._start_simulated(self._loaded)
        clock = SystemClock()
        store = await self._open_store(config)
        bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311  # ids, not secrets: no system call for each
        self._upstream = HttpUpstream()
        self._gate = Gate(self._runtime(self._loaded), self._upstream, TcpTunnelDialer(), self._observer.link, clock, bits, store)
        gate = self._gate
        await self._open_shared_keys(config)
        self._server = GateServer(lambda request, reply, tunnel: handle_call(gate, request, reply, tunnel), clock)
        desk = BudgetDesk(lambda: gate.runtime.spending, lambda: self._store, clock)
        admin = AdminServer(config.admin.token.reveal(), self.status, self._not_ready, self._observer.pages.fetch, desk)
        loop = asyncio.get_running_loop()
        try:
            listener = await _listen(self._server, config.listen, "listen")
            admin_listener = await _listen(admin.server, config.admin.listen, "admin.listen")
        except OSError:
            await self._close_provider_side()
            raise
        self.addresses, self.admin_addresses = _names(listener), _names(admin_listener)
        self._observer.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        follow, report = loop.create_task(self._follow_file()), loop.create_task(self._report())
        gc.collect()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.freeze()  # what start-up made stays: no collection walks it again
        started(self)
        await self._stop.wait()
        follow.cancel()
        await self._drain(listener)
        report.cancel()
        await self._close(admin, admin_listener)

    def stop(self) -> None:
        """Drain and end; told once more, don't wait for calls."""
        if self._stop.is_set():
            self._patient = False
        self._stop.set()

    async def _drain(self, listener: asyncio.Server) -> None:
        """Take no new connections, let what is running finish, at most drain_s."""
        listener.close()
        self._server.pre_shutdown()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._loaded.config.drain_s
        if self._gate.in_flight:
            log.info("draining: %d calls are running; a second signal cuts them", self._gate.in_flight)
        while self._gate.in_flight and self._patient and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP_S)
        if self._gate.in_flight:
            log.warning("%d calls are cut", self._gate.in_flight)
        self._gate.stopping = True

    async def _close(self, admin: AdminServer, admin_listener: asyncio.Server) -> None:
        await self._server.shutdown(0.1)
        await self._gate.mirrors.stop()
        await self._observer.stop()
        admin_listener.close()
        await admin.server.shutdown(0.1)
        await self._close_provider_side()

    async def _close_provider_side(self) -> None:
        await self._upstream.close()
        if self._store is not None:
            await self._store.close()
        if self._shared_keys is not None:
            await self._shared_keys.close()
        if self._simulated is not None:
            await self._simulated.close()

    # -- configuration ------------------------------------------------------------------------------------------------

    def _runtime(self, loaded: LoadedConfig) -> Runtime:
        config = loaded.config
        trusted = set(config.telemetry.trust_upstream_context)
        targets = {name: self._resolved(target, name in trusted) for name, target in loaded.targets.items()}
        prices = PriceBook(ShippedPrices(read_prices()), config.prices.overrides)
        return Runtime(config, targets, prices, self._telemetry_environment, self._environment)

    def _resolved(self, target: Target, trusted: bool) -> Target:
        base_url = target.base_url or (self._simulated.base_url if self._simulated else "")
        return msgspec.structs.replace(target, base_url=base_url, trusted_context=trusted)

    async def _open_store(self, config: Config) -> BudgetStore:
        """The store of budgets and limits, opened when there first are any. Raises OSError."""
        if self._store is None and (config.budgets or config.limits):
            from proxy.stores.opening import store_for  # only where something is to be remembered

            store = store_for(config, SystemClock())
            await store.start()
            self._store = store
        return self._store or Books()

    async def _open_shared_keys(self, config: Config) -> None:
        """The keys in Redis, read before the first call where they are needed. Raises OSError."""
        if config.store.keys:
            from proxy.stores.opening import shared_keys_for  # only where keys are shared

            self._shared_keys = shared_keys_for(config, SystemClock(), self._gate.share_keys)
            await self._shared_keys.start()

    async def _start_simulated(self, loaded: LoadedConfig) -> None:
        if self._simulated is not None or all(target.base_url for target in loaded.targets.values()):
            return
        from proxy.simulated.server import start_simulated  # only where it was asked for

        self._simulated = await start_simulated()

    def reload(self) -> None:
        """Load the file again, as soon as no other reload is under way: what is in force at the end is the newest."""
        self._reload_asked.set()

    async def _follow_file(self) -> None:
        """Reload when asked to, and when a file changed. The only place that does: two at once would open the store twice."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._reload_asked.wait()
            if self._reload_asked.is_set() or _fingerprint(self._path, self._loaded) != self._fingerprint:
                self._reload_asked.clear()
                await self._reload()

    async def _reload(self) -> None:
        """Swap the file in whole, or keep the configuration in force and say why."""
        self._fingerprint = _fingerprint(self._path, self._loaded)
        self._reload_error = ""
        try:
            loaded = load(self._path, self._environment)
            self._reload_error = refused_until_restart(self._loaded.config, loaded.config) or ""
            if not self._reload_error and loaded.digest != self._loaded.digest:
                await self._swap(loaded)
        except (ConfigError, OSError) as error:
            self._reload_error = str(error)
        except Exception as error:
            self._reload_error = f"{type(error).__name__}: {error}"
            log.exception("the changed configuration could not be put in force")
            return
        if self._reload_error:
            log.error("the changed configuration is refused, the last good one goes on:\n%s", self._reload_error)

    async def _swap(self, loaded: LoadedConfig) -> None:
        """Put it in force. What may fail or take its time comes first. Raises OSError."""
        # A file that was watched before counts as it was before it was read: it may have been written since.
        fingerprint = {name: self._fingerprint.get(name, mark) for name, mark in _fingerprint(self._path, loaded).items()}
        store = await self._open_store(loaded.config)
        await self._start_simulated(loaded)
        runtime, old, settings = self._runtime(loaded), self._loaded, _settings(loaded)
        self._loaded, self._fingerprint = loaded, fingerprint
        self._loaded_at_s = SystemClock.time_ns() / 1e9
        self._gate.store = store
        self._gate.use(runtime)
        if settings != _settings(old):
            self._observer.renew(settings)
        for key in needs_restart(old.config, loaded.config):
            log.warning("%s changed: it takes effect at the next start", key)
        for note in notes(loaded.config):
            log.warning("%s", note)
        log.info("configuration %s is in force", loaded.digest[:12])

    async def _report(self) -> None:
        """Tell the observer what no record tells. It gets the newest report, and only if it says something new."""
        breaker_log = BreakerLog()
        while True:
            breaker_log.tell(self._gate)
            used, heading_for = self._gate.budget_watch.shares(self._gate.store, self._gate.store_now_ms())
            self._observer.link.report(
                GateReport(
                    self._gate.in_flight,
                    dict(self._observer.link.dropped),
                    breakers=breaker_states(self._gate),
                    budgets=used,
                    forecasts=heading_for,
                    unmirrored=dict(self._gate.unmirrored),
                )
            )
            await asyncio.sleep(REPORT_S)

    # -- reports ------------------------------------------------------------------------------------------------------

    def _not_ready(self) -> str:
        return "draining" if self._stop.is_set() else ""

    def status(self) -> dict[str, object]:
        """The report of /status: no secrets, no bodies."""
        gate, link, breakers = self._gate, self._observer.link, breaker_states(self._gate)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "draining": self._stop.is_set(),
            "listen": self.addresses,
            "config": {
                "file": self._path,
                "digest": self._loaded.digest,
                "loaded_at": self._loaded_at_s,
                "last_reload_error": self._reload_error or None,
            },
            "calls": {"in_flight": gate.in_flight, "settled": gate.calls, "bad_requests": self._server.bad_requests},
            "targets": {
                name: {"provider": one.target.provider, "base_url": one.target.base_url, "breaker": breakers[name]}
                for name, one in gate.runtime.endpoints.items()
            },
            "store": self._store.health() if self._store is not None else None,
            "shared_keys": self._shared_keys.health() if self._shared_keys is not None else None,
            "observer": {
                "pid": self._observer.pid,
                "restarts": self._observer.restarts,
                "recorded": link.recorded,
                "acknowledged": link.acknowledged,
                "queued": link.queued,
                "dropped": link.dropped,
                "counters": link.observer_counters,
            },
        }


async def _listen(server: Callable[[], asyncio.Protocol], address: str, key: str) -> asyncio.Server:
    where = parse_address(address)
    try:
        return await asyncio.get_running_loop().create_server(server, where.host, where.port, backlog=BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"{key}: can't listen on {address}: {os.strerror(error.errno) if error.errno else error}") from error


def _names(listener: asyncio.Server) -> list[str]:
    names = []
    for end in listener.sockets:
        host, port = end.getsockname()[:2]
        names.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return names


def _settings(loaded: LoadedConfig) -> bytes:
    return encode_settings(observer_settings(loaded.config, __version__))


def _fingerprint(path: str, loaded: LoadedConfig) -> dict[str, tuple[int, int]]:
    """By file that the configuration is read from: when it was written, and its size."""
    marks = {}
    for name in [path, *loaded.files]:
        with contextlib.suppress(OSError):
            stat = Path(name).stat()
            marks[name] = (stat.st_mtime_ns, stat.st_size)
    return marks


def serve(path: str, loaded: LoadedConfig, environment: Mapping[str, str], started: Callable[[App], None]) -> None:
    """Run one Postern until it is told to stop. Raises OSError if it can't start."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        Path(loaded.config.state_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OSError(error.errno, f"state_dir: can't make the folder {loaded.config.state_dir}: {error.strerror}") from error
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(App(path, loaded, environment).run(started))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: the standard loop serves as well, a little slower
        return None
    return uvloop.new_event_loop
