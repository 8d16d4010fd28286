"""A real Prometheus that scrapes one page every moment; tests skip where none is installed."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.gate import free_port

WAIT_S = 30.0
POLL_S = 0.1

needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus isn't installed: nothing scrapes the page")

CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: postern
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """Answers PromQL about what it scraped."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The instant vector."""
        result: list[dict[str, Any]] = self._ask("query", query=promql)["result"]
        return result

    def number(self, promql: str) -> float:
        """The value of a query that has one series. NaN while it has none."""
        found = self.query(promql)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else float("nan")

    def exemplars(self, promql: str) -> list[dict[str, Any]]:
        """The exemplars of a query's series in the last hour."""
        now = time.time()
        found: list[dict[str, Any]] = self._ask("query_exemplars", query=promql, start=str(now - 3600), end=str(now + 3600))
        return found

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped, with the last error."""
        found: list[dict[str, Any]] = self._ask("targets")["activeTargets"]
        return found

    def until(self, promql: str, value: float) -> None:
        """Wait until a query has this value. Raises AssertionError with what it had instead."""
        deadline, seen = time.monotonic() + WAIT_S, float("nan")
        while time.monotonic() < deadline:
            seen = self.number(promql)
            if seen == value:
                return
            time.sleep(POLL_S)
        raise AssertionError(f"{promql} is {seen}, not {value}; {self.targets()}")

    def _ask(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=5) as answer:
            return json.load(answer)["data"]


@contextlib.contextmanager
def scraping(target: str, token: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `target`, ready to be asked."""
    with tempfile.TemporaryDirectory(prefix="postern-test-") as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(CONFIG.format(target=target, token=token))
        address = f"127.0.0.1:{free_port()}"
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
        log = (Path(folder) / "said.txt").open("w+")
        with log, subprocess.Popen([*command, "--enable-feature=exemplar-storage"], stdout=log, stderr=log, cwd=folder) as process:
            try:
                _wait_ready(f"http://{address}", process)
                yield Prometheus(f"http://{address}")
            finally:
                process.terminate()


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "prometheus ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(POLL_S)
    raise AssertionError("prometheus isn't ready")
