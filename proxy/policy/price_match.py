"""Which shipped price holds for a model at a moment: names, dates, times of day, service tiers.

Here: the types of the price file, name matching, the choice of a period and its variants. Not here: reading the file
(proxy/data/price_data.py), money (price_rates.py), YAML prices (pricing.py).

The file is a copy of genai-prices' data (its own price keys, USD as decimal strings) with the corrections in proxy/data/export_prices.py.
Its own faults stay: some `-latest` aliases are stale (mistral-large-latest), an OpenAI `ft:gpt-4-0613` is priced as gpt-4,
azure prices are those of "Global" deployments, and per-search fees aren't in any Usage, so they are left out of every cost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import msgspec

PRICED_AS: Mapping[str, str] = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "gemini": "google",
    "cohere": "cohere",
    "mistral": "mistral",
    "groq": "groq",
    "deepseek": "deepseek",
    "openrouter": "openrouter",
    "simulated": "openai",
}
"""Our providers' ids in genai-prices. The others run wherever the operator put them: only YAML knows what they cost."""

NAME_PREFIXES: Mapping[str, str] = {"gemini": "models/", "simulated": "sim/"}
"""What a provider's model names may begin with and price names don't."""

DATED_SNAPSHOTS = frozenset({"openai", "azure", "anthropic", "openrouter", "simulated"})
"""Providers whose `name-YYYY-MM-DD` is a snapshot of `name`: a snapshot too new for the data is priced as its name.
Elsewhere a number at the end may tell another model (mistral-large-2407, command-a-03-2025)."""

FINE_TUNE = "ft:"  # ft:BASE:ORGANISATION:SUFFIX:ID

STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand"})
"""Names of service tiers that are billed at the standard price. `scale` is prepaid, so it is not one of them."""

DAY_S = 86_400
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
SATURDAY = 5

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_SNAPSHOT_DATE = re.compile(r"-20\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$")

UsdPrice = str | tuple[tuple[int, str], ...]
"""USD per unit as a decimal string; or (input tokens a call must pass, price) in rising order, the first from 0."""


class NameTests(msgspec.Struct, frozen=True):
    """Tests of a model's name in lower case, any of which is enough."""

    equals: frozenset[str] = frozenset()
    starts_with: tuple[str, ...] = ()
    ends_with: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    regex: tuple[str, ...] = ()
    all_of: tuple[tuple[NameTests, ...], ...] = ()


class Period(msgspec.Struct, frozen=True):
    """A price and when it holds; conditions left out always do."""

    usd: dict[str, UsdPrice]  # by genai-prices' price key
    from_unix_s: int = 0
    daily_s: tuple[int, int] | None = None  # seconds of the UTC day, the end not included; may pass midnight
    workdays: bool = False  # from Monday to Friday, UTC


class Variant(msgspec.Struct, frozen=True):
    """Prices that replace a period's for one service tier."""

    tier: str
    usd: dict[str, UsdPrice]
    from_unix_s: int = 0


class PricedModel(msgspec.Struct, frozen=True):
    """A model of the price file."""

    id: str
    match: NameTests
    periods: tuple[Period, ...]  # the last one that holds counts; if none does, the first
    variants: tuple[Variant, ...] = ()  # of one tier, the first one that holds counts, for each price key
    minimum_audio_s: int = 0
    context_window: int | None = None  # tokens
    largest_window: int | None = None  # tokens, where a provider takes more than that, or does when it is asked by a header
    max_output_tokens: int | None = None  # of one choice of one reply
    image_tokens: int | None = None  # the most that one image counts as


class FoundModel(msgspec.Struct, frozen=True):
    """A model that a name led to."""

    model: PricedModel
    own: bool  # False: it is another provider's, whose service tiers this provider doesn't share


class _ProviderPrices(msgspec.Struct, frozen=True):
    fallback: tuple[str, ...]
    models: tuple[PricedModel, ...]


class _Document(msgspec.Struct, frozen=True):
    version: str
    exported: str
    source: str
    providers: dict[str, msgspec.Raw]


