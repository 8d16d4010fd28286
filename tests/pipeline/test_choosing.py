"""Which target a call goes to by what it says about itself, from its bytes on."""

from __future__ import annotations

import gzip
import json
from typing import Any
from unittest.mock import Mock

import pytest

from proxy.call import HeaderList
from proxy.wire.prompt import Prompt, read_prompt
from tests.fake_time import FakeClock
from tests.pipeline.replies import GOOD
from tests.pipeline.scripts import chat, posted
from tests.pipeline.world import Played, Request, World

TARGETS = """
targets:
  plain: {provider: openai, base_url: "https://plain.example/v1", credential: sk-1}
  special: {provider: openai, base_url: "https://special.example/v1", credential: sk-2}
"""
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}


def played(config: str, request: Request) -> Played:
    with World(TARGETS + config) as world:
        return world.call(request, GOOD)


def target_of(config: str, request: Request) -> str | None:
    return played(config, request).sent[0].target.name


def by_rule(condition: str, request: Request) -> bool:
    """Whether a rule with a condition takes the call."""
    rules = f"routes: [{{name: rule, match: {{{condition}}}, to: [special]}}, {{name: rest, to: [plain]}}]"
    return target_of(rules, request) == "special"


def said(*parts: object, **members: object) -> Request:
    return chat(body={"messages": [{"role": "user", "content": list(parts)}], **members})


# ------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("condition", "request_", "expected"),
    [
        ("tools: true", chat(body={"tools": TOOLS}), True),
        ("tools: true", chat(), False),
        ("images: true", said(IMAGE), True),
        ("images: true", said({"type": "text", "text": "an image"}), False),
        ("images: false", said(IMAGE), False),
        ("response_format: json_schema", chat(body={"response_format": SCHEMA}), True),
        ("response_format: text", chat(body={"response_format": SCHEMA}), False),
        ("response_format: text", chat(), True),
        ("response_format: text", posted({"model": "m", "prompt": "x"}, "/v1/completions"), True),
        ("response_format: text", posted({"model": "m", "input": "x"}, "/v1/embeddings"), False),
        ("response_format: text", posted({"content": {"parts": []}}, "/v1beta/models/embedder:embedContent"), False),
        ("metadata: {team: 'ads*'}", chat(body={"metadata": {"team": "ads-eu"}}), True),
        ("metadata: {team: 'ads*'}", chat(body={"metadata": {"team": "search"}}), False),
        ("max_tokens: {under: 100}", chat(body={"max_completion_tokens": 99}), True),
        ("max_tokens: {under: 100}", chat(), False),
        ("input_tokens: {over: 100}", chat(body={"messages": [{"role": "user", "content": "x" * 404}]}), True),
        ("input_tokens: {over: 100}", chat(body={"messages": [{"role": "user", "content": "x" * 403}]}), False),
        ("input_tokens: {under: 100}", said(IMAGE | {"image_url": {"url": "data:image/png;base64," + "A" * 9000}}), True),
        ("input_tokens: {under: 100}", Request("GET", "/v1/models"), False),
        ("tools: false", Request("GET", "/v1/models"), True),
    ],
)
def test_a_rule_goes_by_what_the_body_says(condition: str, request_: Request, expected: bool) -> None:
    assert by_rule(condition, request_) is expected


def test_a_body_in_a_content_coding_is_read_too() -> None:
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": [IMAGE]}]}).encode()
    coding: HeaderList = [(b"content-encoding", b"gzip")]
    assert by_rule("images: true", posted(gzip.compress(body), headers=coding))


def test_time_is_that_of_the_calls_arrival() -> None:
    hour = FakeClock().time_ns() // 3_600_000_000_000 % 24
    now, later = (f"time: {{after: '{(hour + add) % 24:02}:00', before: '{(hour + add + 1) % 24:02}:00'}}" for add in (0, 1))
    assert by_rule(now, chat())
    assert not by_rule(later, chat())


# --------------------------------------------------------------------------------------------------------- abilities


BOTH = "routes: [{name: both, to: [plain, special]}]"


@pytest.mark.parametrize(
    ("lacks", "body", "expected"),
    [
        ("vision", {"messages": [{"role": "user", "content": [IMAGE]}]}, "special"),
        ("vision", {}, "plain"),
        ("tools", {"tools": TOOLS}, "special"),
        ("tools", {"tools": []}, "plain"),
        ("json_schema", {"response_format": SCHEMA}, "special"),
        ("json_schema", {"response_format": {"type": "json_object"}}, "plain"),
        ("vision, json_schema", {"tools": TOOLS}, "plain"),
    ],
)
def test_a_target_that_lacks_what_the_call_needs_is_passed_over(lacks: str, body: dict[str, Any], expected: str) -> None:
    targets = TARGETS.replace("sk-1}", f"sk-1, lacks: [{lacks}]}}")
    with World(targets + BOTH) as world:
        assert world.call(chat(body=body), GOOD).sent[0].target.name == expected


def test_the_only_target_gets_what_it_is_said_to_lack() -> None:
    targets = TARGETS.replace("sk-1}", "sk-1, lacks: [tools], context_window: 1}")
    with World(targets + "routes: [{name: only, match: {model: 'gpt-*'}, to: [plain]}]") as world:
        assert world.call(chat(body={"tools": TOOLS}), GOOD).client.status == 200


