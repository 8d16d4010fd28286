"""Budgets and limits of a text, and a call, for tests of what is decided on them."""

from __future__ import annotations

import msgspec

from proxy.call import HeaderList
from proxy.policy.budgets import Bound, Draw, Spending, Subject
from proxy.policy.conditions import RouteFacts
from proxy.spending import Shortage, Standing
from proxy.wire.http1 import first_values
from tests.config.support import load

NOW_MS = 1_795_262_400_000  # 2026-11-21 12:00 UTC
USD = 10**9  # nano-USD
TARGETS = "targets: {openai: {provider: openai}, local: {provider: ollama}}\nroutes: [{name: a, to: [openai]}]\n"
KEYS = f"keys: [{{name: web, sha256: {'a' * 64}}}]\n"

FACTS = RouteFacts("POST", "/v1/chat/completions", "gpt-4o", [], False)
ACME = Subject({"tenant": "acme", "user": "bob", "key": "web"}, {}, "gpt-4o", "openai", "openai")
BOUND = Bound(5 * USD, 1000)


def spending(text: str) -> Spending:
    """The budgets and limits of a text."""
    return Spending(load(TARGETS + KEYS + text).config)


def budget(*, limit: str = "{usd: 10}", more: str = "", name: str = "b") -> str:
    """One budget of a day, as text."""
    return f"budgets: [{{name: {name}, window: {{every: day}}, limit: {limit}, {more}}}]\n"


def call_draws(rules: Spending, subject: Subject = ACME, *, critical: bool = False, facts: RouteFacts = FACTS) -> list[Draw]:
    return rules.call_draws(facts, subject, NOW_MS, critical)


def attempt_draws(rules: Spending, bound: Bound = BOUND, subject: Subject = ACME, *, critical: bool = False) -> list[Draw]:
    return rules.attempt_draws(FACTS, subject, bound, NOW_MS, critical)


def calling(labels: dict[str, str] | None = None, headers: HeaderList | None = None, **places: str | None) -> Subject:
    """A call with these labels and headers, and nothing else that is known."""
    return msgspec.structs.replace(Subject(labels or {}, first_values(headers or []), None, "openai", "openai"), **places)


def short(index: int, spent: int, held: int = 0, retry_after_ms: int | None = None) -> Shortage:
    return Shortage(index, Standing(spent, held), retry_after_ms)
