"""Budgets at the running gate: crowds, the real client, restarts, reloads, a state folder that can't be used, metrics."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.functional.counting_provider import TOKENS, CountingProvider, counting_provider
from tests.functional.crowd import BODY, STREAM_BODY, Answered, burst, statuses
from tests.functional.gate import RunningGate, free_port, postern, running_gate
from tests.functional.raw_http import exchange, post

CALL_USD = 0.01
HELLO: Any = [{"role": "user", "content": "Hello"}]
DAY = "{name: day, window: {every: day}, limit: {usd: 0.05}}"
SOME_KIB = 12 << 10
"""What the database of a gate that was just started has no room in."""


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


def config(provider: CountingProvider, *budgets: str, limits: str = "") -> str:
    """A target whose calls cost a cent, and these budgets."""
    target = f'up: {{provider: openai, base_url: "{provider.url}/v1", price: {{per_request: {CALL_USD}}}}}'
    return f"targets: {{{target}}}\nroutes: [{{name: all, to: [up]}}]\nbudgets: [{', '.join(budgets)}]\nlimits: [{limits}]\n"


def ask(gate: RunningGate, *fields: bytes, body: bytes = BODY) -> Any:
    """One call's reply."""
    return asyncio.run(exchange(gate.port, post(body, *fields)))


def crowd(gate: RunningGate, calls: int, body: bytes = BODY) -> list[Answered]:
    return asyncio.run(burst([gate.port], calls, body))


def used(gate: RunningGate) -> dict[str, float]:
    """What `/budgets` says is used, by rule and unit."""
    with urllib.request.urlopen(f"{gate.admin_url}/budgets", timeout=5) as answer:
        return {f"{row['rule']} {row['unit']}": row["used"] for row in json.load(answer)}


# ------------------------------------------------------------------------------------------------------------------ crowds


@pytest.mark.parametrize("body", [BODY, STREAM_BODY], ids=["whole", "streamed"])
@pytest.mark.parametrize("limit", ["usd: 1", "requests: 100", "usd: 1, requests: 500", "usd: 7, requests: 100"])
def test_a_crowd_gets_exactly_what_the_budget_fits(provider: CountingProvider, limit: str, body: bytes) -> None:
    with running_gate(config(provider, f"{{name: day, window: {{every: day}}, limit: {{{limit}}}}}")) as gate:
        answered = crowd(gate, 500, body)
        assert statuses(answered) == {200: 100, 429: 400}
        assert provider.served == 100
        assert used(gate)["day usd" if "usd" in limit else "day requests"] == (1 if "usd" in limit else 100)


def test_several_budgets_let_through_what_all_of_them_fit(provider: CountingProvider) -> None:
    narrow = "{name: narrow, per: [tenant], window: {rolling_s: 3600}, limit: {requests: 40}}"
    with running_gate(config(provider, narrow, "{name: wide, window: {every: month}, limit: {usd: 1}}")) as gate:
        assert statuses(crowd(gate, 200)) == {200: 40, 429: 160}
        assert used(gate) == {"narrow requests": 40, "wide usd": pytest.approx(40 * CALL_USD)}


def test_nobody_is_refused_for_money_that_was_not_spent(provider: CountingProvider) -> None:
    """What calls held and didn't use is there for the next ones: refused is only whose bound no longer fits."""
    limit = 4000
    with running_gate(config(provider, f"{{name: day, window: {{every: day}}, limit: {{tokens: {limit}}}}}")) as gate:
        while statuses(crowd(gate, 50))[200]:
            assert provider.served * TOKENS <= limit
        refused = ask(gate).error()
        bound = int(re.search(r"may use up to ([\d,]+) tokens", refused["message"])[1].replace(",", ""))  # type: ignore[index]
        assert used(gate)["day tokens"] == provider.served * TOKENS
        assert provider.served * TOKENS + bound > limit


def test_calls_at_a_time_are_never_more_than_the_limit_and_wait_for_their_turn() -> None:
    with counting_provider(latency_s=0.02) as provider:
        few = "{name: few, concurrency: 5, wait_ms: 10000}"
        with running_gate(config(provider, limits=few)) as gate:
            assert statuses(crowd(gate, 40)) == {200: 40}
            assert provider.most_at_once == 5


# --------------------------------------------------------------------------------------------------------- the real client


