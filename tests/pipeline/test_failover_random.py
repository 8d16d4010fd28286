"""Many calls to targets that do anything: what must hold after each of them, whatever it was (invariants.py has the rest)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from proxy.call import Outcome
from proxy.errors import ConnectFailed, UpstreamGarbage
from tests.pipeline.fakes import LEAVES, Reply, Step, Wait, broken
from tests.pipeline.replies import GOOD, GOOD_STREAM, HELLO, JSON_TYPE, SILENT, delta, event, failure, json_reply, sse
from tests.pipeline.scripts import TWO_TARGETS, chat, chat_stream
from tests.pipeline.world import Played, World

CALLS = 60
ATTEMPTS = 3
CONFIG = (
    TWO_TARGETS.replace("failures: 5", "failures: 3")
    .replace("routes", "  third: {provider: mistral, credential: sk-target}\nroutes")
    .replace("[first, second]", "[first, second, {target: third, model: other}]")
)
BAD: list[Callable[[], Reply | Step]] = [
    lambda: ConnectFailed("Target failed: no connection."),
    lambda: UpstreamGarbage("Target failed: its reply is not HTTP/1.1."),
    lambda: SILENT,
    lambda: Reply(200, JSON_TYPE, [b"{", broken()]),
    lambda: json_reply({"error": {"message": "no", "code": "server_error"}}),
    lambda: json_reply(b"<html>"),
    lambda: json_reply({"error": {"message": "no stream_options"}}, 400),
    lambda: sse(delta(""), broken()),
    lambda: sse(HELLO, broken()),
    lambda: sse(event({"error": {"message": "no", "type": "overloaded_error"}})),
    lambda: Reply(before_head=[Wait(1), LEAVES]),
    lambda: sse(HELLO, LEAVES),
    *((lambda status=status: failure(status)) for status in (400, 401, 403, 408, 429, 500, 502, 503, 529)),
    lambda: failure(429, headers=[(b"Retry-After", b"2")]),
    lambda: failure(429, "insufficient_quota"),
    lambda: failure(400, "context_length_exceeded"),
]
ANSWERS: list[Callable[[], Reply | Step]] = [
    lambda: GOOD,
    lambda: GOOD_STREAM,
]


def check(played: Played) -> None:
    """What the client saw goes with what is recorded of the last attempt."""
    record, last = played.record, played.record.attempts[-1]
    told_usage = [attempt for attempt in record.attempts if attempt.error_type != "include_usage_refused"]
    assert 1 <= len(told_usage) <= ATTEMPTS
    assert (record.outcome is Outcome.SUCCEEDED) == (last.outcome is Outcome.SUCCEEDED)
    assert all(attempt.outcome is not Outcome.SUCCEEDED for attempt in record.attempts[:-1])
    if record.outcome is not Outcome.ABANDONED:
        assert record.status is not None
    if record.status is not None:
        assert played.client.value("x-postern-attempts") == str(len(record.attempts))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_targets_do_every_call_is_told_once_and_no_promise_is_broken(seed: int) -> None:
    chance = random.Random(seed)
    first_asked: Counter[str] = Counter()
    retries: Counter[str] = Counter()
    with World(CONFIG) as world:
        world.upstream.default = lambda: chance.choice(ANSWERS if chance.random() < 0.3 else BAD)()
        began_ns = world.clock.monotonic_ns()
        for _ in range(CALLS):
            played = world.call(chat() if chance.random() < 0.5 else chat_stream(asks=False))
            check(played)
            turns = [attempt.target for attempt in played.record.attempts if attempt.error_type != "include_usage_refused"]
            first_asked.update(set(turns))
            retries.update(Counter(turns) - Counter(set(turns)))
            world.pass_time(chance.random() * 4)
            passed_s = (world.clock.monotonic_ns() - began_ns) / 1e9
            for target, count in retries.items():
                assert count <= 0.2 * first_asked[target] + 10 + 0.1 * passed_s
    assert sum(retries.values()) > 0
