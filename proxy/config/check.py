"""Checks that need more than one key: names that must exist, routes that can't match, addresses, URLs, prices, credentials.

Here: what a Config whose types are right may still have wrong. Not here: types and ranges (convert.py, values.py).
A check keeps quiet about what the conversion has already reported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from proxy.call import Price
from proxy.config.convert import Found
from proxy.config.endpoints import Address, header_name_message, header_text_message, parse_address, url_message
from proxy.config.identity import identity_problems, key_problems
from proxy.config.matches import match_problems, missing_facts
from proxy.config.nodes import join_key
from proxy.config.problems import Place, Problems, did_you_mean, shown
from proxy.config.rules import (
    experiment_problems,
    failover_problems,
    hedge_problems,
    mirror_problems,
    request_problems,
    strategy_problems,
)
from proxy.config.schema import PASSTHROUGH, PER_MILLION, Config, Match, ModelConfig, RouteConfig, TargetChoice, TargetConfig
from proxy.config.shadows import shadows
from proxy.config.spending import spending_problems
from proxy.config.telemetry import telemetry_problems

DefaultBaseUrl = Callable[[str], str | None]
"""A provider's own base URL; None if it has none."""

BUILT_IN = "simulated"
"""The provider that answers without a base URL."""


class Checker:
    """Checks one configuration. `found` tells where its values stand."""

    def __init__(self, config: Config, problems: Problems, found: Mapping[str, Found], default_base_url: DefaultBaseUrl) -> None:
        self._config = config
        self._problems = problems
        self._found = found
        self._default_base_url = default_base_url
        self._reported = problems.paths()
        self._route_names: dict[str, int] = {}  # and the first route of each
        self._sound_routes: list[int] = []  # the conversion found nothing wrong with them

    def check(self) -> None:
        """Report everything that is wrong across sections."""
        self._check_addresses()
        self._check_telemetry()
        self._report_all(identity_problems(self._config, self._is_sound))
        self._report_all(key_problems(self._config, self._is_sound))
        for name, target in self._config.targets.items():
            self._check_target(name, target)
        for glob, price in self._config.prices.overrides.items():
            self._check_price(join_key("prices.overrides", glob), price)
        for alias, model in self._config.models.items():
            self._check_alias(alias, model)
        for index, route in enumerate(self._config.routes):
            self._check_route(index, route)
        self._check_spending()
        self._check_presence()

    # ------------------------------------------------------------------------------------------------------ addresses

    def _check_addresses(self) -> None:
        listen = self._address("listen", self._config.listen)
        admin = self._address("admin.listen", self._config.admin.listen)
        token = self._config.admin.token
        if listen and admin and listen == admin and listen.port:
            self._report("admin.listen", "is the same address as `listen`")
        if admin and not admin.is_loopback and not token and not self._touched("admin.token"):
            self._report("admin.listen", "can be reached from other machines, so `admin.token` must be set (or listen on 127.0.0.1)")
        if token:
            self._report("admin.token", header_text_message(token.reveal()))

    def _address(self, path: str, text: str) -> Address | None:
        try:
            return parse_address(text)
        except ValueError as error:
            self._report(path, str(error))
            return None

    def _check_telemetry(self) -> None:
        telemetry = self._config.telemetry
        if telemetry.otlp and telemetry.otlp.endpoint is not None:
            self._report("telemetry.otlp.endpoint", url_message(telemetry.otlp.endpoint))
        for name, value in (telemetry.otlp.headers if telemetry.otlp else {}).items():
            path = join_key("telemetry.otlp.headers", name)
            self._report(path, header_name_message(name) or header_text_message(value.reveal()))
        self._report_all(telemetry_problems(self._config))
        for index, name in enumerate(telemetry.trust_upstream_context):
            self._check_target_name(
                "telemetry.trust_upstream_context", name, f"telemetry.trust_upstream_context[{index}]", self._config.targets
            )

    # -------------------------------------------------------------------------------------------------------- targets

    def _check_target(self, name: str, target: TargetConfig) -> None:
        path = join_key("targets", name)
        self._report(path, self._name_message(name))
        if target.base_url is not None:
            self._report(f"{path}.base_url", url_message(target.base_url))
        elif not self._touched(f"{path}.provider") and target.provider != BUILT_IN and self._default_base_url(target.provider) is None:
            self._report(f"{path}.base_url", f"is required: provider {target.provider} has no address of its own")
        if target.credential is not None:
            self._check_credentials(f"{path}.credential", [one.reveal() for one in target.credential])
        if target.price is not None:
            self._check_price(f"{path}.price", target.price)
        if target.request is not None:
            self._report_all(request_problems(f"{path}.request", target.request))
        if len(set(target.lacks)) < len(target.lacks):
            self._report(f"{path}.lacks", "names an ability twice")

    def _check_credentials(self, path: str, credentials: list[str]) -> None:
        if not credentials:
            self._report(path, "must hold a credential: give one, or leave the key out")
        for index, text in enumerate(credentials):
            item = f"{path}[{index}]"
            at = item if item in self._found else path  # a single one stands for the list of it
            if text != PASSTHROUGH:
                message = header_text_message(text)
                self._report(at, message and f"credential {message}")
            elif at == item:
                self._report(at, f"`{PASSTHROUGH}` can't stand in a list: the client's own credential can't be exchanged for another")
            if text in credentials[:index]:
                self._report(at, f"is the same as credential[{credentials.index(text)}]: a list is of different ones")

    def _check_price(self, path: str, price: Price) -> None:
        for key in price.per_million or ():
            if key not in PER_MILLION:
                hint = did_you_mean(key, PER_MILLION) or f": there are {', '.join(PER_MILLION)}"
                self._report(join_key(f"{path}.per_million", key), f"unknown key{hint}")
        if self._touched(path):
            return
        amounts = price.per_million or price.per_gpu_hour is not None or price.per_request is not None
        if price.free and amounts:
            self._report(path, "is `free` and has a price: leave one of them out")
        elif not price.free and not amounts:
            self._report(path, "names no price: give per_million, per_gpu_hour, per_request, or free: true")

    # --------------------------------------------------------------------------------------------------------- routes

    def _check_route(self, index: int, route: RouteConfig) -> None:
        path = f"routes[{index}]"
        self._check_rule(path, "to", route, [*self._config.targets, *self._config.models])
        is_met = self._check_match(f"{path}.match", route.match)
        if route.request is not None:
            self._report_all(request_problems(f"{path}.request", route.request))
        if route.experiment is not None:
            self._report_all(experiment_problems(f"{path}.experiment", route.experiment, self._is_sound))
        self._check_failover(f"{path}.failover", route)
        if route.hedge is not None:
            if len(route.to) == 1 and not self._config.models and self._is_sound(f"{path}.to"):
                self._report(f"{path}.hedge", "does nothing: `to` names one target, and there is no alias that could stand for more")
            self._report_all(hedge_problems(f"{path}.hedge", route.hedge, route, self._is_sound))
        if route.mirror is not None:
            self._report_all(mirror_problems(f"{path}.mirror", route.mirror, self._is_sound))
            self._check_in_order(f"{path}.mirror.to", route.mirror.to, self._config.targets)
        first = self._route_names.setdefault(route.name, index)
        if first != index:
            self._report(f"{path}.name", f"is the name of routes[{first}] too: names must differ")
        self._report(f"{path}.name", self._name_message(route.name))
        if is_met and self._is_sound(path):
            self._check_alive(index, route)
            self._sound_routes.append(index)

    def _check_match(self, path: str, match: Match) -> bool:
        """Whether a call can meet a `match`, as far as can be told; what is wrong with it is reported."""
        wrong = [*match_problems(path, match, self._is_sound), *missing_facts(path, match, self._config, self._is_sound)]
        self._report_all(wrong)
        return not wrong

    def _check_failover(self, path: str, route: RouteConfig) -> None:
        failover = route.failover
        if failover is None:
            return
        self._report_all(failover_problems(path, failover, self._is_sound))
        self._check_in_order(f"{path}.context_window_to", failover.context_window_to)
        self._check_in_order(f"{path}.content_filter_to", failover.content_filter_to)

    def _check_alive(self, index: int, route: RouteConfig) -> None:
        for earlier in self._sound_routes:
            other = self._config.routes[earlier]
            leaves_it = other.mode == "shadow" and route.mode == "enforce"  # it takes no calls
            if not leaves_it and shadows(other.match, route.match):
                name = self._shown(f"routes[{earlier}].name", other.name)
                self._report(f"routes[{index}]", f"never matches: routes[{earlier}] ({name}) takes every call that it would take")
                return

    # ----------------------------------------------------------------------------------------------- budgets and limits

    def _check_spending(self) -> None:
        self._report_all(spending_problems(self._config, self._is_sound, self._hint))
        for index, budget in enumerate(self._config.budgets):
            self._check_match(f"budgets[{index}].match", msgspec.structs.replace(budget.match, budget_used=None))  # refused already
            self._check_in_order(f"budgets[{index}].when_short.degrade_to", budget.when_short.degrade_to)
        for index, limit in enumerate(self._config.limits):
            self._check_match(f"limits[{index}].match", msgspec.structs.replace(limit.match, budget_used=None))

    # ---------------------------------------------------------------------------------------- aliases, lists of targets

    def _check_alias(self, alias: str, model: ModelConfig) -> None:
        path = join_key("models", alias)
        if alias in self._config.targets:
            self._report(path, "is the name of a target too: names must differ")
        self._check_rule(path, "targets", model, self._config.targets)

    def _check_rule(self, path: str, choices_key: str, rule: RouteConfig | ModelConfig, names: Collection[str]) -> None:
        choices, at = (rule.to if isinstance(rule, RouteConfig) else rule.targets), f"{path}.{choices_key}"
        if not choices:
            self._report(at, "must name a target")
        self._check_choices(at, choices, names)
        self._report_all(strategy_problems(path, choices_key, rule, self._is_sound))

    def _check_in_order(self, path: str, choices: list[TargetChoice], names: Collection[str] = ()) -> None:
        """A list that no strategy chooses from, of targets and aliases unless it is said what may stand in it."""
        self._check_choices(path, choices, names or [*self._config.targets, *self._config.models])
        for index in range(len(choices)):
            if (weight := f"{path}[{index}].weight") in self._found:
                self._report(weight, "does nothing here: these targets are asked in the order they stand in")

    def _check_choices(self, path: str, choices: list[TargetChoice], names: Collection[str]) -> None:
        """Each entry names one of `names`, and has a model of its own only where it names a target."""
        aliases = self._config.models
        for index, choice in enumerate(choices):
            at = f"{path}[{index}].target"
            is_alias = choice.target in aliases and choice.target not in self._config.targets
            if is_alias and choice.target not in names:
                self._report(path, f"{self._shown(at, choice.target)} is an alias: only targets may stand here", at)
            elif choice.target:
                self._check_target_name(path, choice.target, at, names)
            if is_alias and choice.target in names and choice.model is not None:
                self._report(f"{path}[{index}].model", "can't stand beside an alias, whose targets have models of their own")

    def _check_target_name(self, path: str, name: str, at: str, names: Collection[str]) -> None:
        if name in names or not self._reported.isdisjoint(("targets", "models")):
            return
        self._report(path, f"no target named {self._shown(at, name)}{self._hint(at, name, names)}", at)

    # -------------------------------------------------------------------------------------------------- whole sections

    def _check_presence(self) -> None:
        targets = self._config.targets
        if not targets:
            self._report("targets", "must name at least one target")
        routes = self._config.routes
        if len(targets) > 1 and not routes:
            self._report("routes", f"is required with more than one target ({len(targets)} given): say which calls go where")
        elif len(targets) > 1 and all(route.mode == "shadow" and self._is_sound(f"routes[{index}]") for index, route in enumerate(routes)):
            self._report("routes", f"are all of mode shadow, with {len(targets)} targets: say in one that is enforced which calls go where")

    # ------------------------------------------------------------------------------------------------------- reporting

    def _name_message(self, name: str) -> str | None:
        message = header_text_message(name)
        return f"the name {message}" if message else None

    def _report(self, path: str, message: str | None, at: str | None = None) -> None:
        """Add a problem, unless what stands there was left out by the conversion; `at` is where exactly, if not at `path`."""
        at = path if at is None else at
        if message and not any(_is_within(at, bad) for bad in self._reported):
            self._problems.add(self._place(at), path, message)

    def _report_all(self, told: Iterable[tuple[str, str]]) -> None:
        for path, message in told:
            self._report(path, message)

    def _is_sound(self, path: str) -> bool:
        return not self._touched(path)

    def _touched(self, path: str) -> bool:
        """Whether the conversion has reported this path, or one above or below it: what is there isn't whole."""
        return any(_is_within(path, bad) or _is_within(bad, path) for bad in self._reported)

    def _place(self, path: str) -> Place:
        """Where a path stands in the file; a path that was left out stands where what should hold it does."""
        while path and path not in self._found:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._found[path].place

    def _hint(self, at: str, name: str, known: Collection[str]) -> str:
        return "" if self._found[at].secret else did_you_mean(name, known)

    def _shown(self, at: str, value: str) -> str:
        return shown(value, secret=self._found[at].secret)


def _is_within(path: str, other: str) -> bool:
    return other != "" and path.startswith(other) and (len(path) == len(other) or path[len(other)] in ".[")
