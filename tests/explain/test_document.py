"""The example of docs/replay.md is what the command says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from tests.project.tree import source

PER_MILLION = {"gpt-4o-mini": (0.15, 0.6), "gpt-4o": (2.5, 10), "o3": (2, 8), "claude-haiku-4-5": (1, 5)}
PLAN = {"steps": [{"target": "claude", "why": "in the rule's order"}, {"target": "openai", "why": "in the rule's order"}]}
LINE: dict[str, Any] = {
    "time": "2026-11-20T10:30:00.250Z",
    "method": "POST",
    "path": "/v1/chat/completions",
    "stream": False,
    "outcome": "succeeded",
    "attempts": 1,
    "target": "openai",
    "input_tokens": 1200,
    "output_tokens": 300,
}
CALLS: tuple[dict[str, Any], ...] = (
    {"model": "gpt-4o-mini"},
    {"model": "gpt-4o-mini"},
    {"model": "gpt-4o", "input_tokens": 2600},
    {"model": "gpt-4o", "input_tokens": 300},
    {"model": "o3"},
    {"model": "claude-haiku-4-5", "target": "claude"},
    {"model": "claude-haiku-4-5", "target": "claude", "outcome": "failed", "input_tokens": None, "output_tokens": None},
    {"model": "gpt-4o", "requested_model": "claude-sonnet-4-5", "attempts": 2, "decision": PLAN},
    {"model": "gpt-4o", "attempts": 0, "outcome": "rejected", "error": "invalid_json", "input_tokens": None},
)


def line(number: int, call: dict[str, Any]) -> str:
    row = LINE | {"call_id": str(number), "requested_model": call["model"]} | call
    if row["input_tokens"] is not None:
        input_usd, output_usd = PER_MILLION[row["model"]]
        row["cost_usd"] = round((row["input_tokens"] * input_usd + row["output_tokens"] * output_usd) / 1e6, 9)
    return json.dumps(row) + "\n"


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", source("docs/replay.md"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_documents_example_is_what_the_command_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, calls = tmp_path / "new.yaml", tmp_path / "calls.jsonl"
    config.write_text(block("yaml"))
    calls.write_text("".join(line(number, call) for number, call in enumerate(CALLS)))
    assert main(["replay", "--config", str(config), "--from", str(calls)]) == 0
    assert capsys.readouterr().out == block("text")
