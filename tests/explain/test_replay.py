"""Recorded calls on another configuration: what each of them becomes, and what is said where the ledger doesn't know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.app import load
from proxy.explain.ask import Misused
from proxy.explain.differences import run_replay
from proxy.explain.recorded import RecordedCall, read_recorded
from proxy.explain.replay import Fate, Replay, Unknown, before

TARGETS = """
targets:
  one: {provider: openai, credential: k, price: {per_million: {input: 1, output: 2}}}
  two: {provider: openai, credential: k, price: {per_million: {input: 10, output: 20}}, context_window: 1000}
  three: {provider: openai, credential: k, lacks: [tools]}
"""
PLAN = {"route": "all", "strategy": "priority", "steps": [{"target": "one", "why": ""}, {"target": "two", "why": ""}]}
LINE: dict[str, Any] = {
    "call_id": "0" * 32,
    "time": "2026-11-20T10:30:00.250Z",
    "method": "POST",
    "path": "/v1/chat/completions",
    "target": "one",
    "model": "gpt-4o",
    "requested_model": "gpt-4o",
    "stream": False,
    "status": 200,
    "outcome": "succeeded",
    "attempts": 1,
    "input_tokens": 100,
    "output_tokens": 50,
    "cost_usd": 0.0002,
    "duration_ms": 12.5,
}


def line(**changes: Any) -> bytes:
    """A line of `postern calls --json`; what changes to None isn't in it."""
    return json.dumps({name: value for name, value in (LINE | changes).items() if value is not None}).encode() + b"\n"


def call(**changes: Any) -> RecordedCall:
    return msgspec.json.decode(line(**changes), type=RecordedCall)


@pytest.fixture
def on(tmp_path: Path):
    """A replay on these routes."""

    def replay(routes: str, targets: str = TARGETS) -> Replay:
        file = tmp_path / "new.yaml"
        file.write_text(f"{targets}routes:\n{routes}\n")
        return Replay(load(str(file), {}))

    return replay


