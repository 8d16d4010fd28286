"""/metrics of a running gate, as its users see it: through Prometheus, promtool and a plain GET."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional.gate import RunningGate
from tests.functional.prometheus import needs_prometheus, scraping
from tests.otlp_receiver import OtlpReceiver, receiving

TOKEN = "scrape-me"
CONFIG = "targets: {sim: {provider: simulated}}\nroutes: [{name: everything, to: [sim]}]\n"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
SLOW_S = 5.0  # how long the gate waits for the observer


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    yield from receiving()


class Gate(RunningGate):
    """A gate whose admin listener wants a token."""

    def write_config(self, config: str) -> None:
        super().write_config(config)
        text = self.config_file.read_text().replace('"}', f'", token: {TOKEN}}}', 1)
        self.config_file.write_text(text)

    def metrics(self, token: str = TOKEN, **headers: str) -> tuple[int, str, str]:
        """Status, content type and body of /metrics."""
        request = urllib.request.Request(f"{self.admin_url}/metrics", headers={"Authorization": f"Bearer {token}", **headers})
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.headers["Content-Type"], refused.read().decode()

    def status(self) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.admin_url}/status", headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            report: dict[str, Any] = json.load(answer)
            return report

    def chat(self, stream: bool = False) -> None:
        body = json.dumps({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}).encode()
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=15) as answer:
            answer.read()


@contextlib.contextmanager
def gate_with_token(config: str = CONFIG, **variables: str) -> Iterator[Gate]:
    gate = Gate(config, None, **variables)
    try:
        yield gate
        gate.stop()
    finally:
        gate.close()


def test_metrics_want_the_token_and_need_no_collector() -> None:
    with gate_with_token() as gate:
        assert gate.metrics(token="wrong")[0] == 401
        status, content_type, text = gate.metrics()
        assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert "postern_calls_in_flight 0" in text
        assert gate.metrics(**OPENMETRICS)[1] == "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_metrics_are_switched_off_with_the_sdk() -> None:
    with gate_with_token(OTEL_SDK_DISABLED="true") as gate:
        status, _, text = gate.metrics()
        assert status == 404
        assert "OTEL_SDK_DISABLED" in text


def test_observer_that_hangs_holds_up_its_scraper_and_nobody_else() -> None:
    with gate_with_token() as gate:
        observer = gate.status()["observer"]["pid"]
        os.kill(observer, signal.SIGSTOP)
        try:
            began = time.monotonic()
            gate.chat()
            assert time.monotonic() - began < SLOW_S / 2
            assert gate.metrics()[0] == 503
        finally:
            os.kill(observer, signal.SIGCONT)
        gate.rows(1)
        assert gate.metrics()[0] == 200


def test_observer_that_was_killed_is_replaced_and_answers_again() -> None:
    with gate_with_token() as gate:
        os.kill(gate.status()["observer"]["pid"], signal.SIGKILL)
        gate.until(lambda: gate.status()["observer"]["restarts"] == 1 and gate.metrics()[0] == 200, "answering again")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't installed: its view of the page is not asked")
def test_promtool_finds_nothing_wrong_with_a_running_gates_page() -> None:
    with gate_with_token() as gate:
        gate.chat(stream=True)
        gate.rows(1)
        checked = subprocess.run(["promtool", "check", "metrics"], input=gate.metrics()[2], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@needs_prometheus
def test_prometheus_says_what_the_ledger_says(receiver: OtlpReceiver) -> None:
    calls = 4
    exported = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}  # exemplars lead only to spans that are exported
    with gate_with_token(**exported) as gate, scraping(gate.admin_url.removeprefix("http://"), TOKEN) as prometheus:
        for number in range(calls):
            gate.chat(stream=number % 2 == 1)
        rows = gate.rows(calls)
        prometheus.until("sum(postern_calls_total)", calls)
        assert prometheus.number("sum(postern_cost_USD_total)") == pytest.approx(sum(row["cost_usd"] for row in rows))
        for kind in ("input", "output"):
            tokens = f'sum(gen_ai_client_token_usage_sum{{gen_ai_token_type="{kind}"}})'
            assert prometheus.number(tokens) == sum(row[f"{kind}_tokens"] for row in rows)
        durations_s = sorted(row["duration_ms"] / 1000 for row in rows)
        assert prometheus.number("sum(http_server_request_duration_seconds_sum)") == pytest.approx(sum(durations_s), abs=0.001 * calls)
        median_s = prometheus.number("histogram_quantile(0.5, sum by (le) (http_server_request_duration_seconds_bucket))")
        assert durations_s[0] / 2.5 <= median_s <= durations_s[-1] * 2.5, "no bucket is wider than 2.5 times its lower bound"
        assert prometheus.number("sum(gen_ai_client_operation_time_to_first_chunk_seconds_count)") == calls / 2
        assert prometheus.number('up{job="postern"}') == 1
        (info,) = prometheus.query("target_info")
        assert info["metric"]["service_name"] == "postern"
        told = prometheus.exemplars("http_server_request_duration_seconds_bucket")
        traces = {one["labels"]["trace_id"] for series in told for one in series["exemplars"]}
        assert traces
        assert traces <= {row["trace_id"] for row in rows}
