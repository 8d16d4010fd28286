"""Checks of the `telemetry` section: names of attributes, regular expressions, where content goes.

Here: what is wrong, as paths and messages. Not here: types and ranges (convert.py, values.py), how problems are reported (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxy.config.endpoints import header_name_message
from proxy.config.nodes import join_key
from proxy.config.schema import AttributeSource, Capture, Config, TelemetryConfig

RESERVED = (
    "aws", "azure", "client", "embedding", "error", "event", "exception", "gen_ai.agent", "gen_ai.conversation", "gen_ai.data_source",
    "gen_ai.embeddings", "gen_ai.evaluation", "gen_ai.input", "gen_ai.operation", "gen_ai.output", "gen_ai.prompt", "gen_ai.provider",
    "gen_ai.request", "gen_ai.response", "gen_ai.system", "gen_ai.system_instructions", "gen_ai.token", "gen_ai.tool",
    "gen_ai.usage.audio", "gen_ai.usage.cache_creation", "gen_ai.usage.cache_read", "gen_ai.usage.cache_write", "gen_ai.usage.image",
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.reasoning", "gen_ai.usage.text", "http", "input", "llm",
    "metadata", "network", "openai", "openinference", "output", "postern", "server", "service", "session.id", "tag", "telemetry", "url",
    "user.id", "user_agent",
)  # fmt: skip
"""Attributes, and namespaces of them, that spans and metrics have already: all of observer/telemetry/names.py, and what it may grow."""

SAME_COST = frozenset({"llm.cost.total", "postern.cost_usd"})
"""Those that hold the cost themselves, and may be named for it."""

CREDENTIAL_FIELDS = frozenset({"api-key", "authorization", "cookie", "proxy-authorization", "x-api-key", "x-goog-api-key"})
"""Request headers that are nobody's attribute."""

MAX_ATTRIBUTES = 32
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_MAX_NAME_CHARACTERS = 64


def telemetry_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Each path of the section at which something is wrong, and what."""
    telemetry = config.telemetry
    yield from _cost_attribute(telemetry)
    yield from _attributes(telemetry)
    yield from _capture("telemetry.capture_content", telemetry.capture_content)
    for index, route in enumerate(config.routes):
        yield from _capture(f"routes[{index}].capture_content", route.capture_content)
    for index, pattern in enumerate(telemetry.redact):
        if message := _pattern_message(pattern):
            yield f"telemetry.redact[{index}]", message


def overlap(name: str, other: str) -> bool:
    """Whether two dotted names can't both be attributes: they are the same, or one would be a value and a section at once."""
    return name == other or name.startswith(f"{other}.") or other.startswith(f"{name}.")


def _taken(name: str, others: tuple[str, ...]) -> str | None:
    other = next((other for other in others if overlap(name, other)), None)
    return f"collides with the attribute or section '{other}', which spans have already: take another name" if other else None


def _cost_attribute(telemetry: TelemetryConfig) -> Iterator[tuple[str, str]]:
    message = _taken(telemetry.cost_attribute, RESERVED)
    if message and telemetry.cost_attribute not in SAME_COST:
        yield "telemetry.cost_attribute", message


def _attributes(telemetry: TelemetryConfig) -> Iterator[tuple[str, str]]:
    if len(telemetry.attributes) > MAX_ATTRIBUTES:
        yield "telemetry.attributes", f"there may be at most {MAX_ATTRIBUTES}, found {len(telemetry.attributes)}"
    taken: tuple[str, ...] = (telemetry.cost_attribute, *RESERVED)
    for name, source in telemetry.attributes.items():
        path = join_key("telemetry.attributes", name)
        if message := _name_message(name) or _taken(name, taken):
            yield path, message
        elif (source.header is None) == (source.metadata is None):
            yield path, "must name one source: `header`, or a key of the body's `metadata`"
        elif message := _header_message(source):
            yield f"{path}.header", message
        taken += (name,)


def _name_message(name: str) -> str | None:
    if len(name) <= _MAX_NAME_CHARACTERS and _NAME.fullmatch(name):
        return None
    return f"an attribute's name is letters, digits, `_`, `-` and single dots, begins with a letter, and has at most {_MAX_NAME_CHARACTERS}"


def _header_message(source: AttributeSource) -> str | None:
    if source.header is None:
        return None
    if source.header.lower() in CREDENTIAL_FIELDS:
        return "holds credentials, which are not recorded"
    return header_name_message(source.header)


def _capture(path: str, capture: Capture | None) -> Iterator[tuple[str, str]]:
    if capture is True:
        yield path, "does not say where content goes: give span, event, ledger, or a list of these"
    elif isinstance(capture, list) and len(set(capture)) < len(capture):
        yield path, "names a place twice"
    elif capture == []:
        yield path, "is empty: give false where no content is wanted"


def _pattern_message(pattern: str) -> str | None:
    import re2  # type: ignore[import-untyped]  # only where it is asked for: it costs memory

    options = re2.Options()
    options.log_errors = False
    try:
        matches_nothing = re2.compile(pattern, options).search("") is not None
    except re2.error as error:
        return f"is no regular expression that RE2 knows: {error.args[0].decode('utf-8', 'replace')}"
    return "matches an empty text, and so everywhere" if matches_nothing else None
