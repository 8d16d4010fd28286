"""The sender that a plan asks for; what isn't chosen isn't imported.

Here: the choice. Not here: sending.
"""

from __future__ import annotations

from proxy.observer.telemetry.export.destination import destination_of
from proxy.observer.telemetry.export.outbox import Sender
from proxy.observer.telemetry.plan import Environment, SignalPlan


def build_sender(plan: SignalPlan, environment: Environment, service_version: str) -> Sender:
    """What brings the plan's signal to its collector. Raises OSError if a TLS file can't be read."""
    if plan.exporter == "console":
        from proxy.observer.telemetry.export.console import ConsoleSender

        return ConsoleSender(plan.signal)
    destination = destination_of(plan, environment)
    user_agent = f"postern/{service_version}"
    if plan.protocol == "grpc":
        from proxy.observer.telemetry.export.otlp_grpc import GrpcSender

        return GrpcSender(plan.signal, destination, user_agent)
    from proxy.observer.telemetry.export.otlp_http import HttpSender

    return HttpSender(destination, user_agent)
