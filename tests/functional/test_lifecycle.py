"""Start, reload, drain, death: what users do to the program, and what a machine does to it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from proxy import __version__
from tests.functional.gate import ROOT, RunningGate, environment, free_port, postern, running_gate
from tests.functional.scripted_provider import SSE_HEAD, Gate, ScriptedProvider, chunk, scripted_provider

SIM = "targets: {sim: {provider: simulated}}\n"
HELLO: Any = [{"role": "user", "content": "Hello"}]
FIRST = b'data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
LAST = b'data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
LOAD_CALLS = 300
MOST_IN_A_MOMENT = 50  # calls that four clients see the end of in 0.01 s, after which a record has left the gate, and some more


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


def client_of(gate: RunningGate) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gate.url}/v1", api_key="sk-x", timeout=15, max_retries=0, default_headers={"x-sim": "lat=1,d=0,n=2"})


def chat_request(gate: RunningGate, model: str) -> urllib.request.Request:
    body = json.dumps({"model": model, "messages": HELLO}).encode()
    fields = {"content-type": "application/json", "x-sim": "lat=1,d=0,n=2"}
    return urllib.request.Request(f"{gate.url}/v1/chat/completions", body, fields)


def ask(gate: RunningGate, model: str = "sim/gpt-4o-mini") -> int:
    """One call; its status."""
    try:
        with urllib.request.urlopen(chat_request(gate, model), timeout=15) as answer:
            answer.read()
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        error.read()
        error.close()
        return error.code


def streaming(provider: ScriptedProvider) -> str:
    return f'targets: {{up: {{provider: openai, base_url: "{provider.url}/v1"}}}}\n'


def test_drain_lets_a_live_stream_end(provider: ScriptedProvider) -> None:
    pause = Gate()
    provider.script([SSE_HEAD, chunk(FIRST), pause, chunk(LAST), b"0\r\n\r\n"])
    with running_gate(streaming(provider)) as gate, client_of(gate) as client:
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
        next(stream)
        gate.process.send_signal(signal.SIGTERM)
        gate.until(lambda: "draining" in gate.said, "draining")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gate.port), timeout=5).close()
        pause.open()
        assert [piece.choices[0].finish_reason for piece in stream] == ["stop"]
        gate.stop()
        assert [row["outcome"] for row in gate.ledger()] == ["succeeded"]


def test_second_signal_cuts_a_live_stream_and_accounts_for_it(provider: ScriptedProvider) -> None:
    provider.script([SSE_HEAD, chunk(FIRST), "stall"])
    with running_gate(streaming(provider)) as gate, client_of(gate) as client:
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
        next(stream)
        gate.process.send_signal(signal.SIGTERM)
        gate.until(lambda: "draining" in gate.said, "draining")
        gate.stop()
        with pytest.raises((openai.APIError, httpx2.TransportError)):
            list(stream)
        assert [row["outcome"] for row in gate.ledger()] == ["interrupted"]


def test_drain_ends_in_its_time(provider: ScriptedProvider) -> None:
    provider.script([SSE_HEAD, chunk(FIRST), "stall"])
    with running_gate(streaming(provider) + "drain_s: 0.3\n") as gate, client_of(gate) as client:
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
        next(stream)
        gate.stop(signal.SIGINT)
        assert [row["outcome"] for row in gate.ledger()] == ["interrupted"]


def test_idle_connection_holds_no_drain_up() -> None:
    with running_gate(SIM) as gate, socket.create_connection(("127.0.0.1", gate.port), timeout=10) as idle:
        idle.sendall(b"GET /v1/models HTTP/1.1\r\nHost: gate\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        gate.stop()
        while idle.recv(1 << 16):  # closed, not reset
            pass


def test_running_call_keeps_the_configuration_it_began_with(provider: ScriptedProvider) -> None:
    pause = Gate()
    provider.script([SSE_HEAD, chunk(FIRST), pause, chunk(LAST), b"0\r\n\r\n"])
    with running_gate(streaming(provider)) as gate, client_of(gate) as client:
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
        next(stream)
        gate.write_config(SIM)
        gate.process.send_signal(signal.SIGHUP)
        gate.until(lambda: list(gate.status()["targets"]) == ["sim"], "reloaded")
        assert ask(gate) == 200
        pause.open()
        assert [piece.choices[0].finish_reason for piece in stream] == ["stop"]
        assert sorted(row["target"] for row in gate.rows(2)) == ["sim", "up"]


def test_changed_file_is_swapped_in_and_a_bad_one_is_not() -> None:
    with running_gate(SIM + "routes: [{name: only, match: {model: 'a'}, to: [sim]}]\n") as gate:
        assert ask(gate, "b") == 404
        gate.write_config(SIM + "routes: [{name: only, match: {model: 'b'}, to: [sim]}]\n")
        gate.process.send_signal(signal.SIGHUP)
        gate.until(lambda: ask(gate, "b") == 200, "reloaded")
        gate.write_config(SIM + "routes: [{name: only, match: {modle: 'a'}, to: [sim]}]\n")
        error = gate.until(lambda: gate.status()["config"]["last_reload_error"], "refused by polling")
        assert "did you mean 'model'" in error
        assert ask(gate, "b") == 200


def test_changed_price_reaches_the_observer() -> None:
    with running_gate(SIM) as gate:
        assert ask(gate, "sim/mine") == 200
        gate.rows(1)
        before = gate.status()["observer"]["pid"]
        gate.write_config(SIM + "prices: {overrides: {mine: {per_request: 0.5}}}\n")
        gate.process.send_signal(signal.SIGHUP)
        gate.until(lambda: gate.status()["observer"]["pid"] not in (None, before), "a new observer")
        assert ask(gate, "sim/mine") == 200
        first, second = gate.rows(2)
        assert "cost_usd" not in first
        assert second["cost_usd"] == 0.5
        assert gate.status()["observer"]["restarts"] == 0


def load(gate: RunningGate, statuses: list[int], calls: int = LOAD_CALLS) -> list[threading.Thread]:
    """Four clients that share `calls` calls."""

    def run() -> None:
        statuses.extend(ask(gate) for _ in range(calls // 4))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    return threads


def test_killed_observer_hurts_no_call_and_loses_none() -> None:
    statuses: list[int] = []
    with running_gate(SIM) as gate:
        threads = load(gate, statuses)
        gate.until(lambda: len(statuses) > LOAD_CALLS // 4, "under load")
        first = gate.status()["observer"]["pid"]
        os.kill(first, signal.SIGKILL)
        gate.until(lambda: gate.status()["observer"]["pid"] not in (None, first), "observed again")
        for thread in threads:
            thread.join()
        assert statuses == [200] * LOAD_CALLS
        observer = gate.until(lambda: gate.status()["observer"] if gate.status()["observer"]["queued"] == 0 else None, "caught up")
        assert observer["restarts"] == 1
        rows = gate.ledger()
        assert len(rows) + sum(observer["dropped"].values()) == LOAD_CALLS
        assert len({row["call_id"] for row in rows}) == len(rows)


def test_stopped_observer_holds_no_call_up() -> None:
    statuses: list[int] = []
    with running_gate(SIM) as gate:
        pid = gate.status()["observer"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        for thread in load(gate, statuses, 100):
            thread.join()
        assert statuses == [200] * 100
        os.kill(pid, signal.SIGCONT)
        assert len(gate.rows(100)) == 100


def test_gate_killed_under_load_leaves_every_call_that_was_over_a_moment_before() -> None:
    over: list[str] = []  # calls, in the order in which they were over for their clients

    def run() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                over.append(call_id_of_next(gate))

    with running_gate(SIM) as gate:
        observer = gate.status()["observer"]["pid"]
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        gate.until(lambda: len(over) > LOAD_CALLS, "under load")
        gate.process.kill()
        gate.process.wait(10)
        for thread in threads:
            thread.join()
        gate.until(lambda: _is_gone(observer), "ended by itself")
        kept = {row["call_id"] for row in gate.ledger()}
        assert set(over[:-MOST_IN_A_MOMENT]) - kept == set()
        assert_sound(gate.state_dir)


def call_id_of_next(gate: RunningGate) -> str:
    with urllib.request.urlopen(chat_request(gate, "sim/gpt-4o-mini"), timeout=15) as answer:
        answer.read()
        return str(answer.headers["x-postern-call-id"])


def assert_sound(state_dir: Path) -> None:
    """The ledger is one whole database, and was never given up for a new one."""
    assert not list(state_dir.glob("*corrupt*"))
    with contextlib.closing(sqlite3.connect(state_dir / "ledger.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _is_gone(pid: int) -> bool:
    """Whether a process has ended; one whose parent died may never be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_two_gates_share_a_ledger_even_if_one_observer_dies_while_it_writes() -> None:
    statuses: list[int] = []
    with running_gate(SIM) as one, running_gate(SIM, shared_state_dir=one.state_dir) as other:
        threads = [*load(one, statuses, 100), *load(other, statuses, 100)]
        one.until(lambda: len(statuses) > 50, "under load")
        os.kill(other.status()["observer"]["pid"], signal.SIGKILL)
        for thread in threads:
            thread.join()
        for gate in (one, other):
            gate.until(lambda gate=gate: gate.status()["observer"]["queued"] == 0, "settled")
        assert statuses == [200] * 200
        assert len({row["call_id"] for row in one.ledger()}) == len(one.ledger()) == 200
        assert_sound(one.state_dir)


