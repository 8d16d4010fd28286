"""`--assume budget:NAME=85%`: what the gate would do with a call if so much of a budget were spent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from proxy.explain.ask import Misused, Question, ask, parse_assumption
from proxy.explain.text import as_text
from proxy.policy.explain import Account, Explanation
from tests.config.support import load

CONFIG = """
identity: {tenant: [{header: x-tenant}]}
targets:
  best: {provider: openai, base_url: "https://best.example/v1", price: {per_request: 0.5}}
  free: {provider: ollama, base_url: "http://free.example/v1", price: {free: true}}
routes:
  - {name: late, match: {budget_used: {budget: tenant-day, over: 80%}}, to: [free]}
  - {name: all, to: [best]}
budgets:
  - {name: tenant-day, per: [tenant], window: {every: day}, limit: {usd: 10, requests: 100}}
  - {name: spare, window: {rolling_s: 3600}, limit: {usd: 2}, when_short: {degrade_to: [free]}}
limits:
  - {name: pace, requests: 10/min, concurrency: 4}
"""
BODY = json.dumps({"model": "gpt-4o", "messages": []}).encode()


def asked(*assumed: str, config: str = CONFIG) -> Explanation:
    """The gate's answer, under assumptions as they are written."""
    assumptions = tuple(parse_assumption(one) for one in assumed)
    answer = ask(load(config), Question("POST", "/v1/chat/completions", [(b"x-tenant", b"acme")], BODY, assumptions), {})
    assert answer.status == 200
    return msgspec.json.decode(answer.body, type=Explanation)


def spent(told: Explanation) -> Mapping[str, float]:
    return {f"{one.rule}:{one.unit}": one.spent for one in told.budgets}


def test_without_an_assumption_nothing_is_spent() -> None:
    told = asked()
    assert (told.route, told.refusal) == ("all", None)
    assert set(spent(told).values()) == {0.0}


def test_budgets_are_told_as_they_stand_before_the_call() -> None:
    assert asked("budget:tenant-day=25%").budgets == (
        Account("tenant-day", "requests", "tenant=acme", 100, 25, 0, 1, shadow=False),
        Account("pace", "requests", "all", 10, 0, 0, 1, shadow=False),
        Account("pace", "concurrency", "all", 4, 0, 0, 1, shadow=False),
        Account("tenant-day", "usd", "tenant=acme", 10, 2.5, 0, 0.5, shadow=False),
        Account("spare", "usd", "all", 2, 0, 0, 0.5, shadow=False),
    )


def test_a_budget_that_is_used_so_far_sends_the_call_where_its_route_says() -> None:
    assert [asked(f"budget:tenant-day={share}").route for share in ("80%", "81%")] == ["all", "late"]


def test_a_budget_that_is_used_up_refuses_the_call_and_is_told_all_the_same() -> None:
    told = asked("budget:tenant-day=100%", config=CONFIG.replace("over: 80%", "over: 100%"))
    assert told.refusal is not None
    assert (told.refusal.status, told.refusal.code, told.refusal.param) == (429, "budget_exceeded", "tenant-day")
    assert spent(told)["tenant-day:usd"] == 10


def test_a_budget_that_degrades_is_told_with_whom_it_asks_instead() -> None:
    told = asked("budget:spare=90%")
    assert [(step.target, step.why) for step in told.steps] == [("free", "budget 'spare' has too little left for the route's own")]
    assert [(drop.target, drop.why) for drop in told.dropped] == [("best", "budget 'spare' has too little left")]


def test_several_budgets_may_be_assumed() -> None:
    told = asked("budget:spare=10%", "budget:tenant-day=50%")
    assert (spent(told)["spare:usd"], spent(told)["tenant-day:usd"], spent(told)["tenant-day:requests"]) == (0.2, 5, 50)


def test_the_table_tells_what_the_call_may_use_of_what() -> None:
    lines = as_text(asked("budget:tenant-day=25%")).splitlines()
    place = lines.index("Budgets and limits, before the call:")
    assert [line.split() for line in lines[place + 1 : place + 6]][3] == (
        ["tenant-day", "tenant=acme", "2.5", "spent,", "0", "held", "of", "10", "USD;", "this", "call", "may", "use", "up", "to", "0.5"]
    )


@pytest.mark.parametrize("text", ["budget:=85%", "budget:day", "budget:day=", "budget:day=much"])
def test_an_assumption_that_says_no_share_is_refused(text: str) -> None:
    with pytest.raises(Misused, match="budget:NAME=85%"):
        parse_assumption(text)


@pytest.mark.parametrize("name", ["nobody", "pace"])
def test_only_budgets_that_there_are_can_be_assumed(name: str) -> None:
    with pytest.raises(Misused, match=f"no budget is named '{name}'"):
        asked(f"budget:{name}=85%")


def test_an_explanation_without_rules_says_nothing_of_them() -> None:
    answer = ask(load("targets: {openai: {provider: openai}}"), Question("POST", "/v1/chat/completions", [], BODY), {})
    document: dict[str, Any] = json.loads(answer.body)
    assert "budgets" not in document
