"""What is recorded of a call beyond its numbers: attributes of the user's, and what was said.

Here: the configuration's rules compiled; pure. Not here: redaction and formats (wire/), when it happens (pipeline/settle.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.config.schema import Capture, Config
from proxy.policy.routing import IMPLICIT_ROUTE, enforced_routes
from proxy.policy.telemetry_environment import TelemetryEnvironment

MAX_VALUE_CHARS = 256


class AttributeRule(msgspec.Struct, frozen=True):
    """An attribute of `telemetry.attributes`: one of its two sources is given."""

    name: str
    header: bytes | None  # in lower case
    metadata: str | None


def attribute_rules(config: Config) -> list[AttributeRule]:
    """The configuration's attributes."""
    return [
        AttributeRule(name, source.header.lower().encode() if source.header is not None else None, source.metadata)
        for name, source in config.telemetry.attributes.items()
    ]


def attribute_values(rules: list[AttributeRule], headers: Mapping[bytes, bytes], metadata: Mapping[str, str]) -> dict[str, str]:
    """The values of a call, those that it has; each cut to MAX_VALUE_CHARS. `headers`: by name in lower case."""
    values: dict[str, str] = {}
    for rule in rules:
        if rule.metadata is not None:
            found = metadata.get(rule.metadata)
        else:
            found = headers.get(rule.header or b"", b"").decode("utf-8", "replace")
        if found and (value := found.strip()[:MAX_VALUE_CHARS]):
            values[rule.name] = value
    return values


def capture_rules(config: Config, environment: TelemetryEnvironment) -> dict[str, list[str]]:
    """Where the content of a route's calls goes, by route; routes whose content isn't recorded are left out."""
    everywhere = config.telemetry.capture_content
    declared = {route.name: route.capture_content for route in enforced_routes(config)}
    rules = {}
    for name in (IMPLICIT_ROUTE, *declared):
        own = declared.get(name)
        to = _places(everywhere if own is None else own) if environment.capture is None else list(environment.capture)
        rules[name] = [place for place in to if place != "event" or environment.events]
    return {name: to for name, to in rules.items() if to}


def _places(capture: Capture) -> list[str]:
    if isinstance(capture, list):
        return list(capture)
    return [capture] if isinstance(capture, str) else []