class ShippedPrices:
    """The price file's contents. A provider's prices are decoded when they are first asked for, so that most never are."""

    def __init__(self, document: bytes) -> None:
        """Take the JSON document; its version and date are at hand. Raises msgspec.DecodeError."""
        head = msgspec.json.decode(document, type=_Document)
        self.version, self.exported, self.source = head.version, head.exported, head.source
        self._raw = head.providers
        self._decoded: dict[str, _ProviderPrices] = {}

    def find(self, provider: str, model: str) -> FoundModel | None:
        """The model that one of our providers means by a name; None if the file doesn't have it."""
        if provider not in PRICED_AS:
            return None
        first = PRICED_AS[provider]
        lists = (first, *self._prices(first).fallback)
        found = (
            FoundModel(candidate, own=one == first)
            for name in spellings(provider, model)
            for one in lists
            for candidate in self._prices(one).models
            if name_matches(candidate.match, name)
        )
        return next(found, None)

    def _prices(self, list_name: str) -> _ProviderPrices:
        if list_name not in self._decoded:
            self._decoded[list_name] = msgspec.json.decode(self._raw[list_name], type=_ProviderPrices)
        return self._decoded[list_name]


def spellings(provider: str, model: str) -> Iterator[str]:
    """The names to look for, best first: as written, with a dashed date, without the date."""
    name = model.lower().removeprefix(NAME_PREFIXES.get(provider, ""))
    yield name
    dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
    if dashed != name:
        yield dashed
    if provider in DATED_SNAPSHOTS:
        undated = _SNAPSHOT_DATE.sub("", dashed)
        if undated != dashed:
            yield undated


def name_matches(tests: NameTests, name: str) -> bool:
    """Whether a name in lower case passes. A fine-tune's free text (`ft:…:my-moderation:…`) must not name another model."""
    if name in tests.equals or name.startswith(tests.starts_with):
        return True
    if not name.startswith(FINE_TUNE) and (name.endswith(tests.ends_with) or any(part in name for part in tests.contains)):
        return True
    return any(re.search(pattern, name) for pattern in tests.regex) or any(
        all(name_matches(part, name) for part in parts) for parts in tests.all_of
    )


def is_standard(tier: str | None) -> bool:
    """Whether a reply's service tier is billed at the standard price."""
    return tier is None or tier.lower() in STANDARD_TIERS


def usd_at(found: FoundModel, tier: str | None, at_unix_s: float) -> Mapping[str, UsdPrice] | None:
    """The prices that hold at a moment, by price key; None if the file has none for the service tier."""
    standard = _period_at(found.model.periods, at_unix_s).usd
    if is_standard(tier):
        return standard
    variants = [one for one in found.model.variants if one.tier == tier and one.from_unix_s <= at_unix_s] if found.own else []
    if not variants:
        return None
    usd = dict(standard)
    for variant in reversed(variants):
        usd.update(variant.usd)
    return usd


def valid_window(model: PricedModel, at_unix_s: float) -> tuple[float, float]:
    """The longest stretch around a moment, in Unix seconds and without its end, in which no condition is known to change."""
    edges = [-math.inf, math.inf]
    edges += [period.from_unix_s for period in model.periods]
    edges += [variant.from_unix_s for variant in model.variants]
    midnight = at_unix_s // DAY_S * DAY_S
    for period in model.periods:
        if period.daily_s is not None:
            edges += [midnight, *(midnight + second for second in period.daily_s), midnight + DAY_S]
    return max(edge for edge in edges if edge <= at_unix_s), min(edge for edge in edges if edge > at_unix_s)


def _period_at(periods: tuple[Period, ...], at_unix_s: float) -> Period:
    return next((period for period in reversed(periods) if _holds(period, at_unix_s)), periods[0])


def _holds(period: Period, at_unix_s: float) -> bool:
    if at_unix_s < period.from_unix_s:
        return False
    if period.workdays and (at_unix_s // DAY_S + EPOCH_WEEKDAY) % 7 >= SATURDAY:
        return False
    if period.daily_s is None:
        return True
    start, end = period.daily_s
    second = at_unix_s % DAY_S
    return start <= second < end if start <= end else second >= start or second < end
