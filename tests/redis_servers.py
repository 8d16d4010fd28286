"""Real Redis servers for tests: one, a cluster of three, one with a replica and three sentinels. On free ports, in folders of their own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

WAIT_S = 30.0
POLL_S = 0.05
MASTER = "postern-test"
NO_SERVER = "no redis-server in PATH (`make redis` installs one where it can)"


def free_port(offset: int = 0) -> int:
    """A port that was free a moment ago; with `offset`, the one so far above it as well."""
    while True:
        with socket.socket() as probe, socket.socket() as other:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if not offset:
                return port
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + offset))
                return port


class RedisServer:
    """One redis-server."""

    def __init__(self, *options: str, port: int = 0, sentinel_config: str = "") -> None:
        if shutil.which("redis-server") is None:
            pytest.skip(NO_SERVER)
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="postern-redis-"))
        self._options = options
        self._sentinel_config = sentinel_config
        self.start()

    def start(self) -> None:
        command = ["redis-server"]
        if self._sentinel_config:
            config = self.folder / "sentinel.conf"
            config.write_text(f"port {self.port}\n{self._sentinel_config}")
            command += [str(config), "--sentinel"]
        else:
            command += ["--port", str(self.port), "--save", "", "--appendonly", "no", *self._options]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.command("PING") == "PONG")

    def command(self, *words: str) -> str:
        done = subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, check=False, timeout=WAIT_S)
        return done.stdout.strip()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.go_on()
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(POLL_S)


class Sentinels:
    """A master with a replica, watched by three sentinels."""

    def __init__(self) -> None:
        self.master = RedisServer()
        self.replica = RedisServer("--replicaof", "127.0.0.1", str(self.master.port))
        config = (
            f"sentinel monitor {MASTER} 127.0.0.1 {self.master.port} 2\nsentinel down-after-milliseconds {MASTER} 300\n"
            f"sentinel failover-timeout {MASTER} 2000\n"
        )
        self.sentinels = [RedisServer(sentinel_config=config) for _ in range(3)]
        first = self.sentinels[0]
        wait_for(lambda: "master_link_status:up" in self.replica.command("INFO", "replication"))
        wait_for(lambda: f"\n{self.replica.port}\n" in first.command("SENTINEL", "replicas", MASTER))
        for sentinel in self.sentinels:
            wait_for(lambda s=sentinel: s.command("SENTINEL", "ckquorum", MASTER).startswith("OK 3"))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    @property
    def master_port(self) -> str:
        return self.sentinels[0].command("SENTINEL", "get-master-addr-by-name", MASTER).split("\n")[-1]

    def close(self) -> None:
        for server in [*self.sentinels, self.replica, self.master]:
            server.close()


class Cluster:
    """Three masters."""

    def __init__(self) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
        self.nodes = [RedisServer(*options, port=free_port(10_000)) for _ in range(3)]
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        subprocess.run(["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"], check=True, capture_output=True, timeout=WAIT_S)
        for node in self.nodes:
            wait_for(lambda n=node: "cluster_state:ok" in n.command("CLUSTER", "INFO"))

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def close(self) -> None:
        for node in self.nodes:
            node.close()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One server for all tests that don't hurt it: each with a prefix of its own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def redis_sentinels() -> Iterator[Sentinels]:
    sentinels = Sentinels()
    yield sentinels
    sentinels.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that a test may stop, kill and flush."""
    server = RedisServer()
    yield server
    server.close()
