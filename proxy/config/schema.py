"""The YAML's shape as types; defaults live here, in the type.

Here: frozen structs, one per section of reference "configuration". Not here: reading files, checks across sections.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from proxy.call import MASK, Price, Secret, Timeouts
from proxy.spending import OnStoreLost

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

SECRET_KEYS = frozenset({"headers", "header", "set"})
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


class LabelSource(_Section, frozen=True):
    """One place that a label of a call may come from; exactly one of these is given."""

    header: str | None = None
    body: str | None = None  # a member at the top level of the JSON body
    metadata: str | None = None  # a key of the body's `metadata`
    baggage: str | None = None  # a member of the W3C `baggage` header
    key: bool = False  # what the virtual key says
    env: str | None = None  # a variable of Postern's own environment, e.g. from the Downward API


class IdentityConfig(_Section, frozen=True):
    """Where each label of a call comes from: the first source that has a value. An empty list: the label isn't read."""

    tenant: tuple[LabelSource, ...] = (LabelSource(header="x-tenant"), LabelSource(key=True), LabelSource(env="POD_NAMESPACE"))
    user: tuple[LabelSource, ...] = (
        LabelSource(body="user"),
        LabelSource(body="safety_identifier"),
        LabelSource(header="x-user"),
        LabelSource(key=True),
    )
    app: tuple[LabelSource, ...] = (LabelSource(header="x-app"), LabelSource(key=True), LabelSource(env="OTEL_SERVICE_NAME"))
    task: tuple[LabelSource, ...] = (LabelSource(header="x-task"), LabelSource(metadata="task"))
    workflow: tuple[LabelSource, ...] = (
        LabelSource(header="x-workflow-id"),
        LabelSource(baggage="workflow.id"),
        LabelSource(metadata="workflow"),
    )
    step: tuple[LabelSource, ...] = (LabelSource(header="x-workflow-step"),)


class KeyConfig(_Section, frozen=True):
    """A virtual key: what a client shows in place of a provider's credential. Made with `postern key new`."""

    name: str
    sha256: str  # of the key's text, 64 hex digits
    tenant: str | None = None
    user: str | None = None
    app: str | None = None
    models: list[str] = []  # globs of what may be asked for; empty: any
    routes: list[str] = []  # names of routes that may be taken; empty: any
    expires: str | None = None  # a date (its end, UTC) or an RFC 3339 time


class BreakerConfig(_Section, frozen=True):
    """When a target gets no more calls for a while."""

    failures: int = 5  # in a row; or as many within window_s, if they are at least `ratio` of all attempts
    window_s: float = 30.0
    ratio: float = 0.5
    open_s: float = 15.0
    probes: int = 2  # calls let through at a time to see whether it is back; as many successes close it


class TargetLimits(_Section, frozen=True):
    """What a target takes."""

    concurrency: int | None = None  # calls at a time; None: any number


class RequestConfig(_Section, frozen=True):
    """What is changed in a request's JSON body before it goes upstream; every other byte stays."""

    set: dict[str, object] = {}  # member: any JSON value
    clamp: dict[str, float] = {}  # member: the most it may be; a request without it stays without
    drop: list[str] = []


class TargetConfig(_Section, frozen=True):
    """A provider endpoint."""

    provider: Provider
    base_url: str | None = None  # left out: the provider's own, where it has one
    credential: list[Secret] | None = None  # "passthrough" alone, or secrets; see docs/configuration.md for what leaving it out means
    tier: str | None = None
    timeouts: Timeouts = Timeouts()
    breaker: BreakerConfig = BreakerConfig()
    limits: TargetLimits = TargetLimits()
    request: RequestConfig | None = None  # for this target; it comes after the route's
    context_window: int | None = None  # tokens; None: as the shipped data knows the model
    max_output_tokens: int | None = None  # the most one reply has; None: as the shipped data knows the model
    lacks: list[Literal["vision", "tools", "json_schema"]] = []  # what its models can't do: calls that need it go elsewhere
    price: Price | None = None


