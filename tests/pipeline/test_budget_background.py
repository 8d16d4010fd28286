"""Budgets of Responses in the background: what they may use stays held until a read tells what they used, and counts once."""

from __future__ import annotations

from proxy.pipeline import held_responses
from proxy.pipeline.held_responses import HeldResponses
from tests.pipeline.fakes import LEAVES
from tests.pipeline.replies import USAGE_NUSD, event, json_reply, sse
from tests.pipeline.scripts import CONFIG, posted
from tests.pipeline.spending_scripts import DAY_USD, USD, bound_nusd, budget
from tests.pipeline.world import Request, World

MAX_TOKENS = 50
BODY: dict[str, object] = {"model": "gpt-4o", "input": "x", "background": True, "max_output_tokens": MAX_TOKENS}
CREATE = posted(BODY, "/v1/responses")
READ = Request("GET", "/v1/responses/resp_1")
READ_MODELS = Request("GET", "/v1/models")
USAGE = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}


def response(status: str, number: int = 1, **more: object) -> dict[str, object]:
    return {"id": f"resp_{number}", "object": "response", "status": status, "background": True, "usage": None, "model": "gpt-4o"} | more


QUEUED, DONE = response("queued"), response("completed", usage=USAGE)
STREAMED = posted(BODY | {"stream": True}, "/v1/responses")
CREATED = event({"type": "response.created", "response": response("in_progress")})
FINISHED = event({"type": "response.completed", "response": DONE})


def test_a_response_in_the_background_is_held_until_a_read_bills_it_and_counts_once() -> None:
    with World(CONFIG + budget("{usd: 1, tokens: 10000}", "per: [model], warn_at: [0.01%]")) as world:
        seen = []
        for request, document in ((CREATE, QUEUED), (READ, response("in_progress")), (READ, DONE), (READ, DONE)):
            played = world.call(request, json_reply(document))
            account = "day:usd:model=gpt-4o"
            seen.append((world.store.held(account), world.store.spent(account), len(played.record.warnings)))
        assert world.store.spent("day:tokens:model=gpt-4o") == USAGE["total_tokens"]
    bound = bound_nusd(CREATE, MAX_TOKENS)
    assert seen == [(bound, 0, 0), (bound, 0, 0), (0, USAGE_NUSD, 2), (0, USAGE_NUSD, 0)]


def test_no_more_responses_are_begun_in_the_background_than_fit() -> None:
    with World(CONFIG + budget(f"{{usd: {2.5 * bound_nusd(CREATE, MAX_TOKENS) / USD}}}")) as world:
        world.store.is_strict = True
        statuses = [world.call(CREATE, json_reply(response("queued", number))).record.status for number in (1, 2)]
        assert world.call(CREATE).record.status == 429
        world.call(READ, json_reply(DONE))
        statuses.append(world.call(CREATE, json_reply(response("queued", 3))).record.status)
    assert statuses == [200, 200, 200]


def test_one_that_failed_gives_back_what_was_held() -> None:
    with World(CONFIG + budget("{usd: 1}")) as world:
        world.call(CREATE, json_reply(QUEUED))
        said = [{"type": "message", "content": [{"type": "output_text", "text": "So far"}]}]
        world.call(READ, json_reply(response("failed", error={"code": "server_error", "message": "no"}, output=said)))
        assert (world.store.held(DAY_USD), world.store.spent(DAY_USD)) == (0, 0)


def test_a_streamed_one_whose_client_left_is_held_until_it_is_read() -> None:
    with World(CONFIG + budget("{usd: 1}")) as world:
        world.call(STREAMED, sse(CREATED, LEAVES))
        assert world.store.held(DAY_USD) == bound_nusd(STREAMED, MAX_TOKENS)
        world.call(Request("GET", "/v1/responses/resp_1?stream=true"), sse(FINISHED))
        assert (world.store.held(DAY_USD), world.store.spent(DAY_USD)) == (0, USAGE_NUSD)


def test_a_streamed_one_that_came_whole_is_settled_at_once() -> None:
    with World(CONFIG + budget("{usd: 1}")) as world:
        world.call(STREAMED, sse(CREATED, FINISHED))
        assert (world.store.held(DAY_USD), world.store.spent(DAY_USD)) == (0, USAGE_NUSD)


def test_one_that_was_begun_before_there_was_a_budget_is_charged_by_the_read_that_bills_it() -> None:
    with World(CONFIG) as world:
        world.call(CREATE, json_reply(QUEUED))
        world.reload(CONFIG + budget("{usd: 1, tokens: 10000}", "per: [model]"))
        played = world.call(READ, json_reply(DONE))
        assert world.store.spent("day:usd:model=gpt-4o") == USAGE_NUSD
        assert world.store.spent("day:tokens:model=gpt-4o") == USAGE["total_tokens"]
        assert played.record.budget_left_nusd == USD - USAGE_NUSD


def test_what_is_left_is_told_without_what_is_held_in_the_background() -> None:
    with World(CONFIG + budget("{usd: 1}")) as world:
        created = world.call(CREATE, json_reply(QUEUED))
        read = world.call(READ, json_reply(DONE))
    assert created.record.budget_left_nusd == USD - bound_nusd(CREATE, MAX_TOKENS)
    assert read.record.budget_left_nusd == USD - USAGE_NUSD


def test_one_that_is_never_read_counts_with_its_bound_when_it_is_forgotten() -> None:
    with World(CONFIG + budget("{usd: 1}")) as world:
        world.gate.budget_watch.background = HeldResponses(limit=1)
        for number in (1, 2):
            world.call(CREATE, json_reply(response("queued", number)))
        assert len(world.gate.budget_watch.background) == 1 < held_responses.MAX_REMEMBERED
        assert world.store.spent(DAY_USD) == world.store.held(DAY_USD) == bound_nusd(CREATE, MAX_TOKENS)


def test_one_that_nobody_reads_for_a_day_counts_with_its_bound_and_is_not_charged_when_it_is_read_then() -> None:
    bound = bound_nusd(CREATE, MAX_TOKENS)
    with World(CONFIG + "budgets: [{name: day, window: {rolling_s: 604800}, limit: {usd: 1}}]\n") as world:
        seen = []
        for number in (1, 2):
            world.call(CREATE, json_reply(response("queued", number)))
        for wait_s, request, reply in ((86_000, READ_MODELS, {}), (500, READ_MODELS, {}), (0, READ, DONE)):
            world.clock.advance(wait_s)
            world.call(request, json_reply(reply))
            seen.append((world.store.held(DAY_USD), world.store.spent(DAY_USD)))
        assert len(world.gate.budget_watch.background) == 0
    assert seen == [(2 * bound, 0), (0, 2 * bound), (0, 2 * bound)]


def test_one_that_is_cancelled_counts_as_what_it_used_by_then() -> None:
    with World(CONFIG + budget("{usd: 1}")) as world:
        world.call(CREATE, json_reply(QUEUED))
        world.call(Request("POST", "/v1/responses/resp_1/cancel"), json_reply(response("cancelled", usage=USAGE)))
        assert (world.store.held(DAY_USD), world.store.spent(DAY_USD)) == (0, USAGE_NUSD)


def test_one_that_is_cancelled_unused_gives_back_what_was_held() -> None:
    with World(CONFIG + budget("{usd: 1}")) as world:
        world.call(CREATE, json_reply(QUEUED))
        world.call(Request("POST", "/v1/responses/resp_1/cancel"), json_reply(response("cancelled")))
        assert (world.store.held(DAY_USD), world.store.spent(DAY_USD)) == (0, 0)
