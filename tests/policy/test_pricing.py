"""Prices: which one holds, what it makes of a usage, and what stays unknown."""

import gzip
import time
from datetime import UTC, datetime
from typing import get_args

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Cost, Price, Target, Usage
from proxy.config.schema import Provider
from proxy.data.export_prices import FOLDER, compressed, exported_prices, licence
from proxy.data.price_data import PRICE_FILE, read_prices
from proxy.policy import pricing
from proxy.policy.price_match import DATED_SNAPSHOTS, NAME_PREFIXES, PRICED_AS, ShippedPrices
from proxy.policy.price_rates import PER_MILLION_KEYS, cost_of, declared_bands, rates_for, shipped_bands
from proxy.policy.pricing import PriceBook, check_price

SHIPPED = ShippedPrices(read_prices())
BOOK = PriceBook(SHIPPED, {})
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()  # a Friday
MILLION = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
USD = 10**9


def target(provider: str = "openai", price: Price | None = None) -> Target:
    return Target(f"{provider}-target", provider, "https://example.com/v1", price=price)


def cost(
    usage: Usage,
    model: str | None = "gpt-4.1",
    response_model: str | None = None,
    *,
    provider: str = "openai",
    price: Price | None = None,
    overrides: dict[str, Price] | None = None,
    at: float = NOW,
    duration_s: float = 1.0,
    tier: str | None = None,
    batch: bool = False,
) -> Cost | None:
    book = PriceBook(SHIPPED, overrides or {}) if overrides or price else BOOK
    return book.cost(target(provider, price), model, response_model, usage, at, duration_s, tier, batch)


def total(usage: Usage, model: str | None = "gpt-4.1", **details: object) -> int | None:
    found = cost(usage, model, **details)  # type: ignore[arg-type]
    return None if found is None else found.total_nusd


def per_million(**usd: float) -> Price:
    return Price(per_million=usd)


# ------------------------------------------------------------------------------------------------------- which price


def test_target_price_wins_over_everything() -> None:
    usage = Usage(input_tokens=10, output_tokens=0, provider_cost_nusd=7)
    found = cost(usage, price=per_million(input=1.0), overrides={"gpt-4.1": per_million(input=2.0)})
    assert found == Cost(10_000, input_nusd=10_000, source="override")


def test_override_wins_over_the_providers_own_cost() -> None:
    usage = Usage(input_tokens=10, output_tokens=0, provider_cost_nusd=7)
    assert cost(usage, overrides={"gpt-*": per_million(input=2.0)}) == Cost(20_000, input_nusd=20_000, source="override")


def test_providers_own_cost_wins_over_shipped_prices() -> None:
    usage = Usage(input_tokens=10, output_tokens=10, provider_cost_nusd=1_234)
    assert cost(usage, "openai/gpt-4.1", provider="openrouter") == Cost(1_234, source="provider")


def test_providers_own_cost_needs_no_known_model() -> None:
    assert cost(Usage(provider_cost_nusd=5), "brand/new", provider="openrouter") == Cost(5, source="provider")


def test_an_overrides_exact_name_wins_over_a_glob_of_the_other_name() -> None:
    overrides = {"gpt-*": per_million(input=1.0), "my-alias": per_million(input=2.0)}
    assert total(Usage(input_tokens=1), "my-alias", response_model="gpt-4.1", overrides=overrides) == 2_000


def test_the_first_matching_glob_wins() -> None:
    overrides = {"gpt-4*": per_million(input=1.0), "gpt-*": per_million(input=2.0)}
    assert total(Usage(input_tokens=1), "gpt-4.1", overrides=overrides) == 1_000
    assert total(Usage(input_tokens=1), "gpt-5", overrides=overrides) == 2_000


def test_override_names_ignore_case() -> None:
    assert total(Usage(input_tokens=1), "qwen/QWEN3", provider="vllm", overrides={"Qwen/*": per_million(input=1.0)}) == 1_000


def test_response_model_is_priced_before_the_requested_one() -> None:
    assert total(MILLION, "gpt-4.1", response_model="gpt-4.1-mini") == 2 * USD


def test_requested_model_is_priced_when_the_response_model_is_unknown() -> None:
    assert total(MILLION, "gpt-4.1", response_model="deployment-7") == 10 * USD


