"""A decision with its reasons, as a value: which routes were considered, who is asked in which order and why, who isn't.

Here: telling what Router.decide decided. Not here: deciding (routing.py, plan.py, order.py), printing it.
Nothing is decided a second time: the steps told are those of the decision itself. Patterns of a rule and values of header fields
are not told, since either may hold a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from proxy.call import LABELS, NUSD_PER_USD
from proxy.config.schema import FailoverConfig, HedgeConfig, Match, MirrorConfig, RouteConfig
from proxy.policy.conditions import RouteFacts, conditions_of
from proxy.policy.experiment import Assigned
from proxy.policy.order import Candidate, load, reason
from proxy.policy.plan import Choice, Group, Plan
from proxy.policy.routing import Decide, PlanFacts, RouteDecision

MAX_TOLD_CHARS = 256
ONLY_TARGET = "the only target"
LAST_RESORT = "every breaker is open, and this one closes soonest"


class Considered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A route that was looked at, in the order of the configuration; the first that matches, and isn't in shadow, ends the list."""

    route: str
    matches: bool
    because: str | None = None  # the first condition that doesn't hold
    shadow: bool = False  # it takes no calls, whether it matches or not


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A target that is asked, with what its place was decided by. None = not known, or of no matter to the strategy."""

    target: str
    why: str
    model: str | None = None  # sent upstream instead of the client's
    weight: float = 1.0
    in_flight: int = 0
    latency_s: float | None = None
    headroom: float | None = None
    cost_usd: float | None = None
    changes: str = ""  # what rules change in the request for it, in words


class LeftOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """A target that isn't asked."""

    target: str
    why: str
    model: str | None = None


class Shadow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the first matching route of mode shadow would have done with the call."""

    route: str
    differs: bool  # it would have asked another target first, or for another model
    alias: str | None = None
    strategy: str | None = None
    steps: tuple[Step, ...] = ()
    dropped: tuple[LeftOut, ...] = ()
    last_resort: bool = False
    failover: FailoverConfig | None = None


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """A budget or limit that the call is under. In USD, tokens, requests, or calls at a time."""

    rule: str
    unit: str
    scope: str
    limit: float  # for this call: of a critical one with its multiplier
    spent: float
    held: float  # for other calls
    asks: float  # the most that this call, or its first attempt, may use of it; what isn't known is 0
    shadow: bool = False


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """The error that the client would get before anything is sent."""

    status: int
    code: str
    message: str
    param: str | None = None


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What would happen to a call, and why."""

    method: str
    path: str
    model: str | None = None
    stream: bool = False
    labels: dict[str, str] = {}  # see call.LABELS
    routes: tuple[Considered, ...] = ()
    route: str | None = None
    alias: str | None = None  # of `models:`, whose targets take the place of the route's
    strategy: str | None = None
    steps: tuple[Step, ...] = ()
    dropped: tuple[LeftOut, ...] = ()
    last_resort: bool = False
    failover: FailoverConfig | None = None  # None: the first failure is the call's
    draws: tuple[float, ...] = ()  # what chance gave, in the order it was asked
    refusal: Refusal | None = None
    experiment: Assigned | None = None
    shadow: Shadow | None = None
    budgets: tuple[Account, ...] = ()  # as they stand before the call
    hedge: HedgeConfig | None = None  # None: it wouldn't be hedged, however slow
    mirror: MirrorConfig | None = None  # None: it wouldn't be copied


