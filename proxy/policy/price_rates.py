"""Money: rates as exact integers over a common scale, and the cost of a usage at them.

Here: rates from shipped or declared prices, the arithmetic, rounding. Not here: which price holds (price_match.py, pricing.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import msgspec

from proxy.call import NUSD_PER_USD, Cost, Price, Usage
from proxy.policy.bounds import UsageBound
from proxy.policy.price_match import UsdPrice

MICROSECONDS = 10**6

PER_TOKEN = Fraction(NUSD_PER_USD, 10**6)
PER_REQUEST = Fraction(NUSD_PER_USD, 10**3)
PER_AUDIO_HOUR = Fraction(NUSD_PER_USD, 3600 * MICROSECONDS)

SHIPPED_UNITS: Mapping[str, tuple[str, Fraction]] = {
    "input_mtok": ("input", PER_TOKEN),
    "output_mtok": ("output", PER_TOKEN),
    "cache_read_mtok": ("cache_read", PER_TOKEN),
    "cache_write_mtok": ("cache_write", PER_TOKEN),
    "cache_write_1h_mtok": ("cache_write_1h", PER_TOKEN),
    "input_audio_mtok": ("input_audio", PER_TOKEN),
    "output_audio_mtok": ("output_audio", PER_TOKEN),
    "cache_audio_read_mtok": ("cache_read_audio", PER_TOKEN),
    "input_image_mtok": ("input_image", PER_TOKEN),
    "output_image_mtok": ("output_image", PER_TOKEN),
    "output_reasoning_mtok": ("reasoning", PER_TOKEN),
    "requests_kcount": ("request", PER_REQUEST),
    "audio_hours": ("audio_us", PER_AUDIO_HOUR),
    "input_audio_hours": ("audio_us", PER_AUDIO_HOUR),
}
"""genai-prices' price keys: the rate each one sets, and nano-USD per unit at 1 USD. Units that no Usage counts (characters, pages,
searches, video) aren't here: a price of nothing else is unknown."""

PER_MILLION_KEYS = (
    "input", "output", "cache_read", "cache_write", "cache_write_1h",
    "input_audio", "output_audio", "cache_read_audio", "input_image", "output_image",
)  # fmt: skip
"""What a declared price may name under `per_million`."""

STANDS_IN: Mapping[str, tuple[str, ...]] = {
    "cache_read": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "input_audio": ("input",),
    "input_image": ("input",),
    "cache_read_audio": ("cache_read", "input_audio", "input"),
    "output_audio": ("output",),
    "output_image": ("output",),
    "reasoning": ("output",),
}
"""For a rate that has no price of its own: the first of these that has one."""

ONE_HOUR_WRITE_FACTOR = 2  # Anthropic: a one-hour cache write costs twice the input, where the data has only the five-minute price


class Rates(msgspec.Struct, frozen=True, gc=False):
    """Nano-USD times `scale`, per token, request or microsecond. Every kind has its own rate or the one that stands in for it."""

    scale: int
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0  # for five minutes
    cache_write_1h: int = 0
    cache_read_audio: int = 0
    input_audio: int = 0
    input_image: int = 0
    output_audio: int = 0
    output_image: int = 0
    reasoning: int = 0
    request: int = 0
    audio_us: int = 0
    duration_us: int = 0
    minimum_audio_us: int = 0  # microseconds, not scaled


Bands = tuple[tuple[int, Rates], ...]
"""Rates by context tier: (input tokens a call must pass, rates) in rising order, the first from 0 and for everyone."""


