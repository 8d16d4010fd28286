"""A route in shadow on the real program: the other one answers; header, ledger and metric tell what the shadow would have done."""

from __future__ import annotations

import json
import urllib.request

from tests.functional.gate import running_gate

CONFIG = """
targets:
  one: {provider: simulated}
  two: {provider: simulated, price: {free: true}}
routes:
  - {name: try, mode: shadow, match: {model: "sim/*"}, strategy: cheapest, to: [one, two], request: {drop: [user]}}
  - {name: all, to: [one]}
"""
BODY = json.dumps({"model": "sim/gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}).encode()


def test_shadow_is_told_and_does_not_act() -> None:
    with running_gate(CONFIG) as gate:
        request = urllib.request.Request(f"{gate.url}/v1/chat/completions", BODY, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            done = {name.lower(): value for name, value in answer.headers.items()}
        request.add_header("x-postern-explain", "1")
        with urllib.request.urlopen(request, timeout=20) as answer:
            told = json.loads(answer.read())
        acted, _ = gate.rows(2)
        with urllib.request.urlopen(f"{gate.admin_url}/metrics", timeout=20) as answer:
            metrics = answer.read().decode()
    assert (done["x-postern-route"], done["x-postern-target"]) == ("all", "one")
    assert (acted["route"], acted["target"], acted["decision"]["route"]) == ("all", "one", "all")
    shadow = acted["decision"]["shadow"]
    assert (shadow["route"], shadow["differs"], [step["target"] for step in shadow["steps"]]) == ("try", True, ["two", "one"])
    assert (told["route"], [step["target"] for step in told["shadow"]["steps"]]) == ("all", ["two", "one"])
    assert 'postern_shadow_calls_total{postern_shadow_route="try",postern_shadow_differs="true"} 2' in metrics