def test_openai_client_is_refused_once_and_told_why(provider: CountingProvider) -> None:
    with running_gate(config(provider, DAY)) as gate:
        assert statuses(crowd(gate, 5)) == {200: 5}
        with (
            openai.OpenAI(base_url=f"{gate.url}/v1", api_key="sk-x", timeout=10) as client,
            pytest.raises(openai.RateLimitError) as refused,
        ):
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, max_tokens=5)
        assert refused.value.code == "budget_exceeded"
        assert refused.value.param == "day"
        assert refused.value.type == "postern_refused"
        assert "raise the limit" in refused.value.message
        assert [row["outcome"] for row in gate.rows(6)] == [*["succeeded"] * 5, "rejected"]


def test_what_is_left_is_told_with_each_reply(provider: CountingProvider) -> None:
    with running_gate(config(provider, DAY)) as gate:
        left = [ask(gate).header("x-postern-budget-remaining-usd") for _ in range(6)]
        assert [float(one) for one in left] == pytest.approx([0.04, 0.03, 0.02, 0.01, 0, 0])


# ------------------------------------------------------------------------------------------------------ restarts and reloads


def test_what_was_spent_outlives_a_restart(provider: CountingProvider, tmp_path: Path) -> None:
    for spent in (3, 5):
        with running_gate(config(provider, DAY), tmp_path) as gate:
            crowd(gate, 3)
            assert used(gate) == {"day usd": pytest.approx(spent * CALL_USD)}
    assert provider.served == 5


def reload(gate: RunningGate, changed: str) -> None:
    before = gate.status()["config"]["digest"]
    gate.write_config(changed)
    gate.process.send_signal(signal.SIGHUP)
    gate.until(lambda: gate.status()["config"]["digest"] != before, "reloaded")


def test_changed_limit_keeps_what_was_spent(provider: CountingProvider) -> None:
    with running_gate(config(provider, DAY)) as gate:
        assert statuses(crowd(gate, 10)) == {200: 5, 429: 5}
        reload(gate, config(provider, DAY.replace("0.05", "0.08")))
        assert statuses(crowd(gate, 10)) == {200: 3, 429: 7}
        reload(gate, config(provider, DAY.replace("0.05", "0.02")))
        assert statuses(crowd(gate, 10)) == {429: 10}


def test_first_budget_may_come_with_a_reload(provider: CountingProvider, tmp_path: Path) -> None:
    with running_gate(config(provider), tmp_path) as gate:
        assert statuses(crowd(gate, 10)) == {200: 10}
        reload(gate, config(provider, DAY))
        assert statuses(crowd(gate, 10)) == {200: 5, 429: 5}
    with running_gate(config(provider, DAY), tmp_path) as gate:
        assert statuses(crowd(gate, 2)) == {429: 2}


def test_budget_that_a_reload_takes_away_and_brings_back_knows_what_was_spent(provider: CountingProvider) -> None:
    with running_gate(config(provider, DAY)) as gate:
        assert statuses(crowd(gate, 5)) == {200: 5}
        reload(gate, config(provider))
        assert statuses(crowd(gate, 5)) == {200: 5}
        reload(gate, config(provider, DAY))
        assert statuses(crowd(gate, 5)) == {429: 5}


# ------------------------------------------------------------------------------------------------ a state folder that is no good


def start_in(folder: Path, config_text: str, state_dir: Path) -> Any:
    """`postern serve`, which isn't expected to stay."""
    file = folder / "second.yaml"
    own = f'listen: 127.0.0.1:{free_port()}\nadmin: {{listen: "127.0.0.1:{free_port()}"}}\nstate_dir: {state_dir}\n'
    file.write_text(own + config_text)
    return postern("serve", "--config", str(file))


def test_second_gate_in_the_same_state_folder_says_why_it_does_not_start(provider: CountingProvider, tmp_path: Path) -> None:
    with running_gate(config(provider, DAY)) as gate:
        second = start_in(tmp_path, config(provider, DAY), gate.state_dir)
        assert second.returncode == 1
        assert "Another Postern keeps its budgets in" in second.stderr
        assert "state_dir" in second.stderr
        assert "Traceback" not in second.stderr
        assert ask(gate).status == 200


def test_reload_to_budgets_that_another_gate_keeps_is_refused_and_told(provider: CountingProvider) -> None:
    with running_gate(config(provider, DAY)) as first, running_gate(config(provider), first.state_dir) as second:
        second.write_config(config(provider, DAY))
        second.process.send_signal(signal.SIGHUP)
        error = second.until(lambda: second.status()["config"]["last_reload_error"], "refused")
        assert "Another Postern keeps its budgets in" in error
        assert statuses(crowd(second, 10)) == {200: 10}


