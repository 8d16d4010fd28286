"""Legacy Completions, simulated: request fields, body, chunks.

Here: the dialect, pure. Not here: usage objects, which are chat's.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from proxy.simulated.chat import FINGERPRINT, ChatReply, ChoiceCount, StreamOptions, TokenLimit, chat_usage, refuse_lone_stream_options
from proxy.simulated.composing import Finish, Wish
from proxy.simulated.counting import count_tokens, text_of
from proxy.simulated.events import DONE, Event, Stage
from proxy.simulated.mistakes import JsonObject

DEFAULT_MAX_TOKENS = 16


class CompletionRequest(msgspec.Struct, frozen=True):
    """The fields of POST /v1/completions that change the reply."""

    model: str
    prompt: str | list[str | int | list[int]] = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: ChoiceCount | None = None
    max_tokens: TokenLimit | None = DEFAULT_MAX_TOKENS
    seed: int | None = None


def completion_wish(body: CompletionRequest, model: str) -> Wish:
    """What a completion request asks for: `n` choices for each prompt. Raises Mistake."""
    refuse_lone_stream_options(body.stream, body.stream_options)
    return Wish(
        model=model,
        prompt=text_of(body.prompt) or msgspec.json.encode(body.prompt).decode(),
        prompt_tokens=input_tokens(body.prompt),
        max_tokens=body.max_tokens,
        choices=(body.n or 1) * input_count(body.prompt),
        seed=body.seed,
    )


def input_tokens(given: str | list[str | int | list[int]]) -> int:
    """Tokens of an input that is text, token ids, or a list of either."""
    if isinstance(given, str):
        return count_tokens(given)
    return sum(1 if isinstance(entry, int) else count_tokens(entry) if isinstance(entry, str) else len(entry) for entry in given)


def input_count(given: str | list[str | int | list[int]]) -> int:
    """How many inputs it is: a list of token ids is one."""
    return 1 if isinstance(given, str) or not given or isinstance(given[0], int) else len(given)


def completion_body(reply: ChatReply) -> JsonObject:
    """The `text_completion` object."""
    choices = [_choice(index, answer.text, answer.finish) for index, answer in enumerate(reply.answers)]
    return _head(reply) | {"choices": choices, "usage": chat_usage(reply.counts)}


def completion_events(reply: ChatReply) -> Iterator[Event]:
    """The chunks: text, finish reasons, usage if it was asked for, [DONE]."""
    for index, answer in enumerate(reply.answers):
        for piece in answer.pieces:
            yield _chunk(reply, Stage.CONTENT, [_choice(index, piece, None)])
        yield _chunk(reply, Stage.CLOSING, [_choice(index, "", answer.finish)])
    if reply.options.include_usage:
        yield Event(Stage.CLOSING, _head(reply) | {"choices": [], "usage": chat_usage(reply.counts)})
    yield DONE


def _head(reply: ChatReply) -> JsonObject:
    return {
        "id": reply.id,
        "object": "text_completion",
        "created": reply.created_s,
        "model": reply.model,
        "system_fingerprint": FINGERPRINT,
    }


def _choice(index: int, text: str, finish: Finish | None) -> JsonObject:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _chunk(reply: ChatReply, stage: Stage, choices: list[JsonObject]) -> Event:
    usage: JsonObject = {"usage": None} if reply.options.include_usage else {}
    return Event(stage, _head(reply) | {"choices": choices} | usage)
