"""Budgets of calls that ask more than one target at once, or go on with another: each attempt holds for itself."""

from __future__ import annotations

import pytest

from proxy.call import Outcome
from tests.pipeline.fakes import broken
from tests.pipeline.replies import BYE, DONE, GOOD, HELLO, SILENT, delta, late, sse
from tests.pipeline.scripts import TWO_TARGETS, chat_stream, continued, hedged, mirrored
from tests.pipeline.spending_scripts import BY_REQUEST_NUSD, budget, limited
from tests.pipeline.world import World

PRICED = TWO_TARGETS.replace("{per_million: {input: 2, output: 8}}", "{per_request: 0.12}")


def spent(world: World, unit: str = "usd") -> int:
    """What the budget's only account has spent."""
    return sum(entry.spent for entry in world.store.entries() if f":{unit}:" in entry.account)


def test_a_hedge_holds_for_itself_and_both_are_settled() -> None:
    with World(hedged(PRICED) + budget("{usd: 1}")) as world:
        played = world.call(limited(), SILENT, GOOD)
        assert [attempt.cause for attempt in played.record.attempts] == [None, "hedge"]
        assert spent(world) == 2 * BY_REQUEST_NUSD, "the loser was sent: its request may be billed"


@pytest.mark.parametrize("limit_usd", [0.12, 0.2])
def test_no_hedge_is_made_that_does_not_fit_beside_the_first(limit_usd: float) -> None:
    with World(hedged(PRICED) + budget(f"{{usd: {limit_usd}}}")) as world:
        played = world.call(limited(), late(9, GOOD))
        assert played.asked == ["first"]
        assert played.record.outcome is Outcome.SUCCEEDED
        assert spent(world) == BY_REQUEST_NUSD


@pytest.mark.parametrize(("limit_usd", "of_copy", "times"), [(0.24, None, 2), (0.2, "budget_exceeded", 1)])
def test_a_copy_holds_for_itself_and_is_not_sent_where_too_little_is_left(limit_usd: float, of_copy: str | None, times: int) -> None:
    with World(mirrored(PRICED, "{per_request: 0.12}") + budget(f"{{usd: {limit_usd}}}")) as world:
        world.upstream.copies["local"] = lambda: GOOD
        played = world.call(limited(), GOOD)
        assert played.record.outcome is Outcome.SUCCEEDED
        assert [copy.error_type for copy in played.copies] == [of_copy]
        assert spent(world) == times * BY_REQUEST_NUSD


def test_a_continuation_holds_for_itself() -> None:
    with World(continued(PRICED) + budget("{usd: 1}")) as world:
        played = world.call(chat_stream(), sse(HELLO, broken()), sse(delta(" you"), BYE, DONE))
        assert [attempt.cause for attempt in played.record.attempts] == [None, "continuation"]
        assert spent(world) == 2 * BY_REQUEST_NUSD


def test_a_stream_is_not_gone_on_with_where_too_little_is_left() -> None:
    with World(continued(PRICED) + budget("{usd: 0.2}")) as world:
        played = world.call(chat_stream(), sse(HELLO, broken()))
        assert played.asked == ["first"]
        assert b'"error"' in played.client.body
        assert spent(world) == BY_REQUEST_NUSD
