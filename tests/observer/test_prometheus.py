from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource

from proxy.observer.telemetry.metrics.prometheus import render, wants_openmetrics
from proxy.observer.telemetry.metrics.prometheus_names import family_name, label_name
from proxy.records import CHUNK_GAP_BOUNDARIES_S, GateReport
from tests.call_records import START_NS, attempt_record, call_record
from tests.observer.metric_readings import measuring

GAPS = [2, 1, *[0] * (len(CHUNK_GAP_BOUNDARIES_S) - 1)]
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def data_of(tenant: str = "shop", **changes: Any) -> MetricsData:
    with measuring(conventions="both", **changes) as pipeline:
        attempt = attempt_record(chunk_gaps=GAPS, last_chunk_ns=START_NS + 750_000_000)
        pipeline.observe(call_record(labels={"tenant": tenant}, attempts=[attempt]), traced=True)
        pipeline.take_report(GateReport(2, {"queue_full": 1}, {"openai": "open"}, {"day": 0.5}))
        return pipeline.read()


def page(openmetrics: bool = False) -> str:
    return render(data_of(), openmetrics).decode()


def samples(text: str) -> dict[str, str]:
    """Value by series, exemplars left out."""
    lines = [line.split(" # ")[0] for line in text.splitlines() if not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)


@pytest.mark.parametrize(
    ("name", "unit", "is_ratio", "expected"),
    [
        ("postern.cost", "USD", False, "postern_cost_USD"),
        ("postern.calls", "{call}", False, "postern_calls"),
        ("http.server.request.duration", "s", False, "http_server_request_duration_seconds"),
        ("postern.observer.spool_bytes", "By", False, "postern_observer_spool_bytes"),
        ("postern.budget.used_ratio", "1", True, "postern_budget_used_ratio"),
        ("some.share", "1", True, "some_share_ratio"),
        ("some.count", "1", False, "some_count"),
    ],
)
def test_metrics_are_called_as_the_collector_calls_them(name: str, unit: str, is_ratio: bool, expected: str) -> None:
    assert family_name(name, unit, is_ratio=is_ratio) == expected


def test_labels_are_called_as_the_collector_calls_them() -> None:
    assert (label_name("gen_ai.request.model"), label_name("k8s.pod-name"), label_name("1st")) == (
        "gen_ai_request_model", "k8s_pod_name", "key_1st",
    )  # fmt: skip


def test_buckets_add_up_to_the_count() -> None:
    found = samples(page())
    name = "gen_ai_client_operation_time_per_output_chunk_seconds"
    buckets = [int(value) for series, value in found.items() if series.startswith(f"{name}_bucket")]
    assert buckets == [2, *[3] * 14]
    assert [value for series, value in found.items() if series.startswith(f"{name}_count")] == ["3"]


def test_counters_end_in_total_and_gauges_do_not() -> None:
    text = page()
    found = samples(text)
    assert found['postern_calls_total{postern_outcome="succeeded",postern_route="everything"}'] == "1"
    assert found["postern_calls_in_flight"] == "2"
    assert "# TYPE postern_calls_total counter" in text
    assert "# TYPE postern_calls_in_flight gauge" in text


def test_target_info_tells_who_is_speaking() -> None:
    assert 'target_info{service_name="postern"} 1' in page()


def test_attributes_that_come_to_one_label_are_told_as_one() -> None:
    data = data_of(resource=Resource({"a.b": "1", "a_b": "2"}))
    assert 'target_info{a_b="1;2"} 1' in render(data, openmetrics=False).decode()


def test_label_values_are_escaped() -> None:
    text = render(data_of(tenant='a"b\\c\nd'), openmetrics=False).decode()
    assert r'postern_tenant="a\"b\\c\nd"' in text
    assert all(re.fullmatch(r"#.*|[a-zA-Z_:][\w:]*({.*})? \S+", line) for line in text.splitlines())


def test_openmetrics_has_exemplars_and_plain_text_has_none() -> None:
    exemplar = f' # {{trace_id="{"a" * 32}",span_id="{"c" * 16}"}} 1.0 '
    lines = [line for line in page(openmetrics=True).splitlines() if exemplar in line]
    assert [line.split("{")[0] for line in lines if line.startswith("http_")] == ["http_server_request_duration_seconds_bucket"]
    assert "trace_id" not in page()


def test_openmetrics_names_families_without_total_and_ends() -> None:
    text = page(openmetrics=True)
    assert "# TYPE postern_calls counter" in text
    assert "# UNIT postern_cost_USD USD" in text
    assert text.endswith("# EOF\n")
    assert text.count("# EOF") == 1


def test_both_formats_have_the_same_series() -> None:
    data = data_of()
    assert samples(render(data, openmetrics=True).decode()) == samples(render(data, openmetrics=False).decode())


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; q=0", False),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.9", False),
        ("application/openmetrics-text;q=junk", False),
        (PROMETHEUS_ACCEPT, True),
    ],
)
def test_scraper_gets_the_format_it_prefers(accept: str, expected: bool) -> None:
    assert wants_openmetrics(accept) is expected


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't installed: its view of the page is not asked")
def test_promtool_finds_nothing_wrong_with_the_page() -> None:
    checked = subprocess.run(["promtool", "check", "metrics"], input=page(), capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
