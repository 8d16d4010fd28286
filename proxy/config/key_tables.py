"""What is special about some keys of the YAML, by shape: `routes[].match.model` stands for that key of any route.

Here: tables that lead the conversion. Not here: the sections themselves (schema.py), what a single value may be (values.py).
"""

from __future__ import annotations

from proxy.config.schema import IdentityConfig, Match, TargetChoice

MATCHES = ("routes[].match", "budgets[].match", "limits[].match")
"""Where a `match` stands."""

_WITHIN_MATCH = (
    "input_tokens.over", "input_tokens.under", "max_tokens.over", "max_tokens.under", "time.after", "time.before", "time.days",
    "time.time_zone", "budget_used.over", "budget_used.under",
)  # fmt: skip

NOT_YET: dict[str, str] = {
    "workers": "more than one worker",
    "cache": "the cache",
    "batching": "batching",
    "guards": "guards",
    "alerts": "alerts",
    "notify": "alerts",
    "telemetry.http_client_spans": "aiohttp client spans",
}
"""Keys of the contract that this version doesn't act on. They are refused: a rule that isn't enforced must not look as if it were."""

NEUTRAL: dict[str, object] = {
    "workers": 1,
    "telemetry.http_client_spans": False,
}
"""Values of those keys that ask for nothing beyond what this version does: accepted."""

LIST_OR_ITEM = frozenset({"targets.*.credential"})
"""Lists that may be written as their only item."""

SHORTHANDS: dict[type, str] = {TargetChoice: "target"}
"""Sections that may be written as the value of one of their keys: `openai` for `{target: openai}`."""

SECRET = frozenset(
    {
        "admin.token",
        "store.url",
        "targets.*.credential",
        "targets.*.credential[]",
        "telemetry.otlp.headers.*",
        *(f"{match}.header.*" for match in MATCHES),
        *(f"{match}.header.*[]" for match in MATCHES),
    }
)
"""Values that no message, log or page may show; what comes from `${env:…}` or `${file:…}` is as secret anywhere."""

NOT_NULL = frozenset(
    {
        "targets.*.credential",
        "routes[].mode",
        *(f"budgets[].limit.{unit}" for unit in ("usd", "tokens", "requests")),
        *(f"limits[].{unit}" for unit in ("requests", "tokens", "concurrency")),
        "budgets[].match",
        "budgets[].mode",
        "budgets[].per",
        "budgets[].when_short",
        "limits[].match",
        "limits[].mode",
        "limits[].per",
        "limits[].wait_ms",
        *(f"identity.{label}" for label in IdentityConfig.__struct_fields__),
        "keys",
        *(f"keys[].{key}" for key in ("tenant", "user", "app", "models", "routes", "expires")),
        *(f"{match}.{key}" for match in MATCHES for key in (*Match.__struct_fields__, *_WITHIN_MATCH)),
    }
)
"""Keys that must have a value where they are written: taken as left out, they would let more through than was meant."""

NOT_EMPTY = frozenset(
    {
        "state_dir",
        "telemetry.attributes.*.header",
        "telemetry.attributes.*.metadata",
        "telemetry.redact[]",
        "targets.*.tier",
        "telemetry.cost_attribute",
        "telemetry.trust_upstream_context[]",
        "models.*.targets[].target",
        "models.*.targets[].model",
        "routes[].name",
        "routes[].experiment.name",
        "routes[].to[].target",
        "routes[].to[].model",
        "routes[].mirror.to[].target",
        "routes[].mirror.to[].model",
        "routes[].failover.context_window_to[].target",
        "routes[].failover.context_window_to[].model",
        "routes[].failover.content_filter_to[].target",
        "routes[].failover.content_filter_to[].model",
        "budgets[].when_short.degrade_to[].target",
        "budgets[].when_short.degrade_to[].model",
    }
)
"""Strings that say something only if there is something in them."""
