"""The table of what well-known models take and give, kept by hand: each of its rows must mean a model, and none may be too low."""

from __future__ import annotations

import json

import pytest

from proxy.data.model_limits import FAMILIES, FamilyLimits, family_limits
from proxy.data.price_data import read_prices
from proxy.policy.bounds import IMAGE_TOKENS
from proxy.policy.price_match import PRICED_AS

MODELS = [model for name in set(PRICED_AS.values()) for model in json.loads(read_prices())["providers"][name]["models"]]


@pytest.mark.parametrize("prefix", FAMILIES)
def test_every_family_has_a_model_in_the_price_data(prefix: str) -> None:
    assert any(family_limits(model["id"]) is FAMILIES[prefix] for model in MODELS)


@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        ("gpt-4o", "gpt-4o"),
        ("GPT-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4.1-nano", "gpt-4.1"),
        ("gpt-4-0613", "gpt-4"),
        ("ft:gpt-4o-mini", "gpt-4o-mini"),
        ("openai/gpt-5-pro", "gpt-5-pro"),
        ("anthropic/claude-opus-4.6", "claude"),
    ],
)
def test_the_longest_beginning_counts(model: str, prefix: str) -> None:
    assert family_limits(model) is FAMILIES[prefix]


def test_what_is_not_in_the_table_is_not_known() -> None:
    assert family_limits("my-model") == FamilyLimits()


def test_an_image_at_an_unknown_model_is_as_dear_as_at_any_known_one() -> None:
    assert max(limits.image_tokens or 0 for limits in FAMILIES.values()) == IMAGE_TOKENS
