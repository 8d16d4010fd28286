"""`kill -9` of a sidecar with the embedded store, under load: no cent that was settled is lost, none is counted twice.

`POSTERN_KILLS=50` kills more often than the suite does; `--log-cli-level=info` tells what was under way.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.functional.counting_provider import CountingProvider, counting_provider
from tests.functional.crowd import BODY, STREAM_BODY, Answered, keep_asking
from tests.functional.gate import RunningGate, running_gate

KILLS = int(os.environ.get("POSTERN_KILLS", "5"))
CLIENTS = 16
CALL_NUSD = 10_000_000
BUDGET = "{name: all-time, window: {every: month}, limit: {usd: 1000000, requests: 100000000}}"
LOAD_S = (0.3, 0.45, 0.6, 0.75, 0.9)  # before the kill: SQLite is written every 0.15 s


log = logging.getLogger(__name__)


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider(latency_s=0.005) as running:
        yield running


def config(provider: CountingProvider) -> str:
    target = f'up: {{provider: openai, base_url: "{provider.url}/v1", price: {{per_request: 0.01}}}}'
    return f"targets: {{{target}}}\nbudgets: [{BUDGET}]\n"


def counted(gate: RunningGate) -> tuple[int, int]:
    """What the store says is spent: in calls' worth of USD, and in requests."""
    with urllib.request.urlopen(f"{gate.admin_url}/budgets", timeout=5) as answer:
        used = {row["unit"]: row["used"] for row in json.load(answer)}
    return round(used.get("usd", 0) * 1e9 / CALL_NUSD), round(used.get("requests", 0))


def load_until_killed(gate: RunningGate, seconds: float) -> list[list[Answered]]:
    """What each client was answered until the gate was killed."""
    is_killed = False

    def kill() -> None:
        nonlocal is_killed
        time.sleep(seconds)
        is_killed = True
        gate.process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    answered = asyncio.run(keep_asking(gate.port, CLIENTS, lambda: is_killed, (BODY, STREAM_BODY)))
    killer.join()
    gate.process.wait(10)
    return answered


def ledger_calls(state_dir: Path) -> int:
    """The calls' worth of cost that the ledger has."""
    with closing(sqlite3.connect(state_dir / "ledger.db")) as database:
        total: int = database.execute("SELECT coalesce(sum(cost_nusd), 0) FROM calls").fetchone()[0]
    return total // CALL_NUSD


def whole(client: list[Answered]) -> int:
    """How many whole replies a client had."""
    return sum(1 for one in client if one.status == 200)


def test_gate_killed_under_load_loses_no_settled_cent(provider: CountingProvider, tmp_path: Path) -> None:
    """All that the provider served counts, but for calls under way at a kill: each client has one at a time.

    A client asks again only when its call before is over: all of its whole replies but the last were settled for certain.
    """
    missing: list[int] = []
    owed = 0  # to the ledger
    for number in range(KILLS):
        with running_gate(config(provider), tmp_path) as gate:
            before, served, began = counted(gate), provider.served, provider.began
            answered = load_until_killed(gate, LOAD_S[number % len(LOAD_S)])
        with running_gate(config(provider), tmp_path) as gate:
            usd, requests = (after - earlier for after, earlier in zip(counted(gate), before, strict=True))
        over = sum(max(0, whole(client) - 1) for client in answered)
        assert over <= usd <= provider.began - began
        assert over <= requests <= provider.began - began
        missing.append(provider.served - served - usd)
        assert missing[-1] <= CLIENTS
        owed += over
    with running_gate(config(provider), tmp_path) as gate:
        gate.until(lambda: owed <= ledger_calls(tmp_path) <= provider.began, "written to the ledger")
    unwritten = provider.served - ledger_calls(tmp_path)
    log.info("%d kills, %d calls served; under way and not counted: %s; not in the ledger: %d", KILLS, provider.served, missing, unwritten)
