"""What counts against a budget where not all is known: usage that nobody told, prices and bounds that are missing, calls of every kind."""

from __future__ import annotations

import json

import pytest

from tests.pipeline.fakes import LEAVES, Reply, Wait, broken
from tests.pipeline.replies import BYE, DONE, GOOD, JSON_TYPE, USAGE, USAGE_NUSD, delta, event, json_reply, sse
from tests.pipeline.scripts import CONFIG, chat, chat_stream, posted
from tests.pipeline.spending_scripts import (
    BY_REQUEST,
    BY_REQUEST_NUSD,
    DAY_TOKENS,
    DAY_USD,
    MAX_TOKENS,
    USD,
    bound_nusd,
    bound_tokens,
    budget,
    limited,
)
from tests.pipeline.world import Request, World

BOTH = budget("{usd: 1, tokens: 10000}")
PROMPT = "x" * 400
"""A hundred tokens, as they are estimated."""
TEXT = "y" * 100
"""Thirty, as they are estimated where nobody counted."""
UNPRICED = CONFIG.replace("price: {per_million: {input: 2, output: 8}}", "").replace(
    "provider: openai", "provider: compatible\n    base_url: https://up.example/v1"
)


def asking(**more: object) -> Request:
    return limited({"messages": [{"role": "user", "content": PROMPT}], **more})


def streamed(**more: object) -> Request:
    return chat_stream({"messages": [{"role": "user", "content": PROMPT}], "max_completion_tokens": MAX_TOKENS, **more})


def said(text: str) -> dict[str, object]:
    """A chat completion without usage."""
    return {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


# ---------------------------------------------------------------------------------------------------- usage not told


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (asking(), json_reply(said(TEXT))),
        (streamed(), sse(delta(TEXT), BYE, DONE)),
        (streamed(), sse(delta(TEXT), broken())),
        (streamed(), sse(delta(TEXT), LEAVES)),
    ],
    ids=["whole", "stream", "cut", "left"],
)
def test_usage_that_nobody_told_is_estimated_from_what_was_sent_and_received(request_: Request, reply: Reply) -> None:
    with World(CONFIG + BOTH) as world:
        played = world.call(request_, reply)
        assert (world.store.spent(DAY_USD), world.store.spent(DAY_TOKENS)) == (100 * 2_000 + 30 * 8_000, 130)
    assert played.cost_nusd is None, "the ledger's own count comes later"
    assert played.record.attempts[0].uncounted is not None


def test_a_client_that_leaves_before_anything_came_pays_for_its_prompt() -> None:
    with World(CONFIG + BOTH) as world:
        world.call(asking(), Reply(before_head=[Wait(1), LEAVES]))
        assert (world.store.spent(DAY_USD), world.store.spent(DAY_TOKENS)) == (100 * 2_000, 100)


def test_an_estimate_is_never_more_than_the_bound() -> None:
    request = asking(max_completion_tokens=10)
    with World(CONFIG + BOTH) as world:
        world.store.is_strict = True
        world.call(request, json_reply(said(TEXT * 50)))
        assert world.store.spent(DAY_USD) == bound_nusd(request, 10)
        assert world.store.spent(DAY_TOKENS) == bound_tokens(request, 10)


def test_of_a_reply_that_can_not_be_read_all_of_the_bound_counts() -> None:
    request = asking()
    with World(CONFIG + BOTH) as world:
        world.call(request, json_reply(b"\x01\x02", headers=[(b"Content-Encoding", b"snappy")]))
        assert (world.store.spent(DAY_USD), world.store.spent(DAY_TOKENS)) == (bound_nusd(request), bound_tokens(request))


def test_a_price_by_the_request_is_exact_without_any_usage() -> None:
    with World(BY_REQUEST + budget()) as world:
        played = world.call(chat(), json_reply(said(TEXT)))
        assert world.store.spent(DAY_USD) == BY_REQUEST_NUSD == played.cost_nusd


def test_a_price_by_time_is_charged_for_the_time_until_the_reply_came() -> None:
    hourly = CONFIG.replace("{per_million: {input: 2, output: 8}}", "{per_gpu_hour: 3.6}").replace("idle_s: 10", "idle_s: 10, total_s: 60")
    late = Reply(200, JSON_TYPE, [json.dumps(said(TEXT)).encode()], [Wait(5)])
    with World(hourly + budget()) as world:
        played = world.call(chat(), late)
        assert 5_000_000 <= world.store.spent(DAY_USD) < 5_001_000
        assert world.store.spent(DAY_USD) == played.cost_nusd


