"""The nouns of a call: frozen values that every layer shares.

Here: what a call, a target, an attempt's outcome, usage and cost *are*. Not here: I/O, wire formats, decisions; what is reserved of
a budget (spending.py).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NoReturn

import msgspec

HeaderList = list[tuple[bytes, bytes]]
"""Header fields in wire order, names as they were written, duplicates kept."""

MASK = "***"
"""What stands for a secret wherever one is shown."""


class Secret:
    """A text that nothing shows by accident: str, repr and format give `***`, encoders and pickle refuse it. `reveal` where it is used."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return MASK

    def __format__(self, _: str) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


LABELS = ("tenant", "user", "app", "task", "workflow", "step", "key")
"""What a call may be known by. All but the name of its virtual key come from where `identity` says."""

NUSD_PER_USD = 1_000_000_000


def usd_text(nusd: int) -> str:
    """Nano-USD as a plain decimal number of USD, exact, without needless zeros: 1500 is 0.0000015."""
    whole, fraction = divmod(abs(nusd), NUSD_PER_USD)
    sign = "-" if nusd < 0 else ""
    return f"{sign}{whole}.{fraction:09d}".rstrip("0").rstrip(".")


_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


def expiry_unix_s(text: str) -> float:
    """The Unix time at which what `expires` allows is over: of a date its end in UTC, else an RFC 3339 time. Raises ValueError."""
    if _DATE.fullmatch(text):
        return datetime.fromisoformat(f"{text}T00:00:00Z").timestamp() + timedelta(days=1).total_seconds()
    if _TIME.fullmatch(text):
        return datetime.fromisoformat(text.upper()).timestamp()
    raise ValueError("neither a date nor a time")


class Outcome(StrEnum):
    """How an attempt, and in the end the call, went. Retry, breaker and metrics all use this one class."""

    SUCCEEDED = "succeeded"
    REJECTED = "rejected"  # the client's fault: 4xx other than 408 and 429
    THROTTLED = "throttled"  # 429, 529
    FAILED = "failed"  # the upstream's fault, or ours, before a byte of the reply was sent on
    INTERRUPTED = "interrupted"  # it broke after the first byte of the reply
    ABANDONED = "abandoned"  # the client left; of an attempt also: another one was faster


class UsageSource(StrEnum):
    """Who counted the tokens."""

    PROVIDER = "provider"
    TOKENIZER = "tokenizer"
    BOUND = "bound"


class Usage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Token counts of one attempt, in OpenAI's sense: totals include every subset below them. None = unknown."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None  # subset of input_tokens
    cache_write_tokens: int | None = None  # subset of input_tokens
    cache_write_1h_tokens: int | None = None  # subset of cache_write_tokens (Anthropic's one-hour cache)
    reasoning_tokens: int | None = None  # subset of output_tokens
    input_audio_tokens: int | None = None  # subset of input_tokens
    output_audio_tokens: int | None = None  # subset of output_tokens
    cache_read_audio_tokens: int | None = None  # subset of cache_read_tokens and input_audio_tokens
    input_image_tokens: int | None = None  # subset of input_tokens
    output_image_tokens: int | None = None  # subset of output_tokens
    audio_seconds: float | None = None  # transcriptions billed by duration
    provider_cost_nusd: int | None = None  # a cost that the provider itself put into the reply (OpenRouter)
    source: UsageSource = UsageSource.PROVIDER


class Cost(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one attempt cost, in integer nano-USD. The parts add up to the total, except where only a total is known."""

    total_nusd: int
    input_nusd: int = 0  # uncached input, and per-request fees
    output_nusd: int = 0
    cache_read_nusd: int = 0
    cache_write_nusd: int = 0
    source: str = "prices"  # prices | override | provider


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long one attempt may take, by phase."""

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    idle_s: float = 300.0
    total_s: float | None = None


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A price declared in YAML, which wins over the shipped data."""

    per_million: dict[str, float] | None = None  # USD per 1e6 tokens: input, output, cache_read, cache_write, …
    per_gpu_hour: float | None = None  # USD per hour of the call's duration
    per_request: float | None = None  # USD
    free: bool = False


class Target(msgspec.Struct, frozen=True):
    """A provider endpoint with its credentials: the thing an attempt goes to."""

    name: str
    provider: str
    base_url: str
    credentials: tuple[Secret, ...] = ()  # what replaces the client's, one at a time; none with passthrough False: none is sent
    passthrough: bool = False  # the client's own credential goes on
    tier: str | None = None
    timeouts: Timeouts = Timeouts()
    price: Price | None = None
    trusted_context: bool = False  # gets our traceparent and the client's baggage

    def __repr__(self) -> str:
        return f"Target({self.name!r}, {self.provider!r}, {self.base_url!r})"  # never the credentials
