"""Our costs against genai-prices' own calc_price, over every provider we map and every name its data knows."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data import providers
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ClauseAnd, ClauseOr, ClauseRegex, MatchLogic, ModelInfo
from genai_prices.types import Provider as TheirProvider

from proxy.call import Target, Usage
from proxy.data.price_data import read_prices
from proxy.policy.price_match import PRICED_AS, ShippedPrices
from proxy.policy.pricing import PriceBook

MAPPED = sorted((ours, theirs) for ours, theirs in PRICED_AS.items() if ours != "simulated")
THEIRS = {provider.id: provider for provider in providers}

DATES = [
    datetime(2024, 6, 1, 12, 0, tzinfo=UTC),
    datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC),  # the last second of o3's first price
    datetime(2025, 6, 10, tzinfo=UTC),  # the first of its second
    datetime(2025, 7, 1, 0, 29, 59, tzinfo=UTC),  # DeepSeek V3's cheap hours end
    datetime(2025, 7, 1, 0, 30, tzinfo=UTC),
    datetime(2026, 3, 13, 17, 0, tzinfo=UTC),
    datetime(2026, 8, 20, 3, 0, tzinfo=UTC),  # a Thursday, in DeepSeek V4's peak hours
    datetime(2026, 10, 14, 4, 0, tzinfo=UTC),
    datetime(2026, 11, 18, 8, 30, tzinfo=UTC),  # a Wednesday, in peak hours
    datetime(2026, 11, 18, 10, 0, tzinfo=UTC),  # the first second after them
    datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
    datetime(2027, 1, 2, 12, 0, tzinfo=UTC),
]
INPUT_SIZES = [0, 1, 999, 100_000, 100_001, 128_000, 128_001, 199_999, 200_000, 200_001, 256_001, 272_000, 272_001, 524_289]
TIERS: dict[str | None, dict[str, str] | None] = {
    None: None,
    "default": {"service_tier": "default"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "batch": {"processing": "batch"},
}

AUDIO_WITHOUT_PRICE = "the data has no audio price: ours adds OpenAI's own; compared without audio tokens"
PEAK_ON_WORKDAYS = "the data can't say since when and on which weekdays peak hours hold: not compared on weekends and before them"
EXCEPTIONS = {
    ("openai", "gpt-4o-audio-preview"): AUDIO_WITHOUT_PRICE,
    ("openai", "gpt-4o-mini-audio-preview"): AUDIO_WITHOUT_PRICE,
    ("deepseek", "deepseek-flash"): PEAK_ON_WORKDAYS,
    ("deepseek", "deepseek-v4-flash"): PEAK_ON_WORKDAYS,
    ("deepseek", "deepseek-v4-pro"): PEAK_ON_WORKDAYS,
}
PEAK_SINCE = datetime(2026, 8, 17, tzinfo=UTC)
UNCOUNTED_UNITS = {"input_mchars", "input_document_kpages", "input_annotated_document_kpages"}
"""A price of nothing but these is unknown to us, as no Usage tells them; genai-prices says 0."""


@dataclass(frozen=True)
class Case:
    model: ModelInfo
    own: bool
    name: str
    usage: Usage
    at: datetime
    tier: str | None


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook(ShippedPrices(read_prices()), {})


@pytest.mark.parametrize(("ours", "theirs"), MAPPED)
def test_cost_is_that_of_genai_prices(book: PriceBook, ours: str, theirs: str) -> None:
    provider, target = THEIRS[theirs], Target(ours, ours, "https://example.com/v1")
    compared = 0
    for case in cases(provider, random.Random(theirs)):
        cost = book.cost(target, case.name, None, case.usage, case.at.timestamp(), 1.0, case.tier)
        if unpriced(case):
            assert cost is None, case
            continue
        expected = get_snapshot().calc(their_usage(case.usage), case.name, theirs, None, case.at, TIERS[case.tier])
        assert cost is not None, case
        assert abs(cost.total_nusd - nusd(expected.total_price)) <= 1, case
        assert abs(cost.output_nusd - nusd(expected.output_price)) <= 4, case  # the remainder of rounding is in the largest part
        assert cost.input_nusd + cost.output_nusd + cost.cache_read_nusd + cost.cache_write_nusd == cost.total_nusd, case
        compared += 1
    assert compared > len(provider.models)


def cases(provider: TheirProvider, rng: random.Random) -> Iterator[Case]:
    """Three random calls of every name; of a model whose price depends on the date or the tier, a call at every date and tier."""
    for name in names(provider):
        _, model = get_snapshot().find_provider_model(name, None, provider.id, None)
        own = any(model is one for one in provider.models)
        varied = isinstance(model.prices, list) or model.price_variants
        whens = [(at, tier) for at in DATES for tier in TIERS] if varied and name == model.id else []
        for at, tier in whens or [(rng.choice(DATES), rng.choice(list(TIERS))) for _ in range(3)]:
            exception = EXCEPTIONS.get((owner(model), model.id))
            usage = fitting(model, random_usage(rng)) if exception != AUDIO_WITHOUT_PRICE else Usage(input_tokens=700, output_tokens=90)
            if exception != PEAK_ON_WORKDAYS or (at >= PEAK_SINCE and at.weekday() < 5):
                yield Case(model, own, name, usage, at, tier)


def owner(model: ModelInfo) -> str:
    return next(provider.id for provider in providers if any(model is one for one in provider.models))


def names(provider: TheirProvider) -> list[str]:
    lists = [provider, *(THEIRS[other] for other in provider.fallback_model_providers or ())]
    candidates = {name for one in lists for model in one.models for name in (model.id, *examples(model.match))}
    return sorted(name for name in candidates if provider.find_model(name, all_providers=providers))


def examples(clause: MatchLogic) -> Iterator[str]:
    if isinstance(clause, ClauseOr | ClauseAnd):
        for part in clause.or_ if isinstance(clause, ClauseOr) else clause.and_:
            yield from examples(part)
    elif isinstance(clause, ClauseRegex):
        text = clause.regex.strip("^$").replace(r"\d{8}", "20260815").replace(r"\d{4}", "2026").replace(r"\d{2}", "08")
        text = text.replace("[-@]", "@").replace(r"\d", "7").replace("\\", "")
        if re.search(clause.regex, text):
            yield text
    else:
        yield next(iter(vars(clause).values()))


def random_usage(rng: random.Random) -> Usage:
    """Counts that fit together, in OpenAI's sense; half of the calls are plain."""
    total, output = rng.choice([*INPUT_SIZES, rng.randrange(3000)]), rng.randrange(5000)
    if rng.random() < 0.5:
        cached = rng.randrange(total + 1)
        return Usage(input_tokens=total, output_tokens=output, cache_read_tokens=cached, audio_seconds=rng.random() * 90)
    cuts = sorted(rng.randrange(total + 1) for _ in range(6))
    read, read_audio, audio, image, write, write_1h = (high - low for low, high in zip([0, *cuts], cuts, strict=False))
    out_audio, out_image, reasoning = (rng.randrange(output // 3 + 1) for _ in range(3))
    return Usage(
        total, output, read + read_audio, write + write_1h, write_1h, reasoning,
        read_audio + audio, out_audio, read_audio, image, out_image, rng.randrange(400) / 8,
    )  # fmt: skip


def fitting(model: ModelInfo, usage: Usage) -> Usage:
    """Without one-hour cache writes where the data has no price of theirs: it bills them as five-minute ones, we as twice the input."""
    prices = [price.prices for price in model.prices] if isinstance(model.prices, list) else [model.prices]
    if all(price.cache_write_1h_mtok is not None for price in prices):
        return usage
    counts = {field: getattr(usage, field) for field in usage.__struct_fields__}
    return Usage(**{**counts, "cache_write_1h_tokens": 0})


def their_usage(usage: Usage) -> TheirUsage:
    return TheirUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        cache_audio_read_tokens=usage.cache_read_audio_tokens or 0,
        input_image_tokens=usage.input_image_tokens,
        output_image_tokens=usage.output_image_tokens,
        cache_image_read_tokens=0,  # no Usage tells it
        audio_seconds=usage.audio_seconds,
        input_audio_seconds=usage.audio_seconds,
    )


def unpriced(case: Case) -> bool:
    """A tier without data, and units that no usage tells: genai-prices answers the standard price and 0, we that it is unknown."""
    context = TIERS[case.tier]
    variants = case.model.price_variants or () if case.own else ()
    active = [one for one in variants if one.when == context and (one.constraint is None or one.constraint.active(case.at))]
    keys = {key for key, value in vars(case.model.get_prices(case.at)).items() if value is not None}
    return bool((case.tier not in (None, "default") and not active) or (keys and keys <= UNCOUNTED_UNITS))


def nusd(usd: Decimal) -> Decimal:
    return usd * 10**9


def test_every_exception_is_a_model_of_the_data() -> None:
    assert all(any(model.id == model_id for model in THEIRS[provider].models) for provider, model_id in EXCEPTIONS)


def test_a_name_that_genai_prices_does_not_know_has_no_price(book: PriceBook) -> None:
    for ours, theirs in MAPPED:
        for name in ("", "gpt", "x-gpt-4o", "gpt-4ox", "claude", "my-finetune", "llama", "ft:gpt-4.1-2025-04-14:org::id"):
            known = THEIRS[theirs].find_model(name, all_providers=providers) is not None
            assert book.known(Target(ours, ours, "https://example.com"), name) is known, (ours, name)
