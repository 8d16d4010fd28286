"""Recorded calls on another configuration: where each of them would go, on the gate's own routing.

Here: a call made from what the ledger tells, what becomes of it, before and now. Not here: reading the ledger (recorded.py), adding up the
differences (differences.py), the decision (handle_call.route).
What the ledger doesn't tell (header fields, tools, images, ...) is unknown: a condition on it is taken as not holding, and counted.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import msgspec

from proxy.call import LABELS
from proxy.config.load import LoadedConfig
from proxy.config.schema import Match, RouteConfig
from proxy.errors import AllTargetsFailed, ModelNotAllowed, NoRoute, PosternError, RouteNotAllowed, UnknownPrice
from proxy.explain.ask import OfflineGate, offline_runtime
from proxy.explain.ports import GivenBody
from proxy.explain.recorded import RecordedCall
from proxy.pipeline.handle_call import route
from proxy.pipeline.request import ClientRequest
from proxy.pipeline.state import CallState
from proxy.policy.conditions import Condition, RouteFacts, conditions_of
from proxy.policy.estimates import CHARS_PER_TOKEN
from proxy.policy.order import Candidate
from proxy.policy.plan import Needs
from proxy.policy.routing import CompiledRoute, PlanFacts, RouteDecision, enforced_routes
from proxy.records import RequestFacts
from proxy.wire.endpoints import endpoint_of
from proxy.wire.request import RequestFields

TOLD = frozenset({"model", "path", "method", "stream", "input_tokens", "time", *LABELS})
"""Conditions that the ledger tells enough for."""
NEVER = Match(method=[])
"""What no call matches: it stands for conditions that can't be asked about."""
ROUTING_REFUSALS = frozenset({NoRoute.code, UnknownPrice.code, AllTargetsFailed.code, ModelNotAllowed.code, RouteNotAllowed.code})
"""Why a call may get no target: the errors that another configuration may change."""
MAX_PROMPT_TOKENS = 4_000_000
"""Longer prompts are taken for as long: no model takes them either."""
DRAW_BYTES = 8


class Fate(msgspec.Struct, frozen=True):
    """What became of a call, or would become of it."""

    target: str | None = None  # the one that answers; None: refused
    model: str | None = None
    refusal: str | None = None  # the error's code
    failovers: int = 0
    broke: bool = False  # no target that may be asked is known to answer
    cost_nusd: int | None = None


class Unknown(msgspec.Struct, frozen=True):
    """What a rule goes by and the ledger doesn't tell."""

    route: str
    keys: tuple[str, ...]  # below the route, e.g. `match.tools`


def before(call: RecordedCall) -> Fate | None:
    """What became of a recorded call; None if it ended before a route was chosen, or was only explained."""
    if call.attempts == 0:
        return Fate(refusal=call.error) if call.error in ROUTING_REFUSALS else None
    return Fate(call.target, call.model, None, len(call.left), call.broke, call.cost_nusd)


class Replay:
    """One configuration, and what the calls played on it lacked."""

    def __init__(self, loaded: LoadedConfig) -> None:
        rules = enforced_routes(loaded.config)
        config = msgspec.structs.replace(loaded.config, routes=[_askable(rule) for rule in rules])
        self._runtime = offline_runtime(msgspec.structs.replace(loaded, config=config), {})
        self._gate = OfflineGate(self._runtime, ())
        self._keys = {key.name: key for key in self._runtime.keys}
        self._rules = [_Rule(rule) for rule in rules]
        self.unknown: Counter[Unknown] = Counter()
        """How many calls might have taken a route, or another place in it, if more were known of them."""

    def now(self, call: RecordedCall) -> Fate:
        """What would become of a recorded call."""
        state, hearing = _call_state(call), _Hearing(self, call)
        state.key = self._keys.get(call.key or "")
        self._gate.draw_from(_draws(call.call_id))
        try:
            route(self._gate, state, self._runtime, hearing.decide)
        except PosternError as error:
            return Fate(refusal=error.code)
        finally:
            self._note(hearing, state.decision)
        assert state.decision is not None, "no route is an error"
        return self._reached(call, state.decision)

    def decide(self, facts: RouteFacts, plan_facts: PlanFacts) -> RouteDecision | None:
        """As the gate decides."""
        return self._runtime.router.decide(facts, plan_facts)

    def _reached(self, call: RecordedCall, decision: RouteDecision) -> Fate:
        """The first step that isn't known to have failed this call; where all are, the last one that would be asked."""
        steps = [step for step in decision.plan.steps if step.target not in call.out_of_service] or list(decision.plan.steps)
        steps = steps[: decision.failover.attempts if decision.failover is not None else 1]
        failing = {*call.left, call.target} if call.broke else set(call.left)
        for failovers, step in enumerate(steps):
            if step.target not in failing:
                return self._fate(call, step, failovers, broke=False)
        return self._fate(call, steps[-1], len(steps) - 1, broke=True)

    def _fate(self, call: RecordedCall, step: Candidate, failovers: int, broke: bool) -> Fate:
        model = step.model or call.requested_model
        return Fate(step.target, model, None, failovers, broke, self._cost_nusd(call, step.target, model))

    def _cost_nusd(self, call: RecordedCall, target: str, model: str | None) -> int | None:
        """The recorded tokens at the target's price; None if either isn't known."""
        usage = call.usage
        if usage is None:
            return None
        endpoint, duration_s = self._runtime.endpoints[target], call.duration_ms / 1000
        cost = self._runtime.prices.cost(endpoint.target, model, None, usage, call.time_ns / 1e9, duration_s, service_tier=None)
        return None if cost is None else cost.total_nusd

    def _note(self, hearing: _Hearing, decision: RouteDecision | None) -> None:
        """Count what this call lacked on its way."""
        taken = decision.route if decision is not None else None
        for rule in self._rules:
            if rule.name == taken:
                break
            if rule.unknown is not None and hearing.facts is not None and rule.may_match(hearing.facts):
                self.unknown[rule.unknown] += 1
        if hearing.lacked and taken is not None:
            self.unknown[Unknown(taken, tuple(sorted(hearing.lacked)))] += 1


