"""The running gate before two providers, of which one is killed, stalls, refuses, fails or says nonsense: no call fails for it.

POSTERN_FAILOVER_CALLS says how many calls the longest test makes (1,500 unless it is set).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import pytest

from tests.functional.gate import RunningGate, running_gate
from tests.functional.hostile import ANSWER, ASKED, ASKED_STREAM, LAST, begun, content, whole
from tests.functional.raw_http import Connection, Reply, post
from tests.functional.scripted_provider import ScriptedProvider, Step, plain, scripted_provider

CALLS = int(os.environ.get("POSTERN_FAILOVER_CALLS", "1500"))
CLIENTS = 16
FIRST_BYTE_S = 0.4
CONFIG = """
targets:
  first:
    provider: openai
    base_url: http://127.0.0.1:{first}/v1
    timeouts: {{first_byte_s: {first_byte_s}, idle_s: {first_byte_s}}}
    breaker: {{failures: {failures}, window_s: 5, open_s: {open_s}, probes: 2}}
  second: {{provider: openai, base_url: "http://127.0.0.1:{second}/v1"}}
routes: [{{name: both, to: [first, second]}}]
"""
NEVER = 1_000_000

GOOD = plain(ANSWER)
EVENTS = (content(b"one"), content(b"two"), LAST)
GOOD_STREAM = whole(*EVENTS)
ERROR = b'{"error":{"message":"no","type":"server_error","param":null,"code":null}}'
FIRST_EVENT_ERROR = begun(b"data: " + ERROR + b"\n\n")


class Ground(NamedTuple):
    """A gate and the two providers behind it; the second works."""

    gate: RunningGate
    first: ScriptedProvider
    second: ScriptedProvider

    def breaker(self) -> str:
        """How the first target's breaker stands, as /status tells it."""
        return str(self.gate.status()["targets"]["first"]["breaker"])

    def call(self, body: bytes = ASKED) -> Reply:
        """One call."""
        return asyncio.run(load(self.gate.port, 1, body, clients=1))[0].reply


@contextlib.contextmanager
def ground(failures: int = NEVER, open_s: float = 15) -> Iterator[Ground]:
    with scripted_provider() as first, scripted_provider() as second:
        second.script([GOOD])
        config = CONFIG.format(first=first.port, second=second.port, first_byte_s=FIRST_BYTE_S, failures=failures, open_s=open_s)
        with running_gate(config) as gate:
            yield Ground(gate, first, second)


@pytest.fixture
def patient() -> Iterator[Ground]:
    """No breaker opens: the first target is asked in every call."""
    with ground() as built:
        yield built


@pytest.fixture
def strict() -> Iterator[Ground]:
    """Five failures open the breaker, for a second."""
    with ground(failures=5, open_s=1) as built:
        yield built


class Timed(NamedTuple):
    """A reply and how long it took."""

    reply: Reply
    took_s: float


async def load(
    port: int, calls: int, body: bytes = ASKED, clients: int = CLIENTS, between: Callable[[int], Awaitable[None]] | None = None
) -> list[Timed]:
    """So many calls, from clients that keep their connection; `between` is told the number of each call before it is made."""
    numbers, timed = count(), []

    async def client() -> None:
        async with Connection(port) as connection:
            while (number := next(numbers)) < calls:
                if between is not None:
                    await between(number)
                began_s = time.monotonic()
                await connection.send(post(body))
                timed.append(Timed(await connection.reply(), time.monotonic() - began_s))

    await asyncio.gather(*(client() for _ in range(clients)))
    return timed


def failed(replies: Sequence[Timed], body: bytes = ANSWER) -> list[Reply]:
    """Those that aren't the healthy target's answer."""
    return [one.reply for one in replies if (one.reply.status, one.reply.body, one.reply.whole) != (200, body, True)]


def p99_s(replies: Sequence[Timed]) -> float:
    return statistics.quantiles([one.took_s for one in replies], n=100)[-1]


def cuts(reply: bytes, every: int, until: int) -> list[list[Step]]:
    """The reply broken off at many of its bytes before `until`, in good order and by a reset."""
    return [[reply[:at], "reset" if at % 2 else "close"] for at in range(0, until, every)]


STATUSES: list[list[Step]] = [
    [plain(ERROR, status)] for status in (b"500 No", b"502 No", b"503 No", b"529 No", b"408 No", b"401 No", b"402 No", b"403 No")
]
FAULTS: list[list[Step]] = [
    ["close"],
    ["reset"],
    ["stall"],
    [GOOD[:60], "stall"],
    [b"SSH-2.0-OpenSSH_9.6\r\n", "close"],
    [b"\x00" * 100, "close"],
    [plain(b"<html>login</html>")],
    [plain(ERROR)],
    *STATUSES,
    [plain(ERROR, b"429 No", b"Retry-After: 600")],
    [plain(b'{"error":{"message":"no","type":"insufficient_quota","param":null,"code":null}}', b"429 No")],
    *cuts(GOOD, 23, len(GOOD)),
]


