"""The running gate between two providers, of which one stalls now and then, copies calls of the other, or breaks off in mid-stream."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import Iterator
from math import inf
from typing import Any, NamedTuple

import openai
import pytest

from tests.functional.gate import RunningGate, running_gate
from tests.functional.hostile import ANSWER, ASKED, LAST, begun, content, whole
from tests.functional.scripted_provider import ScriptedProvider, plain, scripted_provider
from tests.functional.test_failover import FAULTS, failed, load, p99_s

GOOD = plain(ANSWER)
AFTER_S = 0.1
FIRST_BYTE_S = 3
ROUNDS = 3  # in one of which a busy machine must leave us alone
TARGETS = """
targets:
  first:
    provider: openai
    base_url: http://127.0.0.1:{first}/v1
    timeouts: {{first_byte_s: {first_byte_s}, idle_s: {first_byte_s}}}
    breaker: {{failures: 1000000}}
  second: {{provider: openai, base_url: "http://127.0.0.1:{second}/v1"}}
"""


class Ground(NamedTuple):
    """A gate and the two providers behind it; the second works."""

    gate: RunningGate
    first: ScriptedProvider
    second: ScriptedProvider

    def rows(self, count: int) -> list[dict[str, Any]]:
        """So many rows of the ledger."""
        return self.gate.rows(count)


@contextlib.contextmanager
def ground(route: str, first_byte_s: float = FIRST_BYTE_S) -> Iterator[Ground]:
    with scripted_provider() as first, scripted_provider() as second:
        first.script([GOOD])
        second.script([GOOD])
        config = TARGETS.format(first=first.port, second=second.port, first_byte_s=first_byte_s) + f"routes: [{{name: both, {route}}}]"
        with running_gate(config) as gate:
            yield Ground(gate, first, second)


def is_hedged(row: dict[str, Any]) -> bool:
    return any(attempt.get("cause") == "hedge" for attempt in row["decision"].get("attempts", ()))


# ------------------------------------------------------------------------------------------------------------------ hedges


def test_with_one_call_in_25_stalled_p99_is_the_wait_for_the_hedge_and_a_normal_call() -> None:
    with ground("to: [first, second], hedge: {after: 100ms, max_ratio: 10%}") as stalled:
        normal_s = p99_s(asyncio.run(load(stalled.gate.port, 500, clients=4)))
        stalled.first.script_in_turn(*[[GOOD]] * 24, ["stall"])
        measured_s: list[float] = []
        while len(measured_s) < ROUNDS and min(measured_s, default=inf) > AFTER_S + normal_s + 0.1:
            replies = asyncio.run(load(stalled.gate.port, 500, clients=4))
            assert all((one.reply.status, one.reply.body) == (200, ANSWER) for one in replies)
            measured_s.append(p99_s(replies))
        assert min(measured_s) <= AFTER_S + normal_s + 0.1
        stalls = stalled.first.exchanges[24::25]
        assert len(stalls) == 20 * len(measured_s)
        assert all(one.gone.wait(5) for one in stalls), "a loser's connection is closed"
        assert len(stalled.second.exchanges) >= len(stalls)
        calls = 500 * (1 + len(measured_s))
        hedged = [row for row in stalled.rows(calls) if is_hedged(row)]
    assert len(stalls) <= len(hedged) <= 0.1 * calls
    assert {row["outcome"] for row in hedged} == {"succeeded"}


def test_by_quantile_the_slow_ones_are_hedged_and_no_more_than_their_share() -> None:
    with ground("to: [first, second], hedge: {after: p90, max_ratio: 5%}", first_byte_s=0.3) as stalled:
        asyncio.run(load(stalled.gate.port, 200, clients=4))
        stalled.first.script_in_turn(*[[GOOD]] * 9, ["stall"])
        replies = asyncio.run(load(stalled.gate.port, 300, clients=8))
        assert {one.reply.status for one in replies} == {200}
        hedges = sum(map(is_hedged, stalled.rows(500)))
    assert 0 < hedges <= 0.05 * 500


def test_a_target_that_answers_nobody_costs_no_more_hedges_than_their_share() -> None:
    with ground("to: [first, second], hedge: {after: 50ms, max_ratio: 20%}", first_byte_s=0.3) as stalled:
        stalled.first.script(["stall"])
        replies = asyncio.run(load(stalled.gate.port, 100, clients=10))
        assert {one.reply.status for one in replies} == {200}
        rows = stalled.rows(100)
        hedges = sum(map(is_hedged, rows))
        assert 0 < hedges <= 20
        assert statistics.median(one.took_s for one in replies) >= 0.3
        assert all((row["target"], row["attempts"]) == ("second", 2) for row in rows)


def test_whatever_the_first_does_no_hedged_call_fails_and_nothing_is_left_behind() -> None:
    with ground("to: [first, second], hedge: {after: 30ms, max_ratio: 50%}", first_byte_s=0.3) as broken:
        broken.first.script_in_turn(*FAULTS)
        assert failed(asyncio.run(load(broken.gate.port, 500))) == []
        broken.gate.until(lambda: broken.gate.status()["calls"]["settled"] == 500, "settled")
        assert broken.gate.status()["calls"]["in_flight"] == 0
        assert any(map(is_hedged, broken.rows(500)))


# ----------------------------------------------------------------------------------------------------------------- mirrors


def test_a_mirror_that_stalls_slows_nobody_and_what_is_under_way_at_the_end_is_told() -> None:
    with ground("to: [second], mirror: {to: [first], ratio: 100%}", first_byte_s=60) as mirrored:
        mirrored.first.script(["stall"])
        replies = asyncio.run(load(mirrored.gate.port, 100, clients=4))
        assert {one.reply.status for one in replies} == {200}
        assert p99_s(replies) < 5  # the copies wait for 60
        mirrored.gate.until(lambda: len(mirrored.first.exchanges) == 64, "64 copies under way, and no more")
        mirrored.gate.until(lambda: len(mirrored.gate.ledger()) == 100, "in the ledger")
        mirrored.gate.stop()
        rows = mirrored.gate.ledger()
    copies = [row for row in rows if str(row["decision"]).startswith("mirror of ")]
    assert (len(rows), len(copies)) == (164, 64)
    assert {(row["target"], row["outcome"]) for row in copies} == {("first", "interrupted")}


def test_a_copy_is_paid_for_and_names_the_call_it_copies() -> None:
    with ground("to: [second], mirror: {to: [first]}") as mirrored:
        reply = asyncio.run(load(mirrored.gate.port, 1, ASKED, clients=1))[0].reply
        own, copy = sorted(mirrored.rows(2), key=lambda row: str(row["decision"]).startswith("mirror of "))
    assert own["call_id"] == reply.header("x-postern-call-id")
    assert copy["decision"] == f"mirror of {own['call_id']}: both>first/gpt-4o"
    assert (copy["trace_id"], copy["route"], copy["target"]) == (own["trace_id"], "both", "first")
    assert copy["cost_usd"] == own["cost_usd"] > 0


# ----------------------------------------------------------------------------------------------------------- continuations


@pytest.mark.parametrize("cut", ["reset", "stall"])
def test_the_openai_client_reads_a_stream_that_two_targets_wrote_as_one(cut: str) -> None:
    with ground("to: [first, second], failover: {continue_midstream: true}", first_byte_s=0.5) as broken:
        first, second = content(b"Once upon "), content(b"a time.").replace(b'"c1"', b'"other"')
        broken.first.script([begun(first), cut])  # type: ignore[list-item]
        broken.second.script([whole(second, LAST)])
        with openai.OpenAI(base_url=f"{broken.gate.url}/v1", api_key="sk-client", timeout=10, max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "hi"}]
            chunks = list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert (text, {chunk.id for chunk in chunks}) == ("Once upon a time.", {"c1"})
        assert b'{"role":"assistant","content":"Once upon "}' in broken.second.last.body
        (row,) = broken.rows(1)
    assert (row["outcome"], row["attempts"], row["target"]) == ("succeeded", 2, "second")
    assert [attempt["outcome"] for attempt in row["decision"]["attempts"]] == ["interrupted", "succeeded"]
    assert row["decision"]["attempts"][1]["seam_chars"] == len("Once upon ")
