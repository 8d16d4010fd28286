"""What calls share: the configuration in force, and the edges.

Here: Runtime (swapped whole on reload) and Gate. Not here: one call's state.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping

import msgspec

from proxy.call import HeaderList, Target
from proxy.config.schema import Config
from proxy.pipeline.background import Background
from proxy.pipeline.budget_watch import BudgetWatch
from proxy.pipeline.idle_guard import Watch
from proxy.pipeline.request_rules import request_rules
from proxy.policy.budgets import Draw, Spending
from proxy.policy.credentials import Credentials
from proxy.policy.hedge import HedgeState, Hedging, hedge_rule
from proxy.policy.identity import LabelRules
from proxy.policy.keys import VirtualKeys, compile_key
from proxy.policy.pricing import PriceBook
from proxy.policy.recording import attribute_rules, capture_rules
from proxy.policy.routing import Router, enforced_routes
from proxy.policy.target_state import TargetState
from proxy.policy.telemetry_environment import TelemetryEnvironment
from proxy.ports import BudgetStore, Clock, Recorder, TunnelDialer, Upstream
from proxy.spending import Standing
from proxy.wire.credentials import CREDENTIAL_HEADERS
from proxy.wire.dialects.table import Dialect, dialect
from proxy.wire.redaction import redactor
from proxy.wire.urls import Base, parse_base

MAX_REMEMBERED = 10_000
NS_PER_MS = 1_000_000
SHORTEST_SECRET = 8  # what is shorter would be found in any text
MOST_MIRRORS = 64
"""Copies of calls under way: each keeps its call's body in memory, and nobody is slowed by it when there are more."""
NO_VARIABLES = TelemetryEnvironment()


class Endpoint(msgspec.Struct, frozen=True):
    """A target with what is derived from it once."""

    target: Target
    base: Base
    dialect: Dialect
    drop_headers: frozenset[bytes]  # lower case: the client's fields that must not reach this target
    add_headers: tuple[HeaderList, ...]  # by the position of the credential; at least one
    gets_context: bool  # our traceparent goes to it

    def __repr__(self) -> str:
        return f"Endpoint({self.target!r})"  # never the headers


ACCOUNT_HEADERS = frozenset((b"openai-organization", b"openai-project"))
"""Say which account a credential is used for: they go where it goes."""
TRACE_HEADERS = frozenset((b"traceparent", b"tracestate"))
CONTEXT_HEADERS = TRACE_HEADERS | {b"baggage"}


def endpoint_for(target: Target, environment: TelemetryEnvironment) -> Endpoint:
    """The target's derived parts."""
    family = dialect(target.provider)
    drop = set() if target.passthrough else set(CREDENTIAL_HEADERS | ACCOUNT_HEADERS)
    drop |= _context_kept_back(target.trusted_context, environment)
    credentials = (family.credential_prefix + credential.reveal().encode() for credential in target.credentials)
    add: tuple[HeaderList, ...] = tuple([(family.credential_header, value)] for value in credentials) or ([],)
    gets_context = target.trusted_context and environment.trace_context and not environment.disabled
    return Endpoint(target, parse_base(target.base_url), family, frozenset(drop), add, gets_context)


def _context_kept_back(is_trusted: bool, environment: TelemetryEnvironment) -> frozenset[bytes]:
    """The client's fields of trace context that a target isn't sent: all, or those that ours stand for, or none."""
    if not is_trusted:
        return CONTEXT_HEADERS
    if environment.disabled:
        return frozenset()
    return TRACE_HEADERS if environment.baggage else CONTEXT_HEADERS


