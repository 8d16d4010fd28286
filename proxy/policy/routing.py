"""Which targets a call goes to: the first route that matches, and the plan it makes, as a pure decision.

Here: compiled routes, facts in, decision out. Not here: sockets, clocks, what a target answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from proxy.config.schema import Config, ExperimentConfig, FailoverConfig, ModelConfig, RouteConfig, TargetChoice
from proxy.policy.conditions import Condition, RouteFacts, conditions_of
from proxy.policy.experiment import Assigned, assigned
from proxy.policy.order import Candidate, Chance
from proxy.policy.plan import Abilities, Choice, Group, Known, Needs, Plan, StickyKey, make_plan

MAX_TOLD_MODEL_CHARS = 256
IMPLICIT_ROUTE = "default"
"""The route's name where no routes are declared and there is one target."""
NO_NEEDS = Needs()


class RouteDecision(msgspec.Struct, frozen=True):
    """Where a call goes."""

    route: str
    plan: Plan
    failover: FailoverConfig | None = None  # None: the first failure is the call's
    group: Group | None = None  # what the plan was made from; None: there was nothing to choose
    experiment: Assigned | None = None
    shadow: RouteDecision | None = None  # of the route of mode shadow that would have taken the call; it changes nothing
    critical: bool = False  # budgets let it through up to their `critical_multiplier`
    degraded_by: str | None = None  # the budget that had too little left, and put other targets in the plan's place

    def told(self, requested_model: str | None) -> str:
        """The decision as people read it, e.g. `ads-copy>openai/gpt-5.2,claude/claude-sonnet-5`: route, then whom to ask, in order."""
        why = f" (budget {self.degraded_by})" if self.degraded_by is not None else ""
        return f"{self.route}>{','.join(_told(step, requested_model) for step in self.plan.steps)}{why}"


def _told(step: Candidate, requested_model: str | None) -> str:
    model = step.model or requested_model
    return f"{step.target}/{model[:MAX_TOLD_MODEL_CHARS]}" if model else step.target


class CompiledRoute(msgspec.Struct, frozen=True):
    """A route, ready to be asked, with what has to be known to make its plan."""

    name: str
    conditions: tuple[Condition, ...]
    group: Group
    failover: FailoverConfig | None
    declared_failover: FailoverConfig | None  # as the configuration says it
    choices: tuple[Choice, ...]  # all of the group's, also those within groups
    has_choice: bool  # a target may be left out because another can do more: the only one never is, for a guess
    goes_by_cost: bool
    lacking: frozenset[str]  # of vision, tools, json_schema: what at least one of the targets can't do
    is_shadow: bool = False
    experiment: ExperimentConfig | None = None
    critical: bool = False


class PlanFacts(msgspec.Struct, frozen=True):
    """What planning asks about the moment and the call, beside what the conditions ask."""

    known: Callable[[Choice, CompiledRoute], Known]
    chance: Chance
    needs: Callable[[CompiledRoute], Needs] = lambda _: NO_NEEDS  # asked only where a route has a choice
    sticky_key: StickyKey = lambda _: ""


Decide = Callable[[RouteFacts, PlanFacts], RouteDecision | None]
"""How a call is decided on: Router.decide, or what listens to it."""