Strategy = Literal["priority", "weighted", "cheapest", "fastest", "least_busy", "headroom", "sticky"]


class TargetChoice(_Section, frozen=True):
    """One entry of a `to` or `targets` list: a target's name alone stands for `{target: name}`. In `to` it may name an alias too."""

    target: str
    model: str | None = None  # sent upstream instead of the client's
    weight: float = 1.0


class ModelConfig(_Section, frozen=True):
    """An alias an app may ask for."""

    targets: list[TargetChoice]
    strategy: Strategy = "priority"
    sticky_by: str | None = None


class Bounds(_Section, frozen=True):
    """A number's range, its ends left out."""

    over: float | None = None
    under: float | None = None


class TimeOfDay(_Section, frozen=True):
    """A part of the day, on some days of the week; from `after` on, until just before `before`. It may go over midnight."""

    after: str = "00:00"
    before: str = "24:00"
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = []  # empty: every day; the day is that of `after`
    time_zone: str = "UTC"


class BudgetUsed(_Section, frozen=True):
    """How much of a budget is used, of the scope that the call belongs to: what is spent and held, as a share of the limit."""

    budget: str
    over: float | None = None
    under: float | None = None


class Match(_Section, frozen=True):
    """What a rule applies to; every condition given must hold."""

    model: str | list[str] | None = None  # globs
    path: str | list[str] | None = None  # globs
    method: str | list[str] | None = None
    header: dict[str, str | list[str]] = {}  # name: glob, or globs
    metadata: dict[str, str | list[str]] = {}  # key of the body's `metadata`: glob, or globs
    stream: bool | None = None
    tools: bool | None = None  # whether the request offers tools
    images: bool | None = None  # whether an image stands in the prompt
    response_format: str | list[str] | None = None  # text | json_object | json_schema
    input_tokens: Bounds | None = None  # estimated
    max_tokens: Bounds | None = None  # a request without one matches no bounds
    time: TimeOfDay | None = None
    tenant: str | list[str] | None = None  # globs, as of all labels
    user: str | list[str] | None = None
    app: str | list[str] | None = None
    task: str | list[str] | None = None
    workflow: str | list[str] | None = None
    step: str | list[str] | None = None
    key: str | list[str] | None = None  # the virtual key's name
    budget_used: BudgetUsed | None = None


RouteMode = Literal["enforce", "shadow"]
"""Whether a route takes calls, or only tells what it would have done with them."""

FailoverOn = Literal["connect", "timeout", "throttled", "server_error", "truncated"]


class BackoffConfig(_Section, frozen=True):
    """How long to wait before the same target is asked again: full jitter, doubled each time."""

    first_ms: float = 200.0
    max_s: float = 8.0


class FailoverConfig(_Section, frozen=True):
    """What is tried when an attempt fails before anything of its reply was sent on."""

    on: tuple[FailoverOn, ...] = get_args(FailoverOn)
    attempts: int = 3  # of a call, over all targets
    backoff: BackoffConfig = BackoffConfig()
    context_window_to: list[TargetChoice] = []  # asked where the prompt is too long for a target
    content_filter_to: list[TargetChoice] = []  # asked where a target's filter refuses the prompt
    continue_midstream: bool = False  # a chat's stream that breaks after content was sent on is gone on with by the next attempt


class ExperimentConfig(_Section, frozen=True):
    """A label that a route's calls get: one of several, always the same for one value of `by`."""

    name: str
    arms: dict[str, float]  # name: its share of all values; together 1
    by: str  # as sticky_by


class HedgeConfig(_Section, frozen=True):
    """When a call that still waits for its reply's first byte is sent to the next target too."""

    after: str = "p95"  # of the route's waits so far: p50 to p99; or a time: 300ms, 1.5s
    max_ratio: float = 0.05  # of the route's calls