class Listener:
    """Stands where Router.decide stands, and keeps what it was asked and what chance gave."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self.facts: RouteFacts | None = None
        self.draws: list[float] = []

    def decide(self, facts: RouteFacts, plan_facts: PlanFacts) -> RouteDecision | None:
        """The decision; a listener changes nothing about it."""
        self.facts = facts

        def chance() -> float:
            self.draws.append(plan_facts.chance())
            return self.draws[-1]

        return self._decide(facts, msgspec.structs.replace(plan_facts, chance=chance))


def explain(
    routes: Sequence[RouteConfig], heard: Listener, decision: RouteDecision | None, refusal: Refusal | None, may_be_copied: bool = False
) -> Explanation:
    """The decision told. `heard` took part in it; `decision` is what became of it, prices considered.

    `may_be_copied`: the call is of those that are hedged and mirrored.
    """
    facts = heard.facts
    assert facts is not None, "nothing was decided"
    call = Explanation(
        facts.method,
        facts.path,
        facts.model,
        facts.stream,
        facts.labels,
        considered(routes, facts),
        draws=tuple(heard.draws),
        refusal=refusal,
    )
    if decision is None:
        return call
    group, plan = decision.group, decision.plan
    rule = next((route for route in routes if route.name == decision.route), None) if may_be_copied and plan.steps else None
    return msgspec.structs.replace(
        call,
        route=decision.route,
        alias=group.alias if group is not None else None,
        strategy=group.strategy if group is not None else None,
        steps=_steps(decision),
        dropped=_left_out(plan),
        last_resort=plan.last_resort,
        failover=decision.failover,
        experiment=decision.experiment,
        shadow=None if decision.shadow is None else _shadow(decision, decision.shadow),
        hedge=rule.hedge if rule is not None and len(plan.steps) > 1 else None,
        mirror=rule.mirror if rule is not None else None,
    )


def _shadow(decision: RouteDecision, shadow: RouteDecision) -> Shadow:
    group, plan = shadow.group, shadow.plan
    return Shadow(
        shadow.route,
        asks_another_first(plan, decision.plan),
        group.alias if group is not None else None,
        group.strategy if group is not None else None,
        _steps(shadow),
        _left_out(plan),
        plan.last_resort,
        shadow.failover,
    )


def asks_another_first(plan: Plan, other: Plan) -> bool:
    """Whether two plans differ in whom they ask first, or for which model; asking nobody is one way to differ."""
    return [(step.target, step.model) for step in plan.steps[:1]] != [(step.target, step.model) for step in other.steps[:1]]


def _steps(decision: RouteDecision) -> tuple[Step, ...]:
    return tuple(_step(step, why) for step, why in zip(decision.plan.steps, reasons(decision), strict=True))


def _left_out(plan: Plan) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(drop.target, drop.why, drop.model) for drop in plan.dropped)


def _step(one: Candidate, why: str) -> Step:
    return Step(
        one.target,
        why,
        one.model,
        one.weight,
        one.in_flight,
        one.latency_s,
        one.headroom,
        None if one.cost_nusd is None else one.cost_nusd / NUSD_PER_USD,
    )


def with_changes(told: Explanation, changes: Sequence[str]) -> Explanation:
    """The explanation with what rules change in the request, by step; empty: not known, or nothing for any."""
    if not any(changes):
        return told
    steps = [msgspec.structs.replace(step, changes=text) for step, text in zip(told.steps, changes, strict=True)]
    return msgspec.structs.replace(told, steps=tuple(steps))


# ------------------------------------------------------------------------------------------------------- conditions


def considered(routes: Sequence[RouteConfig], facts: RouteFacts) -> tuple[Considered, ...]:
    """The routes a call passes, to the first one that takes it."""
    passed = []
    for route in routes:
        because = _first_that_fails(route.match, facts)
        is_shadow = route.mode == "shadow"
        passed.append(Considered(route.name, because is None, because, is_shadow))
        if because is None and not is_shadow:
            break
    return tuple(passed)


def _first_that_fails(match: Match, facts: RouteFacts) -> str | None:
    """The first condition that doesn't hold, and what the call has instead."""
    failing = next((condition.key for condition in conditions_of(match) if not condition.holds(facts)), None)
    return None if failing is None else f"match.{failing}: {_told(facts, failing)}"


def _told(facts: RouteFacts, key: str) -> str:
    """What the call has where a condition asks for something else."""
    section, _, name = key.partition(".")
    if section == "header":
        has_it = any(field.lower() == name.lower().encode() for field, _ in facts.headers)
        return "the call's value is another" if has_it else "the call has no such field"
    if section == "metadata":
        return f"the call's is {_short(facts.metadata[name])}" if name in facts.metadata else "the call has no such key"
    if section == "time":
        return "not at this time"
    if section == "budget_used":
        return "it is used more or less, or that isn't known"
    if section in LABELS:
        return f"the call's is {_short(facts.labels[section])}" if section in facts.labels else "the call has none"
    value: object = getattr(facts, section)
    return "the call has none" if value is None else f"the call's is {_short(value)}"


