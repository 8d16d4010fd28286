"""The image, the Collector and the compose stack keep what operations rely on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.call import Secret
from proxy.config.load import load_config
from proxy.wire.dialects.table import dialect
from tests.project.tree import ROOT, project_files, source

MAY_DIFFER = {"listen", "admin", "state_dir", "telemetry"}
UNPRIVILEGED_UID = 65532


def document(path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return content


COLLECTOR_ADDITIONS = sorted(path for path in project_files() if path.startswith("deploy/collector/"))


def services() -> dict[str, Any]:
    """What compose starts: the stack, and what its additions add of their own."""
    found: dict[str, Any] = document("deploy/compose.phoenix.yaml")["services"] | document("deploy/compose.yaml")["services"]
    return found


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_collector_limits_memory_first_and_batches_last(signal: str) -> None:
    processors = document("otel-collector.yaml")["service"]["pipelines"][signal]["processors"]
    assert processors[0] == "memory_limiter"
    assert processors[-1] == "batch"


def test_collector_pipelines_name_only_what_is_configured() -> None:
    collector = document("otel-collector.yaml")
    for pipeline in collector["service"]["pipelines"].values():
        for section in ("receivers", "processors", "exporters"):
            assert set(pipeline[section]) <= set(collector[section])


@pytest.mark.parametrize("path", COLLECTOR_ADDITIONS)
def test_addition_to_the_collector_adds_an_exporter_and_takes_none_away(path: str) -> None:
    collector, addition = document("otel-collector.yaml"), document(path)
    assert set(addition) == {"exporters", "service"}
    for signal, pipeline in addition["service"]["pipelines"].items():
        kept = set(collector["service"]["pipelines"][signal]["exporters"]) - {"debug"}
        assert set(pipeline) == {"exporters"}
        assert set(pipeline["exporters"]) == kept | set(addition["exporters"])


@pytest.mark.parametrize("path", COLLECTOR_ADDITIONS)
def test_addition_to_the_collector_says_how_it_is_used(path: str) -> None:
    assert f"--config {path}" in source(path)
    assert f"../{path}" in source("docs/backends.md")


def test_collector_takes_otlp_over_both_protocols() -> None:
    assert set(document("otel-collector.yaml")["receivers"]["otlp"]["protocols"]) == {"grpc", "http"}


def test_prometheus_scrapes_where_the_collector_offers() -> None:
    port = document("otel-collector.yaml")["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    targets = document("deploy/prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"otel-collector:{port}"]


@pytest.mark.parametrize("service", list(services()))
def test_compose_service_is_hardened(service: str) -> None:
    settings = services()[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]


def test_compose_publishes_on_loopback_only() -> None:
    assert all(port.startswith("127.0.0.1:") for service in services().values() for port in service.get("ports", []))


def test_compose_mounts_what_exists() -> None:
    mounts = [mount.split(":")[0] for service in services().values() for mount in service.get("volumes", [])]
    assert all((ROOT / "deploy" / mount).exists() for mount in mounts if mount.startswith("."))


def test_prometheus_is_given_every_rule_file_it_names() -> None:
    assert "./prometheus:/etc/prometheus:ro" in services()["prometheus"]["volumes"]
    rules = document("deploy/prometheus/prometheus.yml").get("rule_files", [])
    assert all((ROOT / "deploy/prometheus" / rule.removeprefix("/etc/prometheus/")).is_file() for rule in rules)


def test_grafana_finds_its_data_sources_and_dashboards() -> None:
    mounts = dict(mount.split(":")[:2] for mount in services()["grafana"]["volumes"])
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    provider = document("deploy/grafana/provisioning/dashboards/postern.yaml")["providers"][0]
    assert mounts["./grafana"] == provider["options"]["path"]
    for source_of_data in document("deploy/grafana/provisioning/datasources/postern.yaml")["datasources"]:
        address = re.fullmatch(r"http://([a-z]+):(\d+)", source_of_data["url"])
        assert address is not None
        assert any(port.endswith(f":{address[2]}") for port in services()[address[1]]["ports"])


def test_phoenix_joins_the_stack_through_the_collector() -> None:
    addition = document("deploy/compose.phoenix.yaml")["services"]
    base = services()["otel-collector"]
    assert addition["otel-collector"]["command"][: len(base["command"])] == base["command"]
    assert "PHOENIX_ENDPOINT:-http://phoenix:6006" in source("deploy/collector/phoenix.yaml")
    assert "127.0.0.1:6006:6006" in addition["phoenix"]["ports"]


def test_container_configuration_differs_only_where_a_container_must() -> None:
    ours, shipped = document("deploy/postern.yaml"), document("config/postern.yaml")
    differing = {key for key in ours.keys() | shipped.keys() if ours.get(key) != shipped.get(key)}
    assert differing <= MAY_DIFFER


def test_container_configuration_loads_once_the_admin_token_is_set() -> None:
    loaded = load_config(
        str(ROOT / "deploy/postern.yaml"),
        {"POSTERN_ADMIN_TOKEN": "a token"},
        lambda path: Path(path).read_text(encoding="utf-8"),
        lambda provider: dialect(provider).default_base_url,
    )
    assert loaded.config.admin.token == Secret("a token")
    assert set(loaded.targets) == {"openai", "sim"}


def test_container_is_given_time_to_drain() -> None:
    drain_s = document("deploy/postern.yaml").get("drain_s", 600)
    grace = document("deploy/compose.yaml")["services"]["postern"]["stop_grace_period"]
    assert int(grace.removesuffix("m")) * 60 > drain_s


def test_image_runs_unprivileged_and_takes_sigterm() -> None:
    dockerfile = source("Dockerfile")
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == [f"{UNPRIVILEGED_UID}:{UNPRIVILEGED_UID}"]
    assert "STOPSIGNAL SIGTERM" in dockerfile
    assert "--require-hashes -r requirements.txt" in dockerfile


def test_image_context_holds_what_the_dockerfile_copies() -> None:
    allowed = {line[1:] for line in source(".dockerignore").splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", source("Dockerfile"), re.MULTILINE) for name in line.split()}
    assert copied - {"."} <= allowed
