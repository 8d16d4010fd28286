"""What the well-known models take and give at most, by how their names begin: exported with the prices, whose source doesn't have it.

Here: one table, kept by hand from the providers' model pages, rather too high than too low: budgets hold by it. Not here: anything the gate
runs (policy/bounds.py uses what is exported); prices.
A model that isn't here may write as much as its context window has room for, and an image counts as that of the model that
counts most for one.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class FamilyLimits(msgspec.Struct, frozen=True):
    """The most of a family's models; None = not known."""

    output_tokens: int | None = None  # of one choice of one reply, thinking included
    image_tokens: int | None = None  # that one image of any size may count as
    context_window: int | None = None  # where the prices' source has none, or less than a provider takes that is asked by a header


_TILES = 1_445  # 85 + 8 × 170: OpenAI's tiles of 512, of an image scaled to 2048 × 768
_PATCHES = 4_096  # OpenAI's patches of 32: 1,536, times 2.46 at most
_ORIGINAL_PATCHES = 16_384  # 10,000 patches where `detail` may be `original`, times 1.2
_CLAUDE = 8_192  # Opus 4.7 and later take 3.75 megapixels, 750 of them a token
_GEMINI = 8_192  # 16 tiles of 258, or 2,240 at ultra high resolution

FAMILIES: Mapping[str, FamilyLimits] = {
    "gpt-3.5-turbo": FamilyLimits(4_096),
    "gpt-3.5-turbo-16k": FamilyLimits(16_384),
    "gpt-4": FamilyLimits(8_192, _TILES),
    "gpt-4-32k": FamilyLimits(32_768, None, 32_768),
    "gpt-4-turbo": FamilyLimits(4_096, _TILES),
    "gpt-4-vision": FamilyLimits(4_096, _TILES),
    "gpt-4.1": FamilyLimits(32_768, _PATCHES, 1_047_576),
    "gpt-4.5": FamilyLimits(16_384, _TILES),
    "gpt-4o": FamilyLimits(16_384, _TILES),
    "gpt-4o-mini": FamilyLimits(16_384, 48_169),  # 2,833 + 8 × 5,667
    "gpt-4o:extended": FamilyLimits(65_536, _TILES),
    "chatgpt-4o": FamilyLimits(16_384, _TILES),
    "gpt-audio": FamilyLimits(16_384),
    "gpt-5": FamilyLimits(128_000, _PATCHES),
    "gpt-5-pro": FamilyLimits(272_000, _PATCHES),
    "gpt-5.3": FamilyLimits(128_000, _ORIGINAL_PATCHES),
    "gpt-5.4": FamilyLimits(128_000, _ORIGINAL_PATCHES),
    "gpt-5.5": FamilyLimits(128_000, _ORIGINAL_PATCHES, 1_050_000),
    "gpt-5.6": FamilyLimits(128_000, _ORIGINAL_PATCHES),
    "gpt-6": FamilyLimits(128_000, _ORIGINAL_PATCHES),
    "gpt-chat-latest": FamilyLimits(128_000, _ORIGINAL_PATCHES),
    "gpt-oss": FamilyLimits(131_072),
    "o1": FamilyLimits(100_000, _PATCHES),
    "o1-mini": FamilyLimits(65_536),
    "o1-preview": FamilyLimits(32_768),
    "o3": FamilyLimits(100_000, _PATCHES),
    "o4-mini": FamilyLimits(100_000, _PATCHES),
    "codex-mini": FamilyLimits(100_000, _PATCHES),
    "claude": FamilyLimits(128_000, _CLAUDE),
    "claude-2": FamilyLimits(4_096),
    "claude-3-haiku": FamilyLimits(4_096, _CLAUDE),
    "claude-3-opus": FamilyLimits(4_096, _CLAUDE),
    "claude-3-sonnet": FamilyLimits(4_096, _CLAUDE),
    "claude-3-5": FamilyLimits(8_192, _CLAUDE),
    "claude-3.5": FamilyLimits(8_192, _CLAUDE),
    "claude-opus-4-0": FamilyLimits(32_000, _CLAUDE),
    "claude-opus-4-1": FamilyLimits(32_000, _CLAUDE),
    "claude-sonnet-4": FamilyLimits(128_000, _CLAUDE, 1_000_000),
    "claude-4-sonnet": FamilyLimits(64_000, _CLAUDE, 1_000_000),
    "claude-sonnet-4-5": FamilyLimits(64_000, _CLAUDE, 1_000_000),
    "claude-opus-4-5": FamilyLimits(64_000, _CLAUDE),
    "claude-haiku-4-5": FamilyLimits(64_000, _CLAUDE),
    "gemini-pro": FamilyLimits(8_192, _GEMINI, 2_097_152),
    "gemini-flash-1.5": FamilyLimits(8_192, _GEMINI, 1_048_576),
    "gemini-1": FamilyLimits(8_192, _GEMINI, 2_097_152),
    "gemini-2": FamilyLimits(65_536, _GEMINI, 1_048_576),
    "gemini-3": FamilyLimits(65_536, _GEMINI, 1_048_576),
    "gemini-4": FamilyLimits(None, _GEMINI),  # its "long decode" goes up to the context window
    "deepseek-chat": FamilyLimits(393_216, None, 1_048_576),  # a name of V4 by now
    "deepseek-reasoner": FamilyLimits(393_216, None, 1_048_576),  # as well
    "deepseek-v3": FamilyLimits(None, None, 163_840),
    "deepseek-v4": FamilyLimits(393_216, None, 1_048_576),
    "deepseek-flash": FamilyLimits(393_216, None, 1_048_576),
    "command": FamilyLimits(32_768),
    "pixtral": FamilyLimits(None, 8_192),
    "mistral": FamilyLimits(None, 8_192),
    "ministral": FamilyLimits(None, 8_192),
    "magistral": FamilyLimits(None, 8_192),
    "llama-4": FamilyLimits(None, 8_192),
}
"""By the beginning of a model's name, without its maker's; the longest that fits counts."""

_UNKNOWN = FamilyLimits()


def family_limits(model_id: str) -> FamilyLimits:
    """The limits of the family that a model of the price data belongs to: `openai/gpt-4o`, `ft:gpt-4o-mini` as well."""
    name = model_id.lower().rpartition("/")[2].removeprefix("ft:")
    fitting = [prefix for prefix in FAMILIES if name.startswith(prefix)]
    return FAMILIES[max(fitting, key=len)] if fitting else _UNKNOWN
