"""Content is recorded where a rule asks for it, redacted before it leaves the gate, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.call import Outcome
from proxy.policy.telemetry_environment import TelemetryEnvironment
from proxy.records import Content, encode_record
from tests.pipeline.fakes import ClientLeaves
from tests.pipeline.replies import BYE, DONE, GOOD, USAGE, delta, json_reply, sse
from tests.pipeline.scripts import CONFIG, chat, chat_stream, posted
from tests.pipeline.world import Played, Request, World

ALL = CONFIG + "telemetry: {capture_content: [span, ledger], max_chars: 40, redact: ['CUST-[0-9]+']}"
ROUTES = (
    CONFIG
    + """
routes:
  - {name: told, match: {header: {x-told: "1"}}, to: [openai], capture_content: event}
  - {name: untold, to: [openai]}
"""
)


def content_of(played: Played) -> Content:
    content = played.record.content
    assert content is not None
    return content


def said(text: str | None) -> Any:
    return json.loads(text or "[]")


def test_call_is_told_with_its_answer() -> None:
    with World(ALL) as world:
        content = content_of(world.call(chat(), GOOD))
    assert content.to == ["span", "ledger"]
    assert said(content.input_messages) == [{"role": "user", "parts": [{"type": "text", "content": "Hello"}]}]
    answer = {"role": "assistant", "parts": [{"type": "text", "content": "Hello!"}], "finish_reason": "stop"}
    assert said(content.output_messages) == [answer]


def test_stream_is_told_with_its_answer() -> None:
    with World(ALL) as world:
        content = content_of(world.call(chat_stream(asks=False), sse(delta("Hel"), delta("lo"), BYE + DONE)))
    assert said(content.output_messages)[0]["parts"] == [{"type": "text", "content": "Hello"}]


def test_stream_that_the_client_left_is_told_as_far_as_it_came() -> None:
    with World(ALL) as world:
        played = world.call(chat_stream(), sse(delta("Hel"), ClientLeaves()))
    assert played.record.outcome is Outcome.ABANDONED
    (message,) = said(content_of(played).output_messages)
    assert (message["parts"], message["finish_reason"]) == ([{"type": "text", "content": "Hel"}], "error")


def test_nothing_is_told_unless_asked() -> None:
    with World(CONFIG) as world:
        played = world.call(chat(body={"messages": [{"role": "user", "content": "secret plan"}]}), GOOD)
    assert played.record.content is None
    assert b"secret plan" not in encode_record(played.record)


def test_route_decides_for_its_calls() -> None:
    with World(ROUTES) as world:
        assert content_of(world.call(chat(headers=[(b"x-told", b"1")]), GOOD)).to == ["event"]
        assert world.call(chat(), GOOD).record.content is None


def test_credentials_personal_data_and_the_users_expressions_are_taken_out() -> None:
    text = "sk-client-1 jane@example.com CUST-12345"
    request = chat(headers=[(b"authorization", b"Bearer sk-client-1")], body={"messages": [{"role": "user", "content": text}]})
    answer = {"choices": [{"message": {"content": "sk-target CUST-1"}, "finish_reason": "stop"}], "usage": USAGE}
    with World(ALL.replace("max_chars: 40", "max_chars: 400")) as world:
        played = world.call(request, json_reply(answer))
    content = content_of(played)
    parts = said(content.input_messages)[0]["parts"]
    assert parts[0]["content"] == "[REDACTED:credential] [REDACTED:email] [REDACTED:custom]"
    assert said(content.output_messages)[0]["parts"][0]["content"] == "[REDACTED:credential] [REDACTED:custom]"
    assert json.loads(played.client.body) == answer  # the client gets what the provider sent


def test_texts_are_cut() -> None:
    with World(ALL) as world:
        content = content_of(world.call(chat(body={"messages": [{"role": "user", "content": "a" * 50}]}), GOOD))
    assert said(content.input_messages)[0]["parts"][0]["content"] == "a" * 40 + "…"


@pytest.mark.parametrize(("to", "told"), [("span", False), ("[span, event]", False), ("[span, ledger]", True)])
def test_call_that_is_not_sampled_is_told_to_the_ledger_alone(to: str, told: bool) -> None:
    unsampled = [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]
    with World(CONFIG + f"telemetry: {{capture_content: {to}}}") as world:
        content = world.call(chat(headers=unsampled), GOOD).record.content
    assert (content.to if content else None) == (["ledger"] if told else None)


def test_variable_wins_over_the_configuration() -> None:
    with World(ALL) as world:
        plain = world.gate.runtime
        targets = {name: endpoint.target for name, endpoint in plain.endpoints.items()}
        world.gate.use(type(plain)(plain.config, targets, plain.prices, TelemetryEnvironment(capture=())))
        assert world.call(chat(), GOOD).record.content is None


def test_refused_and_unread_calls_tell_no_content() -> None:
    with World(ALL) as world:
        assert world.call(posted(b'{"model": 5}')).record.content is None
        assert world.call(Request("GET", "/v1/models"), GOOD).record.content is None


def test_long_stream_is_kept_within_bounds_and_says_so() -> None:
    pieces = [delta("x" * 60_000) for _ in range(40)]
    with World(ALL) as world:
        played = world.call(chat_stream(), sse(*pieces, BYE + DONE))
    (message,) = said(content_of(played).output_messages)
    assert message["parts"] == [{"type": "text", "content": "x" * 40 + "…"}, {"type": "text", "content": "…"}]
    assert played.record.attempts[0].outcome is Outcome.SUCCEEDED