class Router:
    """The routes of one configuration, compiled. `decide` is a pure function of its facts."""

    def __init__(self, config: Config) -> None:
        self.abilities = {name: Abilities(target.context_window, frozenset(target.lacks)) for name, target in config.targets.items()}
        self._aliases = {alias: _alias_group(alias, model) for alias, model in config.models.items()}
        self._declared = [self._compiled(route) for route in _declared(config)]  # in their order, also those in shadow
        self._routes = [route for route in self._declared if not route.is_shadow]
        self._has_shadows = len(self._routes) < len(self._declared)
        self._alias_routes = {alias: self._ready(IMPLICIT_ROUTE, (), group) for alias, group in self._aliases.items()}
        self._always = self._constant(config)
        self.asks = frozenset(condition.key for route in self._declared for condition in route.conditions)
        """The keys of all conditions: a fact that none of them stands for may be left out of RouteFacts."""

    def _constant(self, config: Config) -> RouteDecision | None:
        """The decision that no call can change, if there is one: the plain pass-through costs nothing."""
        if len(self._routes) != 1 or self._routes[0].conditions or self._aliases or self._has_shadows or self._routes[0].experiment:
            return None
        route = self._routes[0]
        only = route.group.members[0]
        if route.has_choice or not isinstance(only, Choice) or route.failover is not None:
            return None
        if config.targets[only.target].limits.concurrency is not None:
            return None
        return RouteDecision(route.name, Plan((Candidate(only.target, only.model),)), critical=route.critical)

    def route(self, facts: RouteFacts) -> CompiledRoute | None:
        """The route that a call takes; an alias of `models:` wins over a route's targets, not over its conditions."""
        return self._first(self._routes, facts)

    def _first(self, routes: Sequence[CompiledRoute], facts: RouteFacts) -> CompiledRoute | None:
        alias = self._alias_routes.get(facts.model) if facts.model is not None else None
        for route in routes:
            for condition in route.conditions:
                if not condition.holds(facts):
                    break
            else:
                return route if alias is None else _taken_by(route, alias)
        return alias

    def decide(self, facts: RouteFacts, plan_facts: PlanFacts) -> RouteDecision | None:
        """The decision for a call; None if no route matches. What is in shadow decides after it, and takes no draw of chance from it."""
        if self._always is not None:
            return self._always
        route = self.route(facts)
        if route is None:
            return None
        decision = _decided(route, plan_facts)
        shadow = self._first(self._declared, facts) if self._has_shadows else None
        if shadow is None or not shadow.is_shadow:
            return decision
        return msgspec.structs.replace(decision, shadow=_decided(shadow, plan_facts))

    def _compiled(self, route: RouteConfig) -> CompiledRoute:
        members = tuple(_member(choice, self._aliases) for choice in route.to)
        group = Group(members, route.strategy, sticky_by=route.sticky_by)
        ready = self._ready(route.name, conditions_of(route.match), group, route.failover)
        return msgspec.structs.replace(ready, is_shadow=route.mode == "shadow", experiment=route.experiment, critical=route.critical)

    def candidates(self, choices: Sequence[TargetChoice]) -> Iterator[Candidate]:
        """Targets that a rule names beside its plan, in their order; an alias stands for its targets in theirs."""
        for choice in choices:
            alias = self._aliases.get(choice.target)
            for one in _choices(alias) if alias is not None else (choice,):
                yield Candidate(one.target, one.model)

    def _ready(self, name: str, conditions: tuple[Condition, ...], group: Group, failover: FailoverConfig | None = None) -> CompiledRoute:
        choices = tuple(_choices(group))
        has_choice = len({(choice.target, choice.model) for choice in choices}) > 1
        lacking = frozenset[str]().union(*(self.abilities[choice.target].lacks for choice in choices))
        return CompiledRoute(
            name, conditions, group, failover or _default(group), failover, choices, has_choice, _goes_by_cost(group), lacking
        )


def _decided(route: CompiledRoute, plan_facts: PlanFacts) -> RouteDecision:
    """What a route decides about a call that it matches."""
    needs = plan_facts.needs(route) if route.has_choice else NO_NEEDS
    plan = make_plan(route.group, lambda choice: plan_facts.known(choice, route), needs, plan_facts.chance, plan_facts.sticky_key)
    experiment = None if route.experiment is None else assigned(route.experiment, plan_facts.sticky_key(route.experiment.by))
    return RouteDecision(route.name, plan, route.failover, route.group, experiment, critical=route.critical)


def _taken_by(route: CompiledRoute, alias: CompiledRoute) -> CompiledRoute:
    """A route with the targets of the alias that a call asks for."""
    failover = route.declared_failover or alias.failover
    return msgspec.structs.replace(
        alias, name=route.name, failover=failover, is_shadow=route.is_shadow, experiment=route.experiment, critical=route.critical
    )


def _member(choice: TargetChoice, aliases: dict[str, Group]) -> Choice | Group:
    alias = aliases.get(choice.target)
    if alias is not None:
        return msgspec.structs.replace(alias, weight=choice.weight)
    return Choice(choice.target, choice.model, choice.weight)


def _alias_group(alias: str, model: ModelConfig) -> Group:
    members = tuple(Choice(choice.target, choice.model, choice.weight) for choice in model.targets)
    return Group(members, model.strategy, alias=alias, sticky_by=model.sticky_by)


def _choices(group: Group) -> Iterator[Choice]:
    for member in group.members:
        if isinstance(member, Choice):
            yield member
        else:
            yield from _choices(member)


def _goes_by_cost(group: Group) -> bool:
    return group.strategy == "cheapest" or any(isinstance(member, Group) and _goes_by_cost(member) for member in group.members)


def _default(group: Group) -> FailoverConfig | None:
    """A rule that names more than one target means that the others stand in."""
    several = len(group.members) > 1 or any(isinstance(member, Group) and _default(member) for member in group.members)
    return FailoverConfig() if several else None


def enforced_routes(config: Config) -> list[RouteConfig]:
    """The routes that take calls, in their order."""
    return [route for route in config.routes if route.mode == "enforce"]


def _declared(config: Config) -> Sequence[RouteConfig]:
    if enforced_routes(config):
        return config.routes
    only = next(iter(config.targets))
    return [*config.routes, RouteConfig(name=IMPLICIT_ROUTE, to=[TargetChoice(target=only)])]
