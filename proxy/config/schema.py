"""The YAML's shape as types; defaults live here, in the type.

Here: frozen structs, one per section of reference "configuration". Not here: reading files, checks across sections.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from proxy.call import MASK, Price, Secret, Timeouts

Provider = Literal[
    "openai", "azure", "anthropic", "gemini", "cohere", "mistral", "groq", "deepseek",
    "openrouter", "ollama", "vllm", "tgi", "petals", "compatible", "simulated",
]  # fmt: skip


PASSTHROUGH = "passthrough"
"""The credential that stands for the client's own."""

PER_MILLION = (
    "input", "output", "cache_read", "cache_write", "cache_write_1h",
    "input_audio", "output_audio", "cache_read_audio", "input_image", "output_image",
)  # fmt: skip
"""Kinds of tokens that a price may be given for."""

SECRET_KEYS = frozenset({"headers", "header"})
"""Keys whose values are never shown, wherever they stand, beside those that hold a Secret."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping in the YAML: unknown keys are errors. Its repr hides secrets: it may end up in a log or a traceback."""

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        fields = (f"{name}={MASK if value and name in SECRET_KEYS else repr(value)}" for name, value in values)
        return f"{type(self).__name__}({', '.join(fields)})"


class AdminConfig(_Section, frozen=True):
    """The management listener."""

    listen: str = "127.0.0.1:4001"
    token: Secret = Secret("")


class OtlpConfig(_Section, frozen=True):
    """Where telemetry goes."""

    endpoint: str | None = None  # base URL; the exporter adds /v1/traces and /v1/metrics for http/protobuf
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    headers: dict[str, Secret] = {}


class KeepConfig(_Section, frozen=True):
    """Which calls are told as spans, decided when they are over. One reason is enough; `ratio` is for all the others."""

    errors: Literal["always", "ratio"] = "always"
    refusals: Literal["always", "ratio"] = "always"
    slower_than_s: float | None = None
    dearer_than_usd: float | None = None
    ratio: float = 1.0


class SpoolConfig(_Section, frozen=True):
    """OTLP requests kept in state_dir while the collector is away."""

    max_mib: float = 256.0


class AttributeSource(_Section, frozen=True):
    """Where the value of a custom attribute comes from."""

    header: str | None = None
    metadata: str | None = None  # a key of the body's `metadata`


CaptureTo = Literal["span", "event", "ledger"]
Capture = bool | CaptureTo | list[CaptureTo]  # of bool, only False


class TelemetryConfig(_Section, frozen=True):
    """What is told to whom."""

    otlp: OtlpConfig | None = None
    genai_semconv: Literal["v1_41", "latest", "both"] = "v1_41"
    openinference: bool = False
    cost_attribute: str = "gen_ai.usage.cost"
    capture_content: Capture = False
    redact: list[str] = []  # regular expressions, beside the built-in ones for personal data
    max_chars: int = 8192  # of each captured text
    trust_upstream_context: list[str] = []  # targets that get our traceparent
    keep: KeepConfig = KeepConfig()
    spool: SpoolConfig = SpoolConfig()
    attributes: dict[str, AttributeSource] = {}
    call_log: Literal["none", "stdout", "otlp"] = "none"


class TargetConfig(_Section, frozen=True):
    """A provider endpoint."""

    provider: Provider
    base_url: str | None = None  # left out: the provider's own, where it has one
    credential: Secret | None = None  # "passthrough", or a secret; see docs/configuration.md for what leaving it out means
    tier: str | None = None
    timeouts: Timeouts = Timeouts()
    price: Price | None = None


class TargetChoice(_Section, frozen=True):
    """One entry of a `to` or `targets` list: a target's name alone stands for `{target: name}`."""

    target: str
    model: str | None = None  # sent upstream instead of the client's


class ModelConfig(_Section, frozen=True):
    """An alias an app may ask for."""

    targets: list[TargetChoice]


