"""Chat Completions, simulated: request fields, body, chunks, usage. Source: wire.md C2, C4.

Here: the dialect, pure. Not here: what the answer says (composing.py), pace and faults (exchange.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.simulated.composing import Answer, Finish, ToolCall, Wish
from proxy.simulated.counting import Counts, count_attachments, json_text, prompt_tokens, reasoning_tokens, text_of
from proxy.simulated.events import DONE, Event, Stage, new_id, obfuscation_for
from proxy.simulated.mistakes import STREAM_ERROR, JsonObject, Mistake, openai_error
from proxy.simulated.schema_example import JsonSchema
from proxy.simulated.tools import read_tool_choice, read_tools

FINGERPRINT = "fp_simulated"

ChoiceCount = Annotated[int, Meta(ge=1, le=128)]
TokenLimit = Annotated[int, Meta(ge=1)]


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream is to carry beside content."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Message(msgspec.Struct, frozen=True):
    """One turn of the conversation."""

    role: str
    content: str | list[JsonObject] | None = None
    name: str | None = None
    tool_calls: list[JsonObject] | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """The fields of POST /v1/chat/completions that change the reply."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[JsonObject] | None = None
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    response_format: JsonObject | None = None
    n: ChoiceCount | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    reasoning_effort: str | None = None
    seed: int | None = None


class ChatReply(msgspec.Struct, frozen=True):
    """One reply, whole or streamed."""

    id: str
    model: str
    created_s: int
    answers: tuple[Answer, ...]
    counts: Counts
    options: StreamOptions


def chat_wish(body: ChatRequest, model: str) -> Wish:
    """What a chat request asks for. Raises Mistake."""
    refuse_lone_stream_options(body.stream, body.stream_options)
    said = [[message.role, message.name, message.content, message.tool_calls] for message in body.messages]
    prompt = text_of([said, json_text(body.tools), json_text(body.response_format)])
    last = body.messages[-1]
    choice, named = read_tool_choice(body.tool_choice)
    return Wish(
        model=model,
        prompt=prompt,
        prompt_tokens=prompt_tokens(prompt, len(body.messages), count_attachments(said)),
        user_text=text_of(last.content) if last.role == "user" else None,
        tools=read_tools(body.tools),
        tool_choice=choice,
        tool_named=named,
        parallel_tools=body.parallel_tool_calls is not False,
        output_schema=_output_schema(body.response_format),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        reasoning_tokens=reasoning_tokens(body.reasoning_effort),
        choices=body.n or 1,
        seed=body.seed,
    )


def refuse_lone_stream_options(stream: bool | None, options: StreamOptions | None) -> None:
    """OpenAI takes stream_options only with a stream. Raises Mistake."""
    if options is not None and not stream:
        raise Mistake("The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options")


def chat_body(reply: ChatReply) -> JsonObject:
    """The `chat.completion` object."""
    choices = [_choice(answer, index) for index, answer in enumerate(reply.answers)]
    return _head(reply, "chat.completion") | {"choices": choices, "usage": chat_usage(reply.counts)}


def chat_events(reply: ChatReply) -> Iterator[Event]:
    """The chunks: roles, content, finish reasons, usage if it was asked for, [DONE]."""
    opening: JsonObject = {"role": "assistant", "content": "", "refusal": None}
    for index in range(len(reply.answers)):
        yield _chunk(reply, Stage.FRAMING, index, opening)
    for index, answer in enumerate(reply.answers):
        for piece in answer.pieces:
            yield _chunk(reply, Stage.CONTENT, index, {"content": piece}, hidden=piece)
        for number, call in enumerate(answer.tool_calls):
            yield from _tool_chunks(reply, index, number, call)
    for index, answer in enumerate(reply.answers):
        yield _chunk(reply, Stage.CLOSING, index, {}, finish=answer.finish)
    if reply.options.include_usage:
        payload = _head(reply, "chat.completion.chunk") | {"choices": [], "usage": chat_usage(reply.counts)}
        yield Event(Stage.CLOSING, payload)
    yield DONE


def chat_error_event(sent: int) -> Event:
    """An error in the middle of a stream."""
    return Event(Stage.CLOSING, openai_error(STREAM_ERROR))


def chat_usage(counts: Counts) -> JsonObject:
    """The `usage` object of chat and legacy completions."""
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.output,
        "total_tokens": counts.total,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _output_schema(response_format: JsonObject | None) -> JsonSchema | None:
    kind = (response_format or {}).get("type")
    if response_format is None or kind not in ("json_object", "json_schema"):
        return None
    wrapper = response_format.get("json_schema")
    schema = wrapper.get("schema") if isinstance(wrapper, dict) else None
    return schema if isinstance(schema, dict) else {}


def _head(reply: ChatReply, kind: str) -> JsonObject:
    return {
        "id": reply.id,
        "object": kind,
        "created": reply.created_s,
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def _choice(answer: Answer, index: int) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": answer.text or None, "refusal": None, "annotations": []}
    if answer.tool_calls:
        message["tool_calls"] = [_tool_call(call.name, call.arguments) for call in answer.tool_calls]
    elif not answer.pieces:
        message["content"] = ""
    return {"index": index, "message": message, "logprobs": None, "finish_reason": answer.finish}


def _tool_call(name: str, arguments: str) -> JsonObject:
    return {"id": new_id("call_"), "type": "function", "function": {"name": name, "arguments": arguments}}


def _tool_chunks(reply: ChatReply, index: int, number: int, call: ToolCall) -> Iterator[Event]:
    yield _chunk(reply, Stage.FRAMING, index, {"tool_calls": [{"index": number, **_tool_call(call.name, "")}]})
    for piece in call.pieces:
        delta: JsonObject = {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}
        yield _chunk(reply, Stage.CONTENT, index, delta, hidden=piece)


def _chunk(
    reply: ChatReply, stage: Stage, index: int, delta: JsonObject, *, finish: Finish | None = None, hidden: str | None = None
) -> Event:
    choice: JsonObject = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    payload = _head(reply, "chat.completion.chunk") | {"choices": [choice]}
    if reply.options.include_usage:
        payload["usage"] = None
    if hidden is not None and reply.options.include_obfuscation is not False:
        payload["obfuscation"] = obfuscation_for(hidden)
    return Event(stage, payload)