def told(replay: Replay, *calls: RecordedCall) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The changes and the sum, as JSON."""
    lines: list[str] = []
    run_replay(replay, calls, True, lines.append)
    *changes, last = map(json.loads, lines)
    return changes, last["summary"]


TO_ONE = "  - {name: all, to: [one]}"
TO_BOTH = "  - {name: all, to: [one, two]}"


def test_the_same_configuration_changes_nothing(on):
    changes, summary = told(on(TO_BOTH), call(), call(call_id="1" * 32, stream=True))
    assert changes == []
    assert (summary["calls"], summary["changed"], summary["same_target"], summary["moved"]) == (2, 0, 2, [])


def test_copies_that_mirrors_were_sent_are_no_calls(tmp_path: Path) -> None:
    lines = (
        {"call_id": "a", "decision": "all>one/gpt-4o"},
        {"call_id": "b", "decision": "mirror of a: all>two/gpt-4o"},
        {"call_id": "c", "decision": {"steps": [{"target": "one", "why": ""}]}},
    )
    rest = {"time": "2026-11-20T10:30:00.250Z", "method": "POST", "path": "/v1/chat/completions", "stream": False, "outcome": "succeeded"}
    file = tmp_path / "calls.jsonl"
    file.write_text("".join(json.dumps(line | rest | {"attempts": 1}) + "\n" for line in lines))
    assert [call.call_id for call in read_recorded(str(file), "", None)] == ["a", "c"]


def test_another_target_is_told_with_its_cost(on):
    changes, summary = told(on("  - {name: all, to: [two]}"), call())
    assert changes == [
        {
            "call_id": "0" * 32,
            "time": "2026-11-20T10:30:00.250Z",
            "requested_model": "gpt-4o",
            "before": {"target": "one", "model": "gpt-4o", "cost_usd": 0.0002},
            "now": {"target": "two", "model": "gpt-4o", "cost_usd": 0.002},
        }
    ]
    assert summary["moved"] == [{"from": "one/gpt-4o", "to": "two/gpt-4o", "calls": 1}]
    assert summary["cost"] == {"calls": 1, "before_usd": 0.0002, "now_usd": 0.002}


def test_another_model_at_the_same_target_is_another_target(on):
    _, summary = told(on("  - {name: all, to: [{target: one, model: gpt-5}]}"), call())
    assert summary["moved"] == [{"from": "one/gpt-4o", "to": "one/gpt-5", "calls": 1}]


def test_a_call_without_a_route_is_refused_now(on):
    changes, summary = told(on('  - {name: other, match: {model: "claude-*"}, to: [one]}'), call())
    assert changes[0]["now"] == {"refusal": "no_route"}
    assert summary["refused"] == {"before": {}, "now": {"no_route": 1}}
    assert "cost" not in summary


def test_a_refused_call_finds_a_target(on):
    refused = call(attempts=0, status=404, outcome="rejected", error="no_route", target=None, model=None, cost_usd=None)
    changes, summary = told(on(TO_ONE), refused)
    assert (changes[0]["before"], changes[0]["now"]["target"]) == ({"refusal": "no_route"}, "one")
    assert summary["refused"] == {"before": {"no_route": 1}, "now": {}}


@pytest.mark.parametrize("error", ["invalid_json", "body_too_large", None])
def test_a_call_that_ended_before_routing_is_left_out(on, error: str | None):
    _, summary = told(on(TO_ONE), call(attempts=0, error=error, target=None, model=None))
    assert (summary["calls"], summary["skipped"]) == (0, 1)


def test_an_unknown_price_is_no_cost(on):
    changes, summary = told(on("  - {name: all, to: [{target: three, model: nobody-knows-it}]}"), call())
    assert "cost_usd" not in changes[0]["now"]
    assert "cost" not in summary


def test_tokens_that_are_not_known_are_no_cost(on):
    changes, _ = told(on("  - {name: all, to: [two]}"), call(input_tokens=None, output_tokens=None, cost_usd=None))
    assert "cost_usd" not in changes[0]["now"]


def test_a_new_price_changes_a_call_that_goes_where_it_went(on):
    changes, summary = told(on(TO_ONE, TARGETS.replace("input: 1,", "input: 3,")), call())
    assert [change["now"]["cost_usd"] for change in changes] == [0.0004]
    assert summary["same_target"] == 1


# --------------------------------------------------------------------------------------------------------- failures


def test_a_target_that_failed_a_call_fails_it_again(on):
    left = call(attempts=2, target="two", decision=PLAN)
    assert before(left) == Fate("two", "gpt-4o", failovers=1, cost_nusd=200_000)
    now = on(TO_BOTH).now(left)
    assert (now.target, now.failovers, now.broke) == ("two", 1, False)


def test_a_better_order_saves_a_failover(on):
    _, summary = told(on("  - {name: all, to: [two, one]}"), call(attempts=2, target="two", decision=PLAN))
    assert summary["failovers"] == {"before": 1, "now": 0}
    assert summary["same_target"] == 1


def test_a_call_that_failed_is_saved_by_another_target(on):
    failed = call(outcome="failed", status=502, error="upstream_error")
    assert told(on(TO_ONE), failed)[1]["broke"] == {"before": 1, "now": 1}
    changes, summary = told(on(TO_BOTH), failed)
    assert summary["broke"] == {"before": 1, "now": 0}
    assert (changes[0]["now"]["target"], changes[0]["now"]["failovers"]) == ("two", 1)


@pytest.mark.parametrize("failover", ["failover: {attempts: 1}, ", ""])
def test_no_more_targets_are_asked_than_the_rule_allows(on, failover: str):
    failed = call(attempts=2, outcome="failed", target="two", decision=PLAN)
    now = on(f"  - {{name: all, {failover}to: [one, two, three]}}").now(failed)
    assert (now.target, now.broke) == (("one", True) if failover else ("three", False))


def test_retries_of_one_target_are_no_failover():
    fate = before(call(attempts=3, decision=PLAN))
    assert fate is not None
    assert fate.failovers == 0


def test_a_target_out_of_service_is_not_asked(on):
    plan = {"steps": [{"target": "two", "why": ""}], "dropped": [{"target": "one", "why": "its breaker is open"}]}
    now = on(TO_BOTH).now(call(target="two", decision=plan))
    assert (now.target, now.failovers) == ("two", 0)


# ---------------------------------------------------------------------------------------------- what a row tells


@pytest.mark.parametrize(
    ("match", "changes", "holds"),
    [
        ('model: "gpt-*"', {}, True),
        ("stream: true", {"stream": True}, True),
        ("stream: true", {}, False),
        ("method: GET", {"method": "GET", "path": "/v1/models", "requested_model": None}, True),
        ("path: /v1/embeddings", {"path": "/v1/embeddings"}, True),
        ("input_tokens: {over: 99, under: 101}", {}, True),
        ("input_tokens: {over: 100}", {}, False),
        ("input_tokens: {over: 0}", {"input_tokens": None}, False),
        ('time: {after: "10:30", before: "10:31", days: [fri]}', {}, True),
        ('time: {after: "10:30", before: "10:31"}', {"time": "2026-11-20T10:31:00.000Z"}, False),
    ],
)
def test_conditions_that_a_row_tells_hold_as_they_did(on, match: str, changes: dict[str, Any], holds: bool):
    replay = on(f"  - {{name: asked, match: {{{match}}}, to: [two]}}\n{TO_ONE}")
    assert replay.now(call(**changes)).target == ("two" if holds else "one")
    assert not replay.unknown


@pytest.mark.parametrize(
    ("match", "key"),
    [
        ('header: {x-team: "*"}', "header.x-team"),
        ('metadata: {feature: "*"}', "metadata.feature"),
        ("tools: false", "tools"),
        ("images: false", "images"),
        ("response_format: text", "response_format"),
        ("max_tokens: {over: 0}", "max_tokens"),
    ],
)
def test_a_condition_on_what_is_not_recorded_does_not_hold_and_is_counted(on, match: str, key: str):
    replay = on(f"  - {{name: asked, match: {{model: gpt-4o, {match}}}, to: [two]}}\n{TO_ONE}")
    assert replay.now(call()).target == "one"
    assert replay.now(call(requested_model="o3")).target == "one"
    assert replay.unknown == {Unknown("asked", (f"match.{key}",)): 1}


def test_a_rule_after_the_one_that_takes_the_call_is_not_counted(on):
    replay = on("  - {name: mine, match: {model: gpt-4o}, to: [two]}\n  - {name: asked, match: {tools: true}, to: [two]}\n" + TO_ONE)
    replay.now(call())
    assert not replay.unknown


def test_only_rules_that_cannot_be_asked_leave_no_route(on):
    replay = on("  - {name: asked, match: {tools: true}, to: [two]}")
    assert replay.now(call()) == Fate(refusal="no_route")


def test_what_a_target_lacks_is_counted_where_the_need_is_not_known(on):
    replay = on("  - {name: all, to: [three, one]}")
    assert replay.now(call()).target == "three"
    assert replay.unknown == {Unknown("all", ("lacks tools",)): 1}


def test_a_prompt_too_long_for_a_target_goes_to_the_next(on):
    assert on("  - {name: all, to: [two, one]}").now(call(input_tokens=10_000)).target == "one"


def test_sticky_by_a_field_that_is_not_recorded_is_counted(on):
    replay = on('  - {name: all, strategy: sticky, sticky_by: "header:x-user", to: [one, two]}')
    replay.now(call())
    assert replay.unknown == {Unknown("all", ("sticky_by header:x-user",)): 1}


def test_sticky_by_what_is_recorded_keeps_its_place(on):
    replay = on("  - {name: all, strategy: sticky, sticky_by: user, to: [one, two]}")
    assert len({replay.now(call(call_id=f"{number:032}", user="u")).target for number in range(50)}) == 1
    assert not replay.unknown


def test_cheapest_goes_by_the_recorded_tokens(on):
    targets = TARGETS.replace("{input: 1, output: 2}", "{input: 1, output: 900}")
    replay = on("  - {name: all, strategy: cheapest, to: [one, two]}", targets)
    assert replay.now(call(output_tokens=500)).target == "two"
    assert replay.now(call(input_tokens=900, output_tokens=1)).target == "one"


def test_draws_are_the_same_in_every_replay_and_follow_the_weights(on):
    calls = [call(call_id=f"{number:032}") for number in range(1000)]
    rule = "  - {name: all, strategy: weighted, to: [{target: one, weight: 3}, {target: two, weight: 1}]}"
    first, second = ([replay.now(one).target for one in calls] for replay in (on(rule), on(rule)))
    assert first == second
    assert 700 < first.count("one") < 800


def test_many_draws_are_the_same_in_every_replay(on):
    places = ", ".join(f"{{target: one, model: m{number}}}" for number in range(40))
    rule = f"  - {{name: all, strategy: weighted, to: [{places}]}}"
    assert len({on(rule).now(call()).model for _ in range(5)}) == 1


def test_a_route_in_shadow_takes_no_calls(on):
    replay = on("  - {name: tried, mode: shadow, match: {tools: true}, to: [two]}\n" + TO_ONE)
    assert replay.now(call()).target == "one"
    assert not replay.unknown


def test_an_experiment_changes_no_target_and_lacks_nothing(on):
    replay = on('  - {name: all, experiment: {name: e, by: "header:x-user", arms: {a: 0.5, b: 0.5}}, to: [one]}')
    assert replay.now(call()).target == "one"
    assert not replay.unknown


# ------------------------------------------------------------------------------------------------------- lines, text


def test_lines_are_read_from_a_file(tmp_path: Path):
    file = tmp_path / "calls.jsonl"
    file.write_bytes(line() + b"\n" + line(call_id="1" * 32, decision=PLAN) + line(call_id="2" * 32, decision="all>one/gpt-4o"))
    assert [one.call_id[0] for one in read_recorded(str(file), "", None)] == ["0", "1", "2"]
    assert [one.call_id[0] for one in read_recorded(str(file), "", 2)] == ["1", "2"]


NOT_LINES = [
    b"no json\n",
    b'{"call_id": "1"}\n',
    b"[]\n",
    b"\xff\xfe\n",
    line(time="2026-11-20T10:30:00"),
    line(cost_usd="NaN"),
    line(cost_usd=1e300),
]


@pytest.mark.parametrize("bad", NOT_LINES)
def test_a_line_that_is_none_is_named(tmp_path: Path, bad: bytes):
    file = tmp_path / "calls.jsonl"
    file.write_bytes(line() + bad)
    with pytest.raises(Misused, match="line 2"):
        read_recorded(str(file), "", None)


@pytest.mark.parametrize(("usd", "nusd"), [(0.001234567, 1_234_567), (0.0, 0), (999_999.999999999, 999_999_999_999_999)])
def test_money_is_exact(usd: float, nusd: int):
    assert call(cost_usd=usd).cost_nusd == nusd


def test_the_sum_is_told_as_text(on):
    written: list[str] = []
    calls = [call(), call(requested_model="o3\x1b[2J", model="o3\x1b[2J"), call(attempts=0)]
    rule = '  - {name: asked, match: {tools: true}, to: [two]}\n  - {name: gpt, match: {model: "gpt-*"}, to: [two]}'
    run_replay(on(rule), calls, False, written.append)
    (text,) = written
    assert text.startswith("Played again: 2 calls. Changed: 2.\n")
    for told_line in (
        "one/gpt-4o  ->  two/gpt-4o  1",
        "one/o3?[2J  ->  refused     1",
        "explained: 1 call.",
        "asked  match.tools  2 calls",
    ):
        assert told_line in text
    assert "\x1b" not in text


# ---------------------------------------------------------------------------------------------------- labels and keys


def test_a_route_is_chosen_by_recorded_labels(on):
    replay = on('  - {name: ads, match: {tenant: "ads-*", task: caption}, to: [two]}\n' + TO_ONE)
    assert replay.now(call(tenant="ads-eu", task="caption")).target == "two"
    assert replay.now(call(tenant="ads-eu", task="title")).target == "one"
    assert replay.now(call(tenant="ads-eu")).target == "one"
    assert not replay.unknown


@pytest.mark.parametrize("label", ["tenant", "app", "workflow", "step", "key"])
def test_sticky_by_any_recorded_label_keeps_its_place(on, label: str):
    replay = on(f"  - {{name: all, strategy: sticky, sticky_by: {label}, to: [one, two]}}")
    assert len({replay.now(call(call_id=f"{number:032}", **{label: "a"})).target for number in range(50)}) == 1
    assert not replay.unknown
    replay.now(call())
    assert replay.unknown == {Unknown("all", (f"sticky_by {label}",)): 1}


def test_use_of_a_budget_is_not_recorded_and_counted(on):
    budgets = TARGETS + "budgets: [{name: day, window: {every: day}, limit: {usd: 1}}]\n"
    replay = on("  - {name: late, match: {budget_used: {budget: day, over: 80%}}, to: [two]}\n" + TO_ONE, budgets)
    assert replay.now(call()).target == "one"
    assert replay.unknown == {Unknown("late", ("match.budget_used",)): 1}


KEYS = TARGETS + f'keys: [{{name: web, sha256: {"ab" * 32}, models: ["gpt-*"], routes: [all]}}]\n'


def test_a_recorded_key_opens_what_it_would_open_now(on):
    replay = on("  - {name: night, match: {tenant: night}, to: [two]}\n" + TO_ONE, KEYS)
    assert replay.now(call(key="web")).target == "one"
    assert replay.now(call(key="web", requested_model="claude")).refusal == "model_not_allowed"
    assert replay.now(call(key="web", tenant="night")).refusal == "route_not_allowed"
    assert replay.now(call(key="gone", requested_model="claude")).target == "one"


def test_a_call_that_its_key_did_not_open_is_played_again(on):
    refused = call(attempts=0, status=403, outcome="rejected", error="model_not_allowed", key="web", target=None, model=None)
    assert before(refused) == Fate(refusal="model_not_allowed")
    assert on(TO_ONE).now(refused).target == "one"
