"""Anthropic's Messages API, simulated: request fields, message object, events, usage. Source: wire.md C7.

Here: the dialect, pure. Its input count excludes cached tokens. Not here: what the answer says, pace and faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.simulated.composing import Answer, Finish, ToolCall, Wish
from proxy.simulated.counting import REASONING_TOKENS, Counts, count_attachments, json_text, prompt_tokens, text_of
from proxy.simulated.events import Event, Stage, new_id
from proxy.simulated.mistakes import STREAM_ERROR, JsonObject
from proxy.simulated.tools import read_tool_choice, read_tools

STOP_REASONS = {Finish.STOP: "end_turn", Finish.LENGTH: "max_tokens", Finish.TOOL_CALLS: "tool_use"}


class MessagesTurn(msgspec.Struct, frozen=True):
    """One turn of the conversation."""

    role: str
    content: str | list[JsonObject]


class MessagesRequest(msgspec.Struct, frozen=True):
    """The fields of POST /v1/messages that change the reply."""

    model: str
    messages: Annotated[list[MessagesTurn], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)]
    system: str | list[JsonObject] | None = None
    stream: bool | None = None
    tools: list[JsonObject] | None = None
    tool_choice: JsonObject | None = None
    thinking: JsonObject | None = None


class MessagesReply(msgspec.Struct, frozen=True):
    """One message, whole or streamed."""

    id: str
    model: str
    answer: Answer
    counts: Counts


def messages_wish(body: MessagesRequest, model: str) -> Wish:
    """What a Messages request asks for."""
    said = [[turn.role, turn.content] for turn in body.messages]
    prompt = text_of([body.system, said, json_text(body.tools)])
    last = body.messages[-1]
    choice, named = read_tool_choice(body.tool_choice)
    return Wish(
        model=model,
        prompt=prompt,
        prompt_tokens=prompt_tokens(prompt, len(body.messages), count_attachments(said)),
        user_text=_own_text(last.content) if last.role == "user" else None,
        tools=read_tools(body.tools),
        tool_choice=choice,
        tool_named=named,
        parallel_tools=not (body.tool_choice or {}).get("disable_parallel_tool_use"),
        max_tokens=body.max_tokens,
        reasoning_tokens=REASONING_TOKENS["medium"] if _thinks(body.thinking) else 0,
    )


def messages_body(reply: MessagesReply) -> JsonObject:
    """The `message` object."""
    answer = reply.answer
    blocks = [_call_block(call.name, msgspec.json.decode(_whole_json(call))) for call in answer.tool_calls]
    content = blocks or [{"type": "text", "text": answer.text}]
    return _message(reply, content) | {"stop_reason": STOP_REASONS[answer.finish], "usage": messages_usage(reply.counts)}


def messages_events(reply: MessagesReply) -> Iterator[Event]:
    """The events from `message_start` to `message_stop`; usage in the first, and cumulative in `message_delta`."""
    started = _message(reply, []) | {"stop_reason": None, "usage": messages_usage(reply.counts) | {"output_tokens": 1}}
    yield _event(Stage.FRAMING, "message_start", {"message": started})
    if reply.answer.tool_calls:
        for index, call in enumerate(reply.answer.tool_calls):
            deltas: list[JsonObject] = [{"type": "input_json_delta", "partial_json": piece} for piece in call.pieces]
            yield from _block_events(index, _call_block(call.name, {}), deltas)
    else:
        deltas = [{"type": "text_delta", "text": piece} for piece in reply.answer.pieces]
        yield from _block_events(0, {"type": "text", "text": ""}, deltas)
    ending: JsonObject = {"stop_reason": STOP_REASONS[reply.answer.finish], "stop_sequence": None}
    yield _event(Stage.CLOSING, "message_delta", {"delta": ending, "usage": messages_usage(reply.counts)})
    yield _event(Stage.CLOSING, "message_stop", {})


def messages_error_event(sent: int) -> Event:
    """An error in the middle of a stream."""
    return _event(Stage.CLOSING, "error", {"error": {"type": "api_error", "message": STREAM_ERROR.message}})


def messages_usage(counts: Counts) -> JsonObject:
    """The `usage` object of a message."""
    return {
        "input_tokens": counts.prompt - counts.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.output,
        "output_tokens_details": {"thinking_tokens": counts.reasoning},
    }


def _event(stage: Stage, kind: str, fields: JsonObject) -> Event:
    return Event(stage, {"type": kind, **fields}, name=kind)


def _block_events(index: int, block: JsonObject, deltas: list[JsonObject]) -> Iterator[Event]:
    yield _event(Stage.FRAMING, "content_block_start", {"index": index, "content_block": block})
    if index == 0:
        yield _event(Stage.FRAMING, "ping", {})
    for delta in deltas:
        yield _event(Stage.CONTENT, "content_block_delta", {"index": index, "delta": delta})
    yield _event(Stage.FRAMING, "content_block_stop", {"index": index})


def _message(reply: MessagesReply, content: list[JsonObject]) -> JsonObject:
    return {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_sequence": None,
    }


def _call_block(name: str, arguments: object) -> JsonObject:
    return {"type": "tool_use", "id": new_id("toolu_"), "name": name, "input": arguments}


def _whole_json(call: ToolCall) -> str:
    """Arguments cut by max_tokens aren't JSON; a whole message shows none then."""
    try:
        msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return "{}"
    return call.arguments


def _thinks(thinking: JsonObject | None) -> bool:
    return thinking is not None and thinking.get("type") in ("enabled", "adaptive")


def _own_text(content: str | list[JsonObject]) -> str | None:
    """What the user says; None if the turn brings tool results, which are answered and not called for again."""
    if isinstance(content, list) and any(block.get("type") == "tool_result" for block in content):
        return None
    return text_of(content)
