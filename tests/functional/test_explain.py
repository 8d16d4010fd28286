"""`x-postern-explain: 1` and `postern explain` on the real program: both tell what the same call then does."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.cli import main
from proxy.policy.experiment import Assigned
from proxy.policy.explain import Considered, Explanation, LeftOut, Refusal, Shadow, Step
from tests.functional.gate import ROOT, RunningGate, environment, postern, running_gate

SEEDS = range(140, 160)  # among them calls of every route
CONFIG = """
targets:
  one: {provider: simulated}
  two: {provider: simulated, price: {per_million: {input: 1, output: 1}}}
  three: {provider: simulated, price: {per_million: {input: 3, output: 3}}, lacks: [tools]}
models:
  smart: {targets: [three, two], strategy: cheapest}
routes:
  - {name: nobody, match: {header: {x-never: "yes"}}, to: [one]}
  - {name: users, match: {header: {x-user: "*"}}, strategy: sticky, sticky_by: header:x-user, to: [one, two, three]}
  - {name: streams, match: {stream: true}, strategy: cheapest, to: [three, two]}
  - {name: small, match: {model: "sim/*-mini", max_tokens: {under: 100}}, to: [two, smart]}
  - {name: nested, match: {tools: true}, strategy: cheapest, to: [three, smart]}
  - {name: renamed, match: {model: "sim/*"}, to: [{target: three, model: sim/gpt-4o}, one]}
"""
DRAWN = CONFIG + "  - {name: drawn, match: {path: /v1/chat/completions}, strategy: weighted, to: [{target: one, weight: 3}, two]}\n"
MODELS = ("sim/gpt-4o", "sim/gpt-4o-mini", "smart", "other")
Fields = dict[str, str]
HOW_TO_ASSUME = "write breaker:TARGET=open, half_open or closed, budget:NAME=85%, or key:NAME"


@pytest.fixture
def gate() -> Iterator[RunningGate]:
    with running_gate(CONFIG) as running:
        yield running


def call_of(seed: int) -> tuple[dict[str, object], Fields]:
    """A body and header fields."""
    chance = random.Random(seed)
    body: dict[str, object] = {"model": chance.choice(MODELS), "messages": [{"role": "user", "content": f"Hello {seed}"}]}
    options: dict[str, object] = {"stream": True, "max_tokens": 20, "tools": [{"type": "function", "function": {"name": "f"}}]}
    body |= {name: value for name, value in options.items() if chance.random() < 0.4}
    return body, {"x-user": f"user-{seed}"} if chance.random() < 0.4 else {}


def posted(gate: RunningGate, body: dict[str, object], fields: Fields) -> tuple[int, Fields, bytes]:
    request = urllib.request.Request(
        f"{gate.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json", **fields}
    )
    with contextlib.closing(_opened(request)) as answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()


def _opened(request: urllib.request.Request) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        return error


def told_by_command(
    capsys: pytest.CaptureFixture[str], config: Path, request: Path, fields: Fields, *more: str
) -> tuple[int, dict[str, Any]]:
    headers = [word for name, value in fields.items() for word in ("--header", f"{name}: {value}")]
    code = main(["explain", "--config", str(config), "--request", str(request), "--json", *headers, *more])
    return code, json.loads(capsys.readouterr().out)


def test_header_and_command_tell_what_the_call_does(gate: RunningGate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request, routes = tmp_path / "body.json", set()
    for seed in SEEDS:
        body, fields = call_of(seed)
        request.write_text(json.dumps(body))
        code, by_command = told_by_command(capsys, gate.config_file, request, fields)
        status, _, answer = posted(gate, body, fields | {"x-postern-explain": "1"})
        by_header = json.loads(answer)
        done_status, done, _ = posted(gate, body, fields)
        routes.add(done.get("x-postern-route"))
        assert status == 200
        assert _timeless(by_header) == _timeless(by_command)
        assert by_header.get("route") == done.get("x-postern-route")
        if "refusal" in by_header:
            assert (code, by_header["refusal"]["status"], done["x-postern-attempts"]) == (1, done_status, "0")
        else:
            first = by_header["steps"][0]
            assert (code, first["target"], first.get("model", body["model"])) == (0, done["x-postern-target"], done["x-postern-model"])
    assert {"users", "streams", "small", "nested", "renamed"} <= routes
    rows = gate.rows(2 * len(SEEDS))
    assert [row["attempts"] for row in rows[::2]] == [0] * len(SEEDS)
    assert not [row for row in rows[::2] if "cost_usd" in row or row["outcome"] != "succeeded"]
    chosen = [row["decision"] for row in rows[1::2] if row.get("route") == "users"]
    assert all(decision["strategy"] == "sticky" and len(decision["steps"]) + len(decision.get("dropped", [])) == 3 for decision in chosen)


def _timeless(told: dict[str, Any]) -> dict[str, Any]:
    """Without what a running gate has measured since."""
    measured = ("latency_s", "in_flight", "headroom")
    return told | {"steps": [{name: value for name, value in step.items() if name not in measured} for step in told.get("steps", [])]}


def test_handshake_is_explained_without_a_tunnel(gate: RunningGate) -> None:
    fields = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "X-Postern-Explain": "1",
    }
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gate.port, timeout=20)) as connection:
        connection.request("GET", "/v1/realtime?model=sim/gpt-4o", headers=fields)
        answer = connection.getresponse()
        told = json.loads(answer.read())
    assert (answer.status, told["route"], told["steps"][0]["target"], "failover" in told) == (200, "renamed", "three", False)


# ------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A configuration with a rule that goes by chance, and a request that meets it."""
    config, request = tmp_path / "postern.yaml", tmp_path / "body.json"
    config.write_text(DRAWN)
    request.write_text(json.dumps({"model": "other", "messages": []}))
    return str(config), str(request)


