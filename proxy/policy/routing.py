"""Which target a call goes to: the first route that matches, as a pure decision.

Here: compiled routes, facts in, decision out. Not here: sockets, clocks, what a target answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

import msgspec

from proxy.call import HeaderList
from proxy.config.schema import Config, Match, RouteConfig, TargetChoice

MAX_TOLD_MODEL_CHARS = 256
IMPLICIT_ROUTE = "default"
"""The route's name where no routes are declared and there is one target."""


class RouteFacts(msgspec.Struct, frozen=True):
    """What a route may ask about a call."""

    method: str
    path: str
    model: str | None
    headers: HeaderList
    stream: bool

    def __repr__(self) -> str:
        return f"RouteFacts({self.method!r}, {self.path!r}, {self.model!r})"  # never the headers


class RouteDecision(msgspec.Struct, frozen=True):
    """Where a call goes."""

    route: str
    target: str
    model: str | None  # sent upstream instead of the client's; None: the client's own

    def told(self, requested_model: str | None) -> str:
        """The decision as people read it, e.g. `ads-copy>openai/gpt-5.2`: route, target, and the model if there is one."""
        model = self.model or requested_model
        return f"{self.route}>{self.target}/{model[:MAX_TOLD_MODEL_CHARS]}" if model else f"{self.route}>{self.target}"


Condition = Callable[[RouteFacts], bool]


class Router:
    """The routes of one configuration, compiled. `decide` is a pure function of its facts."""

    def __init__(self, config: Config) -> None:
        self._routes = [(route.name, _conditions(route.match), route.to[0]) for route in _declared(config)]
        self._aliases = {alias: model.targets[0] for alias, model in config.models.items()}
        self._fixed = self._routes[0] if len(self._routes) == 1 and not self._routes[0][1] and not self._aliases else None
        self._always = RouteDecision(self._fixed[0], self._fixed[2].target, self._fixed[2].model) if self._fixed else None

    def decide(self, facts: RouteFacts) -> RouteDecision | None:
        """The decision for a call; None if no route matches. An alias of `models:` wins over a route's target, not over its conditions."""
        if self._always is not None:
            return self._always
        for name, conditions, choice in self._routes:
            if all(condition(facts) for condition in conditions):
                chosen = self._aliases.get(facts.model, choice) if facts.model is not None else choice
                return RouteDecision(name, chosen.target, chosen.model)
        alias = self._aliases.get(facts.model) if facts.model is not None else None
        return RouteDecision(IMPLICIT_ROUTE, alias.target, alias.model) if alias else None


def _declared(config: Config) -> Sequence[RouteConfig]:
    if config.routes:
        return config.routes
    only = next(iter(config.targets))
    return [RouteConfig(name=IMPLICIT_ROUTE, to=[TargetChoice(target=only)])]


def _conditions(match: Match) -> list[Condition]:
    conditions: list[Condition] = []
    if match.model is not None:
        conditions.append(_globs(match.model, lambda facts: facts.model))
    if match.path is not None:
        conditions.append(_globs(match.path, lambda facts: facts.path))
    if match.method is not None:
        methods = frozenset(method.upper() for method in _listed(match.method))
        conditions.append(lambda facts: facts.method in methods)
    if match.stream is not None:
        conditions.append(lambda facts: facts.stream is match.stream)
    conditions += [_header_condition(name, globs) for name, globs in match.header.items()]
    return conditions


def _globs(patterns: str | list[str], field: Callable[[RouteFacts], str | None]) -> Condition:
    matches = _glob(patterns)

    def condition(facts: RouteFacts) -> bool:
        value = field(facts)
        return value is not None and matches(value)

    return condition


def _header_condition(name: str, patterns: str | list[str]) -> Condition:
    matches, wanted = _glob(patterns), name.lower().encode()

    def condition(facts: RouteFacts) -> bool:
        return any(key.lower() == wanted and matches(value.decode("latin-1")) for key, value in facts.headers)

    return condition


def _glob(patterns: str | list[str]) -> Callable[[str], bool]:
    matcher = re.compile("|".join(translate(pattern) for pattern in _listed(patterns)))
    return lambda value: matcher.match(value) is not None


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