def test_unknown_model_has_no_cost() -> None:
    assert cost(MILLION, "no-such-model") is None
    assert cost(MILLION, None) is None


@pytest.mark.parametrize("provider", ["compatible", "vllm", "tgi", "ollama", "petals"])
def test_local_providers_have_no_shipped_price(provider: str) -> None:
    assert cost(MILLION, "gpt-4.1", provider=provider) is None
    assert not BOOK.known(target(provider), "gpt-4.1")


def test_simulated_is_priced_as_openai_without_its_prefix() -> None:
    assert total(MILLION, "sim/gpt-4.1", provider="simulated") == total(MILLION, "gpt-4.1")
    assert cost(MILLION, "sim/gpt-4.1", provider="openai") is None


def test_gemini_names_may_begin_with_models() -> None:
    plain = total(MILLION, "gemini-2.5-flash", provider="gemini")
    assert plain is not None
    assert total(MILLION, "models/gemini-2.5-flash", provider="gemini") == plain


def test_mapped_providers_are_providers_of_the_configuration() -> None:
    assert {*PRICED_AS, *NAME_PREFIXES, *DATED_SNAPSHOTS} <= set(get_args(Provider))


def test_azure_falls_back_to_openai_prices_but_not_to_its_tiers() -> None:
    assert total(MILLION, "gpt-4.1", provider="azure") == 10 * USD
    assert cost(MILLION, "gpt-4.1", provider="azure", tier="priority") is None


# -------------------------------------------------------------------------------------------------------------- names


def test_a_snapshot_too_new_for_the_data_is_priced_as_its_name() -> None:
    assert total(MILLION, "gpt-4.1-2026-12-01") == 10 * USD
    assert total(MILLION, "claude-opus-4-5-20991231", provider="anthropic") == total(MILLION, "claude-opus-4-5", provider="anthropic")


def test_a_snapshot_with_its_own_price_keeps_it() -> None:
    assert total(MILLION, "gpt-4o-2024-05-13") == 20 * USD
    assert total(MILLION, "gpt-4o") == 12.5 * USD


def test_a_number_that_is_no_date_is_part_of_the_name() -> None:
    assert cost(MILLION, "command-a-03-2026", provider="cohere") is None
    assert cost(MILLION, "mistral-large-2799", provider="mistral") is None
    assert cost(MILLION, "gpt-4.1-2026-13-01") is None


def test_compact_dates_are_read_as_dashed_ones() -> None:
    assert total(MILLION, "gpt-4o-20240513") == 20 * USD


def test_a_fine_tune_has_its_own_price() -> None:
    assert total(MILLION, "ft:gpt-4o-2024-08-06:my-org::id") == 18.75 * USD


def test_a_fine_tune_without_data_is_unknown_and_not_priced_as_its_base() -> None:
    assert cost(MILLION, "ft:gpt-4.1-2025-04-14:my-org::id") is None
    assert cost(MILLION, "ft:o4-mini-2025-04-16:my-org::id", provider="azure") is None
    assert cost(MILLION, "ft:gpt-4.1:my-org:tuned-2025-04-14") is None


def test_a_fine_tunes_free_text_never_names_a_free_model() -> None:
    assert cost(MILLION, "ft:gpt-4.1-2025-04-14:my-org:moderation:id") is None
    assert cost(MILLION, "omni-moderation-latest") == Cost(0)


# ------------------------------------------------------------------------------------------------------------- usage


def test_subsets_are_not_counted_twice() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=600, reasoning_tokens=40)
    assert cost(usage) == Cost(400 * 2000 + 600 * 500 + 100 * 8000, 400 * 2000, 100 * 8000, 600 * 500)


def test_a_cheap_cache_read_is_billed_as_input_where_the_data_has_no_price() -> None:
    assert total(Usage(input_tokens=100, output_tokens=0, cache_read_tokens=100), "gpt-4-turbo") == 100 * 10_000


def test_openai_cache_writes_cost_a_quarter_more_from_gpt_5_6() -> None:
    written = Usage(input_tokens=1000, output_tokens=0, cache_write_tokens=1000)
    for model in ("gpt-5.6-sol", "gpt-5.6-luna", "gpt-6-astra"):
        plain = total(Usage(input_tokens=1000, output_tokens=0), model)
        assert plain is not None
        assert total(written, model) == plain * 5 // 4
    assert total(written, "gpt-4.1") == total(Usage(input_tokens=1000, output_tokens=0), "gpt-4.1")


