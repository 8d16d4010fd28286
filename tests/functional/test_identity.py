"""Labels at the running gate: what a call says of itself is in the ledger, in spans, in metrics, and a rule may ask for it."""

from __future__ import annotations

import urllib.request
from typing import Any

import openai
import pytest

from tests.functional.gate import running_gate
from tests.otlp_receiver import OtlpReceiver

HELLO: Any = [{"role": "user", "content": "Hello"}]
LABELS = {"tenant": "shop", "user": "bob", "app": "front", "task": "caption", "workflow": "w 1", "step": "3"}
FIELDS = {"x-sim": "lat=0,d=0", "baggage": "a=b,workflow.id=w%201;p=1", "x-workflow-step": "3"}
VARIABLES = {"POD_NAMESPACE": "shop", "OTEL_SERVICE_NAME": "front"}
CONFIG = """
targets: {sim: {provider: simulated}, other: {provider: simulated}}
routes:
  - {name: labelled, match: {tenant: shop, workflow: "w *", step: ["3", "4"]}, to: [other]}
  - {name: all, to: [sim]}
"""


@pytest.mark.parametrize("streamed", [False, True])
def test_labels_of_a_call_are_told_everywhere_and_asked_by_rules(streamed: bool) -> None:
    with OtlpReceiver() as collector:
        config = f'telemetry: {{otlp: {{endpoint: "{collector.endpoint}"}}}}\n{CONFIG}'
        with running_gate(config, None, **VARIABLES) as gate:
            with openai.OpenAI(base_url=f"{gate.url}/v1", api_key="sk-client", timeout=10, default_headers=FIELDS) as client:
                told: Any = {"model": "sim/gpt-4o-mini", "messages": HELLO, "safety_identifier": "bob", "metadata": {"task": "caption"}}
                answer = client.chat.completions.create(**told, stream=streamed)
                assert len(list(answer)) > 1
            (row,) = gate.rows(1)
            with urllib.request.urlopen(f"{gate.admin_url}/metrics", timeout=5) as page:
                costs = [line for line in page.read().decode().splitlines() if line.startswith("postern_cost_USD_total{")]
        spans = str(collector.spans)
    assert {name: row[name] for name in LABELS} == LABELS
    assert row["route"] == "labelled"
    assert costs
    assert all(f'postern_{name}="{LABELS[name]}"' in line for line in costs for name in ("tenant", "app", "task"))
    for name in LABELS:
        assert f"postern.{name}" in spans
