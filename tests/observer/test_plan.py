from __future__ import annotations

import pytest

from proxy.call import Price, Secret
from proxy.config.schema import AdminConfig, Config, OtlpConfig, PricesConfig, TargetConfig, TelemetryConfig
from proxy.observer.telemetry.plan import BatchLimits, ExportPlan, SignalPlan, plan_export
from proxy.observer_settings import ObserverSettings, decode_settings, encode_settings, observer_settings
from proxy.records import FRAME_HEADER_BYTES

YAML = ObserverSettings(".postern", "1.0", otlp_endpoint="http://yaml:4318", otlp_headers={"authorization": "yaml-secret"})
NO_YAML = ObserverSettings(".postern", "1.0")


def traces(environment: dict[str, str], settings: ObserverSettings = YAML) -> SignalPlan | None:
    return plan_export(settings, environment).traces


def metrics(environment: dict[str, str], settings: ObserverSettings = YAML) -> SignalPlan | None:
    return plan_export(settings, environment).metrics


def test_logs_are_planned_like_spans() -> None:
    assert plan_export(NO_YAML, {}).logs is None
    assert plan_export(YAML, {}).logs == SignalPlan("logs", "otlp", "http/protobuf", "http://yaml:4318/v1/logs", YAML.otlp_headers)
    assert plan_export(YAML, {"OTEL_LOGS_EXPORTER": "none"}).logs is None
    assert plan_export(NO_YAML, {"OTEL_LOGS_EXPORTER": "console"}).logs == SignalPlan("logs", "console")
    own = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://env/custom", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}
    assert plan_export(YAML, own).logs == SignalPlan("logs", "otlp", "http/protobuf", "http://env/custom")


def test_nothing_is_exported_unless_somebody_says_where() -> None:
    plan = plan_export(NO_YAML, {"OTEL_SERVICE_NAME": "x"})
    assert (plan.traces, plan.metrics) == (None, None)


def test_yaml_endpoint_is_a_base() -> None:
    assert traces({}) == SignalPlan("traces", "otlp", "http/protobuf", "http://yaml:4318/v1/traces", YAML.otlp_headers)
    assert metrics({}) == SignalPlan("metrics", "otlp", "http/protobuf", "http://yaml:4318/v1/metrics", YAML.otlp_headers)


def test_environment_endpoint_wins_and_never_gets_the_yamls_secret() -> None:
    assert traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:4318/"}) == SignalPlan(
        "traces", "otlp", "http/protobuf", "http://env:4318/v1/traces"
    )


def test_signal_endpoint_is_taken_verbatim_and_only_for_its_signal() -> None:
    environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://env/custom"}
    assert traces(environment, NO_YAML) == SignalPlan("traces", "otlp", "http/protobuf", "http://env/custom")
    assert metrics(environment, NO_YAML) is None


def test_environment_headers_replace_the_yamls() -> None:
    plan = traces({"OTEL_EXPORTER_OTLP_HEADERS": "a=b"})
    assert plan is not None
    assert plan.headers == {}


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/protobuf"),
    ],
)
def test_protocol_of_the_environment_wins(environment: dict[str, str], protocol: str) -> None:
    plan = traces(environment)
    assert plan is not None
    assert plan.protocol == protocol


def test_grpc_endpoint_gets_no_path() -> None:
    plan = traces({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert plan is not None
    assert plan.endpoint == "http://yaml:4318"


def test_sdk_disabled_wins_over_everything() -> None:
    assert plan_export(YAML, {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}) == ExportPlan()


def test_exporter_none_turns_one_signal_off() -> None:
    environment = {"OTEL_METRICS_EXPORTER": "none"}
    assert metrics(environment) is None
    assert traces(environment) is not None


def test_exporter_console_needs_no_endpoint() -> None:
    assert traces({"OTEL_TRACES_EXPORTER": "console"}, NO_YAML) == SignalPlan("traces", "console")


def test_exporter_otlp_asked_for_by_name_uses_its_default_endpoint() -> None:
    assert traces({"OTEL_TRACES_EXPORTER": "otlp"}, NO_YAML) == SignalPlan("traces", "otlp")


def test_batch_variables_are_honoured() -> None:
    environment = {
        "OTEL_BSP_SCHEDULE_DELAY": "250",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "500",
        "OTEL_METRIC_EXPORT_INTERVAL": "3000",
    }
    plan = plan_export(YAML, environment)
    assert plan.batch == BatchLimits(delay_s=0.25, queue_spans=100, batch_spans=100)
    assert plan.metric_interval_ms == 3000


@pytest.mark.parametrize("text", ["soon", "0", "-5", "inf", "nan"])
def test_a_variable_that_makes_no_sense_is_ignored(text: str) -> None:
    assert plan_export(YAML, {"OTEL_METRIC_EXPORT_INTERVAL": text}).metric_interval_ms == ExportPlan().metric_interval_ms


def test_settings_hold_no_credential_of_a_target() -> None:
    config = Config(
        targets={"openai": TargetConfig("openai", credential=[Secret("sk-target-secret")], price=Price(free=True))},
        admin=AdminConfig(token=Secret("admin-secret")),
        telemetry=TelemetryConfig(otlp=OtlpConfig("http://c:4318", headers={"authorization": Secret("otlp-secret")})),
        prices=PricesConfig(overrides={"mine": Price(per_request=1.0)}),
    )
    frame = encode_settings(observer_settings(config, "1.2.3"))
    assert b"sk-target-secret" not in frame
    assert b"admin-secret" not in frame
    settings = decode_settings(frame[FRAME_HEADER_BYTES:])
    assert settings.targets["openai"].price == Price(free=True)
    assert settings.overrides == {"mine": Price(per_request=1.0)}
    assert settings.otlp_headers == {"authorization": "otlp-secret"}
    assert "secret" not in repr(settings)