def declared_bands(price: Price) -> Bands:
    """The rates of a price declared in YAML. Raises ValueError: unknown key, negative or not finite, nothing declared, free and priced."""
    per_million = price.per_million or {}
    unknown = sorted(set(per_million) - set(PER_MILLION_KEYS))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r} in per_million; known are {', '.join(PER_MILLION_KEYS)}")
    priced = bool(per_million) or price.per_gpu_hour is not None or price.per_request is not None
    if priced == price.free:
        raise ValueError("a price is `free: true`, or any of per_million, per_gpu_hour and per_request")
    rates = {kind: _declared(f"per_million.{kind}", usd) * PER_TOKEN for kind, usd in per_million.items()}
    rates["duration_us"] = _declared("per_gpu_hour", price.per_gpu_hour or 0) * PER_AUDIO_HOUR
    rates["request"] = _declared("per_request", price.per_request or 0) * NUSD_PER_USD
    return ((0, _rates(rates, minimum_audio_s=0)),)


def shipped_bands(usd: Mapping[str, UsdPrice], minimum_audio_s: int) -> Bands | None:
    """The rates of shipped prices, by price key; None if they price only what no Usage counts. No prices at all: free."""
    known = {key: price for key, price in usd.items() if key in SHIPPED_UNITS}
    if usd and not known:
        return None
    starts = {0}.union(*({start for start, _ in price} for price in known.values() if not isinstance(price, str)))
    return tuple((start, _shipped_rates(known, start, minimum_audio_s)) for start in sorted(starts))


def rates_for(bands: Bands, input_tokens: int) -> Rates:
    """The rates of the highest context tier that the input passes; they hold for all of a call's tokens."""
    chosen = bands[0][1]
    for start, rates in bands[1:]:
        if input_tokens > start:
            chosen = rates
    return chosen


def cost_of(rates: Rates, usage: Usage, duration_s: float, source: str) -> Cost | None:
    """What a usage costs, rounded once; None if the usage doesn't tell what the rates price. Subsets beyond their total aren't counted."""
    if not _is_counted(rates, usage):
        return None
    cache_read, cache_write, uncached = _input_parts(rates, usage)
    uncached += _fees(rates, usage, duration_s)
    return _rounded(uncached, _output_part(rates, usage), cache_read, cache_write, rates.scale, source)


def most_nusd(bands: Bands, bound: UsageBound | None, duration_s: float | None) -> int | None:
    """What a usage within a bound costs at most, rounded up; None if that isn't known.

    `bound` None: the usage isn't known, only a price that doesn't go by it is. `duration_s` None: the call may last for any time.
    """
    reachable = [rates for start, rates in bands if start == 0 or bound is None or bound.input_tokens > start]
    costs = [_most_nusd(rates, bound, duration_s) for rates in reachable]
    known = [cost for cost in costs if cost is not None]
    return max(known) if len(known) == len(costs) else None


