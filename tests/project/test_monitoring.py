"""The dashboard and the alerts speak of metrics that there are, in words that Prometheus understands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.observer.telemetry import names
from proxy.observer.telemetry.metrics.prometheus_names import family_name, label_name
from proxy.observer.telemetry.name_rows import MetricRow
from tests.project.tree import ROOT

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/postern.json"
OF_PROMETHEUS = {"up"}
OF_PROMETHEUS_LABELS = {"job", "instance", "le"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "up-down counter": ("",)}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't installed: the rules are not checked by it")


def series_of(row: MetricRow) -> set[str]:
    family = family_name(row.name, row.unit, is_ratio=row.unit == "1" and row.instrument == "gauge")
    return {family + suffix for suffix in SUFFIXES[row.instrument]}


SERIES = {series for row in names.METRICS for series in series_of(row)} | OF_PROMETHEUS
LABELS = {label_name(row.name) for row in names.ATTRIBUTES} | OF_PROMETHEUS_LABELS


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_queries() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (re.findall(r"label_values\((\w+),", variable["definition"])[0] for variable in dashboard()["templating"]["list"][1:])


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[str]:
    return [*dashboard_queries(), *(rule["expr"] for rule in rules())]


def without_strings(query: str) -> str:
    return re.sub(r'"[^"]*"', '""', query)


@pytest.mark.parametrize("query", queries())
def test_every_metric_that_is_asked_for_exists(query: str) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    words = set(re.findall(r"\b(?:postern|gen_ai|http)[\w:]*", without_strings(query)))
    assert words - SERIES - LABELS <= recorded


@pytest.mark.parametrize("query", queries())
def test_every_label_that_is_asked_for_exists(query: str) -> None:
    text = without_strings(query)
    named = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", text))
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", text) for label in labels.split(",")}
    assert named | grouped <= LABELS


def test_dashboard_asks_the_data_source_that_the_user_chose() -> None:
    asked = {json.dumps(target["datasource"]) for panel in panels() for target in panel["targets"]}
    assert asked == {'{"type": "prometheus", "uid": "${datasource}"}'}
    assert [variable["name"] for variable in dashboard()["templating"]["list"]] == ["datasource", "job"]


def test_panels_are_told_apart_and_lie_beside_each_other() -> None:
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [
        (x, y)
        for panel in dashboard()["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(places)) == len(places), "two panels overlap"
    assert max(x for x, _ in places) < 24


def test_every_alert_says_what_is_wrong_and_how_bad_that_is() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 10
    assert {alert["labels"]["severity"] for alert in alerts} <= {"info", "warning", "critical"}
    assert all(alert["annotations"]["summary"] for alert in alerts)


def test_prometheus_reads_the_rules() -> None:
    assert yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["rule_files"] == ["rules.yaml"]


def test_every_alert_is_tested() -> None:
    tested = set(re.findall(r"alertname: (\w+)", (PROMETHEUS / "rules_test.yaml").read_text()))
    assert {rule["alert"] for rule in rules() if "alert" in rule} == tested


@needs_promtool
@pytest.mark.parametrize(
    "command", [["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"], ["check", "config", "prometheus.yml"]]
)
def test_promtool_agrees(command: list[str]) -> None:
    said = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


@needs_promtool
def test_promtool_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    asked = [query.replace("$__rate_interval", "1m").replace("$job", ".*") for query in dashboard_queries()]
    written = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(asked)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": written}]}))
    said = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
