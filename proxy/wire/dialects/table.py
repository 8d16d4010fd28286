"""The dialect of each provider, in one table: where it lives, how it takes a credential, what it does when asked for usage.

Here: facts about providers. Not here: decisions, I/O. Source: wire.md A2 and C7; where a fact isn't known, what changes the fewest bytes.
"""

from __future__ import annotations

import msgspec


class Dialect(msgspec.Struct, frozen=True):
    """How one provider differs from OpenAI."""

    otel_provider: str  # gen_ai.provider.name
    default_base_url: str | None = None
    credential_header: bytes = b"authorization"
    credential_prefix: bytes = b"Bearer "
    takes_include_usage: bool = False  # False: refuses stream_options.include_usage, or may
    nulls_usage_when_asked: bool = False  # asked, it puts "usage":null into every other chunk, and not otherwise
    zeroes_usage_when_asked: bool = False  # asked, it puts an all-zero usage into every other chunk of /completions
    takes_prefix: bool = False  # goes on with an assistant's last message where that says `prefix: true`
    takes_continue: bool = False  # goes on with it where the request says `continue_final_message: true`
    options_ask_for_usage: bool = False  # an object stream_options without include_usage counts as include_usage: true


_DIALECTS: dict[str, Dialect] = {
    "openai": Dialect("openai", "https://api.openai.com/v1", takes_include_usage=True, nulls_usage_when_asked=True),
    "azure": Dialect(
        "azure.ai.openai", credential_header=b"api-key", credential_prefix=b"", takes_include_usage=True, nulls_usage_when_asked=True
    ),
    "anthropic": Dialect(
        "anthropic", "https://api.anthropic.com", credential_header=b"x-api-key", credential_prefix=b"", takes_include_usage=True
    ),
    "gemini": Dialect("gcp.gemini", "https://generativelanguage.googleapis.com/v1beta/openai", takes_include_usage=True),
    "cohere": Dialect("cohere", "https://api.cohere.ai/compatibility/v1"),
    "mistral": Dialect("mistral_ai", "https://api.mistral.ai/v1", takes_prefix=True),
    "groq": Dialect("groq", "https://api.groq.com/openai/v1", takes_include_usage=True),
    "deepseek": Dialect("deepseek", "https://api.deepseek.com", takes_include_usage=True, takes_prefix=True),
    "openrouter": Dialect("openrouter", "https://openrouter.ai/api/v1", takes_include_usage=True),
    "ollama": Dialect("ollama", "http://127.0.0.1:11434/v1", takes_include_usage=True, zeroes_usage_when_asked=True),
    "vllm": Dialect("vllm", takes_include_usage=True, nulls_usage_when_asked=True, takes_continue=True, options_ask_for_usage=True),
    "tgi": Dialect("tgi", takes_include_usage=True),
    "petals": Dialect("petals"),
    "compatible": Dialect("compatible"),
    "simulated": Dialect("simulated", takes_include_usage=True, nulls_usage_when_asked=True),
}


def dialect(provider: str) -> Dialect:
    """The dialect of a provider of config's list. Raises KeyError for any other."""
    return _DIALECTS[provider]
