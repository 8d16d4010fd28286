"""Many calls of any size, to targets that do anything, under several budgets: no limit is ever passed, and nothing stays held."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from proxy.errors import ConnectFailed
from tests.pipeline.fakes import LEAVES, SILENCE, Reply, Step, Wait, broken
from tests.pipeline.replies import BYE, DONE, HELLO, JSON_TYPE, SILENT, chat_reply, delta, event, failure, json_reply, sse, usage_chunk
from tests.pipeline.scripts import chat, chat_stream
from tests.pipeline.world import Request, World

CONFIG = """
identity: {tenant: [{header: x-tenant}], user: [{header: x-user}]}
targets:
  cheap: {provider: openai, base_url: "https://cheap.example/v1", credential: sk-target, price: {per_million: {input: 2, output: 8}}}
  dear: {provider: openai, base_url: "https://dear.example/v1", credential: sk-other-target, price: {per_million: {input: 20, output: 80}}}
  flat: {provider: mistral, credential: sk-target, price: {per_request: 0.004}}
routes: [{name: all, to: [cheap, dear, flat], failover: {attempts: 3, backoff: {first_ms: 1}}}]
budgets:
  - {name: tenant, per: [tenant], window: {every: hour}, limit: {usd: 0.03, tokens: 20000}}
  - {name: whole, window: {every: day}, limit: {usd: 0.1, requests: 60}}
  - {name: rolling, per: [user, target], window: {rolling_s: 600}, limit: {usd: 0.02}}
limits:
  - {name: at-a-time, per: [tenant], concurrency: 3}
"""
PROMPT = "Tell me of the sea. "
STEPS = 50
OUTPUT_TOKENS = 40
USAGES = tuple(
    {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made} for given in (1, 60) for made in (1, OUTPUT_TOKENS)
)
"""All of them within the bound of every call here."""


def _asked(chance: random.Random) -> Request:
    headers = [(b"x-tenant", chance.choice([b"acme", b"beta"])), (b"x-user", chance.choice([b"ann", b"bob"]))]
    messages = [{"role": "user", "content": PROMPT * chance.randrange(4, 60)}]
    body: dict[str, object] = {"messages": messages, "max_completion_tokens": chance.randrange(OUTPUT_TOKENS, 400)}
    if chance.random() < 0.5:
        return chat_stream(body, asks=chance.random() < 0.5, headers=headers)
    return chat(headers, body)


def _streamed(chance: random.Random) -> Reply:
    """A stream that may break, fall silent, lose its client or end in an error anywhere."""
    usage = [usage_chunk(chance.choice(USAGES))] if chance.random() < 0.6 else []
    steps: list[Step] = [delta(""), HELLO, delta(", world. " * chance.randrange(1, 90)), BYE, *usage, DONE]
    if chance.random() < 0.5:
        error = event({"error": {"message": "no", "type": "server_error"}})
        cuts: list[tuple[Step, int]] = [(broken(), len(steps)), (LEAVES, len(steps)), (SILENCE, 4), (error, 4)]
        what, before = chance.choice(cuts)
        steps[chance.randrange(before) :] = [what]
    return sse(*steps)


def _answered(chance: random.Random) -> Reply | Step:
    whole = json_reply(chat_reply(chance.choice([*USAGES, None])))
    late = Reply(200, JSON_TYPE, [*whole.steps], [Wait(chance.random() * 5)])
    wrong = chance.choice([400, 401, 408, 429, 500, 503])
    bad: list[Reply | Step] = [
        failure(wrong),
        ConnectFailed("No connection."),
        SILENT,
        Reply(before_head=[Wait(1), LEAVES]),
        Reply(200, JSON_TYPE, [b"{", broken()]),
        json_reply(b"<html>"),
        json_reply(chat_reply(USAGES[0]) | {"error": {"message": "no", "code": "server_error"}}),
        json_reply({"error": {"message": "no stream_options"}}, 400),
    ]
    return chance.choice([whole, late, _streamed(chance), _streamed(chance), chance.choice(bad)])


@pytest.mark.parametrize("seed", range(10))
def test_no_limit_is_passed_by_calls_one_after_another_and_the_records_tell_what_was_spent(seed: int) -> None:
    chance = random.Random(seed)
    statuses: Counter[int | None] = Counter()
    with World(CONFIG) as world:
        world.store.is_strict = True
        for _ in range(STEPS):
            settled = world.store.settled["whole:usd:all"]
            world.upstream.default = lambda: _answered(chance)
            played = world.call(_asked(chance))  # which checks that nothing is held any more
            statuses[played.record.status] += 1
            spent_nusd = world.store.settled["whole:usd:all"] - settled
            if all(attempt.uncounted is None for attempt in played.record.attempts):
                assert spent_nusd == (played.cost_nusd or 0)
            else:
                assert spent_nusd >= (played.cost_nusd or 0)
            world.pass_time(chance.choice([0.1, 1, 120]))
    assert statuses[200]


@pytest.mark.parametrize("seed", range(10))
def test_no_limit_is_passed_by_calls_at_once(seed: int) -> None:
    chance = random.Random(seed)
    statuses: Counter[int | None] = Counter()
    with World(CONFIG) as world:
        world.store.is_strict = True
        for _ in range(STEPS // 10):
            played = world.together([_asked(chance) for _ in range(10)], lambda: _answered(chance))
            statuses.update(one.record.status for one in played)
            assert world.store.settled["whole:usd:all"] >= sum(one.cost_nusd or 0 for one in played)
            world.pass_time(chance.choice([1, 120]))
    assert statuses[200]
    assert statuses[429]