def test_a_message_cut_in_between_pays_for_what_came_of_it() -> None:
    claude = "targets: {claude: {provider: anthropic, credential: sk-target, price: {per_million: {input: 2, output: 8}}}}\n" + BOTH
    start = {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 70, "output_tokens": 1}}}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}
    request = posted(
        {"model": "claude", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": MAX_TOKENS, "stream": True}, "/v1/messages"
    )
    with World(claude) as world:
        world.call(request, sse(event(start), event(text), broken()))
        assert (world.store.spent(DAY_USD), world.store.spent(DAY_TOKENS)) == (70 * 2_000 + 30 * 8_000, 100)


def test_a_message_that_fails_before_its_first_content_pays_for_what_was_told() -> None:
    claude = "targets: {claude: {provider: anthropic, credential: sk-target, price: {per_million: {input: 2, output: 8}}}}\n" + BOTH
    start = {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 70, "output_tokens": 1}}}
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}
    request = posted({"model": "claude", "messages": [], "max_tokens": MAX_TOKENS, "stream": True}, "/v1/messages")
    with World(claude) as world:
        played = world.call(request, sse(event(start), event(error)))
        assert (world.store.spent(DAY_USD), world.store.spent(DAY_TOKENS)) == (70 * 2_000 + 8_000, 71)
    assert played.cost_nusd == 70 * 2_000 + 8_000


def test_a_message_that_an_error_of_our_own_ends_pays_for_what_was_told() -> None:
    claude = "targets: {claude: {provider: anthropic, credential: sk-target, price: {per_million: {input: 2, output: 8}}}}\n" + BOTH
    start = {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 70, "output_tokens": 1}}}
    body = {"model": "claude", "messages": [], "max_tokens": MAX_TOKENS, "stream": True}
    with World(claude) as world:
        world.call(posted(body, "/v1/messages", edge_fault=RuntimeError("edge")), sse(event(start)))
        assert (world.store.spent(DAY_USD), world.store.spent(DAY_TOKENS)) == (70 * 2_000 + 8_000, 71)


# ------------------------------------------------------------------------------------------------ price, bound unknown


def test_calls_without_a_bound_are_let_in_while_something_is_left_and_settled_with_what_they_cost() -> None:
    boundless = chat(body={"model": "my-own"})
    with World(CONFIG + budget(f"{{usd: {2 * USAGE_NUSD / USD}}}")) as world:
        played = [world.call(boundless, GOOD) for _ in range(2)]
        refused = world.call(boundless)
        assert world.store.reserved[DAY_USD] == 0
        assert world.store.spent(DAY_USD) == sum(one.cost_nusd or 0 for one in played)
    assert ([one.record.status for one in played], refused.record.status) == ([200, 200], 429)


def test_an_unknown_price_counts_as_none_and_its_tokens_as_told() -> None:
    with World(UNPRICED + BOTH) as world:
        played = world.call(limited({"model": "mine", "max_tokens": 5}), GOOD)
        assert (world.store.spent(DAY_USD), world.store.spent(DAY_TOKENS)) == (0, USAGE["total_tokens"])
    assert played.record.attempts[0].unpriced


def test_an_unknown_price_is_refused_once_nothing_is_left() -> None:
    two = 'targets:\n  flat: {provider: openai, credential: sk-target, price: {per_request: 1}}\n  mine: {provider: compatible, base_url: "https://up.example/v1"}\n'
    routes = "routes: [{name: mine, match: {model: mine}, to: [mine]}, {name: flat, to: [flat]}]\n"
    with World(two + routes + budget("{usd: 1}")) as world:
        assert world.call(chat(body={"model": "mine"}), GOOD).record.status == 200
        assert world.call(chat(), GOOD).record.status == 200
        assert world.call(chat(body={"model": "mine"})).record.status == 429


# ------------------------------------------------------------------------------------------------------ kinds of calls


