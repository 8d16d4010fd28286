"""The most that a call can use: tokens counted high before it is sent, and what a reply that is under way has used so far.

Here: upper bounds, from what a request holds and what a model takes. Not here: reading requests (wire/prompt_size.py, wire/request.py),
what the tokens cost (pricing.py), guesses to choose a target by (estimates.py).
docs/bounds.md says what is bound and what isn't.
"""

from __future__ import annotations

import msgspec

HIDDEN_TOKENS = 128
"""What a chat template writes around a prompt beyond the JSON around it."""
HIDDEN_TOOL_TOKENS = 1_024
"""What a provider writes into the prompt because there are tools, and for each that it defines itself (Anthropic: at most 804)."""
IMAGE_TOKENS = 48_169
"""One image at a model of which that isn't known: what the model that counts most for one does (gpt-4o-mini)."""
AUDIO_BYTES_PER_TOKEN = 16
"""Of encoded sound: 4 kbit/s, and 32 tokens a second (Gemini; OpenAI has 10)."""

CHATS = frozenset({"chat", "generate_content"})
"""Operations whose prompt is one text for one context window."""
WRITES = CHATS | {"text_completion"}
EMBEDS = "embeddings"

OLD_CHATS = frozenset({"cohere", "mistral", "deepseek", "ollama", "tgi", "petals", "compatible"})
"""Providers that may pass over `max_completion_tokens` of a chat: only `max_tokens` is a limit there."""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """What a request says of how much it may use. Tokens and bytes; None: it doesn't say."""

    operation: str  # gen_ai.operation.name
    text_bytes: int  # no text in the prompt is longer
    images: int = 0
    audio_bytes: int = 0
    hidden_tools: int = 0  # tools' worth of instructions that a provider writes into the prompt
    prompts: int = 1  # that are answered one by one
    is_whole: bool = True  # False: a part of the prompt isn't in the request
    output_tokens: int | None = None  # of one choice
    old_output_tokens: int | None = None  # the same as OLD_CHATS understand it
    choices: int = 1


class ModelLimits(msgspec.Struct, frozen=True, gc=False):
    """The most that a model takes and gives, in tokens; None = not known."""

    context_window: int | None = None
    max_output_tokens: int | None = None  # of one choice
    image_tokens: int | None = None  # of one image

    def declared(self, context_window: int | None, max_output_tokens: int | None) -> ModelLimits:
        """With what YAML says in place of what is shipped."""
        if context_window is None and max_output_tokens is None:
            return self
        return ModelLimits(
            self.context_window if context_window is None else context_window,
            self.max_output_tokens if max_output_tokens is None else max_output_tokens,
            self.image_tokens,
        )


class UsageBound(msgspec.Struct, frozen=True, gc=False):
    """No usage of the call is more than this, in OpenAI's sense: totals include every subset."""

    input_tokens: int
    output_tokens: int
    may_have_images: bool = False  # among its input
    may_have_audio: bool = False

    @property
    def tokens(self) -> int:
        """All of them: what a budget of tokens counts."""
        return self.input_tokens + self.output_tokens


def upper_bound(ask: Ask, provider: str, limits: ModelLimits) -> UsageBound | None:
    """The most that one attempt of a call can use; None if that isn't known, or isn't counted in tokens of a prompt and a text."""
    if ask.operation not in WRITES and ask.operation != EMBEDS:
        return None
    input_tokens = _input_tokens(ask, limits)
    output_tokens = 0 if ask.operation == EMBEDS else _output_tokens(ask, provider, limits)
    if input_tokens is None or output_tokens is None:
        return None
    return UsageBound(input_tokens, output_tokens, ask.images > 0 or not ask.is_whole, ask.audio_bytes > 0 or not ask.is_whole)


def _input_tokens(ask: Ask, limits: ModelLimits) -> int | None:
    window = limits.context_window if ask.operation in CHATS else None  # elsewhere each of several inputs has a window of its own
    if not ask.is_whole:
        return window
    tokens = ask.text_bytes + HIDDEN_TOKENS + ask.hidden_tools * HIDDEN_TOOL_TOKENS
    if ask.images:
        tokens += ask.images * (IMAGE_TOKENS if limits.image_tokens is None else limits.image_tokens)
    if ask.audio_bytes:
        tokens += -(-ask.audio_bytes // AUDIO_BYTES_PER_TOKEN)
    return tokens if window is None else min(tokens, window)


def _output_tokens(ask: Ask, provider: str, limits: ModelLimits) -> int | None:
    tokens = ask.old_output_tokens if provider in OLD_CHATS else ask.output_tokens
    if tokens is None:
        tokens = limits.context_window if limits.max_output_tokens is None else limits.max_output_tokens
    return None if tokens is None else tokens * ask.choices * ask.prompts


def likely_tokens(ascii_chars: int, other_chars: int) -> int:
    """The tokens that a text probably has, rather too many than too few: for a reply whose provider told no usage.

    Three tenths of a token for an ASCII character, eight for any other. Never more than the text has bytes.
    """
    return -(-(3 * ascii_chars + 8 * other_chars) // 10)
