"""What a call costs at most: no usage within the bound may cost more, whatever the model, the tier and the date."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from proxy.call import Price, Target, Timeouts, Usage
from proxy.data.price_data import read_prices
from proxy.policy.bounds import UsageBound
from proxy.policy.price_match import PRICED_AS, ShippedPrices
from proxy.policy.price_rates import PER_MILLION_KEYS
from proxy.policy.pricing import LATE_S, MAX_NAME_CHARS, PriceBook

BOOK = PriceBook(ShippedPrices(read_prices()), {})
NOW_S = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
DATES = [
    datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC).timestamp(),
    datetime(2026, 11, 18, 8, 30, tzinfo=UTC).timestamp(),  # a Wednesday, in DeepSeek's peak hours
    NOW_S,
]
TIERS = (None, "auto", "default", "flex", "priority", "fast", "scale")
REPLY_TIERS = {None: (None, "default", "priority"), "auto": (None, "default", "priority"), "default": (None, "default")}
"""What a reply may be billed as, by what its request asked for; anything else may also fall back to the standard tier."""
MILLION = UsageBound(1_000_000, 1_000_000)
USD = 10**9


def target(provider: str = "openai", price: Price | None = None, total_s: float | None = None) -> Target:
    return Target(f"{provider}-target", provider, "https://example.com/v1", price=price, timeouts=Timeouts(total_s=total_s))


def most(
    bound: UsageBound | None = MILLION,
    model: str | None = "gpt-4.1",
    *,
    provider: str = "openai",
    price: Price | None = None,
    total_s: float | None = None,
    tier: str | None = "default",
    at: float = NOW_S,
) -> int | None:
    book = PriceBook(ShippedPrices(read_prices()), {}) if price else BOOK
    return book.bound_nusd(target(provider, price, total_s), model, bound, at, tier)


def usages(bound: UsageBound, rng: random.Random) -> Iterator[Usage]:
    """Usages within a bound, subsets and all; the first is the bound itself."""
    yield Usage(input_tokens=bound.input_tokens, output_tokens=bound.output_tokens)
    for _ in range(4):
        total, output = rng.randint(0, bound.input_tokens), rng.randint(0, bound.output_tokens)

        def some(most: int) -> int:
            return rng.choice((0, most, rng.randint(0, most)))

        write, read = some(total), some(total)
        audio = some(total) if bound.may_have_audio else 0
        yield Usage(
            total,
            output,
            cache_read_tokens=read,
            cache_write_tokens=write,
            cache_write_1h_tokens=some(write),
            reasoning_tokens=some(output),
            input_audio_tokens=audio,
            output_audio_tokens=some(output),
            cache_read_audio_tokens=some(min(read, audio)),
            input_image_tokens=some(total) if bound.may_have_images else 0,
            output_image_tokens=some(output),
        )


@pytest.mark.parametrize("provider", sorted(PRICED_AS))
def test_no_usage_within_a_bound_costs_more(provider: str) -> None:
    rng = random.Random(provider)
    to, compared = target(provider), 0
    models = json.loads(read_prices())["providers"][PRICED_AS[provider]]["models"]
    for model in models:
        tier, at = rng.choice(TIERS), rng.choice(DATES)
        bound = UsageBound(rng.choice((5, 150_000, 400_000)), rng.choice((0, 1, 9_000)), rng.random() < 0.5, rng.random() < 0.5)
        most_nusd = BOOK.bound_nusd(to, model["id"], bound, at, tier)
        if most_nusd is None:
            continue
        for reply_tier in REPLY_TIERS.get(tier, (tier, "default")):
            for usage in usages(bound, rng):
                cost = BOOK.cost(to, model["id"], None, usage, at, 1.0, reply_tier)
                if cost is not None:  # a tier without a price has no cost either
                    assert cost.total_nusd <= most_nusd, (model["id"], tier, reply_tier, bound, usage)
                    compared += 1
    assert compared >= len(models)


def test_no_usage_within_a_bound_costs_more_at_a_declared_price() -> None:
    rng = random.Random(1)
    for _ in range(200):
        keys = rng.sample(PER_MILLION_KEYS, rng.randint(1, len(PER_MILLION_KEYS)))
        price = Price(per_million={key: rng.choice((0.0, 0.1, rng.random() * 10)) for key in keys}, per_request=rng.choice((None, 0.003)))
        bound = UsageBound(rng.randint(0, 10_000), rng.randint(0, 10_000), True, True)
        to, book = target("vllm", price), PriceBook(ShippedPrices(read_prices()), {})
        most_nusd = book.bound_nusd(to, "any", bound, NOW_S, None)
        assert most_nusd is not None
        for usage in usages(bound, rng):
            cost = book.cost(to, "any", None, usage, NOW_S, 1.0, None)
            assert cost is not None
            assert cost.total_nusd <= most_nusd, (price, bound, usage)


def test_plain_tokens_cost_what_they_cost() -> None:
    assert most() == 10 * USD  # 2 and 8


def test_every_token_of_input_may_be_written_to_the_dearest_cache() -> None:
    assert most(UsageBound(1_000_000, 0), "claude-sonnet-4-5", provider="anthropic", tier="standard_only") == 12 * USD  # 200,000 passed: 6


def test_prices_of_longer_prompts_count_where_the_bound_reaches_them() -> None:
    short = most(UsageBound(200_000, 0), "claude-sonnet-4-5", provider="anthropic", tier="standard_only")
    assert short == 200_000 * 6 * USD // 1_000_000


def test_sound_is_dearer_only_where_there_is_some() -> None:
    plain = most(UsageBound(1_000_000, 0), "gemini-2.5-flash", provider="gemini")
    sound = most(UsageBound(1_000_000, 0, may_have_audio=True), "gemini-2.5-flash", provider="gemini")
    assert plain is not None
    assert sound is not None
    assert sound > plain


@pytest.mark.parametrize("tier", [None, "auto", "AUTO"])
def test_a_tier_left_to_the_provider_is_the_dearer_one(tier: str | None) -> None:
    priority = most(tier="priority")
    assert priority is not None
    assert most(tier=tier) == priority > 10 * USD


def test_a_tier_left_to_the_provider_is_standard_where_no_other_is_priced() -> None:
    assert most(model="gpt-4", tier=None) == most(model="gpt-4", tier="default")


def test_a_cheaper_tier_may_fall_back_to_the_standard_one() -> None:
    assert most(model="gpt-5", tier="flex") == most(model="gpt-5", tier="default")


def test_a_tier_without_a_price_has_no_bound() -> None:
    assert most(tier="scale") is None
    assert most(model="gpt-4", tier="priority") is None


def test_no_name_of_a_tier_is_kept_that_is_too_long_for_one() -> None:
    book = PriceBook(ShippedPrices(read_prices()), {})
    tier = "x" * (MAX_NAME_CHARS + 1)
    assert book.bound_nusd(target(), "gpt-4.1", MILLION, NOW_S, tier) is None
    assert all(key[3] != tier for key in book._answers)


def test_a_model_without_a_price_has_no_bound() -> None:
    assert most(model="no-such-model") is None
    assert most(model=None) is None


def test_part_of_a_nano_usd_is_rounded_up() -> None:
    assert most(UsageBound(1, 0), price=Price(per_million={"input": 0.0001})) == 1
    assert most(UsageBound(0, 0), price=Price(per_million={"input": 0.0001})) == 0


@pytest.mark.parametrize("bound", [None, MILLION])
def test_what_is_free_fits_always(bound: UsageBound | None) -> None:
    assert most(bound, price=Price(free=True)) == 0


def test_a_price_by_the_request_needs_no_usage() -> None:
    assert most(None, price=Price(per_request=0.25)) == USD // 4
    assert most(None, price=Price(per_request=0.25, per_million={"input": 1.0})) is None


def test_a_price_by_time_is_bound_by_the_time_an_attempt_may_take() -> None:
    price = Price(per_gpu_hour=3.6)  # a thousandth of a USD a second
    assert most(None, price=price, total_s=60.0) == round(60 + LATE_S) * USD // 1000
    assert most(None, price=price) is None


def test_sound_billed_by_its_length_has_no_bound() -> None:
    assert most(None, "whisper-1") is None
    assert most(UsageBound(1_000, 10, may_have_audio=True), "voxtral-mini-2602", provider="mistral") is None


def test_usage_that_is_not_known_has_no_bound_in_money() -> None:
    assert most(None) is None


# ---------------------------------------------------------------------------------------------- what models take and give


@pytest.mark.parametrize(
    ("provider", "model", "window", "output", "image"),
    [
        ("openai", "gpt-4o-2024-08-06", 128_000, 16_384, 1_445),
        ("openai", "gpt-4o-mini", 128_000, 16_384, 48_169),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", None, 16_384, 48_169),
        ("openrouter", "openai/gpt-4o-mini", None, 16_384, 48_169),
        ("azure", "gpt-5.2", 400_000, 128_000, 4_096),
        ("anthropic", "claude-opus-4-1", 200_000, 32_000, 8_192),
        ("anthropic", "claude-sonnet-4-5-20250929", 1_000_000, 64_000, 8_192),
        ("gemini", "gemini-2.5-flash", 1_048_576, 65_536, 8_192),
        ("deepseek", "deepseek-chat", 1_048_576, 393_216, None),
        ("groq", "openai/gpt-oss-120b", 131_072, 131_072, None),
        ("openai", "no-such-model", None, None, None),
        ("vllm", "gpt-4o", None, None, None),
    ],
)
def test_limits_are_those_of_the_providers_model(
    provider: str, model: str, window: int | None, output: int | None, image: int | None
) -> None:
    found = BOOK.limits(target(provider), model)
    assert (found.max_output_tokens, found.image_tokens) == (output, image)
    assert window is None or found.context_window == window


def test_a_call_without_a_model_has_no_limits() -> None:
    assert BOOK.limits(target(), None) == BOOK.limits(target(), "no-such-model")
