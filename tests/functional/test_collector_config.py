"""A real Collector takes our configurations. Exporters that its build lacks are stood in for by one that it has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.functional.test_collector import COLLECTOR
from tests.observer_process import ROOT

pytestmark = pytest.mark.skipif(COLLECTOR is None, reason="no OpenTelemetry Collector: set OTELCOL, or put `otelcol` on the PATH")

ADDITIONS = sorted((ROOT / "deploy" / "collector").glob("*.yaml"))
STAND_IN = "debug/stand-in"


def known_exporters() -> set[str]:
    said = subprocess.run([str(COLLECTOR), "components"], capture_output=True, text=True, check=True, timeout=30).stdout
    return {exporter["name"] for exporter in yaml.safe_load(said)["exporters"]}


def with_known_exporters(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with a stand-in for each exporter that this Collector doesn't have."""
    missing = {name for name in config["exporters"] if name.split("/")[0] not in known_exporters()}
    exporters = {name: settings for name, settings in config["exporters"].items() if name not in missing}
    pipelines = config["service"]["pipelines"]
    for pipeline in pipelines.values():
        pipeline["exporters"] = [STAND_IN if name in missing else name for name in pipeline["exporters"]]
    return config | {"exporters": exporters | {STAND_IN: {}}}


@pytest.mark.parametrize("additions", [[], *([addition] for addition in ADDITIONS)], ids=["alone", *(path.stem for path in ADDITIONS)])
def test_collector_takes_the_configuration(tmp_path: Path, additions: list[Path]) -> None:
    arguments = []
    for path in [ROOT / "otel-collector.yaml", *additions]:
        copy = tmp_path / path.name
        copy.write_text(yaml.safe_dump(with_known_exporters(yaml.safe_load(path.read_text()))))
        arguments += ["--config", str(copy)]
    environment = os.environ | {"LANGFUSE_AUTH": "cGs6c2s="}
    done = subprocess.run(
        [str(COLLECTOR), "validate", *arguments], capture_output=True, text=True, env=environment, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


def test_validation_notices_what_is_wrong(tmp_path: Path) -> None:
    config = with_known_exporters(yaml.safe_load((ROOT / "otel-collector.yaml").read_text()))
    config["service"]["pipelines"]["traces"]["exporters"] = ["otlp_grpc/nowhere"]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(config))
    command = [str(COLLECTOR), "validate", "--config", str(tmp_path / "wrong.yaml")]
    assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode != 0
