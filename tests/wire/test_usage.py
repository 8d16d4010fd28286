"""Every provider's usage object comes out as the same counts."""

import pytest

from proxy.call import Usage
from proxy.wire.usage import usage_of


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 10, "audio_tokens": 5, "image_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 2, "accepted_prediction_tokens": 1},
            },
            Usage(
                input_tokens=100,
                output_tokens=50,
                cache_read_tokens=64,
                cache_write_tokens=10,
                reasoning_tokens=30,
                input_audio_tokens=5,
                output_audio_tokens=2,
                input_image_tokens=6,
            ),
        ),
        (
            {
                "input_tokens": 30,
                "input_tokens_details": {"cached_tokens": 8},
                "output_tokens": 12,
                "output_tokens_details": {"reasoning_tokens": 5},
                "total_tokens": 42,
            },
            Usage(input_tokens=30, output_tokens=12, cache_read_tokens=8, reasoning_tokens=5),
        ),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input_tokens=8)),
        (
            {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 1056,
                "total_tokens": 1106,
                "output_tokens_details": {"text_tokens": 0, "image_tokens": 1056},
            },
            Usage(input_tokens=50, output_tokens=1056, input_image_tokens=40, output_image_tokens=1056),
        ),
        (
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                "output_tokens": 45,
                "total_tokens": 59,
            },
            Usage(input_tokens=14, output_tokens=45, input_audio_tokens=14),
        ),
        ({"type": "duration", "seconds": 12.5}, Usage(audio_seconds=12.5)),
        (
            {
                "total_tokens": 253,
                "input_tokens": 132,
                "output_tokens": 121,
                "input_token_details": {
                    "text_tokens": 119,
                    "audio_tokens": 13,
                    "cached_tokens": 64,
                    "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
                },
                "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
            },
            Usage(
                input_tokens=132,
                output_tokens=121,
                cache_read_tokens=64,
                cache_read_audio_tokens=4,
                input_audio_tokens=13,
                output_audio_tokens=91,
            ),
        ),
        (
            {
                "prompt_tokens": 90,
                "completion_tokens": 10,
                "total_tokens": 100,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 26,
            },
            Usage(input_tokens=90, output_tokens=10, cache_read_tokens=64),
        ),
        (
            {"prompt_tokens": 3, "completion_tokens": 1, "queue_time": 0.03, "total_tokens": 4},
            Usage(input_tokens=3, output_tokens=1),
        ),
        ({"billed_units": {"input_tokens": 7, "output_tokens": 3}, "tokens": {"input_tokens": 70}}, Usage(input_tokens=7, output_tokens=3)),
        ({"prompt_tokens": 5.0, "completion_tokens": 2}, Usage(input_tokens=5, output_tokens=2)),
    ],
)
def test_openai_shapes(told: dict[str, object], read: Usage) -> None:
    assert usage_of(told) == read


def test_anthropic_totals_include_what_was_cached() -> None:
    told = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 1000,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
        "output_tokens": 25,
        "output_tokens_details": {"thinking_tokens": 9},
    }
    assert usage_of(told) == Usage(
        input_tokens=1110,
        output_tokens=25,
        cache_read_tokens=1000,
        cache_write_tokens=100,
        cache_write_1h_tokens=60,
        reasoning_tokens=9,
    )


def test_anthropic_fields_beside_openai_totals_are_not_added_again() -> None:
    told = {"prompt_tokens": 1110, "completion_tokens": 25, "cache_read_input_tokens": 1000, "input_tokens": 10}
    assert usage_of(told) == Usage(input_tokens=1110, output_tokens=25)


def test_gemini_output_includes_thoughts_and_input_includes_tool_use_but_cached_only_once() -> None:
    told = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "toolUsePromptTokenCount": 20,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 13,
        "totalTokenCount": 140,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 88}, {"modality": "AUDIO", "tokenCount": 12}],
    }
    assert usage_of(told) == Usage(input_tokens=120, output_tokens=20, cache_read_tokens=60, reasoning_tokens=13, input_audio_tokens=12)


def test_reasoning_is_not_counted_twice_where_the_completion_holds_it() -> None:
    told = {"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60, "completion_tokens_details": {"reasoning_tokens": 40}}
    assert usage_of(told) == Usage(input_tokens=10, output_tokens=50, reasoning_tokens=40)


def test_reasoning_left_out_of_the_completion_but_in_the_total_is_output() -> None:
    told = {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 60, "completion_tokens_details": {"reasoning_tokens": 41}}
    assert usage_of(told) == Usage(input_tokens=10, output_tokens=50, reasoning_tokens=41)


@pytest.mark.parametrize(
    ("cost", "nusd"),
    [
        (0.00014, 140_000),
        (1.5e-7, 150),
        ("0.1", 100_000_000),
        (2, 2_000_000_000),
        (0.123456789, 123_456_789),
        (1e-9, 1),
        (12.000000001, 12_000_000_001),
    ],
)
def test_a_cost_told_by_the_provider_is_exact(cost: object, nusd: int) -> None:
    usage = usage_of({"prompt_tokens": 1, "completion_tokens": 1, "cost": cost})
    assert usage is not None
    assert usage.provider_cost_nusd == nusd


@pytest.mark.parametrize("cost", [-1, True, None, "free", "NaN", "Infinity", [], float("inf")])
def test_a_cost_that_makes_no_sense_is_unknown(cost: object) -> None:
    assert usage_of({"prompt_tokens": 1, "cost": cost}) == Usage(input_tokens=1)


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        "x",
        5,
        {},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"input_tokens": 0, "output_tokens": 0},
        {"promptTokenCount": 0, "totalTokenCount": 0},
        {"type": "duration"},
        {"type": "duration", "seconds": "long"},
        {"prompt_tokens": -5},
        {"prompt_tokens": True},
        {"prompt_tokens": 2**60},
        {"prompt_tokens": "7"},
        {"prompt_tokens_details": []},
    ],
)
def test_nothing_or_nothing_but_zeros_is_no_usage(told: object) -> None:
    assert usage_of(told) is None
