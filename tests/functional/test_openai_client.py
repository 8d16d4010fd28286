"""The newest `openai` client, unchanged, through the really running gate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.functional.gate import RunningGate, running_gate
from tests.functional.scripted_provider import Gate, ScriptedProvider, chunk, plain, sse
from tests.streams import CHAT_USAGE, STREAMS

HELLO: Any = [{"role": "user", "content": "Hello, who are you?"}]
FAST = {"x-sim": "lat=0,d=0"}
MODEL = "sim/gpt-4o-mini"
CLIENT_KEY = "sk-client-4711"
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
DISCONNECT_S = 0.1
TRIES = 5  # of what takes so long: a busy machine may stall now and then, a gate that waits for something always does


@pytest.fixture(scope="module")
def shared_gate(provider: ScriptedProvider) -> Iterator[RunningGate]:
    config = f"""
targets:
  sim: {{provider: simulated}}
  scripted: {{provider: openai, base_url: "{provider.url}/v1", credential: passthrough}}
routes:
  - {{name: simulated, match: {{model: "sim/*"}}, to: [sim]}}
  - {{name: named, match: {{model: "gpt-*"}}, to: [scripted]}}
  - {{name: pathless, match: {{method: [GET], path: "/v1/models*"}}, to: [sim]}}
  - {{name: files, match: {{path: ["/v1/files*", "/v1/audio/*", "/v1/responses/*", "/v1/moderations"]}}, to: [sim]}}
