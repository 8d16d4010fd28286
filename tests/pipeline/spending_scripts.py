"""Shorthands for scripts about budgets and limits.

Here: configurations and what they come to. Not here: what plays them (world.py).
"""

from __future__ import annotations

from proxy.call import HeaderList
from tests.pipeline.scripts import CONFIG, TWO_TARGETS, chat
from tests.pipeline.world import Request

USD = 10**9  # nano-USD
DAY_USD, DAY_TOKENS = "day:usd:all", "day:tokens:all"
"""The accounts of `budget`."""
BY_REQUEST = CONFIG.replace("{per_million: {input: 2, output: 8}}", "{per_request: 0.12}")
"""A call costs 0.12 USD, whatever it says: its bound is what it costs."""
BY_REQUEST_NUSD = 120_000_000
DEARER_SECOND = TWO_TARGETS.replace(
    "sk-other-target\n    price: {per_million: {input: 2, output: 8}}", "sk-other-target\n    price: {per_request: 1}"
)
"""What stands in for the first costs 1 USD a call."""
TENANT = "identity: {tenant: [{header: x-tenant}]}\n"
MAX_TOKENS = 50
HIDDEN_TOKENS = 128
"""What a bound adds to a prompt's bytes."""


def budget(limit: str = "{usd: 1}", more: str = "", name: str = "day") -> str:
    """One budget of a day, as text; `more` follows as it is."""
    return f"budgets:\n  - {{name: {name}, window: {{every: day}}, limit: {limit}{', ' if more else ''}{more}}}\n"


def limited(body: dict[str, object] | None = None, headers: HeaderList | None = None, **more: object) -> Request:
    """A chat call of at most MAX_TOKENS tokens."""
    return chat(headers, {"max_completion_tokens": MAX_TOKENS} | (body or {}), **more)


def of_tenant(name: str) -> Request:
    """A chat call of a tenant."""
    return limited(headers=[(b"x-tenant", name.encode())])


def bound_tokens(request: Request, output_tokens: int = MAX_TOKENS) -> int:
    """The most tokens that a call can use."""
    return sum(len(step) for step in request.steps if isinstance(step, bytes)) + HIDDEN_TOKENS + output_tokens


def bound_nusd(request: Request, output_tokens: int = MAX_TOKENS) -> int:
    """The most that a call can cost at 2 and 8 USD a million."""
    return (bound_tokens(request, output_tokens) - output_tokens) * 2_000 + output_tokens * 8_000