def _most_nusd(rates: Rates, bound: UsageBound | None, duration_s: float | None) -> int | None:
    output_rate = max(rates.output, rates.output_audio, rates.output_image, rates.reasoning)
    most = rates.request
    if rates.duration_us:
        if duration_s is None:
            return None
        most += math.ceil(duration_s * MICROSECONDS) * rates.duration_us
    if bound is None:
        return None if output_rate or rates.audio_us or _dearest_input(rates) else -(-most // rates.scale)
    if rates.audio_us and bound.may_have_audio:  # it is billed by its length, which nobody knows
        return None
    most += bound.input_tokens * _dearest_input(rates, bound.may_have_images, bound.may_have_audio) + bound.output_tokens * output_rate
    return -(-most // rates.scale)


def _dearest_input(rates: Rates, may_have_images: bool = True, may_have_audio: bool = True) -> int:
    """The most that one token of input costs. Whether it is written to a cache is the provider's to say."""
    dearest = max(rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h)
    if may_have_images:
        dearest = max(dearest, rates.input_image)
    return max(dearest, rates.input_audio, rates.cache_read_audio) if may_have_audio else dearest


def _declared(key: str, usd: float) -> Fraction:
    """The decimal number that was written: 0.1 is a tenth."""
    if not math.isfinite(usd) or usd < 0:
        raise ValueError(f"{key} is {usd}; a price is a number from 0")
    return Fraction(str(usd))


def _shipped_rates(usd: Mapping[str, UsdPrice], input_tokens: int, minimum_audio_s: int) -> Rates:
    rates: dict[str, Fraction] = {}
    for key, price in usd.items():
        kind, nusd = SHIPPED_UNITS[key]
        text = price if isinstance(price, str) else [one for start, one in price if start <= input_tokens][-1]
        rates[kind] = Fraction(text) * nusd
    if "cache_write" in rates and "input" in rates:
        rates.setdefault("cache_write_1h", rates["input"] * ONE_HOUR_WRITE_FACTOR)
    return _rates(rates, minimum_audio_s)


def _rates(priced: Mapping[str, Fraction], minimum_audio_s: int) -> Rates:
    rates = dict(priced)
    for kind, others in STANDS_IN.items():
        if kind not in priced:
            rates[kind] = next((priced[other] for other in others if other in priced), Fraction(0))
    scale = math.lcm(*(rate.denominator for rate in rates.values()))
    return Rates(scale, **{kind: int(rate * scale) for kind, rate in rates.items()}, minimum_audio_us=minimum_audio_s * MICROSECONDS)


def _is_counted(rates: Rates, usage: Usage) -> bool:
    if rates.input or rates.output:
        return usage.input_tokens is not None or bool(rates.audio_us and usage.audio_seconds is not None)
    return not rates.audio_us or usage.audio_seconds is not None


def _input_parts(rates: Rates, usage: Usage) -> tuple[int, int, int]:
    """(cache reads, cache writes, the rest), scaled. Each kind takes from what is left, dear ones first where an overlap is untold."""
    left = usage.input_tokens or 0
    if not (usage.cache_read_tokens or usage.cache_write_tokens or usage.input_audio_tokens or usage.input_image_tokens):
        return 0, 0, left * rates.input
    read = min(usage.cache_read_tokens or 0, left)
    audio = min(usage.input_audio_tokens or 0, left)
    read_audio = min(usage.cache_read_audio_tokens or 0, read, audio)
    audio -= read_audio
    left -= read_audio + audio
    image = min(usage.input_image_tokens or 0, left)
    left -= image
    write = min(usage.cache_write_tokens or 0, left)
    write_1h = min(usage.cache_write_1h_tokens or 0, write)
    left -= write
    read_text = min(read - read_audio, left)
    left -= read_text
    return (
        read_text * rates.cache_read + read_audio * rates.cache_read_audio,
        (write - write_1h) * rates.cache_write + write_1h * rates.cache_write_1h,
        left * rates.input + audio * rates.input_audio + image * rates.input_image,
    )


def _output_part(rates: Rates, usage: Usage) -> int:
    left = usage.output_tokens or 0
    if not (usage.reasoning_tokens or usage.output_audio_tokens or usage.output_image_tokens):
        return left * rates.output
    audio = min(usage.output_audio_tokens or 0, left)
    left -= audio
    image = min(usage.output_image_tokens or 0, left)
    left -= image
    reasoning = min(usage.reasoning_tokens or 0, left)
    left -= reasoning
    return left * rates.output + audio * rates.output_audio + image * rates.output_image + reasoning * rates.reasoning


def _fees(rates: Rates, usage: Usage, duration_s: float) -> int:
    """What isn't counted in tokens: the request, audio by its length, the machine by the call's duration."""
    fees = rates.request
    if rates.audio_us and usage.audio_seconds:
        fees += max(round(usage.audio_seconds * MICROSECONDS), rates.minimum_audio_us) * rates.audio_us
    if rates.duration_us:
        fees += round(duration_s * MICROSECONDS) * rates.duration_us
    return fees


def _rounded(uncached: int, output: int, cache_read: int, cache_write: int, scale: int, source: str) -> Cost:
    """Half up, once, on the total; what the parts lack after rounding down goes to the largest of them."""
    parts = [uncached // scale, output // scale, cache_read // scale, cache_write // scale]
    total = (2 * (uncached + output + cache_read + cache_write) + scale) // (2 * scale)
    missing = total - sum(parts)
    if missing:
        parts[parts.index(max(parts))] += missing
    return Cost(total, parts[0], parts[1], parts[2], parts[3], source)
