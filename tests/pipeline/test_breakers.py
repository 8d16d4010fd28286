"""What is told of breakers outside of calls."""

from __future__ import annotations

import logging

import pytest

from proxy.pipeline.breakers import BreakerLog, breaker_states
from tests.pipeline.replies import GOOD, failure
from tests.pipeline.scripts import TWO_TARGETS, chat
from tests.pipeline.world import World


def test_a_breaker_that_opens_and_one_that_closes_are_a_line_of_the_log_each(caplog: pytest.LogCaptureFixture) -> None:
    told = BreakerLog()
    with World(TWO_TARGETS) as world, caplog.at_level(logging.INFO, "postern"):
        for _ in range(5):
            told.tell(world.gate)
            world.call(chat(), failure(500), GOOD)
        assert caplog.messages == []
        assert breaker_states(world.gate) == {"first": "open", "second": "closed"}
        told.tell(world.gate)
        told.tell(world.gate)
        world.pass_time(20)
        for _ in range(2):
            world.call(chat(), GOOD)
            told.tell(world.gate)
    assert caplog.messages == [
        "target 'first' keeps failing: its breaker is open, calls go elsewhere",
        "target 'first' is back after 20 s: its breaker is closed",
    ]


def test_the_attempt_that_opened_a_breaker_and_the_one_that_closed_it_say_so() -> None:
    with World(TWO_TARGETS) as world:
        opening = [world.call(chat(), failure(500), GOOD).record.attempts[0].opened_breaker for _ in range(5)]
        assert opening == [False] * 4 + [True]
        world.pass_time(20)
        probes = [world.call(chat(), GOOD).record.attempts[0] for _ in range(2)]
        later = world.call(chat(), GOOD).record.attempts[0]
    assert [probe.target for probe in probes] == ["first", "first"]
    assert (probes[0].recovery_ns, later.recovery_ns) == (None, None)
    assert probes[1].recovery_ns == pytest.approx(20e9, rel=0.01)
    assert not any(attempt.opened_breaker for attempt in (*probes, later))


def test_a_probe_that_fails_opens_no_breaker_a_second_time() -> None:
    with World(TWO_TARGETS) as world:
        for _ in range(5):
            world.call(chat(), failure(500), GOOD)
        world.pass_time(20)
        probe = world.call(chat(), failure(500), GOOD).record.attempts[0]
    assert (probe.target, probe.opened_breaker, probe.recovery_ns) == ("first", False, None)


def test_a_target_that_is_gone_is_not_said_to_be_back(caplog: pytest.LogCaptureFixture) -> None:
    told = BreakerLog()
    with World(TWO_TARGETS.replace("failures: 5", "failures: 1")) as world, caplog.at_level(logging.INFO, "postern"):
        world.call(chat(), failure(500), GOOD)
        told.tell(world.gate)
        world.reload("targets: {second: {provider: openai}}")
        told.tell(world.gate)
    assert len(caplog.messages) == 1