class MirrorConfig(_Section, frozen=True):
    """Whom a part of a route's calls is copied to. Their replies are read, paid for and thrown away."""

    to: list[TargetChoice]
    ratio: float = 1.0  # of the route's calls


class RouteConfig(_Section, frozen=True):
    """A rule: first match wins."""

    name: str
    to: list[TargetChoice]
    match: Match = Match()
    strategy: Strategy = "priority"
    sticky_by: str | None = None
    failover: FailoverConfig | None = None  # None: the defaults, where there is more than one target
    hedge: HedgeConfig | None = None
    request: RequestConfig | None = None
    mirror: MirrorConfig | None = None
    capture_content: Capture | None = None  # None: as `telemetry.capture_content` says
    experiment: ExperimentConfig | None = None
    critical: bool = False  # budgets let its calls through up to their `critical_multiplier`
    mode: RouteMode = "enforce"


class BudgetWindow(_Section, frozen=True):
    """How long a budget lasts: a calendar's window, or the last so many seconds."""

    every: Literal["minute", "hour", "day", "week", "month"] | None = None
    time_zone: str = "UTC"
    rolling_s: float | None = None


class BudgetLimit(_Section, frozen=True):
    """What may be spent in a window; at least one is given."""

    usd: float | None = None
    tokens: int | None = None
    requests: int | None = None


class WhenShort(_Section, frozen=True):
    """What is done with a call that a budget has too little left for; exactly one is given."""

    refuse: bool = False
    degrade_to: list[TargetChoice] = []  # asked in place of the plan
    allow: bool = False


class BudgetConfig(_Section, frozen=True):
    """What may be spent, by whom, in which time."""

    name: str
    window: BudgetWindow
    limit: BudgetLimit
    per: list[str] = []  # each combination of their values has a budget of its own; empty: one for all
    match: Match = Match()
    spend: Literal["strict", "headroom", "posthoc"] = "strict"
    warn_at: list[float] = []
    when_short: WhenShort = WhenShort(refuse=True)
    critical_multiplier: float = 1.0
    on_store_lost: OnStoreLost | None = None  # None: as `store.on_lost` says
    cut: bool = False  # a stream for whose whole bound too little is left is let in, and ended when it has used it
    mode: RouteMode = "enforce"


class LimitConfig(_Section, frozen=True):
    """How often, how fast, how many at a time."""

    name: str
    per: list[str] = []
    match: Match = Match()
    requests: str | None = None  # 100/min; /s /min /h /day
    tokens: str | None = None
    concurrency: int | None = None
    wait_ms: float | None = None  # how long a call waits for its turn; None: it is refused at once
    on_store_lost: OnStoreLost | None = None
    mode: RouteMode = "enforce"


class StoreConfig(_Section, frozen=True):
    """Where budgets and limits are remembered, and further virtual keys."""

    kind: Literal["embedded", "redis"] = "embedded"
    url: Secret | None = None  # redis[s]://…, redis[s]+cluster://…, redis[s]+sentinel://host:port,host:port/MASTER/DB
    timeout_ms: float = 50.0
    on_lost: OnStoreLost = "local"
    lease_s: float = 15.0  # what a sidecar that died had drawn is back after this time
    prefix: str = "postern"  # of all keys; sidecars with the same one share their budgets
    keys: bool = False  # virtual keys are read from there too


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
    store: StoreConfig = StoreConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    identity: IdentityConfig = IdentityConfig()
    keys: list[KeyConfig] = []  # empty: none is needed, unless `store.keys`
    models: dict[str, ModelConfig] = {}
    prices: PricesConfig = PricesConfig()
    routes: list[RouteConfig] = []  # empty: every call goes to the only target
    budgets: list[BudgetConfig] = []
    limits: list[LimitConfig] = []

    @property
    def needs_keys(self) -> bool:
        """Whether every call has to show a virtual key."""
        return bool(self.keys) or self.store.keys
