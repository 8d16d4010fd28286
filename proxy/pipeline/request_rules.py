"""What a configuration changes in requests: for each route and target, the edits of the body.

Here: putting a route's rule and a target's together. Not here: editing (wire/shape.py), one call (upstream_request.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from proxy.config.schema import Config, RequestConfig
from proxy.policy.routing import IMPLICIT_ROUTE, enforced_routes
from proxy.wire.shape import Clamp, Drop, Edit, Edits, Set, combined

RequestRules = dict[tuple[str, str], Edits]
"""By the names of route and target. A pair whose requests nothing changes isn't there."""


def request_rules(config: Config) -> RequestRules:
    """The edits of every route at every target: the route's, then the target's."""
    of_routes = {IMPLICIT_ROUTE: None} | {route.name: route.request for route in enforced_routes(config)}
    rules: RequestRules = {}
    for route, of_route in of_routes.items():
        for target, settings in config.targets.items():
            if edits := combined([*_edits(of_route), *_edits(settings.request)]):
                rules[route, target] = edits
    return rules


def _edits(rule: RequestConfig | None) -> Iterator[Edit]:
    if rule is None:
        return
    for name, value in rule.set.items():
        yield Set(name, msgspec.json.encode(value))
    for name, limit in rule.clamp.items():
        yield Clamp(name, limit)
    for name in rule.drop:
        yield Drop(name)
