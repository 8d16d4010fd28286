"""The SDK's exporters of metrics, built by plan. http/protobuf goes over urllib3, not requests; grpc is imported only when chosen.

Here: choosing and building exporters, and the resource. Not here: what is exported when (pipeline.py).
"""

from __future__ import annotations

from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.telemetry.plan import Environment, SignalPlan
from proxy.observer.telemetry.spans.otlp_bytes import Json

SERVICE_NAME = "postern"


def build_resource(service_version: str, environment: Environment) -> Resource:
    """Who is speaking; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    attributes: dict[str, str] = {}
    named = environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not environment.get("OTEL_SERVICE_NAME") and "service.name=" not in named:
        attributes["service.name"] = SERVICE_NAME
    if "service.version=" not in named:
        attributes["service.version"] = service_version
    return Resource.create(attributes)


def attributes_of(resource: Resource) -> dict[str, Json]:
    """The resource's attributes, for requests that aren't the SDK's."""
    return {name: _json(value) for name, value in resource.attributes.items()}


def _json(value: object) -> Json:
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return value if isinstance(value, str | bool | int | float) else str(value)


def build_metric_exporter(plan: SignalPlan, environment: Environment) -> MetricExporter:
    """The exporter for metrics."""
    if plan.exporter == "console":
        return ConsoleMetricExporter()
    if plan.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter

        return GrpcMetricExporter(endpoint=plan.endpoint, headers=_grpc_headers(plan))
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(plan.endpoint, headers=plan.headers, _transport=_transport(plan, environment))


def _grpc_headers(plan: SignalPlan) -> dict[str, str] | None:
    return {name.lower(): value for name, value in plan.headers.items()} or None


def _transport(plan: SignalPlan, environment: Environment) -> Urllib3HTTPTransport:
    """What the exporter would build from OTEL_EXPORTER_OTLP_*CERTIFICATE itself, but on urllib3."""
    verify = _tls_file(plan, environment, "CERTIFICATE")
    certificate = _tls_file(plan, environment, "CLIENT_CERTIFICATE")
    key = _tls_file(plan, environment, "CLIENT_KEY")
    own = (certificate, key) if certificate and key else certificate
    return Urllib3HTTPTransport(verify=verify or True, cert=own)


def _tls_file(plan: SignalPlan, environment: Environment, name: str) -> str | None:
    return environment.get(f"OTEL_EXPORTER_OTLP_{plan.signal.upper()}_{name}") or environment.get(f"OTEL_EXPORTER_OTLP_{name}") or None


class CountingMetricExporter(MetricExporter):
    """An exporter that tells the counters how it went: the SDK's reader doesn't look."""

    def __init__(self, inner: MetricExporter, totals: Counters) -> None:
        super().__init__(inner._preferred_temporality, inner._preferred_aggregation)
        self._inner = inner
        self._counters = totals

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        """Export, and count what came of it."""
        result = self._inner.export(metrics_data, timeout_millis=timeout_millis, **kwargs)
        succeeded = result is MetricExportResult.SUCCESS
        self._counters.add(counters.EXPORTED_METRICS if succeeded else counters.EXPORT_FAILURES)
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: object) -> None:
        self._inner.shutdown(timeout_millis)
