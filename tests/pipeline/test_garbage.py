"""A call that is over is freed at once: what waits for the garbage collector is memory that grows, and collections that calls wait for."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from proxy.pipeline.state import AttemptState, CallState
from tests.pipeline.fakes import LEAVES, Reply, Step
from tests.pipeline.replies import GOOD, GOOD_STREAM, HELLO, SILENT, failure, sse
from tests.pipeline.scripts import CONFIG, TWO_TARGETS, chat, chat_stream
from tests.pipeline.spending_scripts import budget, limited
from tests.pipeline.world import Request, World

BUDGETS = budget("{usd: 100, tokens: 1000000}", "per: [tenant], warn_at: [1%]")
BY_BUDGET = "routes: [{name: all, match: {budget_used: {budget: day, under: 0.5}}, to: [openai]}]\n"
CALLS: dict[str, tuple[str, Request, list[Reply | Step]]] = {
    "plain": (CONFIG, chat(), [GOOD]),
    "streamed": (CONFIG, chat_stream(), [GOOD_STREAM]),
    "under a budget": (CONFIG + BUDGETS, limited(), [GOOD]),
    "streamed under a budget": (CONFIG + BUDGETS, chat_stream(), [GOOD_STREAM]),
    "routed by a budget": (CONFIG + BUDGETS + BY_BUDGET, limited(), [GOOD]),
    "refused": (CONFIG + budget("{tokens: 1}"), limited(), []),
    "no route": ("targets: {a: {provider: openai}}\nroutes: [{name: r, match: {model: x}, to: [a]}]\n", chat(), []),
    "no JSON": (CONFIG, Request(headers=[(b"Content-Type", b"application/json")], steps=[b"{"]), []),
    "failed over": (TWO_TARGETS, chat(), [failure(500), GOOD]),
    "silent": (CONFIG, chat(), [SILENT]),
    "left": (CONFIG, chat_stream(), [sse(HELLO, LEAVES)]),
}


def states() -> set[int]:
    """What there is of calls and attempts, alive or waiting to be collected."""
    return {id(one) for one in gc.get_objects() if isinstance(one, CallState | AttemptState)}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", CALLS)
def test_nothing_of_a_call_that_is_over_waits_for_the_garbage_collector(kind: str) -> None:
    config, request, replies = CALLS[kind]
    before = states()
    with World(config) as world:
        world.call(request, *replies)
        world.call(Request("GET", "/none"), *([] if kind == "no route" else [failure(404)]))  # the world remembers the last one's task
        assert states() == before