def test_a_call_that_no_target_can_take_is_told_why() -> None:
    targets = TARGETS.replace("sk-1}", "sk-1, lacks: [tools]}").replace("sk-2}", "sk-2, lacks: [tools]}")
    with World(targets + BOTH) as world:
        ended = world.call(chat(body={"tools": TOOLS}))
    assert ended.client.status == 503
    assert b"plain: it lacks tools; special: it lacks tools" in ended.client.body


def long_chat(chars: int) -> Request:
    return chat(body={"messages": [{"role": "user", "content": "x" * chars}]})


@pytest.mark.parametrize(
    ("window", "chars", "expected"),
    [("100", 606, "special"), ("100", 605, "plain"), ("1000", 606, "plain"), (None, 6_000_000, "special")],
)
def test_a_prompt_that_cannot_fit_goes_to_a_larger_window(window: str | None, chars: int, expected: str) -> None:
    declared = "context_window: " + window if window else "tier: cloud"  # gpt-4o's own is in the shipped data
    targets = TARGETS.replace("sk-1}", f"sk-1, {declared}}}").replace("sk-2}", "sk-2, context_window: 10000000}")
    with World(targets + BOTH) as world:
        assert world.call(long_chat(chars), GOOD).sent[0].target.name == expected


def test_the_window_is_that_of_the_model_the_target_is_sent() -> None:
    both = "routes: [{name: both, to: [{target: plain, model: gpt-4}, special]}]"
    with World(TARGETS + both) as world:
        assert world.call(long_chat(60_000), GOOD).sent[0].target.name == "special"
        assert world.call(long_chat(40_000), GOOD).sent[0].target.name == "plain"


def test_a_prompt_that_fits_no_target_is_the_providers_to_refuse() -> None:
    targets = TARGETS.replace("sk-1}", "sk-1, context_window: 100}").replace("sk-2}", "sk-2, context_window: 200}")
    with World(targets + BOTH) as world:
        assert world.call(long_chat(9000), GOOD).sent[0].target.name == "plain"


def test_a_target_whose_window_is_not_known_takes_what_the_others_cannot() -> None:
    targets = TARGETS.replace("sk-1}", "sk-1, context_window: 100}")
    both = "routes: [{name: both, to: [plain, {target: special, model: no-such-model}]}]"
    with World(targets + both) as world:
        assert world.call(long_chat(9000), GOOD).sent[0].target.name == "special"


def test_many_texts_to_embed_need_no_common_window() -> None:
    targets = TARGETS.replace("sk-1}", "sk-1, context_window: 100}")
    many = posted({"model": "text-embedding-3-small", "input": ["x" * 300] * 50}, "/v1/embeddings")
    with World(targets + BOTH) as world:
        assert world.call(many, GOOD).sent[0].target.name == "plain"


# -------------------------------------------------------------------------------------------------------------- cost


def priced(first: str, second: str) -> str:
    return TARGETS.replace("sk-1}", f"sk-1, price: {{{first}}}}}").replace("sk-2}", f"sk-2, price: {{{second}}}}}")


CHEAPEST = "routes: [{name: both, strategy: cheapest, to: [plain, special]}]"
DEAR_INPUT, DEAR_OUTPUT = "per_million: {input: 10, output: 1}", "per_million: {input: 1, output: 10}"


@pytest.mark.parametrize(
    ("chars", "body", "expected"),
    [
        (4 * 300, {}, "special"),  # about 300 tokens in, 256 out are expected
        (4 * 200, {}, "plain"),
        (4 * 300, {"max_tokens": 400}, "plain"),
        (4 * 200, {"max_tokens": 100}, "special"),
        (4 * 300, {"n": 2}, "plain"),
    ],
)
def test_the_cheapest_is_the_cheapest_for_this_call(chars: int, body: dict[str, object], expected: str) -> None:
    request = chat(body={"messages": [{"role": "user", "content": "x" * chars}], **body})
    with World(priced(DEAR_INPUT, DEAR_OUTPUT) + CHEAPEST) as world:
        assert world.call(request, GOOD).sent[0].target.name == expected


def test_prices_are_those_of_the_models_that_are_sent() -> None:
    rule = "routes: [{name: both, strategy: cheapest, to: [{target: plain, model: gpt-4}, {target: special, model: gpt-4o-mini}]}]"
    assert target_of(rule, chat()) == "special"


def test_a_target_without_a_price_comes_last() -> None:
    rule = "routes: [{name: both, strategy: cheapest, to: [{target: plain, model: no-such-model}, special]}]"
    assert target_of(rule, chat()) == "special"


# ------------------------------------------------------------------------------------------------ what isn't asked for


@pytest.mark.parametrize(
    "config",
    [
        "routes: [{name: all, match: {model: 'gpt-*', tools: false, max_tokens: {under: 9}}, to: [plain]}, {name: rest, to: [plain]}]",
        BOTH,
        "routes: [{name: all, strategy: weighted, to: [plain, special]}]",
    ],
)
def test_a_prompt_that_no_rule_asks_about_is_not_read(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: bytes) -> Prompt:
        raise AssertionError("the prompt was read")

    monkeypatch.setattr("proxy.pipeline.known.read_prompt", read)
    assert target_of(config, said({"type": "text", "text": "an image"})) in ("plain", "special")


def test_a_prompt_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mock(wraps=read_prompt)
    monkeypatch.setattr("proxy.pipeline.known.read_prompt", read)
    reads = "{name: a, match: {images: true, input_tokens: {over: 9}}, to: [plain]}"
    rules = f"routes: [{reads}, {{name: b, strategy: cheapest, to: [plain, special]}}]"
    target_of(rules, said({"type": "text", "text": "an image"}))
    assert read.call_count == 1
