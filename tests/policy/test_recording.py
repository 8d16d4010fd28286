"""Which attributes and whose content are recorded."""

from __future__ import annotations

import pytest

from proxy.call import HeaderList
from proxy.policy.order import Candidate
from proxy.policy.plan import Plan
from proxy.policy.recording import MAX_VALUE_CHARS, attribute_rules, attribute_values, capture_rules
from proxy.policy.routing import MAX_TOLD_MODEL_CHARS, RouteDecision
from proxy.policy.telemetry_environment import TelemetryEnvironment
from proxy.wire.http1 import first_values
from tests.config.support import MINIMAL, load

ATTRIBUTES = "telemetry: {attributes: {team: {header: X-Team}, feature: {metadata: feature}, tag: {header: x-postern-tag}}}"
ROUTES = """
routes:
  - {name: a, match: {model: a}, to: [openai], capture_content: [span, event]}
  - {name: b, match: {model: b}, to: [openai], capture_content: false}
  - {name: c, to: [openai]}
"""
NO_VARIABLE = TelemetryEnvironment()


def values(headers: HeaderList, metadata: dict[str, str]) -> dict[str, str]:
    rules = attribute_rules(load(MINIMAL + ATTRIBUTES.replace("tag:", "mine:")).config)
    return attribute_values(rules, first_values(headers), metadata)


def test_attributes_come_from_headers_and_metadata() -> None:
    headers = [(b"x-TEAM", b" ads "), (b"X-Team", b"second"), (b"X-Postern-Tag", b"t"), (b"feature", b"no")]
    assert values(headers, {"feature": "search", "x-team": "no"}) == {"team": "ads", "feature": "search", "mine": "t"}


def test_attribute_without_a_value_is_left_out() -> None:
    assert values([(b"x-team", b"  ")], {"feature": ""}) == {}


def test_attribute_values_are_bounded_and_text() -> None:
    found = values([(b"x-team", b"\xff" + b"a" * 1000)], {})
    assert found == {"team": "\ufffd" + "a" * (MAX_VALUE_CHARS - 1)}


@pytest.mark.parametrize(
    ("everywhere", "rules"),
    [
        ("false", {"a": ["span", "event"]}),
        ("ledger", {"default": ["ledger"], "a": ["span", "event"], "c": ["ledger"]}),
        ("[ledger, span]", {"default": ["ledger", "span"], "a": ["span", "event"], "c": ["ledger", "span"]}),
    ],
)
def test_route_says_for_itself_and_the_section_for_the_others(everywhere: str, rules: dict[str, list[str]]) -> None:
    config = load(MINIMAL + f"telemetry: {{capture_content: {everywhere}}}" + ROUTES).config
    assert capture_rules(config, NO_VARIABLE) == rules


def test_nothing_is_captured_unless_somebody_asks() -> None:
    assert capture_rules(load(MINIMAL).config, NO_VARIABLE) == {}


def test_variable_wins_over_section_and_routes() -> None:
    config = load(MINIMAL + "telemetry: {capture_content: ledger}" + ROUTES).config
    assert capture_rules(config, TelemetryEnvironment(capture=())) == {}
    everywhere = {route: ["span"] for route in ("default", "a", "b", "c")}
    assert capture_rules(config, TelemetryEnvironment(capture=("span",))) == everywhere


def test_no_events_where_the_variable_says_so() -> None:
    config = load(MINIMAL + "telemetry: {capture_content: event}" + ROUTES).config
    assert capture_rules(config, TelemetryEnvironment(events=False)) == {"a": ["span"]}


def decision(route: str, *steps: Candidate) -> RouteDecision:
    return RouteDecision(route, Plan(steps))


@pytest.mark.parametrize(
    ("decided", "model", "told"),
    [
        (decision("ads-copy", Candidate("openai", "gpt-5.2"), Candidate("own")), "smart", "ads-copy>openai/gpt-5.2,own/smart"),
        (decision("r", Candidate("t")), "gpt-4o", "r>t/gpt-4o"),
        (decision("r", Candidate("t")), None, "r>t"),
    ],
)
def test_decision_is_told_in_one_line(decided: RouteDecision, model: str | None, told: str) -> None:
    assert decided.told(model) == told


def test_told_decision_is_bounded() -> None:
    assert len(decision("r", Candidate("t")).told("m" * 10**6)) == len("r>t/") + MAX_TOLD_MODEL_CHARS
