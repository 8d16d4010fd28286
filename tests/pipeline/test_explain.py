"""A call that asks to be explained is sent nowhere, and what it is told is what happens to the same call without the question."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest

from proxy.call import Outcome
from proxy.config.problems import ConfigError
from proxy.errors import ConnectFailed
from proxy.policy.breaker import BreakerState
from proxy.policy.explain import Explanation
from proxy.records import CallRecord
from tests.pipeline.replies import GOOD, JSON_TYPE
from tests.pipeline.scripts import CONFIG, EXPLAIN, chat
from tests.pipeline.world import Played, Request, World

TWO = """
targets:
  a: {provider: openai, credential: sk-a}
  b: {provider: openai, credential: sk-b}
"""
WEIGHTED = TWO + "routes: [{name: split, strategy: weighted, to: [{target: a, weight: 3}, {target: b, model: gpt-5}]}]"


def asked(config: str, request: Request) -> tuple[Played, Explanation]:
    with World(config) as world:
        played = world.call(request)
    return played, played.explanation


# --------------------------------------------------------------------------------------------------------- the answer


def test_explained_call_is_answered_with_the_decision_and_sent_nowhere() -> None:
    played, told = asked(WEIGHTED, chat(EXPLAIN))
    assert played.sent == []
    assert (told.method, told.path, told.model, told.route, told.strategy) == (
        "POST",
        "/v1/chat/completions",
        "gpt-4o",
        "split",
        "weighted",
    )
    assert {(step.target, step.model) for step in told.steps} == {("a", None), ("b", "gpt-5")}
    assert len(told.draws) == 2
    assert played.client.value("content-type") == "application/json"
    assert played.client.value("content-length") == str(len(played.client.body))
    assert played.client.value("x-postern-route") == "split"


def test_explained_call_is_recorded_once_without_attempt_or_cost() -> None:
    record = asked(WEIGHTED, chat(EXPLAIN))[0].record
    assert (record.outcome, record.status, record.route, record.attempts) == (Outcome.SUCCEEDED, 200, "split", [])
    assert (record.billable, record.error_type) == (False, None)


@pytest.mark.parametrize("value", [b"1", b" 1 ", b"true", b"True"])
def test_question_may_be_asked_in_two_ways(value: bytes) -> None:
    assert asked(WEIGHTED, chat([(b"x-postern-explain", value)]))[0].sent == []


@pytest.mark.parametrize("value", [b"0", b"false", b""])
def test_call_that_says_no_is_sent_without_the_field(value: bytes) -> None:
    with World(CONFIG) as world:
        played = world.call(chat([(b"x-postern-explain", value)]), GOOD)
    assert played.sent[0].values("x-postern-explain") == []
    assert played.client.body == b"".join(step for step in GOOD.steps if isinstance(step, bytes))


def test_unclear_question_is_refused_rather_than_sent() -> None:
    with World(CONFIG) as world:
        played = world.call(chat([(b"x-postern-explain", b"yes")]))
    assert (played.client.status, played.record.error_type) == (400, "bad_request")


def test_refusal_is_explained_with_the_answer_that_it_would_be() -> None:
    config = TWO + "routes: [{name: none, match: {model: o3}, to: [a]}]"
    played, told = asked(config, chat(EXPLAIN))
    assert told.refusal is not None
    assert (told.refusal.status, told.refusal.code, told.route) == (404, "no_route", None)
    assert [(one.route, one.matches) for one in told.routes] == [("none", False)]
    assert (played.record.outcome, played.record.status, played.record.route) == (Outcome.SUCCEEDED, 200, None)


def test_targets_without_a_price_are_told_as_left_out() -> None:
    config = WEIGHTED + "\nprices: {on_unknown: refuse}"
    _, told = asked(config, chat(EXPLAIN, {"model": "nobody-knows-it"}))
    assert [(step.target, step.model) for step in told.steps] == [("b", "gpt-5")]
    assert [(drop.target, drop.why) for drop in told.dropped] == [("a", "its price isn't known, and prices.on_unknown is refuse")]
    alone = config.replace(", {target: b, model: gpt-5}", "")
    refused = asked(alone, chat(EXPLAIN, {"model": "nobody-knows-it"}))[1]
    assert refused.refusal is not None
    assert (refused.refusal.code, refused.steps) == ("unknown_price", ())


SHAPED = TWO + "routes: [{name: shaped, to: [a, b], request: {set: {temperature: 0}, clamp: {max_tokens: 9}, drop: [user]}}]"


def test_changes_of_the_request_are_told_for_each_target() -> None:
    config = SHAPED.replace("sk-b}", "sk-b, request: {drop: [seed]}}")
    _, told = asked(config, chat(EXPLAIN, {"max_tokens": 10, "seed": 1}))
    with World(config) as world:
        played = world.call(chat(body={"max_tokens": 10, "seed": 1}), GOOD)
    assert played.client.value("x-postern-changes") == told.steps[0].changes != ""
    assert told.steps[0].changes in told.steps[1].changes
    assert "seed" in told.steps[1].changes


def test_request_that_rules_cannot_be_put_into_is_told_as_refused() -> None:
    request = chat([*EXPLAIN, (b"content-encoding", b"unknown")])
    _, told = asked(SHAPED, request)
    with World(SHAPED) as world:
        refused = world.call(chat([(b"content-encoding", b"unknown")]))
    assert told.refusal is not None
    assert (told.refusal.status, told.refusal.code) == (refused.client.status, refused.record.error_type)
    later = SHAPED.replace(", request: {set: {temperature: 0}, clamp: {max_tokens: 9}, drop: [user]}", "")
    _, told = asked(later.replace("sk-b}", "sk-b, request: {drop: [seed]}}"), request)
    assert told.refusal is None
    assert "can't be put into this request" in told.steps[1].changes


def test_request_that_cannot_be_read_is_an_error_and_no_explanation() -> None:
    with World(CONFIG) as world:
        played = world.call(Request(headers=[*JSON_TYPE, *EXPLAIN], steps=[b"{"]))
    assert (played.client.status, played.record.error_type) == (400, "invalid_json")


def test_call_that_names_no_model_can_be_explained() -> None:
    _, told = asked(CONFIG, Request("GET", "/v1/models", EXPLAIN))
    assert (told.model, told.route, [step.why for step in told.steps]) == (None, "default", ["the only target"])


def test_explanation_is_given_where_nothing_else_tells_of_postern() -> None:
    played, told = asked("transparent: true\n" + WEIGHTED, chat(EXPLAIN))
    assert told.route == "split"
    assert not [name for name, _ in played.client.headers if name.startswith(b"x-postern-")]


def test_client_that_leaves_before_its_explanation_has_abandoned_the_call() -> None:
    with World(WEIGHTED) as world:
        record = world.call(chat(EXPLAIN, writes_until_gone=0)).record
    assert (record.outcome, record.status) == (Outcome.ABANDONED, 200)


# --------------------------------------------------------------------------------------------------------- the record


def test_plan_is_recorded_where_there_was_a_choice() -> None:
    with World(WEIGHTED.replace("weighted", "least_busy")) as world:
        plan = world.call(chat(), GOOD).record.plan
    assert plan is not None
    assert plan.strategy == "least_busy"
    assert plan.steps == [("a", None, "0 in flight"), ("b", "gpt-5", "0 in flight")]
    assert (plan.dropped, plan.last_resort) == ([], False)


def test_what_was_left_out_is_recorded() -> None:
    with World(WEIGHTED) as world:
        open_breaker(world, "a")
        plan = world.call(chat(), GOOD).record.plan
    assert plan is not None
    assert plan.steps == [("b", "gpt-5", "drawn with weight 1, 100% of calls")]
    assert plan.dropped == [("a", None, "its breaker is open")]


def test_no_plan_is_recorded_where_nothing_was_chosen() -> None:
    with World(CONFIG) as world:
        assert world.call(chat(), GOOD).record.plan is None
        assert world.call(Request("GET", "/v1/models"), GOOD).record.plan is None
    with World(CONFIG + "routes: [{name: one, match: {model: gpt-*}, to: [openai]}]") as world:
        assert world.call(chat(), GOOD).record.plan is None


# -------------------------------------------------------------------------------- what is told is what is done: 1,000 times

SEEDS, BLOCKS = 1000, 10
MODELS = ("gpt-4o", "gpt-4o-mini", "o3-mini", "smart", "cheap", "nobody-knows-it")
STRATEGIES = ("priority", "weighted", "cheapest", "fastest", "least_busy", "headroom", "sticky")
CONDITIONS: tuple[dict[str, object], ...] = (
    {"model": "gpt-*"},
    {"model": ["o3*", "smart"]},
    {"method": "POST"},
    {"path": "/v1/chat/*"},
    {"stream": False},
    {"stream": True},
    {"tools": True},
    {"images": False},
    {"metadata": {"task": "ads*"}},
    {"header": {"x-team": "search"}},
    {"max_tokens": {"under": 100}},
    {"input_tokens": {"over": 50}},
    {"response_format": ["json_object", "json_schema"]},
    {"time": {"after": "06:00", "before": "18:00"}},
)


class Case:
    """A configuration, the state of its targets and a call, all from one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.chance = random.Random(seed)
        self.targets = list("abcde")[: self.chance.randint(1, 5)]
        self.aliases = self.chance.sample(["smart", "cheap"], self.chance.randint(0, 2))

    def world(self) -> World:
        """A world under the first configuration that isn't refused, as those with a dead rule are."""
        while True:
            with contextlib.suppress(ConfigError):
                return World(self._config())

    def _config(self) -> str:
        models = {alias: {"targets": self._choices(self.targets), **self._strategy()} for alias in self.aliases}
        routes = [self._route(number) for number in range(self.chance.randint(0 if len(self.targets) == 1 else 1, 4))]
        prices = {"on_unknown": "refuse" if self.chance.random() < 0.15 else "allow"}
        whole: dict[str, object] = {"targets": {name: self._target() for name in self.targets}, "models": models, "prices": prices}
        return json.dumps(whole | ({"routes": routes} if routes else {}))

    def _target(self) -> dict[str, object]:
        target: dict[str, object] = {"provider": "openai", "credential": "sk-1"}
        if self.chance.random() < 0.5:
            target["price"] = {"per_million": {"input": self.chance.randint(1, 9), "output": self.chance.randint(1, 9)}}
        if self.chance.random() < 0.2:
            target["lacks"] = self.chance.sample(["vision", "tools", "json_schema"], 1)
        if self.chance.random() < 0.2:
            target["context_window"] = self.chance.choice([10, 100_000])
        return target

    def _route(self, number: int) -> dict[str, object]:
        match: dict[str, object] = {}
        for condition in self.chance.sample(CONDITIONS, self.chance.randint(1, 2)):
            match |= condition
        route: dict[str, object] = {"name": f"route-{number}", "match": match, "to": self._choices([*self.targets, *self.aliases])}
        if self.chance.random() < 0.4:
            on = self.chance.choice([["connect", "timeout"], ["throttled"]])
            route["failover"] = {"on": on, "attempts": self.chance.randint(1, 4)}
        if self.chance.random() < 0.2:
            route["mode"] = "shadow"
        return route | self._strategy()

    def _strategy(self) -> dict[str, object]:
        strategy = self.chance.choice(STRATEGIES)
        return {"strategy": strategy, "sticky_by": "header:x-user"} if strategy == "sticky" else {"strategy": strategy}

    def _choices(self, names: list[str]) -> list[dict[str, object]]:
        chosen = []
        for name in self.chance.sample(names, self.chance.randint(1, len(names))):
            choice: dict[str, object] = {"target": name, "weight": self.chance.choice([1, 1, 3, 10])}
            if name in self.targets and self.chance.random() < 0.3:
                choice["model"] = "gpt-4.1"
            chosen.append(choice)
        return chosen

    def prepare(self, world: World) -> None:
        """Give the targets a past."""
        now_ns = world.clock.monotonic_ns()
        for state in world.gate.states.values():
            if self.chance.random() < 0.5:
                state.succeeded(state.begin(now_ns), now_ns, self.chance.random(), self.chance.random() + 1)
            if self.chance.random() < 0.3:
                state.told_headroom(self.chance.random(), now_ns)
            if self.chance.random() < 0.2:
                state.breaker.state = self.chance.choice(list(BreakerState))
                state.breaker.closes_ns = now_ns + self.chance.randint(1, 100) * 10**9

    def request(self, *more: tuple[bytes, bytes]) -> Request:
        """The call, the same one whenever it is asked for."""
        chance = random.Random(f"call {self._seed}")
        body: dict[str, object] = {"model": chance.choice(MODELS)}
        body |= {name: value for name, value in OPTIONS.items() if chance.random() < 0.3}
        headers = [field for field in FIELDS if chance.random() < 0.4]
        return chat([*headers, *more], body)


