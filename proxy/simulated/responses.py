"""The Responses API, simulated: request fields, response object, events, usage. Source: wire.md C3, C4.

Here: the dialect, pure; the same events serve SSE and WebSocket. Not here: what the answer says, pace, storage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.simulated.composing import Answer, Finish, ToolCall, Wish
from proxy.simulated.counting import Counts, count_attachments, json_text, prompt_tokens, reasoning_tokens, text_of
from proxy.simulated.events import Event, Stage, new_id, obfuscation_for
from proxy.simulated.mistakes import STREAM_ERROR, JsonObject
from proxy.simulated.schema_example import JsonSchema
from proxy.simulated.tools import read_tool_choice, read_tools


class Reasoning(msgspec.Struct, frozen=True):
    """How hard to think."""

    effort: str | None = None


class ResponsesStreamOptions(msgspec.Struct, frozen=True):
    """What a stream is to carry beside content."""

    include_obfuscation: bool | None = None


class ResponsesRequest(msgspec.Struct, frozen=True):
    """The fields of POST /v1/responses that change the reply."""

    model: str
    input: str | list[JsonObject] = ""
    instructions: str | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    tools: list[JsonObject] | None = None
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    text: JsonObject | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    reasoning: Reasoning | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None


class ResponsesReply(msgspec.Struct, frozen=True):
    """One response, whole or streamed, now or from the store."""

    id: str
    item_ids: tuple[str, ...]
    model: str
    created_s: int
    answer: Answer
    counts: Counts
    body: ResponsesRequest


def responses_wish(body: ResponsesRequest, model: str, earlier_tokens: int = 0) -> Wish:
    """What a Responses request asks for; `earlier_tokens` are those of the response it goes on from."""
    prompt = text_of([body.instructions, body.input, json_text(body.tools), json_text(body.text)])
    turns = 1 if isinstance(body.input, str) else len(body.input)
    choice, named = read_tool_choice(body.tool_choice)
    return Wish(
        model=model,
        prompt=prompt,
        prompt_tokens=earlier_tokens + prompt_tokens(prompt, turns, count_attachments(body.input)),
        user_text=_last_user_text(body.input),
        tools=read_tools(body.tools),
        tool_choice=choice,
        tool_named=named,
        parallel_tools=body.parallel_tool_calls is not False,
        output_schema=_output_schema(body.text),
        max_tokens=body.max_output_tokens,
        reasoning_tokens=reasoning_tokens(body.reasoning.effort if body.reasoning else None),
    )


def responses_reply(body: ResponsesRequest, model: str, answer: Answer, counts: Counts, now_s: int) -> ResponsesReply:
    """The reply to a request, with its own ids. It may be stored for long, so it lets go of the input."""
    item_ids = tuple(new_id("fc_") for _ in answer.tool_calls) or (new_id("msg_"),)
    echoed = msgspec.structs.replace(body, input="")
    return ResponsesReply(new_id("resp_"), item_ids, model, now_s, answer, counts, echoed)


def responses_body(reply: ResponsesReply) -> JsonObject:
    """The finished `response` object."""
    cut = reply.answer.finish is Finish.LENGTH
    return _response(reply, "incomplete" if cut else "completed") | {
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [_item(reply, number, "completed") for number in range(len(reply.item_ids))],
        "usage": responses_usage(reply.counts),
    }


def queued_body(reply: ResponsesReply) -> JsonObject:
    """The `response` object of a background request that has just been taken: no usage yet."""
    return _response(reply, "queued")


def responses_events(reply: ResponsesReply) -> Iterator[Event]:
    """The events from `response.created` to the terminal one, numbered."""
    for number, (stage, kind, fields) in enumerate(_steps(reply)):
        payload: JsonObject = {"type": kind, "sequence_number": number, **fields}
        yield Event(stage, payload, name=kind)


def responses_error_event(sent: int) -> Event:
    """An error in the middle of a stream."""
    payload: JsonObject = {
        "type": "error",
        "code": STREAM_ERROR.code or STREAM_ERROR.type,
        "message": STREAM_ERROR.message,
        "param": None,
        "sequence_number": sent,
    }
    return Event(Stage.CLOSING, payload, name="error")


def responses_usage(counts: Counts) -> JsonObject:
    """The `usage` object of a response."""
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.total,
    }


Step = tuple[Stage, str, JsonObject]


def _steps(reply: ResponsesReply) -> Iterator[Step]:
    started = _response(reply, "in_progress")
    yield Stage.FRAMING, "response.created", {"response": started}
    yield Stage.FRAMING, "response.in_progress", {"response": started}
    calls = reply.answer.tool_calls
    for number, item_id in enumerate(reply.item_ids):
        place: JsonObject = {"item_id": item_id, "output_index": number}
        yield Stage.FRAMING, "response.output_item.added", {"output_index": number, "item": _item(reply, number, "in_progress")}
        yield from _call_steps(reply, place, calls[number]) if calls else _text_steps(reply, place)
        yield Stage.FRAMING, "response.output_item.done", {"output_index": number, "item": _item(reply, number, "completed")}
    body = responses_body(reply)
    yield Stage.CLOSING, f"response.{body['status']}", {"response": body}


def _text_steps(reply: ResponsesReply, place: JsonObject) -> Iterator[Step]:
    spot = place | {"content_index": 0}
    yield Stage.FRAMING, "response.content_part.added", spot | {"part": _text_part("")}
    for piece in reply.answer.pieces:
        yield Stage.CONTENT, "response.output_text.delta", spot | {"delta": piece, "logprobs": []} | _padding(reply, piece)
    yield Stage.FRAMING, "response.output_text.done", spot | {"text": reply.answer.text, "logprobs": []}
    yield Stage.FRAMING, "response.content_part.done", spot | {"part": _text_part(reply.answer.text)}


def _call_steps(reply: ResponsesReply, place: JsonObject, call: ToolCall) -> Iterator[Step]:
    for piece in call.pieces:
        yield Stage.CONTENT, "response.function_call_arguments.delta", place | {"delta": piece} | _padding(reply, piece)
    yield Stage.FRAMING, "response.function_call_arguments.done", place | {"name": call.name, "arguments": call.arguments}


def _padding(reply: ResponsesReply, delta: str) -> JsonObject:
    options = reply.body.stream_options
    return {} if options is not None and options.include_obfuscation is False else {"obfuscation": obfuscation_for(delta)}


def _response(reply: ResponsesReply, status: str) -> JsonObject:
    body = reply.body
    return {
        "id": reply.id,
        "object": "response",
        "created_at": reply.created_s,
        "status": status,
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": reply.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": 1.0,
        "text": body.text or {"format": {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def _item(reply: ResponsesReply, number: int, status: str) -> JsonObject:
    """An output item; while it is in progress it is empty."""
    item_id, whole = reply.item_ids[number], status == "completed"
    if reply.answer.tool_calls:
        call = reply.answer.tool_calls[number]
        arguments = call.arguments if whole else ""
        call_id = "call_" + item_id.removeprefix("fc_")
        return {"id": item_id, "type": "function_call", "status": status, "call_id": call_id, "name": call.name, "arguments": arguments}
    content = [_text_part(reply.answer.text)] if whole else []
    if whole and reply.answer.finish is Finish.LENGTH:
        status = "incomplete"
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def _text_part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _last_user_text(given: str | list[JsonObject]) -> str | None:
    if isinstance(given, str):
        return given
    last = given[-1] if given else {}
    return text_of(last.get("content")) if last.get("role") == "user" else None


def _output_schema(text: JsonObject | None) -> JsonSchema | None:
    wanted = (text or {}).get("format")
    if not isinstance(wanted, dict) or wanted.get("type") not in ("json_object", "json_schema"):
        return None
    schema = wanted.get("schema")
    return schema if isinstance(schema, dict) else {}
