"""The real program, started as users start it: `python -m proxy serve --config FILE` on free ports, with a state folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.observer.ledger.show import run_calls

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 20.0
POLL_S = 0.02
FOREIGN = ("OTEL_", "POSTERN_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "OPENAI_", "ANTHROPIC_")


def environment(**variables: str) -> dict[str, str]:
    """The test run's environment without what would steer the program, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def postern(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """One command of the program, to its end."""
    command = [sys.executable, "-m", "proxy", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=WAIT_S * 3, check=False)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def two_free_ports() -> tuple[int, int]:
    """Two ports that aren't the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1], free_port()


class RunningGate:
    """A gate and its observer. `rows` are what the ledger says."""

    def __init__(self, config: str, shared_state_dir: Path | None = None, **variables: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="postern-test-")
        self.folder = Path(self._folder.name)
        self.state_dir = shared_state_dir or self.folder / "state"
        self.port, self.admin_port = two_free_ports()
        self.url, self.admin_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"
        self.config_file = self.folder / "postern.yaml"
        self.write_config(config)
        self._seen = 0  # rows that were there before the test
        self._log = self.folder / "said.txt"
        with self._log.open("w") as log:
            command = [sys.executable, "-m", "proxy", "serve", "--config", str(self.config_file)]
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment(**variables), stdout=log, stderr=log)
        try:
            self.until(self._is_ready, "ready")
        except BaseException:
            self.close()
            raise

    def write_config(self, config: str) -> None:
        """Write the configuration file; the listeners and the state folder are this gate's own."""
        own = f'listen: 127.0.0.1:{self.port}\nadmin: {{listen: "127.0.0.1:{self.admin_port}"}}\nstate_dir: {self.state_dir}\n'
        self.config_file.write_text(own + config, encoding="utf-8")

    @property
    def said(self) -> str:
        """Standard output and standard error so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def until(self, is_so: Any, what: str) -> Any:
        """Wait for a condition; its value. Raises AssertionError with what the gate said."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            value = is_so()
            if value:
                return value
            time.sleep(POLL_S)
        raise AssertionError(f"not {what} within {WAIT_S} s; the gate said:\n{self.said}")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"the gate ended with {self.process.returncode}:\n{self.said}"
        try:
            with urllib.request.urlopen(f"{self.admin_url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def status(self) -> dict[str, Any]:
        """The report of /status."""
        with urllib.request.urlopen(f"{self.admin_url}/status", timeout=5) as answer:
            report: dict[str, Any] = json.load(answer)
            return report

    def ledger(self) -> list[dict[str, Any]]:
        """The rows that are in the ledger now, oldest first, as `postern calls --json` shows them."""
        shown: list[str] = []
        run_calls(str(self.state_dir), follow=False, as_json=True, limit=100_000, write=shown.append, wait=lambda: False)
        return [json.loads(line) for line in shown if line.startswith("{")]

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Exactly `count` rows, once all that was recorded is safe; without those that were there at `begin_anew`."""

        def settled() -> bool:
            observer = self.status()["observer"]
            return bool(observer["acknowledged"] >= self._seen + count and observer["queued"] == 0)

        self.until(settled, f"{count} rows")
        rows = self.ledger()[self._seen :]
        assert len(rows) == count, rows
        return rows

    def begin_anew(self) -> None:
        """For a gate that tests share: from now on, `rows` are those of this test."""

        def quiet() -> bool:
            report = self.status()
            return bool(report["calls"]["in_flight"] == report["observer"]["queued"] == 0)

        self.until(quiet, "quiet")
        self._seen = len(self.ledger())

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it in good order: exit code 0 and nothing that looks like a fault of ours on its standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        assert code == 0, self.said
        assert "Traceback" not in self.said, self.said

    def close(self) -> None:
        """Let go of everything, whatever happened before."""
        self.process.kill()
        self.process.wait(WAIT_S)
        self._folder.cleanup()


@contextlib.contextmanager
def running_gate(config: str, shared_state_dir: Path | None = None, **variables: str) -> Iterator[RunningGate]:
    """A gate with this configuration (without listeners and state_dir); it must end in good order, unless the test failed or ended it."""
    gate = RunningGate(config, shared_state_dir, **variables)
    try:
        yield gate
        if gate.process.poll() is None:
            gate.stop()
    finally:
        gate.close()
