"""`postern budgets` and `/budgets` of a running gate: what operators see and set, and who else may not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional.counting_provider import CountingProvider, counting_provider
from tests.functional.crowd import BODY
from tests.functional.gate import ROOT, RunningGate, environment, postern, running_gate
from tests.functional.raw_http import exchange, post

BUDGETS = """
budgets:
  - {name: tenant-day, per: [tenant], window: {every: day, time_zone: Europe/Berlin}, limit: {usd: 0.05, requests: 10}}
  - {name: trial, mode: shadow, window: {rolling_s: 3600}, limit: {usd: 1}}
  - {name: fleet, match: {tenant: fleet}, window: {every: month}, limit: {tokens: 50_000_000_000}}
limits:
  - {name: few, per: [tenant], concurrency: 5}
"""
ACME = "tenant=acme"
ONE_CALL = {("tenant-day", ACME, "usd"): 0.01, ("tenant-day", ACME, "requests"): 1, ("trial", "all", "usd"): 0.01}
"""What is used after one call."""
TOKEN = "admin-planted-0123456789"


def config(provider: CountingProvider) -> str:
    """A target whose calls cost a cent, and the budgets."""
    return f'targets: {{up: {{provider: openai, base_url: "{provider.url}/v1", price: {{per_request: 0.01}}}}}}\n' + BUDGETS


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


@pytest.fixture
def gate(provider: CountingProvider) -> Iterator[RunningGate]:
    with running_gate(config(provider)) as running:
        yield running


@pytest.fixture(scope="module")
def used_gate() -> Iterator[RunningGate]:
    """One for all tests that change nothing: `acme` has made a call."""
    with counting_provider() as provider, running_gate(config(provider)) as running:
        assert ask(running) == 200
        yield running


def ask(gate: RunningGate, tenant: bytes = b"acme") -> int:
    """One call of a tenant; its status."""
    return asyncio.run(exchange(gate.port, post(BODY, b"x-tenant: " + tenant))).status


def budgets(gate: RunningGate, *arguments: str) -> subprocess.CompletedProcess[str]:
    return postern("budgets", *arguments, "--config", str(gate.config_file))


def rows(gate: RunningGate, *arguments: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What the command tells, by rule, scope and unit."""
    told = budgets(gate, *arguments, "--json")
    assert told.returncode == 0, told.stderr
    listed = [json.loads(line) for line in told.stdout.splitlines()]
    return {(row["rule"], row["scope"], row["unit"]): row for row in listed}


def test_accounts_are_shown_with_what_is_used_held_and_left(gate: RunningGate) -> None:
    assert [ask(gate), ask(gate), ask(gate, b"beta")] == [200] * 3
    told = rows(gate)
    assert [*told] == [
        ("tenant-day", ACME, "usd"),
        ("tenant-day", ACME, "requests"),
        ("tenant-day", "tenant=beta", "usd"),
        ("tenant-day", "tenant=beta", "requests"),
        ("trial", "all", "usd"),
    ]
    usd = told["tenant-day", ACME, "usd"]
    assert (usd["limit"], usd["used"], usd["held"], usd["left"], usd["share"]) == (0.05, 0.02, 0, 0.03, 0.4)
    assert usd["window"] == "day (Europe/Berlin)"
    assert told["trial", "all", "usd"]["mode"] == "shadow"


def used(gate: RunningGate) -> dict[tuple[str, str, str], float]:
    return {account: row["used"] for account, row in rows(gate).items()}


def test_table_is_for_people(gate: RunningGate) -> None:
    ask(gate)
    lines = [line.split() for line in budgets(gate).stdout.splitlines()]
    assert lines[0] == ["budget", "scope", "unit", "used", "held", "left", "limit", "forecast", "window", "ends"]
    assert lines[1][:7] == ["tenant-day", ACME, "usd", "0.01", "0", "0.04", "0.05"]