def test_state_folder_that_can_not_be_written_is_said_clearly(provider: CountingProvider, tmp_path: Path) -> None:
    (tmp_path / "state" / "store.journal").mkdir(parents=True)
    refused = start_in(tmp_path, config(provider, DAY), tmp_path / "state")
    assert refused.returncode == 1
    assert f"Budgets and limits can't be kept in '{tmp_path / 'state'}'" in refused.stderr
    assert "Make `state_dir` a folder that can be written" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_full_disk_stops_no_call_and_loses_no_cent(provider: CountingProvider, tmp_path: Path) -> None:
    """The limit on the size of a file stands for a disk without room: the database can't grow."""
    wide = config(provider, DAY.replace("0.05", "100"))
    with running_gate(wide, tmp_path) as gate:
        _, most = resource.prlimit(gate.process.pid, resource.RLIMIT_FSIZE, (SOME_KIB, resource.RLIM_INFINITY))
        gate.until(lambda: ask(gate).status == 200 and "can't be written" in gate.said, "told that the disk is full")
        assert statuses(crowd(gate, 20)) == {200: 20}
        with urllib.request.urlopen(f"{gate.admin_url}/readyz", timeout=5) as answer:
            assert answer.status == 200
        assert gate.said.count("spending is kept in memory and written when it can be") == 1
        resource.prlimit(gate.process.pid, resource.RLIMIT_FSIZE, (most, most))
        gate.until(lambda: "is written again; nothing was lost" in gate.said, "told that it is written again")
    with running_gate(wide, tmp_path) as gate:
        assert used(gate) == {"day usd": pytest.approx(provider.served * CALL_USD)}


def test_gate_killed_while_the_disk_is_full_knows_what_was_spent(provider: CountingProvider, tmp_path: Path) -> None:
    wide = config(provider, DAY.replace("0.05", "100"))
    with running_gate(wide, tmp_path) as gate:
        resource.prlimit(gate.process.pid, resource.RLIMIT_FSIZE, (SOME_KIB, resource.RLIM_INFINITY))
        gate.until(lambda: ask(gate).status == 200 and "can't be written" in gate.said, "told that the disk is full")
        gate.process.kill()
        gate.process.wait(10)
    with running_gate(wide, tmp_path) as gate:
        assert used(gate) == {"day usd": pytest.approx(provider.served * CALL_USD)}


# ------------------------------------------------------------------------------------------------------- what machines are told


def test_metrics_tell_how_budgets_stand(provider: CountingProvider) -> None:
    budget = "{name: day, window: {every: month}, limit: {usd: 0.05}, warn_at: [50%, 80%]}"
    with running_gate(config(provider, budget, DAY.replace("day,", "trial, mode: shadow,").replace("0.05", "0.02"))) as gate:
        assert statuses(crowd(gate, 8)) == {200: 5, 429: 3}
        gate.rows(8)

        def page() -> str:
            with urllib.request.urlopen(f"{gate.admin_url}/metrics", timeout=15) as answer:
                text: str = answer.read().decode()
                return text

        told = gate.until(lambda: text if 'used_ratio{postern_budget="day"} 1.0' in (text := page()) else "", "told")
        assert re.search(r'postern_budget_used_ratio\{postern_budget="trial"\} 2\.5', told)
        assert re.search(r'postern_budget_warnings_total\{.*postern_budget="day".*\} 2', told)
        assert re.search(r"postern_refusals_total\{.*budget_exceeded.*\} 3", told)
        assert re.search(r"postern_shadow_refusals_total\{.*trial.*\} 3", told)


def test_warnings_are_said_in_the_log_once(provider: CountingProvider) -> None:
    with running_gate(config(provider, DAY.replace("limit", "warn_at: [50%, 100%], limit"))) as gate:
        for _ in range(6):
            ask(gate)
        assert gate.said.count("budget 'day' (all) has reached 50%") == 1
        assert gate.said.count("budget 'day' (all) has reached 100%: 0.05 USD of 0.05 USD are spent") == 1


def test_status_and_readiness_are_the_same_with_budgets_used_up(provider: CountingProvider) -> None:
    with running_gate(config(provider, DAY)) as gate:
        before = gate.status().keys()
        assert statuses(crowd(gate, 10)) == {200: 5, 429: 5}
        assert gate.status().keys() == before
        gate.until(lambda: gate.status()["calls"]["in_flight"] == 0, "done with the last one")
        with urllib.request.urlopen(f"{gate.admin_url}/readyz", timeout=5) as answer:
            assert answer.status == 200