def test_calls_are_shown_live() -> None:
    with running_gate(SIM) as gate:
        command = [sys.executable, "-m", "proxy", "calls", "--follow", "--json", "--config", str(gate.config_file)]
        with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            for _ in range(2):
                ask(gate)
                assert json.loads(follower.stdout.readline())["outcome"] == "succeeded"
            follower.send_signal(signal.SIGINT)
            assert follower.wait(10) == 0


def test_demo_shows_its_calls_and_ends() -> None:
    demo = postern("demo", "--once")
    assert demo.returncode == 0, demo.stderr
    assert "abandoned" in demo.stdout
    assert "/status" in demo.stdout
    assert "Traceback" not in demo.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_demo_that_is_ended_takes_its_sidecar_along(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "proxy", "demo"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        said = list(itertools.takewhile(lambda line: "It goes on at" not in line, demo.stdout))
        admin_url = next(word for line in said for word in line.split() if word.endswith("/status"))
        demo.send_signal(number)
        assert demo.wait(15) == 0
        assert _status_of(admin_url) == 0


def test_version_is_told() -> None:
    assert postern("--version").stdout == f"postern {__version__}\n"


def test_check_says_what_is_wrong_where(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("targets: {openai: {provider: openai}}\nroutes:\n  - {name: a, to: [opnai]}\n")
    refused = postern("check", str(bad))
    assert refused.returncode == 1
    assert f"{bad}:3:20: routes[0].to: no target named 'opnai' (did you mean 'openai'?)" in refused.stderr
    assert postern("check", "config/postern.yaml").returncode == 0


@pytest.mark.parametrize("key", ["listen", "admin.listen"])
def test_taken_port_is_said_clearly(key: str) -> None:
    with running_gate(SIM) as gate:
        taken, free = (gate.port, free_port()) if key == "listen" else (free_port(), gate.admin_port)
        config = gate.folder / "second.yaml"
        config.write_text(f'listen: 127.0.0.1:{taken}\nadmin: {{listen: "127.0.0.1:{free}"}}\nstate_dir: {gate.state_dir}\n{SIM}')
        second = postern("serve", "--config", str(config))
        assert second.returncode == 1
        assert f"{key}: can't listen on 127.0.0.1:{gate.port if key == 'listen' else gate.admin_port}" in second.stderr
        assert "Traceback" not in second.stderr
        assert ask(gate) == 200


def test_unusable_state_dir_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = tmp_path / "postern.yaml"
    config.write_text(
        f"listen: 127.0.0.1:{free_port()}\nadmin: {{listen: 127.0.0.1:{free_port()}}}\nstate_dir: {tmp_path}/file/state\n{SIM}"
    )
    refused = postern("serve", "--config", str(config))
    assert refused.returncode == 1
    assert "state" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_health_needs_no_token_and_status_does() -> None:
    config = SIM + "transparent: true\n"
    with running_gate(config) as gate:
        file = gate.config_file.read_text().replace('"}', '", token: secret-token}', 1)
        gate.config_file.write_text(file)
        gate.stop()
        with subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve", "--config", str(gate.config_file)], cwd=ROOT, env=environment()
        ) as again:
            gate.until(lambda: _status_of(f"{gate.admin_url}/livez") == 200, "alive")
            assert _status_of(f"{gate.admin_url}/readyz") == 200
            assert _status_of(f"{gate.admin_url}/status") == 401
            assert _status_of(f"{gate.admin_url}/status", "wrong") == 401
            assert _status_of(f"{gate.admin_url}/status", "secret-token") == 200
            again.terminate()
            assert again.wait(10) == 0


def _status_of(url: str, token: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


def test_missing_configuration_says_how_to_name_one(tmp_path: Path) -> None:
    missing = postern("serve", cwd=tmp_path)
    assert missing.returncode == 1
    assert "config/postern.yaml: can't be read" in missing.stderr
    assert "--config FILE" in missing.stderr


def test_limit_of_calls_must_be_a_number(tmp_path: Path) -> None:
    refused = postern("calls", "--limit", "0", cwd=tmp_path)
    assert refused.returncode == 2
    assert "'0' is not a number of at least 1" in refused.stderr