def test_anthropic_one_hour_writes_cost_twice_the_input() -> None:
    usage = Usage(input_tokens=1000, output_tokens=0, cache_write_tokens=900, cache_write_1h_tokens=500)
    found = cost(usage, "claude-opus-4-5", provider="anthropic")
    assert found == Cost(100 * 5000 + 400 * 6250 + 500 * 10_000, 100 * 5000, 0, 0, 400 * 6250 + 500 * 10_000)


def test_one_hour_writes_cost_twice_the_input_where_the_data_lacks_their_price() -> None:
    usage = Usage(input_tokens=1000, output_tokens=0, cache_write_tokens=1000, cache_write_1h_tokens=1000)
    assert total(usage, "claude-opus-4-1", provider="gemini") == 1000 * 30_000


def test_audio_is_not_priced_as_text() -> None:
    usage = Usage(input_tokens=100, output_tokens=50, input_audio_tokens=80, output_audio_tokens=50)
    assert total(usage, "gpt-4o-audio-preview") == 20 * 2500 + 80 * 40_000 + 50 * 80_000
    assert total(usage, "gpt-4o-mini-audio-preview-2024-12-17") == 20 * 150 + 80 * 10_000 + 50 * 20_000
    assert total(usage, "gpt-audio") == 20 * 2500 + 80 * 32_000 + 50 * 64_000


def test_cached_audio_has_its_own_price() -> None:
    usage = Usage(input_tokens=100, output_tokens=0, input_audio_tokens=60, cache_read_tokens=50, cache_read_audio_tokens=40)
    assert cost(usage, "gpt-realtime-mini") == Cost(
        30 * 600 + 20 * 10_000 + 10 * 60 + 40 * 300, 30 * 600 + 20 * 10_000, 0, 10 * 60 + 40 * 300
    )


def test_an_untold_overlap_of_cached_and_audio_tokens_costs_the_dearer_price() -> None:
    usage = Usage(input_tokens=100, output_tokens=0, input_audio_tokens=60, cache_read_tokens=80)
    assert total(usage, "gpt-realtime") == 60 * 32_000 + 40 * 400


def test_reasoning_has_its_own_price_where_the_data_has_one() -> None:
    usage = Usage(input_tokens=0, output_tokens=100, reasoning_tokens=60)
    assert total(usage, "perplexity/sonar-deep-research", provider="openrouter") == 40 * 8000 + 60 * 3000


def test_transcription_is_billed_by_its_length() -> None:
    assert total(Usage(audio_seconds=90.0), "whisper-1") == 9 * USD // 1000


def test_transcription_without_its_length_is_unknown() -> None:
    assert cost(MILLION, "whisper-1") is None


def test_groq_bills_ten_seconds_at_least() -> None:
    short, floor = (total(Usage(audio_seconds=seconds), "whisper-large-v3", provider="groq") for seconds in (1.5, 10.0))
    assert short == floor == round(10 * 0.111 * USD / 3600)


def test_a_unit_that_no_usage_tells_is_unknown_and_never_zero() -> None:
    assert cost(MILLION, "tts-1") is None
    assert cost(MILLION, "mistral-ocr-latest", provider="mistral") is None
    assert not BOOK.known(target(), "tts-1")


def test_unknown_token_counts_have_no_cost() -> None:
    assert cost(Usage()) is None
    assert cost(Usage(output_tokens=5)) is None


def test_embeddings_need_no_output_count() -> None:
    assert total(Usage(input_tokens=1000), "text-embedding-3-small") == 20_000


def test_a_subset_larger_than_its_total_never_adds_cost() -> None:
    usage = Usage(input_tokens=10, output_tokens=10, cache_read_tokens=500, reasoning_tokens=90, output_audio_tokens=20)
    assert total(usage) == 10 * 500 + 10 * 8000


# ------------------------------------------------------------------------------------------------------ tiers and time


