from __future__ import annotations

import json

import pytest

from proxy.call import Cost, Usage
from proxy.observer.telemetry.spans.attribute_values import MAX_ATTRIBUTES
from proxy.records import CallRecord, RequestFacts
from tests.call_records import attempt_record, call_record
from tests.observer.decoded_spans import INPUT_MESSAGES, OUTPUT_MESSAGES, attributes, content, full_call, spans_of


def told(record: CallRecord) -> dict[str, object]:
    """The CLIENT span of the last attempt."""
    return attributes(spans_of(record, openinference=True)[-1])


def openinference(found: dict[str, object], *starts: str) -> dict[str, object]:
    return {name: value for name, value in found.items() if name.startswith(starts)}


def with_messages(messages: list[object], **changes) -> CallRecord:
    return call_record(content=content(input_messages=json.dumps(messages), system_instructions=None, tool_definitions=None), **changes)


def test_nothing_of_it_without_the_switch() -> None:
    for span in spans_of(full_call()):
        starts = ("llm.", "openinference.", "session.", "user.", "metadata", "tag.", "embedding.", "input.", "output.")
        assert not openinference(attributes(span), *starts)


def test_inference_is_told_in_its_words() -> None:
    found = told(full_call(content=None))
    parameters = json.loads(str(found.pop("llm.invocation_parameters")))
    assert parameters == {
        "max_tokens": 256, "temperature": 0.5, "top_p": 0.9, "top_k": 40.0, "frequency_penalty": 0.1, "presence_penalty": 0.2, "seed": 7,
        "stop_sequences": ["END"], "service_tier": "flex", "n": 2,
        "reasoning_effort": "low", "output_type": "json",
    }  # fmt: skip
    assert json.loads(str(found.pop("metadata")))["feature"] == "captions"
    assert openinference(found, "llm.", "openinference.", "session.", "user.", "tag.", "embedding.", "input.", "output.") == {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o-2024-08-06",
        "llm.request.model_name": "gpt-4o",
        "llm.response.model_name": "gpt-4o-2024-08-06",
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.finish_reason": "stop",
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 60,
        "llm.token_count.total": 160,
        "llm.token_count.prompt_details.cache_read": 40,
        "llm.token_count.prompt_details.cache_write": 10,
        "llm.token_count.prompt_details.audio": 3,
        "llm.token_count.completion_details.reasoning": 5,
        "llm.token_count.completion_details.audio": 2,
        "llm.cost.total": 0.00145,
        "llm.cost.prompt": 0.00025,
        "llm.cost.completion": 0.0012,
        "llm.cost.prompt_details.input": 0.00015,
        "llm.cost.prompt_details.cache_read": 0.00006,
        "llm.cost.prompt_details.cache_write": 0.00004,
        "llm.cost.completion_details.output": 0.0012,
        "session.id": "conv_1",
        "user.id": "some user",
        "tag.tags": ["team=search", "team.lead=ada"],
    }


def test_embeddings_are_told_in_its_words() -> None:
    found = told(call_record(operation="embeddings", facts=RequestFacts(dimensions=256)))
    assert found["openinference.span.kind"] == "EMBEDDING"
    assert found["embedding.model_name"] == "gpt-4o-2024-08-06"
    assert json.loads(str(found["embedding.invocation_parameters"])) == {"dimensions": 256}
    assert not openinference(found, "llm.model", "llm.invocation", "llm.provider")


@pytest.mark.parametrize(("operation", "kind"), [("rerank", "RERANKER"), ("chat", "LLM"), ("speech", "LLM")])
def test_operation_has_a_kind(operation: str, kind: str) -> None:
    assert told(call_record(operation=operation))["openinference.span.kind"] == kind


def test_server_span_is_the_chain() -> None:
    server = attributes(spans_of(full_call(), openinference=True)[0])
    assert openinference(server, "openinference.", "session.", "user.id") == {
        "openinference.span.kind": "CHAIN", "session.id": "conv_1", "user.id": "some user",
    }  # fmt: skip


def test_plain_http_call_has_none_of_it() -> None:
    for span in spans_of(call_record(operation="", billable=False), openinference=True):
        assert not openinference(attributes(span), "llm.", "openinference.")


@pytest.mark.parametrize(
    ("provider", "host", "system"), [("azure", "azure", "openai"), ("gemini", "google", "gemini"), ("vllm", "vllm", "vllm")]
)
def test_provider_has_its_name_there(provider: str, host: str, system: str) -> None:
    found = told(call_record(attempts=[attempt_record(provider=provider)]))
    assert (found["llm.provider"], found["llm.system"]) == (host, system)


def test_unknown_stays_absent() -> None:
    bare = attempt_record(usage=None, cost=None, response_model=None, model="", finish_reasons=None)
    found = told(call_record(attempts=[bare], facts=None, labels={}))
    assert openinference(found, "llm.", "session.", "user.id", "metadata", "tag.") == {"llm.provider": "openai", "llm.system": "openai"}
    assert "llm.token_count.total" not in told(call_record(attempts=[attempt_record(usage=Usage(input_tokens=1))]))
    assert list(openinference(told(call_record(attempts=[attempt_record(cost=Cost(7))])), "llm.cost")) == ["llm.cost.total"]


