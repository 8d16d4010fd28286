"""Token counts in every provider's spelling, read into one Usage.

Here: usage objects and where they stand in a document. Not here: streams, prices. Source: wire.md C4, C7.

Usage totals are OpenAI's: input holds what was cached, output holds what was reasoned. Anthropic's and Gemini's are added up to that.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from proxy.call import Usage

_MAX_COUNT = 1 << 53
_NANO = 10**9
_NOT_ANTHROPIC = frozenset({"prompt_tokens", "total_tokens", "input_tokens_details", "input_token_details"})
_GEMINI = frozenset({"promptTokenCount", "candidatesTokenCount", "totalTokenCount"})


def usage_of(usage: object) -> Usage | None:
    """The Usage that a provider's usage object tells; None if it tells nothing, or nothing but zeros."""
    if not isinstance(usage, dict):
        return None
    if _GEMINI & usage.keys():
        found = _gemini(usage)
    elif usage.get("type") == "duration":
        found = Usage(audio_seconds=_seconds(usage.get("seconds")))
    elif isinstance(usage.get("billed_units"), dict):
        found = _openai(usage["billed_units"])
    elif "input_tokens" in usage and not _NOT_ANTHROPIC & usage.keys():
        found = _anthropic(usage)
    else:
        found = _openai(usage)
    return found if found.input_tokens or found.output_tokens or found.audio_seconds or found.provider_cost_nusd else None


def _openai(usage: dict[str, Any]) -> Usage:
    """Chat, completions, embeddings, Responses, images, transcription, realtime, and who followed them."""
    details = _details(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    output = _details(usage, "completion_tokens_details", "output_tokens_details", "output_token_details")
    cached_details = _details(details, "cached_tokens_details")
    return Usage(
        input_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        output_tokens=_openai_output(usage),
        cache_read_tokens=_either(_count(details, "cached_tokens"), _count(usage, "prompt_cache_hit_tokens", "cached_tokens")),
        cache_write_tokens=_either(_count(details, "cache_write_tokens"), _count(usage, "cache_write_tokens")),
        reasoning_tokens=_count(output, "reasoning_tokens"),
        input_audio_tokens=_count(details, "audio_tokens"),
        output_audio_tokens=_count(output, "audio_tokens"),
        cache_read_audio_tokens=_count(cached_details, "audio_tokens"),
        input_image_tokens=_count(details, "image_tokens"),
        output_image_tokens=_count(output, "image_tokens"),
        provider_cost_nusd=_nano_usd(usage.get("cost")),
    )


def _openai_output(usage: dict[str, Any]) -> int | None:
    """Completion tokens, with what some leave out of them but not out of the total: the reasoning (xAI, Gemini's compatible API)."""
    told = _count(usage, "completion_tokens", "output_tokens")
    prompt, total = _count(usage, "prompt_tokens"), _count(usage, "total_tokens")
    if told is None or prompt is None or total is None:
        return told
    return max(told, total - prompt)


def _anthropic(usage: dict[str, Any]) -> Usage:
    creation = _details(usage, "cache_creation")
    written_1h = _count(creation, "ephemeral_1h_input_tokens")
    written = _either(_count(usage, "cache_creation_input_tokens"), _sum(_count(creation, "ephemeral_5m_input_tokens"), written_1h))
    read = _count(usage, "cache_read_input_tokens")
    return Usage(
        input_tokens=_sum(_count(usage, "input_tokens"), read, written),
        output_tokens=_count(usage, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=written_1h,
        reasoning_tokens=_count(_details(usage, "output_tokens_details"), "thinking_tokens"),
    )


def _gemini(usage: dict[str, Any]) -> Usage:
    thoughts = _count(usage, "thoughtsTokenCount")
    return Usage(
        input_tokens=_sum(_count(usage, "promptTokenCount"), _count(usage, "toolUsePromptTokenCount")),
        output_tokens=_sum(_count(usage, "candidatesTokenCount"), thoughts),
        cache_read_tokens=_count(usage, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
        input_audio_tokens=_of_modality(usage.get("promptTokensDetails"), "AUDIO"),
        output_audio_tokens=_of_modality(usage.get("candidatesTokensDetails"), "AUDIO"),
        cache_read_audio_tokens=_of_modality(usage.get("cacheTokensDetails"), "AUDIO"),
        input_image_tokens=_of_modality(usage.get("promptTokensDetails"), "IMAGE"),
        output_image_tokens=_of_modality(usage.get("candidatesTokensDetails"), "IMAGE"),
    )


def _of_modality(details: object, modality: str) -> int | None:
    rows = details if isinstance(details, list) else []
    return next((_count(row, "tokenCount") for row in rows if isinstance(row, dict) and row.get("modality") == modality), None)


def _details(usage: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        value = usage.get(key)
        if isinstance(value, dict):
            return value
    return {}


def _count(usage: dict[str, Any], *keys: str) -> int | None:
    """The first of the keys that holds a count; a whole float is one, a negative number or a boolean isn't."""
    if not usage:
        return None
    for key in keys:
        value = usage.get(key)
        if value is None:
            continue
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value < _MAX_COUNT:
            return value
    return None


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT else None


def _nano_usd(cost: object) -> int | None:
    """USD as nano-USD, exact: a float's shortest decimal text is the one that stood in the JSON, up to 15 digits."""
    if isinstance(cost, bool) or not isinstance(cost, int | float | str):
        return None
    try:
        amount = Decimal(str(cost))
    except InvalidOperation:
        return None
    return int((amount * _NANO).to_integral_value()) if amount.is_finite() and 0 <= amount < _MAX_COUNT // _NANO else None
