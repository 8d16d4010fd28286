"""The shape that most replies have, OpenAI's `chat.completion`, read in one typed decode: a third of the general reader's time.

Here: exactly that shape. Anything else about a reply (other members of usage, errors, other types) is left to the general reader.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from proxy.call import Usage
from proxy.wire.json_text import NOT_JSON
from proxy.wire.reply_facts import ReplyFacts

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class _Prompt(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    text_tokens: _Count | None = None


class _Completion(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    text_tokens: _Count | None = None
    accepted_prediction_tokens: _Count | None = None
    rejected_prediction_tokens: _Count | None = None


class _Usage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    prompt_tokens: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _Prompt | None = None
    completion_tokens_details: _Completion | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int
    finish_reason: str


class _Chat(msgspec.Struct, gc=False):
    id: str
    object: Literal["chat.completion"]
    model: str
    choices: list[_Choice]
    usage: _Usage
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error: None = None
    type: UnsetType = UNSET
    status: UnsetType = UNSET
    x_groq: UnsetType = UNSET
    usageMetadata: UnsetType = UNSET  # noqa: N815
    response: UnsetType = UNSET
    message: UnsetType = UNSET
    meta: UnsetType = UNSET
    ok: UnsetType = UNSET


_NO_PROMPT, _NO_COMPLETION = _Prompt(), _Completion()
_decode = msgspec.json.Decoder(_Chat).decode


def read_chat(body: bytes) -> ReplyFacts | None:
    """The facts of a chat completion of the usual shape; None if it has any other. Equal to what the general reader says."""
    try:
        chat = _decode(body)
    except NOT_JSON:
        return None
    if not chat.id or not chat.choices:
        return None
    choices = sorted(chat.choices, key=_index)
    if choices[-1].index != len(choices) - 1:
        return None
    usage = chat.usage
    prompt, completion = usage.prompt_tokens_details or _NO_PROMPT, usage.completion_tokens_details or _NO_COMPLETION
    return ReplyFacts(
        Usage(
            usage.prompt_tokens,
            max(usage.completion_tokens, usage.total_tokens - usage.prompt_tokens),
            prompt.cached_tokens,
            prompt.cache_write_tokens,
            None,
            completion.reasoning_tokens,
            prompt.audio_tokens,
            completion.audio_tokens,
            None,
            prompt.image_tokens,
            completion.image_tokens,
        ),
        chat.id,
        chat.model or None,
        [choice.finish_reason for choice in choices],
        chat.service_tier or None,
        chat.system_fingerprint or None,
        None,
        True,
    )


def _index(choice: _Choice) -> int:
    return choice.index