def _short(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)[:MAX_TOLD_CHARS]


# ----------------------------------------------------------------------------------------------------------- places

Place = tuple[str, str | None]
"""Target and model: what stands in a plan once."""
_Way = tuple[tuple[Group, Choice | Group], ...]
"""From a rule's targets down to a choice: each group with its member that leads there."""


def reasons(decision: RouteDecision) -> list[str]:
    """Why each step of the plan has its place; a target within an alias has one for the alias and one within it.

    A target that the rule names twice has the reason of its first place.
    """
    group, plan = decision.group, decision.plan
    if decision.degraded_by is not None:
        return [f"budget '{decision.degraded_by}' has too little left for the route's own"] * len(plan.steps)
    if plan.last_resort:
        return [LAST_RESORT] * len(plan.steps)
    if group is None or len(group.members) == 1 == len(plan.steps):
        return [ONLY_TARGET] * len(plan.steps)
    if not any(isinstance(member, Group) for member in group.members):
        shares = _shares(group, _asked(plan))
        return [_reason(group, step, shares) for step in plan.steps]
    ways = dict(reversed(list(_ways(group))))
    return [_by_way(ways[place], _asked(plan), step) for place, step in _asked(plan).items()]


def _asked(plan: Plan) -> dict[Place, Candidate]:
    return {(step.target, step.model): step for step in plan.steps}


def _ways(group: Group, way: _Way = ()) -> Iterator[tuple[Place, _Way]]:
    for member in group.members:
        here = (*way, (group, member))
        if isinstance(member, Choice):
            yield (member.target, member.model), here
        else:
            yield from _ways(member, here)


def _by_way(way: _Way, asked: dict[Place, Candidate], step: Candidate) -> str:
    told: list[str] = []
    for group, member in way:
        first = step if isinstance(member, Choice) else _first_of(member, asked)
        assert first is not None, "the step itself is within"
        leader = msgspec.structs.replace(first, weight=member.weight)
        why = _reason(group, leader, _shares(group, asked))
        told.append(f"within {group.alias}: {why}" if group.alias is not None else why)
    return "; ".join(told)


def _reason(group: Group, one: Candidate, shares: dict[Place, float]) -> str:
    why, share = reason(one, group.strategy), shares.get((one.target, one.model))
    return why if share is None else f"{why}, {share:.0%} of calls"


def _shares(group: Group, asked: dict[Place, Candidate]) -> dict[Place, float]:
    """How many of calls like this one each member's first step comes first for, within the group; empty where chance has no part in it."""
    if group.strategy not in ("weighted", "fastest"):
        return {}
    leaders = [(leader, member.weight) for member in group.members if (leader := _first_of(member, asked)) is not None]
    return _by_weight(leaders) if group.strategy == "weighted" else _by_rank([leader for leader, _ in leaders])


def _first_of(member: Choice | Group, asked: dict[Place, Candidate]) -> Candidate | None:
    """The step that a member's place was decided by; None if none of its targets is asked."""
    if isinstance(member, Choice):
        return asked.get((member.target, member.model))
    within = {place for place, _ in _ways(member)}
    return next((step for place, step in asked.items() if place in within), None)


def _by_weight(leaders: list[tuple[Candidate, float]]) -> dict[Place, float]:
    total = sum(weight for _, weight in leaders)
    shares: dict[Place, float] = {}
    for leader, weight in leaders if total else ():
        place = (leader.target, leader.model)
        shares[place] = shares.get(place, 0.0) + weight / total
    return shares


def _by_rank(leaders: list[Candidate]) -> dict[Place, float]:
    """The better of two drawn goes first: of two there is nothing to draw."""
    count = len(leaders)
    if count <= 2:
        return {}
    ranked = sorted(leaders, key=load)
    return {(one.target, one.model): 2 * (count - 1 - rank) / (count * (count - 1)) for rank, one in enumerate(ranked)}