def test_context_tier_counts_for_every_token_once_the_input_passes_its_start() -> None:
    assert total(Usage(input_tokens=272_000, output_tokens=10), "gpt-5.4") == 272_000 * 2500 + 10 * 15_000
    assert total(Usage(input_tokens=272_001, output_tokens=10), "gpt-5.4") == 272_001 * 5000 + 10 * 22_500


@pytest.mark.parametrize("tier", [None, "", "auto", "default", "standard", "Standard", "on_demand"])
def test_standard_tiers_have_the_standard_price(tier: str | None) -> None:
    assert total(MILLION, tier=tier) == 10 * USD


@pytest.mark.parametrize(("tier", "usd"), [("priority", 22.5), ("fast", 22.5), ("flex", 5.625)])
def test_service_tiers_have_their_own_prices(tier: str, usd: float) -> None:
    assert total(MILLION, "gpt-5", tier=tier) == usd * USD


@pytest.mark.parametrize("tier", ["flex", "scale", "a-new-tier"])
def test_a_service_tier_without_data_is_unknown(tier: str) -> None:
    assert cost(MILLION, "gpt-4.1", tier=tier) is None


def test_a_service_tier_before_its_prices_begin_is_unknown() -> None:
    assert cost(MILLION, "gpt-5", tier="flex", at=datetime(2026, 10, 11, tzinfo=UTC).timestamp()) is None


def test_batch_has_its_own_price_by_flag_and_by_tier() -> None:
    assert total(MILLION, batch=True) == 5 * USD
    assert total(MILLION, "claude-opus-4-5", provider="anthropic", tier="batch") == 15 * USD
    assert cost(MILLION, "o1-mini", batch=True) is None


def test_a_tier_keeps_the_standard_price_of_what_it_does_not_reprice() -> None:
    usage = Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=1000)
    assert total(usage, "o3", tier="batch") == total(usage, "o3") == 1000 * 500


def test_a_new_price_holds_from_its_first_second() -> None:
    change = datetime(2025, 6, 10, tzinfo=UTC).timestamp()
    book = PriceBook(SHIPPED, {})
    totals = [book.cost(target(), "o3", None, MILLION, at, 1.0, None) for at in (change - 0.001, change, change - 0.001)]
    assert [one and one.total_nusd for one in totals] == [50 * USD, 10 * USD, 50 * USD]


@pytest.mark.parametrize(
    ("moment", "usd"),
    [
        (datetime(2026, 11, 20, 0, 59, 59, tzinfo=UTC), 0.75),  # Friday
        (datetime(2026, 11, 20, 1, 0, tzinfo=UTC), 1.5),
        (datetime(2026, 11, 20, 4, 0, tzinfo=UTC), 0.75),
        (datetime(2026, 11, 20, 9, 59, 59, tzinfo=UTC), 1.5),
        (datetime(2026, 11, 21, 8, 0, tzinfo=UTC), 0.75),  # Saturday
        (datetime(2026, 11, 22, 8, 0, tzinfo=UTC), 0.75),  # Sunday
        (datetime(2026, 11, 23, 8, 0, tzinfo=UTC), 1.5),  # Monday
    ],
)
def test_peak_hours_count_on_working_days_only(moment: datetime, usd: float) -> None:
    assert total(MILLION, "deepseek-flash", provider="deepseek", at=moment.timestamp()) == usd * USD


def test_peak_prices_do_not_hold_before_they_began() -> None:
    moment = datetime(2026, 8, 14, 8, tzinfo=UTC)
    assert total(MILLION, "deepseek-v4-pro", provider="deepseek", at=moment.timestamp()) == 1.305 * USD


def test_a_kept_answer_changes_with_the_hour() -> None:
    book, deepseek = PriceBook(SHIPPED, {}), target("deepseek")
    hours = [datetime(2026, 11, 20, hour, 30, tzinfo=UTC).timestamp() for hour in range(24)]
    costs = [book.cost(deepseek, "deepseek-flash", None, MILLION, at, 1.0, None) for at in hours + hours[::-1]]
    assert [hour for hour, one in enumerate(costs[:24]) if one and one.total_nusd == 1.5 * USD] == [1, 2, 3, 6, 7, 8, 9]
    assert costs[24:] == costs[23::-1]