def test_what_is_held_by_calls_under_way_is_shown() -> None:
    with counting_provider() as provider:
        provider.hold()
        with running_gate(config(provider)) as gate, socket.create_connection(("127.0.0.1", gate.port), timeout=10) as client:
            client.sendall(post(BODY[:-1] + b',"stream":true}', b"x-tenant: acme"))
            assert client.recv(12) == b"HTTP/1.1 200"
            told = rows(gate)
            assert told["tenant-day", ACME, "usd"]["held"] == 0.01
            assert told["few", ACME, "concurrency"]["held"] == 1
            provider.let_go()


def test_nothing_used_is_said(gate: RunningGate) -> None:
    assert budgets(gate).stdout == "No budget has been used yet.\n"


def test_set_and_reset_change_what_calls_may_spend(gate: RunningGate) -> None:
    assert ask(gate) == 200
    assert rows(gate, "set", "tenant-day", "--scope", ACME, "--usd", "0.05")["tenant-day", ACME, "usd"]["used"] == 0.05
    assert [ask(gate), ask(gate, b"beta")] == [429, 200]
    told = rows(gate, "reset", "tenant-day", "--scope", ACME)
    assert [told["tenant-day", ACME, unit]["used"] for unit in ("usd", "requests")] == [0, 0]
    assert told["tenant-day", "tenant=beta", "usd"]["used"] == 0.01
    assert ask(gate) == 200
    assert [row["used"] for row in rows(gate, "reset", "tenant-day").values()] == [0] * 4


def test_billions_of_tokens_can_be_set_as_they_can_be_a_limit(gate: RunningGate) -> None:
    told = rows(gate, "set", "fleet", "--scope", "all", "--tokens", "5e9")["fleet", "all", "tokens"]
    assert (told["used"], told["left"]) == (5e9, 45e9)


def test_what_was_set_outlives_a_kill(gate: RunningGate, provider: CountingProvider) -> None:
    assert rows(gate, "set", "tenant-day", "--scope", "tenant=gamma", "--requests", "10")
    gate.process.kill()
    gate.process.wait(10)
    with running_gate(config(provider), gate.state_dir) as again:
        assert [ask(again, b"gamma"), ask(again, b"delta")] == [429, 200]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("set", "tenant-day"), 2, "say whose with --scope"),
        (("set",), 2, "name the budget"),
        (("--usd", "1"), 2, "go with `set NAME`"),
        (("reset", "tenant-day", "--usd", "1"), 2, "an amount goes with `set`"),
        (("set", "tenant-day", "--scope", ACME, "--usd", "-1"), 2, "not an amount of at least 0"),
        (("set", "tenant-day", "--scope", ACME, "--usd", "nan"), 2, "not an amount of at least 0"),
        (("set", "tenant-day", "--scope", ACME, "--usd", "inf"), 2, "not an amount of at least 0"),
        (("set", "tenant-day", "--scope", ACME, "--usd", "1e12"), 1, "no amount that can be spent"),
        (("set", "no-such", "--scope", "all", "--usd", "1"), 1, "there is no budget named 'no-such'"),
        (("reset", "few"), 1, "there is no budget named 'few'"),
        (("set", "tenant-day", "--scope", ACME, "--tokens", "1"), 1, "has no limit of tokens"),
        (("set", "tenant-day", "--scope", "acme", "--usd", "1"), 1, "tenant="),
        (("set", "tenant-day", "--scope", "user=acme", "--usd", "1"), 1, "tenant="),
        (("set", "trial", "--scope", ACME, "--usd", "1"), 1, "all"),
    ],
)
def test_mistakes_are_told_and_change_nothing(used_gate: RunningGate, arguments: tuple[str, ...], code: int, said: str) -> None:
    told = budgets(used_gate, *arguments)
    assert (told.returncode, told.stdout) == (code, "")
    assert said in told.stderr
    assert "Traceback" not in told.stderr
    assert used(used_gate) == ONE_CALL


