"""What is exported where: the YAML's otlp section with the OTEL_* variables on top. Decided without importing the SDK.

Here: pure reading of settings and environment. Not here: exporters. How an exporter works (OTEL_EXPORTER_OTLP_{TIMEOUT,COMPRESSION,
CLIENT_KEY,…}) is read by destination.py for spans and log records, and by the SDK's own exporter for metrics.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import msgspec

from proxy.observer_settings import ObserverSettings

Environment = Mapping[str, str]
Signal = Literal["traces", "metrics", "logs"]

DEFAULT_SPAN_DELAY_MS = 1_000  # the specification's 5 s and 60 s are dull beside an app under development,
DEFAULT_METRIC_INTERVAL_MS = 10_000  # and one sidecar's batches are small
DEFAULT_QUEUE_SPANS = 4096  # twice the specification: a burst of 2,000 calls
DEFAULT_BATCH_SPANS = 512

SIGNAL_PATHS: dict[str, str] = {"traces": "v1/traces", "metrics": "v1/metrics", "logs": "v1/logs"}
PROTOCOLS = ("http/protobuf", "grpc")
EXPORTERS = ("otlp", "console", "none")

_log = logging.getLogger(__name__)


class SignalPlan(msgspec.Struct, frozen=True):
    """How one signal leaves."""

    signal: Signal
    exporter: Literal["otlp", "console"]
    protocol: str = "http/protobuf"
    endpoint: str | None = None  # whole URL; None: the exporter's default
    headers: dict[str, str] = {}  # from YAML; those of the environment are the exporter's to read, and replace these


class BatchLimits(msgspec.Struct, frozen=True):
    """OTEL_BSP_*: how spans, and log records alike, gather before they leave."""

    delay_s: float = DEFAULT_SPAN_DELAY_MS / 1000
    queue_spans: int = DEFAULT_QUEUE_SPANS
    batch_spans: int = DEFAULT_BATCH_SPANS


class ExportPlan(msgspec.Struct, frozen=True):
    """What leaves, and how; a signal that is None isn't even built."""

    traces: SignalPlan | None = None
    metrics: SignalPlan | None = None
    logs: SignalPlan | None = None
    batch: BatchLimits = BatchLimits()
    metric_interval_ms: float = DEFAULT_METRIC_INTERVAL_MS


def is_disabled(environment: Environment) -> bool:
    """Whether the environment switches telemetry off: nothing is exported, and nothing measured."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def plan_export(settings: ObserverSettings, environment: Environment) -> ExportPlan:
    """The plan; OTEL_* variables win over the settings. With neither, nothing is exported."""
    if is_disabled(environment):
        return ExportPlan()
    return ExportPlan(
        traces=_plan_signal("traces", settings, environment),
        metrics=_plan_signal("metrics", settings, environment),
        logs=_plan_signal("logs", settings, environment),
        batch=_plan_batch(environment),
        metric_interval_ms=_number(environment, "OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_METRIC_INTERVAL_MS),
    )


def _plan_signal(signal: Signal, settings: ObserverSettings, environment: Environment) -> SignalPlan | None:
    wanted = _first_known(environment, f"OTEL_{signal.upper()}_EXPORTER", EXPORTERS)
    if wanted == "none":
        return None
    if wanted == "console":
        return SignalPlan(signal, "console")
    protocol = _signal_variable(environment, signal, "PROTOCOL", PROTOCOLS) or settings.otlp_protocol
    endpoint = _environment_endpoint(signal, protocol, environment)
    if endpoint is not None:
        # The YAML's headers hold the secret of the YAML's endpoint: another one must not see it.
        return SignalPlan(signal, "otlp", protocol, endpoint)
    if settings.otlp_endpoint is not None:
        headers = {} if _names_headers(signal, environment) else settings.otlp_headers
        return SignalPlan(signal, "otlp", protocol, _with_path(settings.otlp_endpoint, signal, protocol), headers)
    return SignalPlan(signal, "otlp", protocol) if wanted == "otlp" else None


def _names_headers(signal: str, environment: Environment) -> bool:
    return bool(environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_HEADERS") or environment.get("OTEL_EXPORTER_OTLP_HEADERS"))


def _environment_endpoint(signal: str, protocol: str, environment: Environment) -> str | None:
    own = environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    if own:
        return own
    base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return _with_path(base, signal, protocol) if base else None


def _with_path(base: str, signal: str, protocol: str) -> str:
    return base if protocol == "grpc" else f"{base.removesuffix('/')}/{SIGNAL_PATHS[signal]}"


def _signal_variable(environment: Environment, signal: str, name: str, known: tuple[str, ...]) -> str | None:
    own = _first_known(environment, f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", known)
    return own or _first_known(environment, f"OTEL_EXPORTER_OTLP_{name}", known)


def _first_known(environment: Environment, name: str, known: tuple[str, ...]) -> str | None:
    values = [value.strip() for value in environment.get(name, "").split(",") if value.strip()]
    for value in values:
        if value in known:
            return value
        _log.warning("%s: %r isn't supported (%s are), ignored", name, value, ", ".join(known))
    return None


def _plan_batch(environment: Environment) -> BatchLimits:
    queue_spans = int(_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", DEFAULT_QUEUE_SPANS))
    return BatchLimits(
        delay_s=_number(environment, "OTEL_BSP_SCHEDULE_DELAY", DEFAULT_SPAN_DELAY_MS) / 1000,
        queue_spans=queue_spans,
        batch_spans=min(queue_spans, int(_number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", DEFAULT_BATCH_SPANS))),
    )


def _number(environment: Environment, name: str, default: float) -> float:
    """A variable that holds a number of at least 1; anything else is reported and ignored."""
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0
    if 1 <= number < float("inf"):
        return number
    _log.warning("%s: %r isn't a number of at least 1, ignored", name, text)
    return default
