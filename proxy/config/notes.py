"""What a good configuration may not do as it looks: said at start and by `postern check`, and refused by nobody.

Here: notes about a whole Config. Not here: problems (check.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from proxy.call import Secret
from proxy.config.nodes import join_key
from proxy.config.schema import PASSTHROUGH, Config, TargetConfig

WANT_CREDENTIALS = frozenset({"openai", "azure", "anthropic", "gemini", "cohere", "mistral", "groq", "deepseek", "openrouter"})
"""Providers whose own service answers nobody without one."""


def notes(config: Config) -> Iterator[str]:
    """Each thing to know, as `key: what`."""
    for name, target in config.targets.items():
        if config.needs_keys and _counts_on_clients(target):
            path = join_key("targets", name)
            yield f"{path}.credential: what clients send is a virtual key, as there are `keys`, and stays here: this target is sent none"


def _counts_on_clients(target: TargetConfig) -> bool:
    """Whether a target is meant to get the clients' credential: it says so, or nothing, and is where none gets no further."""
    if target.credential is None:
        return target.provider in WANT_CREDENTIALS and (target.base_url is None or target.provider == "azure")
    return target.provider != "simulated" and target.credential == [Secret(PASSTHROUGH)]