class _Rule:
    """A route with its conditions apart: those that can be asked about and the others."""

    def __init__(self, rule: RouteConfig) -> None:
        conditions = conditions_of(rule.match)
        missing = tuple(f"match.{condition.key}" for condition in conditions if not _is_told(condition))
        self.name = rule.name
        self.unknown = Unknown(rule.name, missing) if missing else None
        self._told = [condition for condition in conditions if _is_told(condition)]

    def may_match(self, facts: RouteFacts) -> bool:
        return all(condition.holds(facts) for condition in self._told)


class _Hearing:
    """Stands where Router.decide stands, and keeps what was asked that isn't known."""

    def __init__(self, replay: Replay, call: RecordedCall) -> None:
        self._replay = replay
        self._call = call
        self.facts: RouteFacts | None = None
        self.lacked: set[str] = set()

    def decide(self, facts: RouteFacts, plan_facts: PlanFacts) -> RouteDecision | None:
        self.facts = facts

        def needs(compiled: CompiledRoute) -> Needs:
            self.lacked |= {f"lacks {need}" for need in compiled.lacking}
            return plan_facts.needs(compiled)

        def sticky_key(sticky_by: str | None) -> str:
            if sticky_by is not None and sticky_by != "model" and sticky_by not in self._call.labels:
                self.lacked.add(f"sticky_by {sticky_by}")
            return plan_facts.sticky_key(sticky_by)

        return self._replay.decide(facts, msgspec.structs.replace(plan_facts, needs=needs, sticky_key=sticky_key))


def _is_told(condition: Condition) -> bool:
    return condition.key in TOLD


def _askable(rule: RouteConfig) -> RouteConfig:
    """A route that no call takes, if it asks for what the ledger doesn't tell. Experiments are left out: an arm changes no target."""
    told = all(map(_is_told, conditions_of(rule.match)))
    return msgspec.structs.replace(rule, match=rule.match if told else NEVER, experiment=None)


def _call_state(call: RecordedCall) -> CallState:
    """The call as the gate would see it after it was read."""
    where = ("1.1", "http", "127.0.0.1", 0, "127.0.0.1")
    request = ClientRequest(call.method, call.path, [], *where, GivenBody(b""), call.time_ns, 0)
    state = CallState(request, call.call_id, "", "")
    state.path, state.target_path = call.path, call.path
    state.api = endpoint_of(call.method, call.path)
    state.billable = state.api.billable
    state.labels = call.labels
    if state.api.json_body or call.requested_model is not None:
        facts = RequestFacts(max_tokens=call.output_tokens)  # what it took is the best guess at what it may take
        state.fields = RequestFields(model=call.requested_model, stream=call.stream, facts=facts)
    if call.input_tokens is not None:
        chars = CHARS_PER_TOKEN * min(max(0, call.input_tokens), MAX_PROMPT_TOKENS)
        state.plain = b'{"prompt":"%b"}' % (b"x" * chars)
    return state


def _draws(call_id: str) -> list[float]:
    """What chance gives a call: the same in every replay."""
    digest = blake2b(call_id.encode("utf-8", "surrogatepass")).digest()
    return [(int.from_bytes(digest[at : at + DRAW_BYTES], "big") >> 11) / (1 << 53) for at in range(0, len(digest), DRAW_BYTES)]
