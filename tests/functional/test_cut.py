"""A stream that a budget ends, as the newest `openai` and `anthropic` clients see it: a normal end, by length."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.functional.gate import RunningGate, running_gate

HELLO: Any = [{"role": "user", "content": "Hello, who are you?"}]
LONG = {"x-sim": "lat=0,d=2,n=400"}
"""An answer of several times what is held."""
LIMIT, MAX_TOKENS = 1_000, 20_000
MODEL = "sim/gpt-4o-mini"
CONFIG = f"""
targets: {{sim: {{provider: simulated}}}}
routes: [{{name: all, to: [sim]}}]
budgets:
  - {{name: day, window: {{every: day}}, limit: {{tokens: {LIMIT}}}, cut: true}}
"""


@pytest.fixture
def gate() -> Iterator[RunningGate]:
    with running_gate(CONFIG) as running:
        yield running


@pytest.fixture
def client(gate: RunningGate) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gate.url}/v1", api_key="sk-client", timeout=10, max_retries=0, default_headers=LONG) as made:
        yield made


def used(gate: RunningGate) -> float:
    """What `/budgets` says is used."""
    with urllib.request.urlopen(f"{gate.admin_url}/budgets", timeout=5) as answer:
        (row,) = json.load(answer)
        used: float = row["used"]
        return used


def check_it_was_cut(gate: RunningGate, text: str) -> None:
    """The call is one that went well, counted by Postern itself, and within its budget."""
    assert 100 < len(text) < LIMIT
    (row,) = gate.rows(1)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("succeeded", 200, "tokenizer")
    assert 0 < row["output_tokens"] <= len(text)
    assert 0 < used(gate) <= LIMIT


def test_chat_ends_with_finish_reason_length(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=MAX_TOKENS, stream=True) as stream:
        chunks = list(stream)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]
    assert {(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks} == {
        (chunks[0].id, chunks[0].created, chunks[0].model, "chat.completion.chunk")
    }
    check_it_was_cut(gate, "".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def test_the_helper_that_puts_a_chat_together_raises_its_own_error_for_the_length(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=HELLO, max_completion_tokens=MAX_TOKENS, stream_options={"include_usage": True}
    ) as stream:
        stream.until_done()
        with pytest.raises(openai.LengthFinishReasonError) as raised:
            stream.get_final_completion()
    answer = raised.value.completion
    assert answer.usage is None
    check_it_was_cut(gate, answer.choices[0].message.content or "")


def test_a_completion_ends_with_finish_reason_length(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.completions.create(model="sim/gpt-3.5-turbo-instruct", prompt="Hello", max_tokens=MAX_TOKENS, stream=True) as stream:
        chunks = list(stream)
    assert chunks[-1].choices[0].finish_reason == "length"
    check_it_was_cut(gate, "".join(chunk.choices[0].text for chunk in chunks))


def test_a_response_ends_as_incomplete_with_the_text_that_came(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.responses.create(model=MODEL, input="Hello", max_output_tokens=MAX_TOKENS, stream=True) as stream:
        events = list(stream)
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.status == "incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert last.response.output_text == text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    check_it_was_cut(gate, text)


def test_the_helper_that_puts_a_response_together_takes_the_end(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.responses.stream(model=MODEL, input="Hello", max_output_tokens=MAX_TOKENS) as stream:
        events = list(stream)
    last = events[-1]
    assert last.type == "response.incomplete"
    check_it_was_cut(gate, last.response.output_text)


def test_a_message_ends_with_stop_reason_max_tokens(gate: RunningGate) -> None:
    with (
        anthropic.Anthropic(base_url=gate.url, api_key="sk-client", timeout=10, max_retries=0, default_headers=LONG) as client,
        client.messages.stream(model="sim/claude-sonnet-5", max_tokens=MAX_TOKENS, messages=HELLO) as stream,
    ):
        answer = stream.get_final_message()
    assert answer.stop_reason == "max_tokens"
    (block,) = answer.content
    assert isinstance(block, anthropic.types.TextBlock)
    assert 0 < answer.usage.output_tokens <= len(block.text)
    (row,) = gate.rows(1)
    assert row["input_tokens"] == answer.usage.input_tokens
    check_it_was_cut(gate, block.text)


def test_what_is_given_back_lets_the_next_call_in(client: openai.OpenAI, gate: RunningGate) -> None:
    for _ in range(2):
        with client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=MAX_TOKENS, stream=True) as stream:
            assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "length"
    assert len(gate.rows(2)) == 2
    assert used(gate) <= LIMIT


def test_a_call_that_is_not_streamed_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError, match="ask for fewer output tokens"):
        client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=MAX_TOKENS)
