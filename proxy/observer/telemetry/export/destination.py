"""Where one signal's requests go, and how: the plan with the OTEL_EXPORTER_OTLP_* variables of the exporters read into it.

Here: pure reading; a signal's own variable wins over the general one, and headers of the environment over the YAML's.
Not here: which signals leave at all (plan.py), sending.
"""

from __future__ import annotations

import logging
from math import isfinite
from urllib.parse import unquote, urlsplit

import msgspec

from proxy.observer.telemetry.plan import SIGNAL_PATHS, Environment, SignalPlan

DEFAULT_TIMEOUT_S = 10.0
DEFAULT_HTTP_BASE = "http://localhost:4318"
DEFAULT_GRPC_ENDPOINT = "http://localhost:4317"
COMPRESSIONS = ("none", "gzip", "deflate")

_log = logging.getLogger(__name__)


class Destination(msgspec.Struct, frozen=True):
    """An OTLP endpoint."""

    endpoint: str  # whole URL; for gRPC host:port
    headers: dict[str, str]  # names in lower case
    timeout_s: float
    compression: str  # none | gzip | deflate
    is_insecure: bool  # gRPC in plain text; for HTTP the URL says it
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    def __repr__(self) -> str:
        return f"Destination({self.endpoint!r})"  # never the headers


def destination_of(plan: SignalPlan, environment: Environment) -> Destination:
    """Where the plan's signal goes. What makes no sense in a variable is reported and ignored."""
    is_grpc = plan.protocol == "grpc"
    endpoint = plan.endpoint or (DEFAULT_GRPC_ENDPOINT if is_grpc else f"{DEFAULT_HTTP_BASE}/{SIGNAL_PATHS[plan.signal]}")
    parts = urlsplit(endpoint)
    return Destination(
        endpoint=parts.netloc if is_grpc and parts.netloc else endpoint,
        headers=_lowered(plan.headers) | _headers(_variable(plan, environment, "HEADERS") or ""),
        timeout_s=_timeout_s(_variable(plan, environment, "TIMEOUT")),
        compression=_compression(_variable(plan, environment, "COMPRESSION")),
        is_insecure=_is_insecure(parts.scheme if parts.netloc else "", _variable(plan, environment, "INSECURE")),
        ca_file=_variable(plan, environment, "CERTIFICATE"),
        certificate_file=_variable(plan, environment, "CLIENT_CERTIFICATE"),
        key_file=_variable(plan, environment, "CLIENT_KEY"),
    )


def _variable(plan: SignalPlan, environment: Environment, name: str) -> str | None:
    own = environment.get(f"OTEL_EXPORTER_OTLP_{plan.signal.upper()}_{name}", "").strip()
    return own or environment.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip() or None


def _lowered(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _headers(text: str) -> dict[str, str]:
    """`name=value,…`, percent-encoded. A part without a name or `=` is reported, without its value, and left out."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, sign, value = part.partition("=")
        name = unquote(name).strip().lower()
        if name and sign:
            found[name] = unquote(value).strip()
        elif part.strip():
            _log.warning("OTEL_EXPORTER_OTLP_HEADERS: a part isn't name=value, ignored")
    return found


def _timeout_s(text: str | None) -> float:
    """Seconds, as the Python SDK reads it."""
    if text is None:
        return DEFAULT_TIMEOUT_S
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = 0.0
    if timeout_s > 0 and isfinite(timeout_s):
        return timeout_s
    _log.warning("OTEL_EXPORTER_OTLP_TIMEOUT: %r isn't a number of seconds, ignored", text)
    return DEFAULT_TIMEOUT_S


def _compression(text: str | None) -> str:
    name = (text or "none").lower()
    if name in COMPRESSIONS:
        return name
    _log.warning("OTEL_EXPORTER_OTLP_COMPRESSION: %r isn't supported (%s are), ignored", text, ", ".join(COMPRESSIONS))
    return "none"


def _is_insecure(scheme: str, variable: str | None) -> bool:
    """The endpoint's scheme decides; without one, OTEL_EXPORTER_OTLP_INSECURE does."""
    if scheme:
        return scheme.lower() != "https"
    return (variable or "").lower() == "true"