class Runtime:
    """One configuration, compiled. A call keeps the one it began with."""

    def __init__(
        self,
        config: Config,
        targets: dict[str, Target],
        prices: PriceBook,
        environment: TelemetryEnvironment = NO_VARIABLES,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        self.labels = LabelRules(config.identity, variables or {})
        self.keys = VirtualKeys(map(compile_key, config.keys))
        self.needs_keys = config.needs_keys
        self.shares_keys = config.store.keys
        self.target_secrets = _secrets(targets)
        self.router = Router(config)
        self.spending = Spending(config)
        self.asked_budgets = sorted({route.match.budget_used.budget for route in config.routes if route.match.budget_used is not None})
        self.asks = self.router.asks | self.spending.asks  # of a call's facts: see Router.asks
        self.request_rules = request_rules(config)
        self.states: dict[str, TargetState] = {}  # by target; set when it is put in force
        self.endpoints = {name: endpoint_for(target, environment) for name, target in targets.items()}
        self.credentials = {name: Credentials(len(target.credentials)) for name, target in targets.items()}
        self.hedges: dict[str, Hedging] = {}  # by route; set when it is put in force
        self.mirrors = {route.name: route.mirror for route in enforced_routes(config) if route.mirror is not None}
        self.concurrency = {name: target.limits.concurrency for name, target in config.targets.items()}
        strategies = {route.strategy for route in config.routes} | {model.strategy for model in config.models.values()}
        self.uses_headroom = "headroom" in strategies
        self.prices = prices
        self.max_body_bytes = int(config.max_body_mib * (1 << 20))
        self.refuse_unpriced = config.prices.on_unknown == "refuse"
        self.transparent = config.transparent
        self.reads_context = environment.trace_context
        self.samples = environment.sampler.samples
        self.attributes = attribute_rules(config)
        self.captures = capture_rules(config, environment)  # by route; empty: no content is recorded
        self.redact = redactor(config.telemetry.redact) if self.captures else None
        self.max_content_chars = config.telemetry.max_chars


def _secrets(targets: Mapping[str, Target]) -> tuple[str, ...]:
    """The targets' credentials, longest first: what no label may hold."""
    found = {credential.reveal() for target in targets.values() for credential in target.credentials}
    return tuple(sorted((secret for secret in found if len(secret) >= SHORTEST_SECRET), key=len, reverse=True))


class Remembered:
    """A bounded set; the oldest is forgotten first."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._items: OrderedDict[str, None] = OrderedDict()
        self._limit = limit

    def add(self, item: str) -> None:
        """Remember an item."""
        self._items[item] = None
        if len(self._items) > self._limit:
            self._items.popitem(last=False)

    def discard(self, item: str) -> bool:
        """Forget an item; True if it was there."""
        return self._items.pop(item, self) is None

    def __contains__(self, item: str) -> bool:
        return item in self._items


class Gate:
    """The edges and the little that outlives a call."""

    def __init__(
        self,
        runtime: Runtime,
        upstream: Upstream,
        dialer: TunnelDialer,
        recorder: Recorder,
        clock: Clock,
        random_bits: Callable[[int], int],
        store: BudgetStore,
    ) -> None:
        self.runtime = runtime
        self.upstream = upstream
        self.dialer = dialer
        self.recorder = recorder
        self.clock = clock
        self.random_bits = random_bits
        self.store = store  # asked only where there are budgets or limits
        self.shared_keys: VirtualKeys | None = None  # those that sidecars share, as last read; None: never read, or not shared
        self.keys = runtime.keys  # all that are good: those of the configuration, then the shared ones
        self.budget_watch = BudgetWatch()
        self.watch = Watch(clock)
        self.in_flight = 0
        self.calls = 0
        self.waiting = 0  # calls that wait for their turn
        self.stopping = False  # past the drain: what is cut now is our doing, not the client's
        self.mirrors = Background(MOST_MIRRORS)
        self.unmirrored: Counter[str] = Counter()  # copies of calls that weren't sent, by cause
        self.unbilled_responses = Remembered()  # ids of background Responses whose usage comes with a later GET
        self.refuses_include_usage = Remembered()  # "target/model" that answered 400 to it
        self.states: dict[str, TargetState] = {}  # by target: those of the configuration in force
        self.hedges: dict[str, HedgeState] = {}  # by route, as well
        self.use(runtime)

    def use(self, runtime: Runtime) -> None:
        """Put a configuration in force for the calls that begin from now on.

        What is known of a target, and of a route that is hedged, outlives this, under its name. What is known of one that is gone lives as
        long as calls that may ask it.
        """
        now_ns, states = self.clock.monotonic_ns(), {}
        for name, target in runtime.config.targets.items():
            states[name] = self.states.get(name) or TargetState(target.breaker, now_ns)
            states[name].breaker.limits = target.breaker
        self._keep_hedges(runtime)
        _keep_credentials(self.runtime, runtime)
        self.budget_watch.keep({rule.name for rule in runtime.spending.rules})
        self.runtime, self.states, runtime.states = runtime, states, states
        self._gather_keys()

    def share_keys(self, keys: VirtualKeys) -> None:
        """Take the keys that sidecars share, all of them, for the calls that begin from now on."""
        self.shared_keys = keys
        self._gather_keys()

    def _gather_keys(self) -> None:
        declared = self.runtime.keys
        self.keys = VirtualKeys((*declared, *self.shared_keys)) if self.shared_keys else declared

    def _keep_hedges(self, runtime: Runtime) -> None:
        rules = {route.name: hedge_rule(route.hedge) for route in enforced_routes(runtime.config) if route.hedge is not None}
        self.hedges = {name: self.hedges.get(name) or HedgeState() for name in rules}
        runtime.hedges = {name: Hedging(rule, self.hedges[name]) for name, rule in rules.items()}

    def store_now_ms(self) -> int:
        """Now, by the clock that windows of budgets are cut by. Unix milliseconds."""
        return self.store.now_ms(self.clock.time_ns() // NS_PER_MS)

    def standings(self, draws: Iterable[Draw], now_ms: int) -> list[Standing | None]:
        """How the accounts of draws stand, as far as is known here."""
        return [self.store.standing(draw.line.account, draw.line.window, now_ms) for draw in draws]

    def chance(self) -> float:
        """Uniform in [0, 1)."""
        return self.random_bits(53) / (1 << 53)


def _keep_credentials(before: Runtime, after: Runtime) -> None:
    """Which credential is current, and which of them rest, stays known where a target's are the same: elsewhere a position says nothing."""
    for name, endpoint in after.endpoints.items():
        known = before.endpoints.get(name)
        if known is not None and known.target.credentials == endpoint.target.credentials:
            after.credentials[name] = before.credentials[name]
