"""A call that is only explained says how its budgets and limits stand, and takes nothing of them."""

from __future__ import annotations

from proxy.policy.explain import Account
from tests.pipeline.replies import GOOD, late
from tests.pipeline.scripts import EXPLAIN
from tests.pipeline.spending_scripts import BY_REQUEST, budget, limited
from tests.pipeline.world import World

ASKING = limited(headers=EXPLAIN)


def test_what_was_spent_is_told_and_what_the_call_would_hold() -> None:
    with World(BY_REQUEST + budget("{usd: 1, requests: 5}") + "limits: [{name: pace, requests: 5/min}]\n") as world:
        world.call(limited(), GOOD)
        explained = world.call(ASKING).explanation
    assert explained.budgets == (
        Account("day", "requests", "all", 5, 1, 0, 1, shadow=False),
        Account("pace", "requests", "all", 5, 1, 0, 1, shadow=False),
        Account("day", "usd", "all", 1, 0.12, 0, 0.12, shadow=False),
    )


def test_what_calls_under_way_hold_is_told() -> None:
    with World(BY_REQUEST + budget("{usd: 1}")) as world:
        _, explained = world.together([limited(), ASKING], lambda: late(1, GOOD))
    assert [(one.spent, one.held) for one in explained.explanation.budgets] == [(0, 0.12)]


def test_a_call_that_would_be_refused_is_told_so_and_why() -> None:
    with World(BY_REQUEST + budget("{usd: 0.2}")) as world:
        world.call(limited(), GOOD)
        explained, refused = world.call(ASKING).explanation, world.call(limited())
    assert explained.refusal is not None
    assert (explained.refusal.status, explained.refusal.param) == (refused.record.status, refused.record.rule) == (429, "day")
    assert explained.refusal.message.encode() in refused.client.body.replace(b'\\"', b'"')
    assert [(one.spent, one.asks) for one in explained.budgets] == [(0.12, 0.12)]


def test_an_explained_call_does_not_wait_for_its_turn() -> None:
    with World(BY_REQUEST + "limits: [{name: pace, requests: 1/s, wait_ms: 5000}]\n") as world:
        world.call(limited(), GOOD)
        began_ns = world.clock.monotonic_ns()
        explained = world.call(ASKING).explanation
        assert world.clock.monotonic_ns() - began_ns < 1_000_000
    assert explained.refusal is not None
    assert explained.refusal.param == "pace"


def test_an_explained_call_takes_nothing() -> None:
    with World(BY_REQUEST + budget("{usd: 0.2, requests: 1}") + "limits: [{name: pace, requests: 1/day, concurrency: 1}]\n") as world:
        for _ in range(3):
            assert world.call(ASKING).explanation.refusal is None
        assert world.call(limited(), GOOD).record.status == 200