def test_an_answer_kept_on_a_day_does_not_hold_for_the_day_before() -> None:
    book, deepseek = PriceBook(SHIPPED, {}), target("deepseek")
    moments = [datetime(2026, 11, 23, 0, 30, tzinfo=UTC), datetime(2026, 11, 20, 8, 30, tzinfo=UTC)]
    costs = [book.cost(deepseek, "deepseek-flash", None, MILLION, moment.timestamp(), 1.0, None) for moment in moments]
    assert [one and one.total_nusd for one in costs] == [0.75 * USD, 1.5 * USD]


# ------------------------------------------------------------------------------------------------------ declared prices


def test_a_declared_price_stands_in_for_what_it_does_not_name() -> None:
    every = Usage(1000, 900, 100, 100, 50, 10, 100, 100, 20, 100, 100)
    assert total(every, price=per_million(input=3.0, output=12.0)) == 1000 * 3000 + 900 * 12_000


def test_cached_audio_is_a_cache_read_first_and_audio_second() -> None:
    usage = Usage(input_tokens=10, input_audio_tokens=10, cache_read_tokens=10, cache_read_audio_tokens=10)
    assert total(usage, price=per_million(input=1.0, input_audio=50.0, cache_read=0.5)) == 10 * 500
    assert total(usage, price=per_million(input=1.0, input_audio=50.0)) == 10 * 50_000


def test_a_declared_price_names_every_kind() -> None:
    price = Price(per_million={kind: float(10**place) for place, kind in enumerate(PER_MILLION_KEYS)})
    usage = Usage(
        input_tokens=29, output_tokens=12, cache_read_tokens=5, cache_write_tokens=9, cache_write_1h_tokens=5, input_audio_tokens=9,
        output_audio_tokens=7, cache_read_audio_tokens=2, input_image_tokens=4, output_image_tokens=3,
    )  # fmt: skip
    # input, output, cache_read, cache_write, cache_write_1h, input_audio, output_audio, cache_read_audio, input_image, output_image
    counts = [29 - 5 - 9 - 7 - 4, 12 - 7 - 3, 3, 4, 5, 7, 7, 2, 4, 3]
    assert total(usage, price=price) == sum(count * 10**place for place, count in enumerate(counts)) * 1000


def test_gpu_hours_are_billed_by_the_calls_duration() -> None:
    assert total(Usage(), None, provider="ollama", price=Price(per_gpu_hour=1.2), duration_s=30.0) == USD // 100


def test_a_request_fee_is_added_to_the_tokens() -> None:
    price = Price(per_million={"input": 1.0}, per_request=0.005)
    assert cost(Usage(input_tokens=10), price=price) == Cost(5_010_000, input_nusd=5_010_000, source="override")


def test_free_costs_nothing_and_says_so() -> None:
    assert cost(Usage(), None, price=Price(free=True)) == Cost(0, source="override")


def test_a_declared_price_is_the_decimal_number_that_was_written() -> None:
    assert total(Usage(input_tokens=3_000_000_000), price=per_million(input=0.1)) == 300 * USD
    assert total(Usage(input_tokens=10**9), price=per_million(input=1e-07)) == 100_000


