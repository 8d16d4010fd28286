"""How long a prompt is taken to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Usage
from proxy.policy.estimates import EXPECTED_OUTPUT_TOKENS, expected_tokens, expected_usage, least_tokens, surely_fits

CHARS = st.integers(0, 10**8)


def test_four_characters_are_expected_to_be_a_token() -> None:
    assert (expected_tokens(400, 0), expected_tokens(3, 0), expected_tokens(0, 7)) == (100, 0, 7)


@given(CHARS, CHARS)
def test_the_least_is_not_more_than_what_is_expected(text_chars: int, token_ids: int) -> None:
    assert least_tokens(text_chars, token_ids) <= expected_tokens(text_chars, token_ids)


@given(CHARS, CHARS, st.integers(1, 10**7))
def test_what_surely_fits_is_never_estimated_too_long(text_chars: int, token_ids: int, context_window: int) -> None:
    least_body_bytes = text_chars + 2 * token_ids
    if surely_fits(least_body_bytes, context_window):
        assert least_tokens(text_chars, token_ids) <= context_window


@pytest.mark.parametrize(
    ("input_tokens", "max_tokens", "choices", "expected"),
    [
        (100, 50, None, Usage(100, 50)),
        (100, 50, 3, Usage(100, 150)),
        (100, None, None, Usage(100, EXPECTED_OUTPUT_TOKENS)),
        (None, 0, None, Usage(0, 0)),
    ],
)
def test_a_limit_of_the_output_is_taken_for_reached(
    input_tokens: int | None, max_tokens: int | None, choices: int | None, expected: Usage
) -> None:
    assert expected_usage(input_tokens, max_tokens, choices) == expected
