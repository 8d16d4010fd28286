"""What the shipped data knows of how much a model takes."""

from __future__ import annotations

from functools import cache

import pytest

from proxy.call import Target
from proxy.data.price_data import read_prices
from proxy.policy.price_match import ShippedPrices
from proxy.policy.pricing import MAX_ANSWERS, MAX_NAME_CHARS, PriceBook


@cache
def shipped() -> ShippedPrices:
    return ShippedPrices(read_prices())


def target(provider: str = "openai") -> Target:
    return Target(provider, provider, "https://api.example.com/v1")


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4", 8192),
        ("openai", "gpt-4o-2024-08-06", 128_000),
        ("azure", "gpt-4", 8192),
        ("simulated", "sim/gpt-4", 8192),
        ("openai", "no-such-model", None),
        ("vllm", "gpt-4", None),
        ("openai", None, None),
        ("openai", "gpt-4" + "x" * MAX_NAME_CHARS, None),
    ],
)
def test_a_context_window_is_that_of_the_providers_model(provider: str, model: str | None, expected: int | None) -> None:
    book = PriceBook(shipped(), {})
    assert [book.context_window(target(provider), model) for _ in range(2)] == [expected, expected]


def test_names_that_clients_make_up_take_no_more_than_so_much_memory() -> None:
    book = PriceBook(shipped(), {})
    for number in range(MAX_ANSWERS + 50):
        book.context_window(target("vllm"), f"model-{number}")
    assert len(book._models) == MAX_ANSWERS