@pytest.mark.parametrize(
    ("price", "message"),
    [
        (Price(per_million={"inputs": 1.0}), "unknown key 'inputs' in per_million; known are input, output, cache_read"),
        (Price(per_million={"input": -1.0}), "per_million.input is -1.0"),
        (Price(per_million={"input": float("nan")}), "per_million.input is nan"),
        (Price(per_gpu_hour=-0.1), "per_gpu_hour is -0.1"),
        (Price(per_request=float("inf")), "per_request is inf"),
        (Price(), "any of per_million, per_gpu_hour and per_request"),
        (Price(per_million={}), "any of per_million, per_gpu_hour and per_request"),
        (Price(free=True, per_request=1.0), "a price is `free: true`, or"),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(price: Price, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_price(price)
    with pytest.raises(ValueError, match=r"prices\.overrides\.gpt-\*: "):
        PriceBook(SHIPPED, {"gpt-*": price})


def test_known_says_whether_a_call_would_have_a_price() -> None:
    book = PriceBook(SHIPPED, {"mine-*": per_million(input=1.0)})
    assert book.known(target(), "gpt-4.1")
    assert not book.known(target(), "gpt-nothing")
    assert not book.known(target(), None)
    assert book.known(target("vllm"), "mine-7b")
    assert book.known(target("ollama", Price(per_gpu_hour=1.0)), None)


# ------------------------------------------------------------------------------------------------- rounding and bounds

counts = st.one_of(st.none(), st.integers(0, 2_000_000))
usages = st.builds(
    Usage,
    counts,
    counts,
    counts,
    counts,
    counts,
    counts,
    counts,
    counts,
    counts,
    counts,
    counts,
    st.one_of(st.none(), st.floats(0, 90_000)),
)


@given(usage=usages, model=st.sampled_from(["gpt-4.1", "gpt-realtime", "gpt-5.4", "o4-mini", "gpt-image-1", "whisper-1"]))
def test_parts_add_up_to_the_total_and_are_never_negative(usage: Usage, model: str) -> None:
    found = cost(usage, model, tier="flex" if model == "o4-mini" else None)
    if found is not None:
        parts = [found.input_nusd, found.output_nusd, found.cache_read_nusd, found.cache_write_nusd]
        assert sum(parts) == found.total_nusd
        assert min(parts) >= 0


def test_the_rounding_remainder_goes_to_the_largest_part() -> None:
    bands = declared_bands(per_million(input=0.0006, output=0.0006, cache_read=0.0006))
    usage = Usage(input_tokens=8, output_tokens=4, cache_read_tokens=1)
    assert cost_of(bands[0][1], usage, 0.0, "override") == Cost(7, 5, 2, 0, 0, "override")  # 4.2 + 2.4 + 0.6 = 7.2


def test_half_a_nano_usd_is_rounded_up() -> None:
    assert total(Usage(input_tokens=1), price=per_million(input=0.0005)) == 1
    assert total(Usage(input_tokens=1), price=per_million(input=0.0004)) == 0


def test_context_tiers_of_different_keys_are_joined() -> None:
    bands = shipped_bands({"input_mtok": ((0, "1"), (100, "2")), "output_mtok": ((0, "1"), (200, "3"))}, 0)
    assert bands is not None
    rates = [rates_for(bands, tokens) for tokens in (100, 101, 200, 201)]
    assert [(one.input // one.scale, one.output // one.scale) for one in rates] == [(1000, 1000), (2000, 1000), (2000, 1000), (2000, 3000)]


def test_answers_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "MAX_ANSWERS", 3)
    book = PriceBook(SHIPPED, {})
    for number in range(10):
        book.cost(target(), f"model-{number}", None, MILLION, NOW, 1.0, None)
        book.known(target(), f"model-{number}")
    assert [key[1] for key in book._answers] == ["model-7", "model-8", "model-9"]
    assert len(book._known) == 3


def test_a_name_beyond_reason_is_not_kept() -> None:
    book = PriceBook(SHIPPED, {})
    assert book.cost(target(), "gpt-4.1" + "x" * 300, None, MILLION, NOW, 1.0, None) is None
    assert all(len(key[1] or "") < 300 for key in book._answers)


# ------------------------------------------------------------------------------------------------------ the shipped file


def test_shipped_prices_are_of_the_installed_version() -> None:
    assert SHIPPED.version == genai_prices.__version__


def test_export_gives_the_shipped_prices_again_apart_from_the_date() -> None:
    assert exported_prices(SHIPPED.exported) == read_prices()
    assert exported_prices("2000-01-01") != read_prices()


def test_compressed_prices_hold_no_time_and_no_name() -> None:
    once = compressed(b"{}")
    assert once == compressed(b"{}")
    assert once[3:8] == bytes(5)  # flags: no name; modification time 0
    assert (FOLDER / PRICE_FILE).read_bytes()[3:8] == bytes(5)
    assert gzip.decompress(once) == b"{}"


def test_the_licence_is_shipped_with_the_data() -> None:
    assert (FOLDER / "PRICES-LICENSE").read_text(encoding="utf-8") == licence()
    assert "MIT License" in licence()


def test_prices_are_ready_in_twenty_milliseconds() -> None:
    def load_s() -> float:
        start = time.process_time()
        ShippedPrices(read_prices())
        return time.process_time() - start

    assert min(load_s() for _ in range(5)) < 0.02
