"""`postern replay` on the ledger of the real program."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.gate import RunningGate, postern, running_gate

TARGETS = """
targets:
  one: {provider: simulated, price: {per_million: {input: 10, output: 10}}}
  two: {provider: simulated, price: {per_million: {input: 1, output: 1}}}
"""
CONFIG = TARGETS + "routes: [{name: chat, match: {model: sim/*}, strategy: sticky, sticky_by: model, to: [one, two]}]\n"
NEW = """
routes:
  - {name: tools, match: {tools: true}, to: [one]}
  - {name: small, match: {model: "*-mini"}, to: [two]}
  - {name: rest, match: {model: [sim/*, late]}, to: [one]}
"""
MODELS = ("sim/gpt-4o", "sim/gpt-4o-mini", "sim/o3", "sim/o3-mini", "late", "never")


@pytest.fixture(scope="module")
def gate() -> Iterator[RunningGate]:
    with running_gate(CONFIG) as running:
        for model in MODELS:
            post(running, model)
        post(running, "sim/gpt-4o", **{"x-postern-explain": "1"})
        running.rows(len(MODELS) + 1)
        yield running


def post(gate: RunningGate, model: str, **fields: str) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    request = urllib.request.Request(f"{gate.url}/v1/chat/completions", body, {"content-type": "application/json", **fields})
    try:
        urllib.request.urlopen(request, timeout=20).close()
    except urllib.error.HTTPError as error:
        error.close()


@pytest.fixture
def new(gate: RunningGate, tmp_path: Path) -> Path:
    file = tmp_path / "new.yaml"
    file.write_text(f"state_dir: {gate.state_dir}\n{TARGETS}{NEW}")
    return file


def test_the_configuration_that_was_in_force_changes_nothing(gate: RunningGate) -> None:
    played = postern("replay", "--config", str(gate.config_file), "--from", "ledger", "--json")
    assert (played.returncode, played.stderr) == (0, "")
    (line,) = played.stdout.splitlines()
    summary = json.loads(line)["summary"]
    assert (summary["calls"], summary["skipped"], summary["changed"]) == (6, 1, 0)
    assert summary["refused"] == {"before": {"no_route": 2}, "now": {"no_route": 2}}
    assert summary["cost"]["before_usd"] == summary["cost"]["now_usd"] > 0
    assert summary["unknown"] == []


def test_another_configuration_tells_what_changes(gate: RunningGate, new: Path) -> None:
    *changes, last = map(json.loads, postern("replay", "--config", str(new), "--from", "ledger", "--json").stdout.splitlines())
    summary, recorded = last["summary"], {row["call_id"]: row for row in gate.ledger()}
    now = {recorded[change["call_id"]]["requested_model"]: change["now"].get("target") for change in changes}
    stayed = {row["requested_model"]: row.get("target") for row in recorded.values() if row["requested_model"] not in now}
    wanted = {model: "two" if model.endswith("-mini") else "one" for model in MODELS[:5]} | {"never": None}
    assert stayed | now == wanted
    assert summary["refused"] == {"before": {"no_route": 2}, "now": {"no_route": 1}}
    assert summary["unknown"] == [{"route": "tools", "keys": ["match.tools"], "calls": 6}]
    assert summary["changed"] == len(changes) > 0


def test_ledger_its_file_and_its_lines_tell_the_same(gate: RunningGate, new: Path, tmp_path: Path) -> None:
    lines = tmp_path / "calls.jsonl"
    lines.write_text(postern("calls", "--json", "--limit", "100", "--config", str(new)).stdout)
    sources = ("ledger", str(gate.state_dir / "ledger.db"), str(lines))
    told = {postern("replay", "--config", str(new), "--from", source).stdout for source in sources}
    assert len(told) == 1
    assert told.pop().startswith("Played again: 6 calls.")


def test_limit_takes_the_last_calls(new: Path) -> None:
    assert postern("replay", "--config", str(new), "--from", "ledger", "--limit", "2").stdout.startswith("Played again: 1 call.")


@pytest.mark.parametrize(
    ("text", "code", "said"), [(None, 1, "can't be read"), ("{}\n", 2, "line 1: not a line of `postern calls --json`")]
)
def test_what_cannot_be_played_is_said(new: Path, tmp_path: Path, text: str | None, code: int, said: str) -> None:
    file = tmp_path / "calls.jsonl"
    if text is not None:
        file.write_text(text)
    played = postern("replay", "--config", str(new), "--from", str(file))
    assert (played.returncode, played.stdout) == (code, "")
    assert said in played.stderr


def test_a_configuration_with_problems_is_not_played(tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("targets: {}\n")
    assert postern("replay", "--config", str(file), "--from", "ledger").returncode == 1


def test_where_calls_come_from_must_be_said(new: Path) -> None:
    assert postern("replay", "--config", str(new)).returncode == 2