class Match(_Section, frozen=True):
    """What a route applies to; every condition given must hold."""

    model: str | list[str] | None = None  # globs
    path: str | list[str] | None = None  # globs
    method: str | list[str] | None = None
    header: dict[str, str | list[str]] = {}  # name: glob, or globs
    stream: bool | None = None


class RouteConfig(_Section, frozen=True):
    """A rule: first match wins."""

    name: str
    to: list[TargetChoice]
    match: Match = Match()
    capture_content: Capture | None = None  # None: as `telemetry.capture_content` says


class PricesConfig(_Section, frozen=True):
    """Prices beside the shipped ones."""

    on_unknown: Literal["allow", "refuse"] = "allow"
    overrides: dict[str, Price] = {}  # by model glob


class Config(_Section, frozen=True):
    """One whole configuration, checked."""

    targets: dict[str, TargetConfig]
    listen: str = "127.0.0.1:4000"
    admin: AdminConfig = AdminConfig()
    state_dir: str = ".postern"
    transparent: bool = False
    max_body_mib: float = 100.0
    drain_s: float = 600.0
    telemetry: TelemetryConfig = TelemetryConfig()
    models: dict[str, ModelConfig] = {}
    prices: PricesConfig = PricesConfig()
    routes: list[RouteConfig] = []  # empty: every call goes to the only target


NOT_YET: dict[str, str] = {
    "workers": "more than one worker",
    "store": "budget stores",
    "identity": "identity labels",
    "keys": "virtual keys",
    "budgets": "budgets",
    "limits": "limits",
    "cache": "the cache",
    "batching": "batching",
    "guards": "guards",
    "alerts": "alerts",
    "notify": "alerts",
    "telemetry.http_client_spans": "aiohttp client spans",
    "targets.*.breaker": "breakers",
    "targets.*.limits": "limits of a target",
    "routes[].strategy": "strategies other than the first target",
    "routes[].sticky_by": "strategies",
    "routes[].failover": "failover",
    "routes[].hedge": "hedging",
    "routes[].request": "request shaping",
    "routes[].critical": "budgets",
    "routes[].mirror": "mirroring",
    "routes[].experiment": "experiments",
    "routes[].mode": "shadow mode",
    "routes[].match.tenant": "identity labels",
    "routes[].match.user": "identity labels",
    "routes[].match.app": "identity labels",
    "routes[].match.task": "identity labels",
    "routes[].match.workflow": "identity labels",
    "routes[].match.step": "identity labels",
    "routes[].match.key": "virtual keys",
    "routes[].match.tools": "matching on tools",
    "routes[].match.input_tokens": "matching on tokens",
    "routes[].match.budget_used": "budgets",
    "routes[].to[].weight": "weights",
    "models.*.targets[].weight": "weights",
}
"""Keys of the contract that this version doesn't act on. They are refused: a rule that isn't enforced must not look as if it were."""

NEUTRAL: dict[str, object] = {
    "workers": 1,
    "store": {"kind": "embedded"},
    "telemetry.http_client_spans": False,
    "routes[].strategy": "priority",
    "routes[].critical": False,
    "routes[].mode": "enforce",
}
"""Values of those keys that ask for nothing beyond what this version does: accepted."""

NOT_YET_AS_LIST: dict[str, str] = {"targets.*.credential": "the rotation of credentials"}
"""Keys of which this version takes one value and the contract also a list."""

SHORTHANDS: dict[type, str] = {TargetChoice: "target"}
"""Sections that may be written as the value of one of their keys: `openai` for `{target: openai}`."""

SECRET = frozenset(
    {"admin.token", "targets.*.credential", "telemetry.otlp.headers.*", "routes[].match.header.*", "routes[].match.header.*[]"}
)
"""Values that no message, log or page may show; what comes from `${env:…}` or `${file:…}` is as secret anywhere."""

NOT_NULL = frozenset(
    {
        "targets.*.credential",
        "routes[].match.model",
        "routes[].match.path",
        "routes[].match.method",
        "routes[].match.header",
        "routes[].match.stream",
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
        "routes[].to[].target",
        "routes[].to[].model",
    }
)
"""Strings that say something only if there is something in them."""
