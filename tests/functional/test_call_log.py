"""The call log of the real program: what standard output says of a call is what the ledger says."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.functional.gate import RunningGate, running_gate

CONFIG = "targets: {sim: {provider: simulated}}\ntelemetry: {call_log: stdout, attributes: {team: {header: x-team}}}\n"
HELLO: Any = [{"role": "user", "content": "A secret: who are you?"}]


def lines_of(gate: RunningGate) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gate.said.splitlines() if line.startswith("{")]


def test_call_log_tells_what_the_ledger_tells() -> None:
    with running_gate(CONFIG) as gate:
        with openai.OpenAI(base_url=f"{gate.url}/v1", api_key="none", max_retries=0) as client:
            client.chat.completions.create(model="sim/gpt-4o-mini", messages=HELLO, extra_headers={"x-team": "shop"})
            with client.chat.completions.create(model="sim/gpt-4o-mini", messages=HELLO, stream=True) as stream:
                assert list(stream)
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(model="sim/gpt-4o-mini", messages=HELLO, extra_headers={"x-sim": "status=500"})
        rows = gate.rows(3)
        lines = gate.until(lambda: len(lines_of(gate)) == 3 and lines_of(gate), "three lines")
        assert "A secret" not in gate.said
    ours = ("level", "message", "span_id", "attributes")
    assert [{name: value for name, value in line.items() if name not in ours} for line in lines] == rows
    assert [line["level"] for line in lines] == ["info", "info", "error"]
    assert lines[2]["message"] == "POST /v1/chat/completions 500"
    assert [line.get("attributes") for line in lines] == [{"team": "shop"}, None, None]


def test_no_call_log_unless_asked_for() -> None:
    with running_gate("targets: {sim: {provider: simulated}}\n") as gate:
        with openai.OpenAI(base_url=f"{gate.url}/v1", api_key="none") as client:
            client.chat.completions.create(model="sim/gpt-4o-mini", messages=HELLO)
        gate.rows(1)
        gate.stop()
        assert not lines_of(gate)