def explain(files: tuple[str, str], *more: str) -> int:
    return main(["explain", "--config", files[0], "--request", files[1], *more])


def test_table_reads_from_the_routes_to_the_failover_rule(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(files, "--draw", "0.9,0.1", "--assume", "breaker:three=open") == 0
    assert capsys.readouterr().out == (
        "POST /v1/chat/completions, model other\n"
        "\n"
        "Routes, in order:\n"
        "  nobody   no: match.header.x-never: the call has no such field\n"
        "  users    no: match.header.x-user: the call has no such field\n"
        "  streams  no: match.stream: the call's is false\n"
        "  small    no: match.max_tokens: the call has none\n"
        "  nested   no: match.tools: the call's is false\n"
        "  renamed  no: match.model: the call's is other\n"
        "  drawn    matches\n"
        "\n"
        "Route drawn, strategy weighted. Asked, one after the other:\n"
        "  1.  two  drawn with weight 1, 25% of calls\n"
        "  2.  one  drawn with weight 3, 75% of calls\n"
        "Drawn by chance: 0.9,0.1. The same once more: --draw 0.9,0.1\n"
        "The next one is asked on connect, timeout, throttled, server_error, truncated; at most 3 attempts in all.\n"
    )


def test_table_tells_changes_of_the_request_and_the_last_resort(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[0]).write_text(
        "targets: {one: {provider: simulated, request: {drop: [user]}}}\nroutes: [{name: r, to: [one], failover: {}}]"
    )
    Path(files[1]).write_text('{"model": "m", "messages": [], "user": "u"}')
    assert explain(files, "--assume", "breaker:one=open") == 0
    assert "  1.  one  every breaker is open, and this one closes soonest; request: drop user\n" in capsys.readouterr().out


def test_table_tells_what_may_go_on_beside(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    targets = "targets: {one: {provider: simulated}, two: {provider: simulated}, three: {provider: simulated}}\n"
    rules = "failover: {continue_midstream: true}, hedge: {max_ratio: 2.5%}, mirror: {to: [{target: three, model: m}], ratio: 10%}"
    Path(files[0]).write_text(targets + f"routes: [{{name: r, to: [one, two], {rules}}}]")
    assert explain(files) == 0
    assert capsys.readouterr().out.endswith(
        "at most 3 attempts in all. It goes on with a chat's stream that breaks.\n"
        "Hedged: waiting longer than the p95 of its route's waits, it is sent to the next one too; at most 2.5 % of calls.\n"
        "Copied to three/m: 10 % of calls.\n"
    )


def test_a_draw_that_was_told_gives_the_same_order_again(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    request = Path(files[1])
    _, first = told_by_command(capsys, Path(files[0]), request, {})
    assert len(first["draws"]) == 2
    for _ in range(5):
        _, again = told_by_command(capsys, Path(files[0]), request, {}, "--draw", ",".join(map(str, first["draws"])))
        assert again == first


@pytest.mark.parametrize(
    ("assumed", "steps", "dropped"),
    [
        (["one=open"], ["two"], ["one"]),
        (["one=half_open"], ["one", "two"], []),
        (["one=closed"], ["one", "two"], []),
        (["one=open", "two=open"], ["one"], ["one", "two"]),
    ],
)
def test_breakers_may_be_assumed(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], assumed: list[str], steps: list[str], dropped: list[str]
) -> None:
    words = [word for one in assumed for word in ("--assume", f"breaker:{one}")]
    _, told = told_by_command(capsys, Path(files[0]), Path(files[1]), {}, "--draw", "0.5", *words)
    assert [step["target"] for step in told["steps"]] == steps
    assert [drop["target"] for drop in told.get("dropped", [])] == dropped
    assert told.get("last_resort", False) == (len(assumed) == 2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--assume", "budget:tenant-day=85%"], "--assume budget:tenant-day: no budget is named 'tenant-day'"),
        (["--assume", "breaker:one=ajar"], f"--assume breaker:one=ajar: {HOW_TO_ASSUME}"),
        (["--assume", "one"], f"--assume one: {HOW_TO_ASSUME}"),
        (["--assume", "key:nobody"], "--assume key:nobody: no key is named 'nobody'"),
        (["--assume", "key:"], f"--assume key:: {HOW_TO_ASSUME}"),
        (["--assume", "breaker:nobody=open"], "--assume breaker:nobody=open: no target is named 'nobody'"),
        (["--draw", "1"], "--draw 1: write numbers from 0 up to 1, which is left out, with commas between"),
        (["--draw", "0.1,x"], "--draw 0.1,x: write numbers from 0 up to 1, which is left out, with commas between"),
        (["--header", "sk-secret"], "--header: write 'NAME: VALUE'"),
        (["--request", "nowhere.json"], "--request nowhere.json: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert explain(files, *arguments) == 2
    assert capsys.readouterr() == ("", f"{complaint}\n")


def test_call_that_would_be_refused_fails_and_says_why(tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[0]).write_text(CONFIG)
    assert explain(files) == 1
    assert "Nothing would be sent; the client would get 404 no_route:\n" in capsys.readouterr().out


def test_request_that_is_no_json_is_told_as_the_gate_would(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[1]).write_text("{")
    assert explain(files) == 1
    assert capsys.readouterr().err.startswith("The gate would answer 400: ")


def test_bad_configuration_fails_with_its_problems(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[0]).write_text("targets: {one: {provider: openai, credentail: x}}")
    assert explain(files) == 1
    assert "credentail" in capsys.readouterr().err


def test_any_method_and_path_can_be_asked_about(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--config", files[0], "--method", "get", "--path", "/v1/models?limit=1"]) == 1
    assert capsys.readouterr().out.startswith("GET /v1/models, no model\n")


def test_control_codes_of_a_model_do_not_reach_the_terminal(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[1]).write_text(json.dumps({"model": "\x1b[31mred", "messages": []}))
    assert explain(files) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_program_reads_standard_input_and_needs_no_network(files: tuple[str, str]) -> None:
    Path(files[0]).write_text(DRAWN.replace("simulated", "openai, credential: sk-1"))
    command = [sys.executable, "-m", "proxy", "explain", "--config", files[0], "--request", "-", "--header", "X-User: alice"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), input=Path(files[1]).read_bytes(), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Route users, strategy sticky." in done.stdout


KEYED = f"""
targets: {{one: {{provider: openai, credential: sk-1}}}}
keys: [{{name: web, sha256: {"ab" * 32}, tenant: shop, models: ["gpt-*"]}}, {{name: old, sha256: {"cd" * 32}, expires: 2001-01-01}}]
routes:
  - {{name: ads, match: {{tenant: ads, key: web}}, to: [one]}}
  - {{name: all, match: {{model: "*"}}, to: [one]}}
"""


def test_labels_and_the_key_are_told(files: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "front")
    Path(files[0]).write_text(KEYED)
    Path(files[1]).write_text(json.dumps({"model": "gpt-4o", "messages": [], "user": "bob"}))
    assert explain(files, "--assume", "key:web", "--header", "x-workflow-step: 3") == 0
    out = capsys.readouterr().out
    assert "From tenant shop, user bob, app front, step 3, key web\n" in out
    assert "ads  no: match.tenant: the call's is shop\n" in out
    assert explain(files, "--assume", "key:web", "--header", "x-tenant: ads", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["route"], told["labels"]["tenant"], told["labels"]["key"]) == ("ads", "ads", "web")


def test_a_key_is_needed_where_the_gate_would_ask_for_one(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[0]).write_text(KEYED)
    for arguments in ([], ["--header", "Authorization: Bearer sk-1"], ["--assume", "key:old"]):
        assert explain(files, *arguments) == 1
        assert capsys.readouterr().err.startswith("The gate would answer 401: ")


def test_what_an_assumed_key_is_not_for_is_refused(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[0]).write_text(KEYED)
    Path(files[1]).write_text(json.dumps({"model": "claude", "messages": []}))
    assert explain(files, "--assume", "key:web") == 1
    assert "the client would get 403 model_not_allowed:" in capsys.readouterr().out


def test_command_is_listed() -> None:
    assert "explain" in postern("--help").stdout


# --------------------------------------------------------------------------------------------------------- the document


def blocks_of(language: str) -> list[str]:
    """The document's code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs/explain.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_documents_example_is_what_the_command_says(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    (config,), (request,), (text,) = blocks_of("yaml"), blocks_of("json"), blocks_of("text")
    Path(files[0]).write_text(config)
    Path(files[1]).write_text(request)
    assert explain(files, "--assume", "breaker:claude=open", "--draw", "0.42,0.9") == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("part", [Explanation, Considered, Step, LeftOut, Refusal, Shadow, Assigned])
def test_every_member_of_the_answer_is_documented(part: type[msgspec.Struct]) -> None:
    text = (ROOT / "docs/explain.md").read_text(encoding="utf-8")
    assert not [name for name in part.__struct_fields__ if f"`{name}" not in text]
