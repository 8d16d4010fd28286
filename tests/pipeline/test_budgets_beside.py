"""Budgets of calls that ask more than one target at once, or go on with another: each attempt holds for itself."""

from __future__ import annotations

import pytest

from proxy.call import Outcome
from tests.pipeline.fakes import SILENCE, Reply, Wait, broken
from tests.pipeline.scripts import DONE, TWO_TARGETS, chat_reply, chat_stream, delta, json_reply, sse
from tests.pipeline.spending_scripts import BY_REQUEST_NUSD, budget, limited
from tests.pipeline.world import World

PRICED = TWO_TARGETS.replace("{per_million: {input: 2, output: 8}}", "{per_request: 0.12}")
HEDGED = PRICED.replace("failover:", "hedge: {after: 2s, max_ratio: 100%}, failover:")
CONTINUED = PRICED.replace("failover: {", "failover: {continue_midstream: true, ")
MIRRORED = PRICED.replace("routes:", "  local: {provider: ollama, price: {per_request: 0.12}}\nroutes:").replace(
    "failover:", "mirror: {to: [{target: local, model: small}]}, failover:"
)
ANSWER = chat_reply()
SLOW = Reply(before_head=[SILENCE])


def spent(world: World, unit: str = "usd") -> int:
    """What the budget's only account has spent."""
    return sum(entry.spent for entry in world.store.entries() if f":{unit}:" in entry.account)


def test_a_hedge_holds_for_itself_and_both_are_settled() -> None:
    with World(HEDGED + budget("{usd: 1}")) as world:
        played = world.call(limited(), SLOW, json_reply(ANSWER))
        assert [attempt.cause for attempt in played.record.attempts] == [None, "hedge"]
        assert spent(world) == 2 * BY_REQUEST_NUSD, "the loser was sent: its request may be billed"


@pytest.mark.parametrize("limit_usd", [0.12, 0.2])
def test_no_hedge_is_made_that_does_not_fit_beside_the_first(limit_usd: float) -> None:
    with World(HEDGED + budget(f"{{usd: {limit_usd}}}")) as world:
        late = Reply(200, json_reply(ANSWER).headers, json_reply(ANSWER).steps, [Wait(9)])
        played = world.call(limited(), late)
        assert [attempt.target for attempt in played.record.attempts] == ["first"]
        assert played.record.outcome is Outcome.SUCCEEDED
        assert spent(world) == BY_REQUEST_NUSD


@pytest.mark.parametrize(("limit_usd", "of_copy", "times"), [(0.24, None, 2), (0.2, "budget_exceeded", 1)])
def test_a_copy_holds_for_itself_and_is_not_sent_where_too_little_is_left(limit_usd: float, of_copy: str | None, times: int) -> None:
    with World(MIRRORED + budget(f"{{usd: {limit_usd}}}")) as world:
        world.upstream.copies["local"] = lambda: json_reply(ANSWER)
        played = world.call(limited(), json_reply(ANSWER))
        assert played.record.outcome is Outcome.SUCCEEDED
        assert [copy.error_type for copy in played.copies] == [of_copy]
        assert spent(world) == times * BY_REQUEST_NUSD


def test_a_continuation_holds_for_itself() -> None:
    with World(CONTINUED + budget("{usd: 1}")) as world:
        played = world.call(chat_stream(), sse(delta("Hello"), broken()), sse(delta(" you"), delta("", "stop"), DONE))
        assert [attempt.cause for attempt in played.record.attempts] == [None, "continuation"]
        assert spent(world) == 2 * BY_REQUEST_NUSD


def test_a_stream_is_not_gone_on_with_where_too_little_is_left() -> None:
    with World(CONTINUED + budget("{usd: 0.2}")) as world:
        played = world.call(chat_stream(), sse(delta("Hello"), broken()))
        assert [attempt.target for attempt in played.record.attempts] == ["first"]
        assert b'"error"' in played.client.body
        assert spent(world) == BY_REQUEST_NUSD