max_body_mib: 1
"""
    with running_gate(config) as running:
        yield running


@pytest.fixture
def client(gate: RunningGate) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gate.url}/v1", api_key=CLIENT_KEY, timeout=10, default_headers=FAST) as made:
        yield made


def test_chat_is_answered_and_its_cost_told_alike_in_header_and_ledger(client: openai.OpenAI, gate: RunningGate) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    answer = raw.parse()
    (row,) = gate.rows(1)
    assert answer.usage is not None
    assert (row["input_tokens"], row["output_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert float(raw.headers["x-postern-cost-usd"]) == row["cost_usd"] > 0
    assert raw.headers["x-postern-call-id"] == row["call_id"]
    assert raw.headers["x-postern-trace-id"] == row["trace_id"]
    assert raw.headers["x-postern-target"] == row["target"] == "sim"
    assert raw.headers["x-postern-route"] == row["route"] == "simulated"
    assert (row["outcome"], row["status"], row["usage_source"], row["stream"]) == ("succeeded", 200, "provider", False)


def test_stream_shows_no_sign_of_the_usage_that_postern_asked_for(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.chat.completions.create(model=MODEL, messages=HELLO, stream=True) as stream:
        chunks = list(stream)
    assert chunks
    assert all(chunk.choices for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    (row,) = gate.rows(1)
    assert row["usage_source"] == "provider"
    assert row["output_tokens"] > 0
    assert row["cost_usd"] > 0
    assert row["first_chunk_ms"] > 0


def test_stream_whose_client_asked_for_usage_gets_it(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    usage = chunks[-1].usage
    assert usage is not None
    assert chunks[-1].choices == []
    (row,) = gate.rows(1)
    assert (row["input_tokens"], row["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)


def test_streamed_tool_call_arrives_whole(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "get_weather in Berlin"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        stream=True,
    ) as stream:
        calls = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert calls[0].function is not None
    assert calls[0].function.name == "get_weather"
    assert "".join(call.function.arguments or "" for call in calls if call.function).startswith("{")
    assert gate.rows(1)[0]["outcome"] == "succeeded"


def test_choices_and_json_pass(client: openai.OpenAI, gate: RunningGate) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, n=2, response_format={"type": "json_object"})
    assert len(answer.choices) == 2
    assert gate.rows(1)[0]["outcome"] == "succeeded"


def test_response_is_billed_once_and_its_retrieval_never(client: openai.OpenAI, gate: RunningGate) -> None:
    created = client.responses.create(model=MODEL, input="Hello")
    assert created.usage is not None
    assert client.responses.retrieve(created.id).usage == created.usage
    with client.responses.create(model=MODEL, input="Hello", stream=True) as stream:
        last = list(stream)[-1]
    assert last.type == "response.completed"
    first, fetched, streamed = gate.rows(3)
    assert first["input_tokens"] == created.usage.input_tokens
    assert first["cost_usd"] > 0
    assert "cost_usd" not in fetched
    assert "input_tokens" not in fetched
    assert streamed["cost_usd"] > 0


def test_embeddings_models_and_moderations_pass(client: openai.OpenAI, gate: RunningGate) -> None:
    vectors = client.embeddings.create(model="sim/text-embedding-3-small", input=["a", "b"])
    assert len(vectors.data) == 2
    assert list(client.models.list())
    assert client.moderations.create(model="sim/omni-moderation-latest", input="hello").results
    embedded, models, _ = gate.rows(3)
    assert embedded["input_tokens"] == vectors.usage.prompt_tokens
    assert "cost_usd" not in models


def test_file_upload_and_download_pass(client: openai.OpenAI, gate: RunningGate) -> None:
    content = bytes(range(256)) * 1000
    stored = client.files.create(file=("numbers.bin", content), purpose="assistants")
    assert (stored.bytes, stored.filename) == (len(content), "numbers.bin")
    assert client.files.content(stored.id).read() == content
    assert [row["outcome"] for row in gate.rows(2)] == ["succeeded", "succeeded"]


def test_speech_download_and_transcription_pass(client: openai.OpenAI, gate: RunningGate) -> None:
    with client.audio.speech.with_streaming_response.create(model="sim/tts-1", voice="alloy", input="Hello") as speech:
        sound = b"".join(speech.iter_bytes())
    assert sound
    assert client.audio.transcriptions.create(model="sim/gpt-4o-transcribe", file=("a.mp3", sound)).text
    assert [row["outcome"] for row in gate.rows(2)] == ["succeeded", "succeeded"]


@pytest.mark.parametrize("chunks", [1, 2])
def test_client_that_leaves_frees_the_upstream_at_once_and_is_billed_for_what_came(
    client: openai.OpenAI, gate: RunningGate, provider: ScriptedProvider, chunks: int
) -> None:
    events = [event + b"\n\n" for event in STREAMS["openai chat"].asked.split(b"\n\n")[:-1]]
    provider.script([*sse(*events[: chunks + 1])[:-1], "stall"])
    took_s = []
    for _ in range(TRIES):
        stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        for _ in range(chunks):
            next(stream)
        stream.close()
        took_s.append(until_gone_s(provider, time.monotonic()))
    assert min(took_s) < DISCONNECT_S
    for row in gate.rows(TRIES):
        assert (row["outcome"], row["usage_source"]) == ("abandoned", "tokenizer")
        assert row["input_tokens"] > 0
        assert row["cost_usd"] > 0


def until_gone_s(provider: ScriptedProvider, left_at_s: float) -> float:
    """How long after the client left, at `left_at_s` of the monotonic clock, its provider was left."""
    assert provider.last.gone.wait(5)
    assert provider.last.gone_at_s is not None
    return provider.last.gone_at_s - left_at_s


def test_client_that_leaves_after_the_end_mark_has_all_of_it(client: openai.OpenAI, gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script([*sse(STREAMS["openai chat"].asked)[:-1], "stall"])
    with client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as stream:
        assert list(stream)
    (row,) = gate.rows(1)
    assert (row["outcome"], row["usage_source"], row["output_tokens"]) == ("succeeded", "provider", 7)


async def test_client_that_leaves_before_the_reply_frees_the_upstream_at_once(gate: RunningGate, provider: ScriptedProvider) -> None:
    provider.script(["stall"])
    took_s = []
    for number in range(1, TRIES + 1):
        async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=CLIENT_KEY, timeout=10, max_retries=0) as client:
            waiting = asyncio.create_task(client.chat.completions.create(model="gpt-4o", messages=HELLO))
            await asyncio.to_thread(gate.until, lambda number=number: len(provider.exchanges) == number, "asked")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            left_at_s = time.monotonic()
        took_s.append(await asyncio.to_thread(until_gone_s, provider, left_at_s))
    assert min(took_s) < DISCONNECT_S
    for row in gate.rows(TRIES):
        assert row["outcome"] == "abandoned"
        assert row["cost_usd"] > 0


def test_refusals_of_our_own_raise_the_clients_exceptions_and_are_not_retried(client: openai.OpenAI, gate: RunningGate) -> None:
    with pytest.raises(openai.NotFoundError, match="No route") as no_route:
        client.chat.completions.create(model="unheard-of", messages=HELLO)
    assert no_route.value.code == "no_route"
    with pytest.raises(openai.APIStatusError, match="max_body_mib") as too_large:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * (2 << 20)}])
    assert too_large.value.status_code == 413
    with pytest.raises(openai.BadRequestError, match="model"):
        client.chat.completions.create(model=42, messages=HELLO)  # type: ignore[call-overload]
    assert [row["status"] for row in gate.rows(3)] == [404, 413, 400]


def test_providers_rate_limit_passes_as_it_is(gate: RunningGate, provider: ScriptedProvider) -> None:
    body = b'{"error":{"message":"Slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}'
    provider.script([plain(body, b"429 Too Many Requests", b"Retry-After: 7", b"x-ratelimit-remaining-requests: 0")])
    with (
        openai.OpenAI(base_url=f"{gate.url}/v1", api_key=CLIENT_KEY, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert refused.value.response.headers["retry-after"] == "7"
    assert refused.value.response.content == body
    assert "x-should-retry" not in refused.value.response.headers
    (row,) = gate.rows(1)
    assert (row["outcome"], row["error"]) == ("throttled", "rate_limit_exceeded")
    assert "cost_usd" not in row


def test_stream_that_is_cut_raises_in_the_client(client: openai.OpenAI, gate: RunningGate, provider: ScriptedProvider) -> None:
    events = [event + b"\n\n" for event in STREAMS["openai chat"].asked.split(b"\n\n")[:3]]
    provider.script([*sse(*events)[:-1], "reset"])
    with pytest.raises(openai.APIError), client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as stream:
        list(stream)
    (row,) = gate.rows(1)
    assert (row["outcome"], row["usage_source"]) == ("interrupted", "tokenizer")


def test_usage_of_a_stream_is_read_however_the_provider_pauses(
    client: openai.OpenAI, gate: RunningGate, provider: ScriptedProvider
) -> None:
    asked = STREAMS["openai chat"].asked
    pause = Gate()
    provider.script([sse()[0], chunk(asked[:100]), pause, chunk(asked[100:]), b"0\r\n\r\n"])
    with client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as stream:
        pause.open()
        chunks = list(stream)
    assert chunks
    assert all(chunk.choices for chunk in chunks)
    assert b'"include_usage":true' in provider.last.body
    (row,) = gate.rows(1)
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"]) == (20, 7, 16)
    assert CHAT_USAGE.startswith('{"prompt_tokens":20,"completion_tokens":7')


async def test_async_client_streams_too(gate: RunningGate) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=CLIENT_KEY, timeout=10, default_headers=FAST) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert "simulated" in text
    assert gate.rows(1)[0]["outcome"] == "succeeded"