OPTIONS: dict[str, Any] = {
    "metadata": {"task": "ads-copy"},
    "max_tokens": 50,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "response_format": {"type": "json_object"},
    "messages": [{"role": "user", "content": "word " * 200}],
}
FIELDS = [(b"x-team", b"search"), (b"x-user", b"alice")]


def open_breaker(world: World, target: str) -> None:
    breaker = world.gate.states[target].breaker
    breaker.state, breaker.closes_ns = BreakerState.OPEN, world.clock.monotonic_ns() + 10**9


def places(told: Explanation, weak: set[str]) -> list[tuple[str, str]]:
    """Whom a call asks that never finds a connection: the steps, then the last one again. One failure opens the breaker of `weak` ones."""
    attempts = told.failover.attempts if told.failover and "connect" in told.failover.on else 1
    asked: list[tuple[str, str]] = []
    for step in told.steps:
        if step.target not in weak or step.target not in [target for target, _ in asked]:
            asked.append((step.target, step.model or told.model or ""))
    if asked[-1][0] not in weak:
        asked += asked[-1:] * attempts
    return asked[:attempts]


def attempted(record: CallRecord) -> list[tuple[str, str]]:
    return [(attempt.target, attempt.model) for attempt in record.attempts]


def check(seed: int) -> str:
    """Ask what would happen, let it happen, compare. Returns what it was, so that a run can show that it had some of each."""
    case = Case(seed)
    with case.world() as world:
        case.prepare(world)
        world.gate.random_bits = random.Random(seed).getrandbits
        told = world.call(case.request(*EXPLAIN)).explanation
        weak = {name for name, state in world.gate.states.items() if state.breaker.state is not BreakerState.CLOSED}
        expected = [] if told.refusal else places(told, weak)
        failures = case.chance.randrange(len(expected) + 1) if expected else 0
        outcome = [ConnectFailed("no connection")] * failures + [GOOD] * (failures < len(expected))
        world.gate.random_bits = random.Random(seed).getrandbits
        record = world.call(case.request(), *outcome).record
    assert record.route == told.route
    assert attempted(record) == expected[: failures + 1]
    if told.refusal is not None:
        assert (record.status, record.error_type) == (told.refusal.status, told.refusal.code)
        return "refused"
    assert (record.outcome is Outcome.SUCCEEDED) == (failures < len(expected))
    if record.plan is not None:
        assert record.plan.steps == [(step.target, step.model, step.why) for step in told.steps]
        assert record.plan.dropped == [(drop.target, drop.model, drop.why) for drop in told.dropped]
        assert record.plan.last_resort == told.last_resort
    assert (record.shadow is None) == (told.shadow is None)
    if told.shadow is not None and record.shadow is not None:
        steps = [(step.target, step.model, step.why) for step in told.shadow.steps]
        assert (record.shadow.route, record.shadow.differs, record.shadow.plan.steps) == (told.shadow.route, told.shadow.differs, steps)
    return "failed over" if failures and failures < len(expected) else "dropped" if told.dropped else told.strategy or "plain"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_what_is_told_is_what_is_done(block: int) -> None:
    kinds = {check(seed) for seed in range(block, SEEDS, BLOCKS)}
    assert {"refused", "failed over", "dropped"} <= kinds
    assert len(kinds) >= 8