def test_no_call_fails_while_one_of_two_targets_works(patient: Ground) -> None:
    patient.first.script_in_turn(*FAULTS)
    replies = asyncio.run(load(patient.gate.port, CALLS))
    assert failed(replies) == []
    assert len(replies) == CALLS
    assert len(patient.first.exchanges) >= CALLS
    assert len(patient.second.exchanges) >= CALLS
    patient.gate.until(lambda: patient.gate.status()["calls"]["settled"] == CALLS, "settled")
    assert patient.gate.status()["calls"]["in_flight"] == 0


STREAM_FAULTS: list[list[Step]] = [
    *cuts(GOOD_STREAM, 17, GOOD_STREAM.index(content(b"one")) + len(content(b"one")) - 1),
    [begun(b": keep-alive\n\n"), "stall"],
    [begun(b": keep-alive\n\n"), "reset"],
    [FIRST_EVENT_ERROR, "close"],
    [whole(), "close"],
    [plain(ERROR)],
    [plain(ERROR, b"503 No")],
]


def test_no_stream_fails_before_its_first_content_while_one_of_two_targets_works(patient: Ground) -> None:
    patient.first.script_in_turn(*STREAM_FAULTS)
    patient.second.script([GOOD_STREAM])
    asked = ASKED_STREAM.replace(b'"stream":true', b'"stream":true,"stream_options":{"include_usage":true}')
    assert failed(asyncio.run(load(patient.gate.port, CALLS // 3, asked)), b"".join(EVENTS)) == []


def test_a_stream_that_is_cut_after_its_first_content_has_one_beginning(patient: Ground) -> None:
    after = GOOD_STREAM.index(content(b"one")) + len(content(b"one"))
    scripts: list[list[Step]] = [[GOOD_STREAM[:at], "reset"] for at in range(after, len(GOOD_STREAM) - 5, 29)]
    patient.first.script_in_turn(*scripts)
    for _ in range(10):
        reply = patient.call(ASKED_STREAM)
        assert (reply.status, reply.body.count(b'"content":"one"')) == (200, 1)
        assert not reply.whole or reply.body.endswith(b"[DONE]\n\n")
    assert patient.second.exchanges == []


def test_a_target_that_is_killed_under_load_costs_no_call_and_comes_back(strict: Ground) -> None:
    strict.first.script([GOOD])

    async def kill(number: int) -> None:
        if number == 150:
            await asyncio.to_thread(strict.first.leave)

    assert failed(asyncio.run(load(strict.gate.port, 400, between=kill))) == []
    strict.gate.until(lambda: strict.breaker() == "open", "open")
    strict.gate.until(lambda: "target 'first' keeps failing" in strict.gate.said, "told in the log")
    strict.first.come_back()
    strict.gate.until(lambda: strict.call().status == 200 and strict.breaker() == "closed", "closed again")
    strict.gate.until(lambda: "target 'first' is back" in strict.gate.said, "told in the log")


def test_a_breaker_opens_after_as_many_failures_as_it_says_and_probes(strict: Ground) -> None:
    strict.first.script([plain(ERROR, b"500 No")])
    for _ in range(10):
        assert strict.call().status == 200
    assert (len(strict.first.exchanges), strict.breaker()) == (5, "open")
    strict.gate.until(lambda: strict.call().status == 200 and len(strict.first.exchanges) == 6, "probed")
    assert strict.breaker() == "open"


def test_the_state_of_breakers_is_a_metric(strict: Ground) -> None:
    strict.first.leave()
    for _ in range(5):
        assert strict.call().status == 200

    def told() -> bool:
        with urllib.request.urlopen(f"{strict.gate.admin_url}/metrics", timeout=5) as answer:
            lines = [
                line
                for line in answer.read().decode().splitlines()
                if line.startswith("postern_breaker_state") and line.endswith((" 1", " 1.0"))
            ]
        return any('"first"' in line and '"open"' in line for line in lines) and any(
            '"second"' in line and '"closed"' in line for line in lines
        )

    strict.gate.until(told, "told")


def test_while_a_target_stalls_p99_is_at_most_its_time_out_more() -> None:
    with ground(failures=5, open_s=60) as stalled:
        stalled.first.script([GOOD])
        normal_s = p99_s(asyncio.run(load(stalled.gate.port, 500, clients=4)))
        stalled.first.script(["stall"])
        replies = asyncio.run(load(stalled.gate.port, 1000, clients=4))
    assert failed(replies) == []
    assert p99_s(replies) <= FIRST_BYTE_S + normal_s
    assert 5 <= len(stalled.first.exchanges) <= 8


def test_a_call_that_failed_over_is_one_row_with_its_attempts(patient: Ground) -> None:
    patient.first.script([plain(ERROR, b"503 No")])
    reply = patient.call()
    assert (reply.header("x-postern-target"), reply.header("x-postern-attempts")) == ("second", "2")
    (row,) = patient.gate.rows(1)
    assert (row["target"], row["attempts"], row["outcome"], row["status"]) == ("second", 2, "succeeded", 200)
    assert row.get("error") is None


def test_where_every_target_fails_the_client_is_told_so_at_once(patient: Ground) -> None:
    patient.first.leave()
    patient.second.leave()
    reply = patient.call()
    assert reply.status == 502
    assert reply.error()["code"] == "all_targets_failed"
    assert reply.header("x-should-retry") == "false"
