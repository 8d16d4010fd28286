"""How the simulated provider counts tokens: a cheap rule that gives the same number for the same text, everywhere.

A token is up to four word characters in a row, or one other character that isn't blank; blanks are free. A message costs three
more, and a reply three (as OpenAI's cookbook says of chat). An image, sound or file part costs a flat 85.
Here: counting, and remembering prompt beginnings for cached_tokens. Not here: the fields of usage objects (the dialects').
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

import msgspec

PER_MESSAGE_TOKENS = 3
REPLY_PRIMING_TOKENS = 3
PER_ATTACHMENT_TOKENS = 85
CACHE_MIN_TOKENS = 1024
CACHE_STEP_TOKENS = 128

REASONING_TOKENS = {"none": 0, "minimal": 16, "low": 32, "medium": 64, "high": 128, "xhigh": 256, "max": 256}
"""Hidden tokens by reasoning effort; an effort not listed counts as medium."""

_TOKEN = re.compile(r"\w{1,4}|[^\w\s]")
_ATTACHMENTS = {"image_url", "input_image", "image", "input_audio", "input_file", "file", "document"}
_UNCOUNTED_KEYS = {"type", "id", "call_id", "tool_call_id", "tool_use_id", "cache_control"}


class Counts(msgspec.Struct, frozen=True):
    """Token counts of one reply, in OpenAI's sense: totals include every subset."""

    prompt: int
    cached: int = 0  # subset of prompt
    output: int = 0
    reasoning: int = 0  # subset of output

    @property
    def total(self) -> int:
        """Prompt and output."""
        return self.prompt + self.output


def count_tokens(text: str) -> int:
    """How many tokens a text has."""
    return sum(1 for _ in _TOKEN.finditer(text))  # findall would hold a list many times as large as a long prompt


def cut_to_tokens(text: str, limit: int) -> str:
    """The longest beginning of a text that has at most `limit` tokens."""
    end = 0
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number >= limit:
            return text[:end]
        end = token.end()
    return text


def prompt_tokens(text: str, messages: int, attachments: int) -> int:
    """What a prompt counts: its text, its messages and its attachments."""
    return REPLY_PRIMING_TOKENS + PER_MESSAGE_TOKENS * messages + PER_ATTACHMENT_TOKENS * attachments + count_tokens(text)


def text_of(value: object) -> str:
    """Every string in a piece of a request, one a line: messages, content parts, tool calls."""
    return "\n".join(_strings(value))


def json_text(value: object) -> str:
    """A schema or tools, as the JSON that a model is shown; nothing for None."""
    return "" if value is None else msgspec.json.encode(value).decode()


def count_attachments(value: object) -> int:
    """How many image, sound and file parts a piece of a request has."""
    if isinstance(value, list):
        return sum(count_attachments(entry) for entry in value)
    if isinstance(value, dict):
        return 1 if value.get("type") in _ATTACHMENTS else sum(count_attachments(entry) for entry in value.values())
    return 0


def reasoning_tokens(effort: str | None) -> int:
    """How many hidden tokens an effort costs; none was asked for: 0."""
    return 0 if effort is None else REASONING_TOKENS.get(effort, REASONING_TOKENS["medium"])


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
    elif isinstance(value, dict) and value.get("type") not in _ATTACHMENTS:
        for key, entry in value.items():
            if not (isinstance(entry, str) and key in _UNCOUNTED_KEYS):
                yield from _strings(entry)


class PromptCache:
    """Beginnings of prompts that were seen before, as OpenAI caches them: from 1024 tokens on, in steps of 128. Bounded."""

    def __init__(self, capacity: int = 8192) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._capacity = capacity

    def cached_tokens(self, model: str, prompt: str) -> int:
        """Tokens of the longest beginning seen before; the prompt's own beginnings are known from now on."""
        if len(prompt) < CACHE_MIN_TOKENS:
            return 0
        tokens = (match.group() for match in _TOKEN.finditer(prompt))
        digest = hashlib.sha256(model.encode())
        cached, end, step = 0, 0, CACHE_MIN_TOKENS
        while len(taken := list(islice(tokens, step))) == step:
            digest.update("\0".join(taken).encode())
            end, step = end + step, CACHE_STEP_TOKENS
            cached = end if self._touch(digest.digest()) else cached
        return cached

    def _touch(self, key: bytes) -> bool:
        known = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return known
