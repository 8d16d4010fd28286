"""How long a prompt is and what a call will cost, before anybody has counted: good enough to choose a target by, never to bill by.

Here: tokens from characters, the usage a call is expected to have. Not here: reading prompts (wire/prompt.py), exact counts (the observer
has tiktoken: it takes memory and milliseconds that the gate doesn't have).
"""

from __future__ import annotations

from proxy.call import Usage

CHARS_PER_TOKEN = 4
"""What English prose and code have on average with today's tokenizers; other languages have fewer, so that their prompts are longer."""
MOST_CHARS_PER_TOKEN = 6
"""More than that has hardly any text: by this, a target is left out only if the prompt can't fit."""
LEAST_BYTES_PER_TOKEN = 2
"""Of a JSON body, whatever stands in it: a token given by its number is a digit and a comma."""
EXPECTED_OUTPUT_TOKENS = 256
"""Of a call that sets no limit."""


def expected_tokens(text_chars: int, token_ids: int) -> int:
    """The tokens that a prompt probably has; images and sound aren't counted."""
    return text_chars // CHARS_PER_TOKEN + token_ids


def least_tokens(text_chars: int, token_ids: int) -> int:
    """The tokens that a prompt has at least."""
    return text_chars // MOST_CHARS_PER_TOKEN + token_ids


def surely_fits(body_bytes: int, context_window: int) -> bool:
    """Whether no prompt in a JSON body of this size could be too long: then it needn't be read."""
    return body_bytes // LEAST_BYTES_PER_TOKEN <= context_window


def expected_usage(input_tokens: int | None, max_tokens: int | None, choices: int | None) -> Usage:
    """The usage to compare prices by: every limit is taken for reached, which is the same mistake for all targets."""
    output_tokens = (EXPECTED_OUTPUT_TOKENS if max_tokens is None else max_tokens) * (choices or 1)
    return Usage(input_tokens=input_tokens or 0, output_tokens=output_tokens)
