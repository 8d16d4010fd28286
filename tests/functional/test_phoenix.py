"""A real Arize Phoenix takes our spans, and shows the tokens and the cost that our ledger holds.

Phoenix isn't in the requirements: it is looked for in the variable POSTERN_PHOENIX, the path of its command, and on the PATH. It prices
spans by its own list and by the models created in it, whatever `llm.cost.*` says; it learns our prices here as docs/backends.md says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import urllib3
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tests.functional.gate import RunningGate, environment, free_port, running_gate

PHOENIX = os.environ.get("POSTERN_PHOENIX") or shutil.which("phoenix")
pytestmark = pytest.mark.skipif(PHOENIX is None, reason="no Arize Phoenix: set POSTERN_PHOENIX to its command")

START_S, ARRIVE_S, POLL_S = 120.0, 30.0, 0.2
USD_ROUNDING = 0.5e-9  # ours are whole nano-USD

CONFIG = """
targets: {{sim: {{provider: simulated}}}}
telemetry: {{openinference: true, otlp: {{endpoint: "{endpoint}"}}}}
prices: {{overrides: {{"sim/my-finetune": {{per_million: {{input: 3, output: 12, cache_read: 0.75}}}}}}}}
"""
CREATE_MODEL = "mutation($input: CreateModelMutationInput!) { createModel(input: $input) { model { name } } }"
SPANS = """query($name: String!) { getProjectByName(name: $name) {
  tokenCountTotal
  costSummary { total { cost } }
  spans(first: 1000) { edges { node { spanId context { traceId } name spanKind parentId statusCode tokenCountPrompt tokenCountCompletion
    costSummary { total { cost } } } } }
} }"""
COST = "query($id: String!) { getSpanByOtelId(spanId: $id) { costSummary { total { cost } } } }"
LONG_PROMPT = "The small gate stands beside the big one. " * 200  # cached by the simulated provider when it is sent again


class Phoenix:
    """A running Phoenix on free ports, with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "said.txt"
        variables = {
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        kept = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
        with self._log.open("w") as log:
            self.process = subprocess.Popen([str(PHOENIX), "serve"], cwd=folder, env=kept | variables, stdout=log, stderr=log)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """What GraphQL answers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            answer: dict[str, Any] = json.load(reply)
        assert not answer.get("errors"), answer
        data: dict[str, Any] = answer["data"]
        return data

    def stored_spans(self, project: str) -> list[dict[str, Any]]:
        """What the REST API has of a project."""
        reply = urllib3.request("GET", f"{self.url}/v1/projects/{project}/spans?limit=1000")
        assert reply.status in (200, 404)  # 404: nothing came yet
        spans: list[dict[str, Any]] = reply.json().get("data", [])
        return spans

    def send_span(self, project: str, model: str) -> str:
        """Store a span of a model with 1,000 tokens in and out; its id."""
        span = Span(trace_id=os.urandom(16), span_id=os.urandom(8), name="probe", start_time_unix_nano=time.time_ns())
        span.end_time_unix_nano = span.start_time_unix_nano
        for name, value in {"openinference.span.kind": "LLM", "llm.model_name": model}.items():
            span.attributes.append(KeyValue(key=name, value=AnyValue(string_value=value)))
        for name in ("llm.token_count.prompt", "llm.token_count.completion"):
            span.attributes.append(KeyValue(key=name, value=AnyValue(int_value=1000)))
        resource = Resource(attributes=[KeyValue(key="openinference.project.name", value=AnyValue(string_value=project))])
        spans = ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=[span])])
        body = ExportTraceServiceRequest(resource_spans=[spans]).SerializeToString()
        reply = urllib3.request("POST", f"{self.url}/v1/traces", body=body, headers={"content-type": "application/x-protobuf"})
        assert reply.status == 200
        return span.span_id.hex()

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)


def until(is_so: Callable[[], Any], what: str, within_s: float = ARRIVE_S) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = is_so()
        if value:
            return value
        time.sleep(POLL_S)
    raise AssertionError(f"not {what} within {within_s} s")


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    running = Phoenix(tmp_path_factory.mktemp("phoenix"))
    try:
        until(running.is_up, "up", START_S)
        yield running
    finally:
        running.close()


def teach_our_price(phoenix: Phoenix) -> None:
    """The step of docs/backends.md: a model of ours, with our prices."""
    costs = [
        {"tokenType": "input", "costPerMillionTokens": 3, "kind": "PROMPT"},
        {"tokenType": "cache_read", "costPerMillionTokens": 0.75, "kind": "PROMPT"},
        {"tokenType": "output", "costPerMillionTokens": 12, "kind": "COMPLETION"},
    ]
    created = phoenix.ask(CREATE_MODEL, input={"name": "my-finetune", "namePattern": "^(sim/)?my-finetune$", "costs": costs})
    assert created["createModel"]["model"]["name"] == "my-finetune"
    until(lambda: price_of(phoenix, phoenix.send_span("probe", "my-finetune")), "our price is known")


def price_of(phoenix: Phoenix, span_id: str) -> float | None:
    """What Phoenix makes of a span, once it has looked."""
    cost = until(lambda: phoenix.ask(COST, id=span_id)["getSpanByOtelId"], "stored")["costSummary"]
    price: float | None = cost and cost["total"]["cost"]
    return price


def make_calls(gate: RunningGate) -> int:
    """Calls of every kind that has tokens, one that fails, and one without a price; their number."""
    calls = 0
    with openai.OpenAI(base_url=f"{gate.url}/v1", api_key="none", max_retries=0) as client:
        for model in ("sim/gpt-4o-mini", "sim/gpt-4.1", "sim/o4-mini", "sim/my-finetune", "sim/no-price-anywhere"):
            for stream in (False, True):
                messages: Any = [{"role": "user", "content": f"{LONG_PROMPT} Who are you, {model}?"}]
                reply = client.chat.completions.create(model=model, messages=messages, stream=stream, user="ada")
                assert list(reply)
                calls += 1
        client.responses.create(model="sim/gpt-4.1-mini", input="Hello")
        with pytest.raises(openai.InternalServerError):
            client.responses.create(model="sim/gpt-4.1-mini", input="Hello", extra_headers={"x-sim": "status=500"})
    with anthropic.Anthropic(base_url=gate.url, api_key="none", max_retries=0) as claude:
        claude.messages.create(model="sim/gpt-4o", max_tokens=64, messages=[{"role": "user", "content": "Hello"}])
    return calls + 3


@pytest.fixture(scope="module")
def told(phoenix: Phoenix) -> Any:
    """The ledger's rows, the nodes of Phoenix by trace id, and the project's sums."""
    teach_our_price(phoenix)
    variables = {
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_RESOURCE_ATTRIBUTES": "openinference.project.name=postern",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with running_gate(CONFIG.format(endpoint=phoenix.url), None, **variables) as gate:
        rows = gate.rows(make_calls(gate))
    until(lambda: len(phoenix.stored_spans("postern")) >= 2 * len(rows), "all spans stored")

    def project_if_priced() -> Any:
        project = phoenix.ask(SPANS, name="postern")["getProjectByName"]
        nodes = [edge["node"] for edge in project["spans"]["edges"] if edge["node"]["spanKind"] == "llm"]
        waiting = [node for node in nodes if node["tokenCountPrompt"] and not node["costSummary"]]
        return None if waiting else (project, nodes)

    project, nodes = until(project_if_priced, "priced")
    return rows, {node["context"]["traceId"]: node for node in nodes}, project


def test_every_call_is_one_llm_span_of_our_trace(told: Any) -> None:
    rows, nodes, _ = told
    assert {row["trace_id"] for row in rows} == nodes.keys()


def test_tokens_are_the_ledgers(told: Any) -> None:
    rows, nodes, project = told
    shown = {trace: (node["tokenCountPrompt"], node["tokenCountCompletion"]) for trace, node in nodes.items()}
    assert shown == {row["trace_id"]: (row.get("input_tokens", 0), row.get("output_tokens", 0)) for row in rows}  # it shows 0 for unknown
    assert project["tokenCountTotal"] == sum(row.get("input_tokens", 0) + row.get("output_tokens", 0) for row in rows)


def test_cost_as_shown_is_the_ledgers(told: Any) -> None:
    rows, nodes, project = told
    priced = {row["trace_id"]: row["cost_usd"] for row in rows if "cost_usd" in row}
    assert len(priced) >= 10
    shown = {trace: nodes[trace]["costSummary"]["total"]["cost"] for trace in priced}
    assert shown == pytest.approx(priced, rel=0, abs=USD_ROUNDING)
    assert project["costSummary"]["total"]["cost"] == pytest.approx(sum(priced.values()), rel=0, abs=len(priced) * USD_ROUNDING)


def test_cached_input_was_part_of_it(told: Any) -> None:
    rows, _, _ = told
    assert any(row.get("cache_read_tokens") and row["requested_model"] == "sim/my-finetune" for row in rows)


def test_unknown_cost_stays_unknown(told: Any) -> None:
    rows, nodes, _ = told
    unpriced = [row["trace_id"] for row in rows if row["requested_model"] == "sim/no-price-anywhere"]
    assert [nodes[trace]["costSummary"]["total"]["cost"] for trace in unpriced] == [None, None]


def test_failed_call_is_an_error(told: Any) -> None:
    rows, nodes, _ = told
    assert [nodes[row["trace_id"]]["statusCode"] for row in rows if row["status"] == 500] == ["ERROR"]
