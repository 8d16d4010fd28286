"""The simulated provider, really running, asked by the real clients."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import anthropic
import msgspec
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response

from proxy.simulated.counting import count_tokens
from tests.functional.simulated.asking import HELLO, raw_stream

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer", "minimum": 2}},
        },
    },
}


class Point(msgspec.Struct, forbid_unknown_fields=True):
    x: float


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    tags: list[str]
    mood: str
    nested: Point


async def chat_chunks(client: openai.AsyncOpenAI, model: str = "sim/gpt-4o-mini", **more: Any) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(**({"model": model, "messages": HELLO, "stream": True} | more))
    return [chunk async for chunk in stream]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# ------------------------------------------------------------------------------------------------------------- chat


async def test_chat_answers_the_same_request_with_the_same_text_and_another_id(client: openai.AsyncOpenAI) -> None:
    first, second = [await client.chat.completions.create(model="sim/gpt-4o-mini", messages=HELLO) for _ in range(2)]
    assert "simulated" in (first.choices[0].message.content or "")
    assert first.choices[0].message == second.choices[0].message
    assert first.id != second.id
    assert first.choices[0].finish_reason == "stop"


async def test_other_content_gets_another_text(client: openai.AsyncOpenAI) -> None:
    other: Any = [{"role": "user", "content": "Something else."}]
    first = await client.chat.completions.create(model="sim/m", messages=HELLO)
    second = await client.chat.completions.create(model="sim/m", messages=other)
    assert first.choices[0].message.content != second.choices[0].message.content


@pytest.mark.parametrize("requested", ["gpt-4o-mini", "sim/gpt-4o-mini", "sim/gpt-4o-mini@n=2,d=0", "gpt-4o-mini@n=2"])
async def test_reply_names_the_model_without_prefix_and_directives(client: openai.AsyncOpenAI, requested: str) -> None:
    assert (await client.chat.completions.create(model=requested, messages=HELLO)).model == "gpt-4o-mini"


async def test_at_sign_without_directives_belongs_to_the_model_name(client: openai.AsyncOpenAI) -> None:
    assert (await client.chat.completions.create(model="sim/claude-3@20240229", messages=HELLO)).model == "claude-3@20240229"


async def test_usage_counts_what_was_really_sent(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="sim/m", messages=HELLO)
    longer: Any = [{"role": "user", "content": "Hello, who are you? One two three."}]
    more = await client.chat.completions.create(model="sim/m", messages=longer)
    assert reply.usage is not None
    assert more.usage is not None
    assert reply.usage.completion_tokens == count_tokens(reply.choices[0].message.content or "")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert more.usage.prompt_tokens == reply.usage.prompt_tokens + count_tokens("One two three.")


async def test_reasoning_tokens_are_a_part_of_completion_tokens(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="sim/o3", messages=HELLO, reasoning_effort="high")
    assert reply.usage is not None
    assert reply.usage.completion_tokens_details is not None
    reasoning = reply.usage.completion_tokens_details.reasoning_tokens
    assert reasoning
    assert reply.usage.completion_tokens == reasoning + count_tokens(reply.choices[0].message.content or "")


async def test_beginning_of_a_long_prompt_is_cached_the_second_time(client: openai.AsyncOpenAI) -> None:
    def prompt(end: str) -> Any:
        return [{"role": "user", "content": "word " * 1200 + end}]

    cached = []
    for end in ("first", "second"):
        reply = await client.chat.completions.create(model="sim/m", messages=prompt(end))
        assert reply.usage is not None
        assert reply.usage.prompt_tokens_details is not None
        cached.append(reply.usage.prompt_tokens_details.cached_tokens)
    assert cached == [0, 1152]  # 1024, and one step of 128


async def test_max_tokens_cuts_the_reply_and_says_length(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="sim/m", messages=HELLO, max_completion_tokens=5)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == count_tokens(reply.choices[0].message.content or "") == 5
    assert reply.choices[0].finish_reason == "length"


async def test_max_tokens_that_suffice_do_not_say_length(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="sim/m", messages=HELLO)
    assert whole.usage is not None
    exact = await client.chat.completions.create(model="sim/m", messages=HELLO, max_completion_tokens=whole.usage.completion_tokens)
    assert exact.choices == whole.choices


async def test_n_choices_are_given_and_counted(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="sim/m", messages=HELLO, n=3)
    texts = [choice.message.content or "" for choice in reply.choices]
    assert len(set(texts)) == 3
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(map(count_tokens, texts))
    chunks = await chat_chunks(client, model="sim/m", n=3)
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1, 2}


async def test_size_gives_so_many_bytes(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="sim/m@size=5000", messages=HELLO)
    assert len((reply.choices[0].message.content or "").encode()) == 5000


async def test_structured_output_fits_its_schema(client: openai.AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "mood": {"enum": ["good", "bad"]},
            "nested": {"$ref": "#/$defs/point"},
        },
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}}},
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
    reply = await client.chat.completions.create(model="sim/m", messages=HELLO, response_format=form)
    assert msgspec.json.decode(reply.choices[0].message.content or "", type=Thing).mood == "good"
    plain = await client.chat.completions.create(model="sim/m", messages=HELLO, response_format={"type": "json_object"})
    assert isinstance(msgspec.json.decode(plain.choices[0].message.content or ""), dict)


# ---------------------------------------------------------------------------------------------------------- streams


async def test_stream_without_include_usage_carries_no_usage_key(http: aiohttp.ClientSession) -> None:
    wire = await raw_stream(http)
    assert b"usage" not in wire
    assert wire.endswith(b"data: [DONE]\n\n")


async def test_include_usage_adds_null_to_every_chunk_and_one_last_chunk_without_choices(
    http: aiohttp.ClientSession, client: openai.AsyncOpenAI
) -> None:
    wire = await raw_stream(http, stream_options={"include_usage": True})
    frames = [frame.removeprefix(b"data: ") for frame in wire.split(b"\n\n")[:-1]]
    assert frames[-1] == b"[DONE]"
    chunks = [msgspec.json.decode(frame) for frame in frames[:-1]]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 5  # role, three pieces, finish reason
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3


async def test_stream_says_the_same_as_the_whole_reply(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="sim/m", messages=HELLO)
    chunks = await chat_chunks(client, model="sim/m", stream_options={"include_usage": True})
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


@pytest.mark.parametrize("count", [1, 7, 100])
async def test_n_directive_gives_so_many_content_chunks(client: openai.AsyncOpenAI, count: int) -> None:
    chunks = await chat_chunks(client, model=f"sim/m@n={count}")
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == count


async def test_stream_options_without_stream_are_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="sim/m", messages=HELLO, extra_body={"stream_options": {"include_usage": True}})
    assert caught.value.param == "stream_options"


async def test_latency_is_what_was_asked_for(http: aiohttp.ClientSession) -> None:
    begin = time.monotonic()
    await raw_stream(http, "lat=40,d=20,n=3")
    assert time.monotonic() - begin >= 0.08
    begin = time.monotonic()
    await raw_stream(http, "lat=40,d=20,n=3", stream=False)
    assert time.monotonic() - begin >= 0.08


async def test_burst_sends_the_same_bytes_without_pace(http: aiohttp.ClientSession) -> None:
    begin = time.monotonic()
    wire = await raw_stream(http, "burst=1,d=5000,n=4")
    assert time.monotonic() - begin < 4
    assert wire.count(b'"content":') == 5


# ------------------------------------------------------------------------------------------------------------ tools


async def test_mentioned_tool_is_called_with_fitting_arguments(client: openai.AsyncOpenAI) -> None:
    asked: Any = [{"role": "user", "content": "Please use get_weather."}]
    reply = await client.chat.completions.create(model="sim/m", messages=asked, tools=[WEATHER])
    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert reply.choices[0].finish_reason == "tool_calls"
    assert msgspec.json.decode(calls[0].function.arguments) == {"city": "simulated", "unit": "C", "days": 2}


async def test_streamed_tool_call_has_the_same_arguments_in_deltas(client: openai.AsyncOpenAI) -> None:
    forced: Any = {"type": "function", "function": {"name": "get_weather"}}
    whole = await client.chat.completions.create(model="sim/m", messages=HELLO, tools=[WEATHER], tool_choice=forced)
    chunks = await chat_chunks(client, model="sim/m", tools=[WEATHER], tool_choice=forced)
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    arguments = [delta.function.arguments or "" for delta in deltas if delta.function]
    expected = (whole.choices[0].message.tool_calls or [])[0]
    assert expected.type == "function"
    assert deltas[0].id
    assert deltas[0].function
    assert deltas[0].function.name == "get_weather"
    assert len(arguments) > 2
    assert "".join(arguments) == expected.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_no_tool_is_called_unless_mentioned_or_when_forbidden_or_after_its_result(client: openai.AsyncOpenAI) -> None:
    asked: Any = [{"role": "user", "content": "Please use get_weather."}]
    call: Any = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    result: Any = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun for get_weather"},
    ]
    replies = [
        await client.chat.completions.create(model="sim/m", messages=HELLO, tools=[WEATHER]),
        await client.chat.completions.create(model="sim/m", messages=asked, tools=[WEATHER], tool_choice="none"),
        await client.chat.completions.create(model="sim/m", messages=asked + result, tools=[WEATHER]),
    ]
    assert [reply.choices[0].message.tool_calls for reply in replies] == [None] * 3


# -------------------------------------------------------------------------------------------------------- Responses


async def test_responses_stream_ends_with_completed_and_usage_and_no_done_frame(
    client: openai.AsyncOpenAI, http: aiohttp.ClientSession
) -> None:
    stream = await client.responses.create(model="sim/gpt-4o", input="Hello", stream=True)
    events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == count_tokens(last.response.output_text)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == last.response.output_text
    wire = await raw_stream(http, path="v1/responses", input="Hello")
    assert wire.startswith(b"event: response.created\ndata: {")
    assert b"[DONE]" not in wire


async def test_responses_objects_are_of_the_clients_own_shape(http: aiohttp.ClientSession) -> None:
    async with http.post("v1/responses", json={"model": "sim/gpt-4o", "input": "Hello"}) as reply:
        body = await reply.json()
    assert Response.model_validate(body).output_text


async def test_stored_response_is_replayed_with_the_same_usage(client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(model="sim/gpt-4o", input="Hello")
    again = await client.responses.retrieve(made.id)
    assert again == made
    replay = await client.responses.retrieve(made.id, stream=True, starting_after=3)
    events = [event async for event in replay]
    assert events[0].sequence_number == 4
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage == made.usage


async def test_response_not_stored_is_not_found(client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(model="sim/gpt-4o", input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_background_response_has_usage_only_when_fetched(client: openai.AsyncOpenAI) -> None:
    queued = await client.responses.create(model="sim/gpt-4o", input="Hello", background=True)
    assert (queued.status, queued.usage) == ("queued", None)
    done = await client.responses.retrieve(queued.id)
    assert done.status == "completed"
    assert done.usage is not None


async def test_previous_response_counts_as_input(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="sim/gpt-4o", input="Hello")
    second = await client.responses.create(model="sim/gpt-4o", input="Hello", previous_response_id=first.id)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens == first.usage.input_tokens + first.usage.total_tokens


async def test_responses_tool_call_and_cut_reply(client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", **WEATHER["function"]}
    reply = await client.responses.create(model="sim/gpt-4o", input="use get_weather", tools=[tool])
    assert reply.output[0].type == "function_call"
    assert reply.output[0].name == "get_weather"
    cut = await client.responses.create(model="sim/gpt-4o", input="Hello", max_output_tokens=3)
    assert cut.status == "incomplete"
    assert cut.incomplete_details
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert cut.usage is not None
    assert cut.usage.output_tokens == 3


# -------------------------------------------------------------------------------------------------- other endpoints


async def test_legacy_completion_stops_at_its_default_of_16_tokens(client: openai.AsyncOpenAI) -> None:
    reply = await client.completions.create(model="sim/m", prompt="Once upon a time")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 16
    assert reply.choices[0].finish_reason == "length"
    stream = await client.completions.create(model="sim/m", prompt="Once upon a time", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == reply.choices[0].text


async def test_embeddings_are_the_same_numbers_in_both_encodings(client: openai.AsyncOpenAI, http: aiohttp.ClientSession) -> None:
    by_base64 = await client.embeddings.create(model="sim/text-embedding-3-small", input=["a gate", "b"], dimensions=16)
    async with http.post("v1/embeddings", json={"model": "m", "input": ["a gate", "b"], "dimensions": 16}) as reply:
        by_float = await reply.json()
    assert by_float["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert by_base64.usage.prompt_tokens == 3
    for encoded, plain in zip(by_base64.data, by_float["data"], strict=True):
        assert list(encoded.embedding) == pytest.approx(plain["embedding"], abs=1e-6)
        assert sum(value * value for value in plain["embedding"]) == pytest.approx(1)


async def test_texts_with_words_in_common_have_close_embeddings(client: openai.AsyncOpenAI) -> None:
    texts = ["the small gate is open", "the small gate is shut", "invoices arrive on monday"]
    vectors = [entry.embedding for entry in (await client.embeddings.create(model="sim/e", input=texts)).data]

    def closeness(left: list[float], right: list[float]) -> float:
        return sum(a * b for a, b in zip(left, right, strict=True))

    assert closeness(vectors[0], vectors[1]) > 0.5 > closeness(vectors[0], vectors[2])


async def test_models_are_listed_and_every_name_is_one(client: openai.AsyncOpenAI) -> None:
    assert "gpt-4o-mini" in [model.id for model in (await client.models.list()).data]
    assert (await client.models.retrieve("sim/anything")).id == "anything"


async def test_uploaded_file_comes_back(client: openai.AsyncOpenAI) -> None:
    made = await client.files.create(file=("notes.txt", b"some bytes\x00\xff"), purpose="assistants")
    assert (made.filename, made.bytes, made.purpose) == ("notes.txt", 12, "assistants")
    assert (await client.files.content(made.id)).content == b"some bytes\x00\xff"


async def test_speech_is_binary_in_the_asked_size(client: openai.AsyncOpenAI) -> None:
    reply = await client.audio.speech.create(model="sim/gpt-4o-mini-tts@size=3000,n=4", input="Hello", voice="alloy")
    assert reply.response.headers["content-type"] == "audio/mpeg"
    assert len(reply.content) == 3000


async def test_transcription_counts_audio_tokens_and_whisper_seconds(client: openai.AsyncOpenAI) -> None:
    upload = ("a.mp3", bytes(32_000))
    reply = await client.audio.transcriptions.create(model="sim/gpt-4o-transcribe", file=upload)
    assert reply.usage is not None
    assert reply.usage.type == "tokens"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (20, count_tokens(reply.text))
    timed = await client.audio.transcriptions.create(model="sim/whisper-1", file=upload)
    assert timed.usage is not None
    assert timed.usage.type == "duration"
    assert timed.usage.seconds == 2


async def test_moderation_flags_a_text_that_names_a_category(client: openai.AsyncOpenAI) -> None:
    reply = await client.moderations.create(model="sim/omni-moderation-latest", input=["a nice day", "graphic violence"])
    assert [result.flagged for result in reply.results] == [False, True]
    assert reply.results[1].categories.violence_graphic


async def test_unknown_path_is_404_in_the_openai_envelope(http: aiohttp.ClientSession) -> None:
    async with http.post("v1/nothing/here", json={}) as reply:
        assert reply.status == 404
        assert (await reply.json())["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{not json", None),
        (b"{}", "model"),
        (b'{"model": "m", "messages": [{"role": "user", "content": [' + b'{"x":' * 5000, None),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": 5, "messages": []}', "model"),
        (b'{"model": "m", "messages": [{"content": "x"}]}', "messages[0].role"),
    ],
)
async def test_bad_body_is_400_and_names_the_parameter(http: aiohttp.ClientSession, body: bytes, param: str | None) -> None:
    async with http.post("v1/chat/completions", data=body) as reply:
        error = (await reply.json())["error"]
    assert (reply.status, error["type"], error["param"]) == (400, "invalid_request_error", param)


# -------------------------------------------------------------------------------------------------------- Anthropic


async def test_anthropic_client_reads_message_and_stream_alike(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(model="sim/claude", max_tokens=100, messages=HELLO, system="Be kind.")
    assert message.content[0].type == "text"
    assert message.stop_reason == "end_turn"
    async with claude.messages.stream(model="sim/claude", max_tokens=100, messages=HELLO, system="Be kind.") as stream:
        streamed = await stream.get_final_message()
    assert streamed.content[0].type == "text"
    assert streamed.content[0].text == message.content[0].text
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (message.usage.input_tokens, message.usage.output_tokens)


async def test_anthropic_tool_use_is_streamed_as_json(claude: anthropic.AsyncAnthropic) -> None:
    tool: Any = {"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}
    async with claude.messages.stream(
        model="sim/claude", max_tokens=100, messages=HELLO, tools=[tool], tool_choice={"type": "any"}
    ) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason == "tool_use"
    assert message.content[0].type == "tool_use"
    assert message.content[0].input == {"city": "simulated", "unit": "C", "days": 2}


async def test_anthropic_input_excludes_cached_tokens(claude: anthropic.AsyncAnthropic) -> None:
    long: Any = [{"role": "user", "content": "word " * 1100}]
    first, second = [(await claude.messages.create(model="sim/c", max_tokens=5, messages=long)).usage for _ in range(2)]
    assert second.cache_read_input_tokens == 1024
    assert second.input_tokens == first.input_tokens - 1024


async def test_anthropic_errors_have_its_envelope(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.RateLimitError) as limited:
        await claude.messages.create(model="sim/c@status=429,retry_after=3", max_tokens=5, messages=HELLO)
    assert limited.value.response.headers["retry-after"] == "3"
    assert isinstance(limited.value.body, dict)
    assert limited.value.body["error"]["type"] == "rate_limit_error"
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        await claude.messages.create(model="sim/c@status=529", max_tokens=5, messages=HELLO)
    assert isinstance(overloaded.value.body, dict)
    assert overloaded.value.body["error"]["type"] == "overloaded_error"


# ------------------------------------------------------------------------------------------------------- WebSockets


async def events_until(socket: aiohttp.ClientWebSocketResponse, last: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != last:
        events.append(await socket.receive_json())
    return events


async def test_realtime_response_ends_with_done_and_usage(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("v1/realtime?model=sim/gpt-realtime@n=4", protocols=["realtime"]) as ws:
        assert (await ws.receive_json())["session"]["model"] == "gpt-realtime"
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
        await ws.send_json({"type": "conversation.item.create", "item": item})
        await ws.send_json({"type": "response.create"})
        events = await events_until(ws, "response.done")
    response = events[-1]["response"]
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == text
    assert response["usage"]["output_tokens"] == count_tokens(text) == 6  # four words: This is a simu|late|d
    assert len({event["event_id"] for event in events}) == len(events)


async def test_realtime_tells_the_client_about_its_mistakes_and_goes_on(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("v1/realtime?model=sim/gpt-realtime") as ws:
        await ws.receive_json()
        for wrong in ("{", '{"type":"nonsense"}'):
            await ws.send_str(wrong)
            assert (await ws.receive_json())["type"] == "error"
        await ws.send_json({"type": "session.update", "session": {"instructions": "Be brief."}})
        assert (await ws.receive_json())["session"]["instructions"] == "Be brief."


async def test_responses_over_websocket_sends_the_events_of_the_stream(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("v1/responses") as ws:
        for _ in range(2):
            await ws.send_json({"type": "response.create", "model": "sim/gpt-4o@n=3", "input": "Hello"})
            events = await events_until(ws, "response.completed")
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            assert events[-1]["response"]["usage"]["output_tokens"] == 3
        await ws.send_json({"type": "response.create", "model": "sim/gpt-4o@status=429", "input": "Hello"})
        refused = await ws.receive_json()
    assert (refused["type"], refused["status"], refused["error"]["code"]) == ("error", 429, "rate_limit_exceeded")


async def test_cut_websocket_closes_without_a_close_frame(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("v1/realtime?model=sim/gpt-realtime@fault=cut,after=2") as ws:
        await ws.receive_json()
        await ws.send_json({"type": "response.create"})
        deltas = 0
        while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
            deltas += '"response.output_text.delta"' in message.data
    assert deltas == 2
    assert ws.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