def test_gate_that_is_not_running_is_told(gate: RunningGate) -> None:
    gate.stop()
    told = budgets(gate)
    assert told.returncode == 1
    assert "No Postern answers at" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_reader_that_has_gone_is_no_fault(used_gate: RunningGate) -> None:
    """As in `postern budgets | head -1`. What is written is buffered, so that it is noticed at the end."""
    reads, writes = os.pipe()
    os.close(reads)
    buffered = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "proxy", "budgets", "--config", str(used_gate.config_file)]
    with os.fdopen(writes, "w") as nobody:
        done = subprocess.run(command, cwd=ROOT, env=buffered, stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ------------------------------------------------------------------------------------------------------------------- over HTTP


def over_http(gate: RunningGate, body: bytes | None = None, **fields: str) -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers of /budgets."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    request = urllib.request.Request(f"{gate.admin_url}/budgets", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused), dict(refused.headers)


RESET = b'{"rule": "tenant-day"}'


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_page_in_a_browser_can_set_nothing(used_gate: RunningGate, content_type: str) -> None:
    """What a page of another origin may send without asking first isn't taken, and nobody's leave is given."""
    status, told, headers = over_http(used_gate, RESET, content_type=content_type, origin="http://evil.example")
    assert (status, "application/json" in told["error"]) == (415, True)
    assert not [name for name in headers if name.lower().startswith("access-control-")]
    assert used(used_gate) == ONE_CALL


def test_page_in_a_browser_gets_no_leave_to_send_json(used_gate: RunningGate) -> None:
    asks = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    request = urllib.request.Request(f"{used_gate.admin_url}/budgets", method="OPTIONS", headers=asks)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    with refused.value as answer:
        assert answer.code == 405
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"rule": 1}',
        b'{"rule": "tenant-day", "scope": "tenant=acme", "unit": "usd", "spent": -1}',
        b'{"rule": "tenant-day", "scope": "tenant=acme", "unit": "usd", "spent": 1e300}',
        b'{"rule": "tenant-day", "scope": "tenant=acme", "unit": "usd", "spent": 1e999}',
        b'{"rule": "tenant-day", "scope": "tenant=acme", "unit": "requests", "spent": 0.5}',
        b'{"rule": "tenant-day", "scope": "tenant=acme", "spent": 1}',
        b'{"rule": "tenant-day", "scope": "tenant=a\\u0000b"}',
        b'{"rule": "tenant-day", "scpoe": "tenant=acme"}',
        b'{"rule": "tenant-day", "scope": "tenant=acme", "unit": "concurrency"}',
    ],
)
def test_body_that_makes_no_sense_changes_nothing(used_gate: RunningGate, body: bytes) -> None:
    status, told, _ = over_http(used_gate, body, content_type="application/json")
    assert status == 400, told
    assert used(used_gate) == ONE_CALL
    assert "Traceback" not in used_gate.said


def test_token_is_asked_for(provider: CountingProvider) -> None:
    with running_gate(config(provider)) as open_gate:
        open_gate.stop()
        file = open_gate.config_file
        file.write_text(file.read_text().replace('"}', f'", token: {TOKEN}}}', 1))
        with subprocess.Popen([sys.executable, "-m", "proxy", "serve", "--config", str(file)], cwd=ROOT, env=environment()) as process:
            try:
                open_gate.until(lambda: is_answered(f"{open_gate.admin_url}/readyz"), "ready")
                assert ask(open_gate) == 200
                assert [row["used"] for row in rows(open_gate, "reset", "tenant-day").values()] == [0, 0]
                for token in ({}, {"authorization": "Bearer wrong"}):
                    for body in (None, RESET):
                        status, told, _ = over_http(open_gate, body, content_type="application/json", **token)
                        assert (status, "tenant" in str(told)) == (401, False)
                assert over_http(open_gate, authorization=f"Bearer {TOKEN}")[0] == 200
            finally:
                process.terminate()


def is_answered(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