def test_embeddings_hold_their_input_and_pay_for_what_was_counted() -> None:
    request = posted({"model": "text-embedding-3-small", "input": ["one", "two"]}, "/v1/embeddings")
    with World(CONFIG + BOTH) as world:
        played = world.call(request, json_reply({"data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}))
        assert world.store.reserved[DAY_TOKENS] == bound_tokens(request, 0)
        assert (world.store.spent(DAY_USD), world.store.spent(DAY_TOKENS)) == (7 * 2_000, 7) == (played.cost_nusd, 7)


def test_completions_hold_their_output_for_each_prompt() -> None:
    request = posted({"model": "gpt-3.5-turbo-instruct", "prompt": ["one", "two", "three"], "max_tokens": 10, "n": 2}, "/v1/completions")
    with World(CONFIG + BOTH) as world:
        world.call(request, json_reply({"choices": [], "usage": USAGE}))
        assert world.store.reserved[DAY_TOKENS] == bound_tokens(request, 3 * 2 * 10)
        assert world.store.spent(DAY_TOKENS) == USAGE["total_tokens"]


def test_messages_hold_what_they_may_write() -> None:
    claude = "targets: {claude: {provider: anthropic, credential: sk-target, price: {per_million: {input: 2, output: 8}}}}\n" + BOTH
    request = posted({"model": "claude", "messages": [], "max_tokens": 10}, "/v1/messages")
    usage = {"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 3}
    with World(claude) as world:
        world.call(request, json_reply({"type": "message", "content": [], "stop_reason": "end_turn", "usage": usage}))
        assert world.store.reserved[DAY_TOKENS] == bound_tokens(request, 10)
        assert world.store.spent(DAY_TOKENS) == 108


def test_a_model_in_the_path_counts_for_the_budget_of_that_model() -> None:
    gemini = CONFIG.replace("provider: openai", "provider: gemini\n    base_url: https://g.example")
    request = posted(
        {"contents": [{"parts": [{"text": "Hello"}]}], "generationConfig": {"maxOutputTokens": 10}},
        "/v1beta/models/gemini-2.5-pro:generateContent",
    )
    usage = {"promptTokenCount": 4, "candidatesTokenCount": 6, "totalTokenCount": 10}
    reply = json_reply({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}], "usageMetadata": usage})
    with World(gemini + budget("{usd: 1, tokens: 10000}", "per: [model]")) as world:
        world.call(request, reply)
        assert world.store.reserved["day:tokens:model=gemini-2.5-pro"] == bound_tokens(request, 10)
        assert world.store.spent("day:tokens:model=gemini-2.5-pro") == 10
        assert world.store.spent("day:usd:model=gemini-2.5-pro") == 4 * 2_000 + 6 * 8_000


def test_an_upload_is_not_read_and_pays_for_the_usage_that_is_told() -> None:
    upload = Request(
        target="/v1/audio/transcriptions", headers=[(b"Content-Type", b"multipart/form-data; boundary=x")], steps=[b"abc", b"def"]
    )
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 6, "total_tokens": 20}
    with World(CONFIG + budget("{usd: 1, tokens: 10000, requests: 5}")) as world:
        played = world.call(upload, json_reply({"text": "Hello", "usage": usage}))
        assert not played.body.was_read_whole
        assert (world.store.reserved[DAY_USD], world.store.reserved["day:requests:all"]) == (0, 1)
        assert (world.store.spent(DAY_TOKENS), world.store.spent("day:requests:all")) == (20, 1)
        assert 0 < world.store.spent(DAY_USD) == played.cost_nusd


@pytest.mark.parametrize("target", ["/v1/models", "/v1/files", "/v1/responses/resp_1", "/v1/batches"])
def test_reads_count_as_requests_and_cost_nothing(target: str) -> None:
    with World(CONFIG + budget("{usd: 1, tokens: 10000, requests: 1}") + "limits: [{name: slow, concurrency: 1}]\n") as world:
        played = world.call(Request("GET", target), json_reply({"usage": USAGE}))
        assert [line.account for line in world.store.asked[0]] == ["day:requests:all", "slow:concurrency:all"]
        assert [(entry.account, entry.spent) for entry in world.store.entries() if entry.spent] == [("day:requests:all", 1)]
        assert world.call(Request("GET", target)).record.status == 429
    assert played.record.status == 200
