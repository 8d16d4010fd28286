"""What the simulated provider answers: the same text, JSON or tool calls for the same request, and what they count.

Here: wishes (what any dialect's request asks for) and answers. Not here: the fields of a dialect, pace, bytes.
"""

from __future__ import annotations

import hashlib
import math
import re
from enum import StrEnum

import msgspec

from proxy.simulated.counting import Counts, count_tokens, cut_to_tokens
from proxy.simulated.directives import Directives
from proxy.simulated.schema_example import JsonSchema, example_of

FILLER = (
    "A small gate stands beside the big one.",
    "Every call that passes is counted once.",
    "Nothing here was written by a model.",
    "The same request gets the same answer.",
    "No key was needed and no network was used.",
    "Tokens are counted by a simple rule.",
    "Ask for a fault and you will get one.",
    "The pace can be changed with directives.",
)
DEFAULT_SENTENCES = 3

_ALL_FILLER = " ".join(FILLER) + " "
_WORD = re.compile(r"\S+\s*")


class ToolChoice(StrEnum):
    """How free the reply is to call a tool. One that is named is forced too."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class Tool(msgspec.Struct, frozen=True):
    """A function that the reply may call."""

    name: str
    parameters: JsonSchema


class Wish(msgspec.Struct, frozen=True):
    """What a request asks for, in no dialect's words."""

    model: str
    prompt: str  # all of its text
    prompt_tokens: int
    user_text: str | None = None  # of the last message; None: it isn't the user's
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice.AUTO
    tool_named: str | None = None
    parallel_tools: bool = True
    output_schema: JsonSchema | None = None  # {}: any JSON object
    max_tokens: int | None = None
    reasoning_tokens: int = 0
    choices: int = 1
    seed: int | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A call of one tool, its arguments as JSON in pieces."""

    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        """All of the JSON."""
        return "".join(self.pieces)


class Answer(msgspec.Struct, frozen=True):
    """One choice of a reply: text in pieces, or tool calls."""

    finish: Finish
    output_tokens: int  # includes reasoning_tokens
    reasoning_tokens: int
    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self.pieces)

    @property
    def piece_count(self) -> int:
        """How many content chunks a stream of it has."""
        return len(self.pieces) + sum(len(call.pieces) for call in self.tool_calls)


def compose(wish: Wish, directives: Directives) -> tuple[Answer, ...]:
    """The answer to a wish, one for each choice asked for."""
    return tuple(_compose_choice(wish, directives, index) for index in range(wish.choices))


def counts_of(wish: Wish, answers: tuple[Answer, ...], cached: int) -> Counts:
    """The usage of a reply: what was really in the request, and what is really sent."""
    output = sum(answer.output_tokens for answer in answers)
    reasoning = sum(answer.reasoning_tokens for answer in answers)
    return Counts(max(wish.prompt_tokens, 1), min(cached, wish.prompt_tokens), output, reasoning)


def split_evenly(text: str, count: int) -> tuple[str, ...]:
    """A text in `count` pieces of about equal length, none of them empty: fewer if it is too short."""
    size = max(1, math.ceil(len(text) / max(1, count)))
    return tuple(text[start : start + size] for start in range(0, len(text), size))


def _compose_choice(wish: Wish, directives: Directives, index: int) -> Answer:
    reasoning = wish.reasoning_tokens if wish.max_tokens is None else min(wish.reasoning_tokens, wish.max_tokens)
    limit = None if wish.max_tokens is None else wish.max_tokens - reasoning
    tools = _called_tools(wish)
    if tools:
        return _call_tools(tools, directives, limit, reasoning)
    pieces = _json_pieces(wish.output_schema, directives) if wish.output_schema is not None else _text_pieces(wish, directives, index)
    kept = _cut_pieces(pieces, limit)
    finish = Finish.STOP if len("".join(kept)) == len("".join(pieces)) else Finish.LENGTH
    return Answer(finish, reasoning + count_tokens("".join(kept)), reasoning, pieces=kept)


def _called_tools(wish: Wish) -> tuple[Tool, ...]:
    if wish.user_text is None or wish.tool_choice is ToolChoice.NONE:
        return ()
    if wish.tool_named is not None:
        return tuple(tool for tool in wish.tools if tool.name == wish.tool_named)
    text = wish.user_text.lower()
    mentioned = tuple(tool for tool in wish.tools if tool.name.lower() in text or tool.name.lower().replace("_", " ") in text)
    if not mentioned and wish.tool_choice is ToolChoice.REQUIRED:
        mentioned = wish.tools[:1]
    return mentioned if wish.parallel_tools else mentioned[:1]


def _call_tools(tools: tuple[Tool, ...], directives: Directives, limit: int | None, reasoning: int) -> Answer:
    calls: list[ToolCall] = []
    used, finish = 0, Finish.TOOL_CALLS
    for tool in tools:
        arguments = msgspec.json.encode(example_of(tool.parameters) or {}).decode()
        name_tokens = count_tokens(tool.name)
        kept = arguments if limit is None else cut_to_tokens(arguments, limit - used - name_tokens)
        used += name_tokens + count_tokens(kept)
        calls.append(ToolCall(tool.name, split_evenly(kept, directives.n or math.ceil(len(kept) / 8))))
        if kept != arguments:
            finish = Finish.LENGTH
            break
    return Answer(finish, reasoning + used, reasoning, tool_calls=tuple(calls))


def _json_pieces(schema: JsonSchema, directives: Directives) -> tuple[str, ...]:
    example = example_of(schema) if schema else {"simulated": True, "answer": FILLER[0]}
    text = msgspec.json.encode(example).decode()
    return split_evenly(text, directives.n or math.ceil(len(text) / 8))


def _text_pieces(wish: Wish, directives: Directives, index: int) -> tuple[str, ...]:
    seed = _seed(wish, index)
    if directives.size is not None:
        text = _text_of_bytes(wish.model, seed, directives.size)
        return split_evenly(text, directives.n) if directives.n else tuple(_WORD.findall(text))
    words = _WORD.findall(_text(wish.model, seed))
    if directives.n is not None:
        more = _WORD.findall(_ALL_FILLER)
        words += more * max(0, math.ceil((directives.n - len(words)) / len(more)))
        words = words[: directives.n]
    return (*words[:-1], *(word.rstrip() for word in words[-1:]))


def _text_of_bytes(model: str, seed: int, size: int) -> str:
    """ASCII apart from the model's name, which is left out when it isn't: the number of bytes is exact."""
    text = _text(model if model.isascii() else "a model", seed)
    return (text + _ALL_FILLER * max(0, math.ceil((size - len(text)) / len(_ALL_FILLER))))[:size]


def _text(model: str, seed: int) -> str:
    chosen = [FILLER[(seed >> (8 * number)) % len(FILLER)] for number in range(DEFAULT_SENTENCES)]
    return f"This is a simulated reply of {model}, number {seed % 10_000}. " + " ".join(chosen) + " "


def _seed(wish: Wish, index: int) -> int:
    material = f"{wish.model}\0{wish.seed}\0{index}\0{wish.prompt}".encode(
        "utf-8", "surrogatepass"
    )  # an upload's file name may hold lone surrogates
    return int.from_bytes(hashlib.sha256(material).digest()[:8], "big")


def _cut_pieces(pieces: tuple[str, ...], limit: int | None) -> tuple[str, ...]:
    """The first `limit` tokens, in the same pieces."""
    if limit is None:
        return pieces
    left = len(cut_to_tokens("".join(pieces), limit))
    kept: list[str] = []
    for piece in pieces:
        if left <= 0:
            break
        kept.append(piece[:left])
        left -= len(piece)
    return tuple(kept)
