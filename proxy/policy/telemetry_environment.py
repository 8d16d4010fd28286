"""What OpenTelemetry's variables tell the gate: which calls are sampled, which context travels, whether content is captured.

Here: the variables' meaning, head sampling. Not here: exporters and resources (the observer reads their variables), the environment itself.
Source: OpenTelemetry SDK environment variables, W3C Trace Context; wire.md A4, B3, B4. An empty variable counts as not set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

ALWAYS, NEVER = 1 << 64, 0
DEFAULT_SAMPLER = "parentbased_always_on"
DEFAULT_PROPAGATORS = "tracecontext,baggage"
PARENT_BASED = "parentbased_"
_LOW_BITS = 16  # hex digits of a trace id that TraceIdRatioBased looks at

CONTENT = {
    "no_content": (), "false": (),
    "span_only": ("span",), "event_only": ("event",), "span_and_event": ("span", "event"), "true": ("span", "event"),
}  # fmt: skip
"""Values of OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT in lower case, and where content goes."""


class Sampler(msgspec.Struct, frozen=True):
    """Head sampling: a call with a parent goes as that, if the sampler is parent-based; any other by its trace id."""

    bound: int = ALWAYS  # of the trace id's low 64 bits: those below are sampled
    follows_parent: bool = True

    def samples(self, trace_id: str, parent: bool | None) -> bool:
        """Whether a call is sampled; `parent`: the caller's flag, None without a caller's trace."""
        if parent is not None and self.follows_parent:
            return parent
        return self.bound == ALWAYS or int(trace_id[_LOW_BITS:], 16) < self.bound


class TelemetryEnvironment(msgspec.Struct, frozen=True):
    """The variables, read once at start."""

    sampler: Sampler = Sampler()
    disabled: bool = False  # trace context passes as the client sent it
    trace_context: bool = True  # traceparent and tracestate are read, and sent to trusted targets
    baggage: bool = True  # is passed on to trusted targets
    capture: tuple[str, ...] | None = None  # where content goes, whatever the configuration says; None: as that says
    events: bool = True  # content may go into events


def read_telemetry_environment(environment: Mapping[str, str]) -> tuple[TelemetryEnvironment, list[str]]:
    """What the variables say, and warnings for values that can't be understood."""
    warnings: list[str] = []
    propagators = _propagators(environment, warnings)
    told = TelemetryEnvironment(
        sampler=_sampler(environment, warnings),
        disabled=_word(environment, "OTEL_SDK_DISABLED") == "true",
        trace_context="tracecontext" in propagators,
        baggage="baggage" in propagators,
        capture=_capture(environment, warnings),
        events=_word(environment, "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT") != "false",
    )
    return told, warnings


def _word(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name, "").strip().lower()


def _sampler(environment: Mapping[str, str], warnings: list[str]) -> Sampler:
    name = _word(environment, "OTEL_TRACES_SAMPLER") or DEFAULT_SAMPLER
    root = name.removeprefix(PARENT_BASED)
    if root not in ("always_on", "always_off", "traceidratio"):
        warnings.append(f"OTEL_TRACES_SAMPLER is no sampler that is known: {DEFAULT_SAMPLER} is used")
        return Sampler()
    bound = {"always_on": ALWAYS, "always_off": NEVER}.get(root)
    return Sampler(_ratio_bound(environment, warnings) if bound is None else bound, name.startswith(PARENT_BASED))


def _ratio_bound(environment: Mapping[str, str], warnings: list[str]) -> int:
    text = _word(environment, "OTEL_TRACES_SAMPLER_ARG")
    try:
        ratio = float(text or "1")
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        warnings.append("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1: 1.0 is used")
        ratio = 1.0
    return round(ratio * ALWAYS)


def _propagators(environment: Mapping[str, str], warnings: list[str]) -> set[str]:
    named = {name.strip() for name in (_word(environment, "OTEL_PROPAGATORS") or DEFAULT_PROPAGATORS).split(",")}
    foreign = sorted(named - {"tracecontext", "baggage", "none", ""})
    if foreign:
        warnings.append(f"OTEL_PROPAGATORS names what is not built in: {', '.join(foreign)[:100]} (there are tracecontext, baggage, none)")
    return set() if "none" in named else named


def _capture(environment: Mapping[str, str], warnings: list[str]) -> tuple[str, ...] | None:
    value = _word(environment, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT")
    if not value:
        return None
    if value not in CONTENT:
        known = ", ".join(CONTENT).upper()
        warnings.append(f"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is none of {known}: no content is captured")
    return CONTENT.get(value, ())