def test_content_on_spans_is_json_as_it_came() -> None:
    found = attributes(spans_of(full_call())[-1])
    assert json.loads(str(found["gen_ai.input.messages"])) == INPUT_MESSAGES
    assert json.loads(str(found["gen_ai.output.messages"])) == OUTPUT_MESSAGES
    assert {"gen_ai.system_instructions", "gen_ai.tool.definitions"} <= found.keys()
    assert not openinference(found, "llm.", "input.", "output.")


def test_reply_is_on_the_last_attempts_span_only() -> None:
    first = attributes(spans_of(full_call(), openinference=True)[1])
    assert "gen_ai.input.messages" in first
    assert not openinference(first, "gen_ai.output.messages", "output.", "llm.output_messages")


def test_content_is_not_clipped_a_second_time() -> None:
    text = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "x" * 8000}]}])
    found = attributes(spans_of(call_record(content=content(input_messages=text)))[1])
    assert found["gen_ai.input.messages"] == text


@pytest.mark.parametrize("captured", [None, content(to=["event", "ledger"])])
def test_content_that_is_not_for_spans_is_on_none(captured) -> None:
    for span in spans_of(call_record(content=captured), openinference=True):
        assert not openinference(
            attributes(span), "gen_ai.input.", "gen_ai.output.messages", "llm.input", "llm.output", "input.", "output."
        )


def test_messages_are_flattened() -> None:
    found = told(full_call())
    assert openinference(found, "llm.input_messages", "llm.output_messages", "input.mime", "output.mime") == {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "What is a postern?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "A small gate.",
        "input.mime_type": "application/json",
        "output.mime_type": "application/json",
    }
    assert (found["input.value"], found["output.value"]) == (found["gen_ai.input.messages"], found["gen_ai.output.messages"])


def test_tools_and_images_are_flattened() -> None:
    image = {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"}
    messages = [
        {"role": "user", "name": "ada", "parts": [{"type": "text", "content": "What is this?"}, image]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": {"deep": [1]}}]},
        {
            "role": "tool",
            "parts": [
                {"type": "tool_call_response", "id": "call_1", "response": "a gate"},
                {"type": "tool_call_response", "id": "call_2", "response": {"found": 0}},
            ],
        },
    ]
    found = openinference(told(with_messages(messages)), "llm.input_messages.")
    assert {name.removeprefix("llm.input_messages."): value for name, value in found.items()} == {
        "0.message.role": "user",
        "0.message.name": "ada",
        "0.message.contents.0.message_content.type": "text",
        "0.message.contents.0.message_content.text": "What is this?",
        "0.message.contents.1.message_content.type": "image",
        "0.message.contents.1.message_content.image.image.url": "https://example.com/a.png",
        "1.message.role": "assistant",
        "1.message.tool_calls.0.tool_call.id": "call_1",
        "1.message.tool_calls.0.tool_call.function.name": "look_up",
        "1.message.tool_calls.0.tool_call.function.arguments": '{"deep": [1]}',
        "2.message.role": "tool",
        "2.message.content": "a gate",
        "2.message.tool_call_id": "call_1",
        "3.message.role": "tool",
        "3.message.content": '{"found": 0}',
        "3.message.tool_call_id": "call_2",
    }


@pytest.mark.parametrize("count", [1, 30, 40, 1000])
def test_a_span_stays_small_and_says_so_when_old_messages_went(count: int) -> None:
    messages: list[object] = [{"role": "user", "parts": [{"type": "text", "content": f"message {n}"}]} for n in range(count)]
    found = told(with_messages(messages))
    kept = [value for name, value in found.items() if name.startswith("llm.input_messages.") and name.endswith(".content")]
    assert len(found) <= MAX_ATTRIBUTES
    assert kept == [f"message {n}" for n in range(count)][-len(kept) :]
    assert found.get("postern.content_truncated") is (True if len(kept) < count else None)
    assert found["llm.output_messages.0.message.content"] == "A small gate."
    assert len(json.loads(str(found["gen_ai.input.messages"]))) == count


def test_messages_that_stay_are_numbered_from_zero() -> None:
    messages: list[object] = [{"role": "user", "parts": [{"type": "text", "content": "x"}]} for _ in range(100)]
    names = [name for name in told(with_messages(messages)) if name.startswith("llm.input_messages.") and name.endswith(".role")]
    assert names == [f"llm.input_messages.{n}.message.role" for n in range(len(names))]


@pytest.mark.parametrize(
    "text", ["no json", "{}", '[{"parts":[]}]', "[" * 100_000, '[{"role":"user","parts":[{"type":"text","content":7}]}]']
)
def test_content_of_another_shape_is_told_as_json_only(text: str) -> None:
    found = told(call_record(content=content(input_messages=text, system_instructions=text)))
    assert found["gen_ai.input.messages"] == text
    assert not openinference(found, "llm.input_messages.")
