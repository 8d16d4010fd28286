"""A route in shadow is told in the record of a call, and nothing of the call is another for it."""

from __future__ import annotations

from proxy.explain.text import as_text
from tests.pipeline.replies import GOOD
from tests.pipeline.scripts import EXPLAIN, chat
from tests.pipeline.world import Played, Request, World

TARGETS = """
targets:
  a: {provider: openai, credential: sk-a}
  b: {provider: openai, credential: sk-b}
"""
ACTING = "{name: all, to: [a]}"
SHADOW = (
    "{name: try, mode: shadow, match: {model: 'gpt-*'}, strategy: least_busy, to: [{target: b, model: gpt-5}, a], request: {drop: [user]}}"
)
SHADOWED = f"{TARGETS}routes: [{SHADOW}, {ACTING}]\n"


def played(config: str, request: Request) -> Played:
    with World(config) as world:
        return world.call(request, GOOD)


def test_call_goes_as_if_the_shadow_were_not_there() -> None:
    body: dict[str, object] = {"user": "alice"}
    beside, alone = played(SHADOWED, chat(body=body)), played(f"{TARGETS}routes: [{ACTING}]\n", chat(body=body))
    assert [(sent.url, sent.headers, sent.body) for sent in beside.sent] == [(sent.url, sent.headers, sent.body) for sent in alone.sent]
    assert beside.client.body == alone.client.body
    assert beside.client.value("x-postern-route") == "all"
    assert (beside.record.route, beside.record.decision) == ("all", "all>a/gpt-4o")
    assert beside.asked == ["a"]


def test_record_tells_what_the_shadow_would_have_done() -> None:
    record = played(SHADOWED, chat()).record
    shadow = record.shadow
    assert shadow is not None
    assert (shadow.route, shadow.decision, shadow.differs) == ("try", "try>b/gpt-5,a/gpt-4o", True)
    assert (shadow.plan.strategy, shadow.plan.steps) == ("least_busy", [("b", "gpt-5", "0 in flight"), ("a", None, "0 in flight")])
    assert record.plan is not None
    assert record.plan.steps == [("a", None, "the only target")]


def test_call_without_a_shadow_that_matches_has_none_in_its_record() -> None:
    record = played(SHADOWED, chat(body={"model": "o3-mini"})).record
    assert (record.shadow, record.plan) == (None, None)


def test_shadow_is_told_although_the_call_is_refused() -> None:
    with World(SHADOWED + "prices: {on_unknown: refuse}\n") as world:
        refused = world.call(chat(body={"model": "gpt-nobody-knows-it"}))
    assert (refused.client.status, refused.record.error_type, refused.sent) == (403, "unknown_price", [])
    assert refused.record.shadow is not None
    assert (refused.record.shadow.decision, refused.record.shadow.differs) == ("try>b/gpt-5", True)


def test_shadow_leaves_out_what_has_no_price_as_it_would_if_it_acted() -> None:
    config = SHADOWED.replace("model: gpt-5}", "model: nobody-knows-it}") + "prices: {on_unknown: refuse}\n"
    shadow = played(config, chat()).record.shadow
    assert shadow is not None
    assert (shadow.decision, shadow.differs) == ("try>a/gpt-4o", False)
    assert shadow.plan.dropped == [("b", "nobody-knows-it", "its price isn't known, and prices.on_unknown is refuse")]


def test_shadow_can_be_taken_into_force_by_a_reload() -> None:
    with World(SHADOWED) as world:
        before = world.call(chat(), GOOD).record
        world.reload(SHADOWED.replace("mode: shadow", "mode: enforce"))
        after = world.call(chat(), GOOD).record
    assert before.shadow is not None
    assert (after.route, after.shadow, after.decision) == ("try", None, before.shadow.decision)


def test_explanation_tells_the_shadow_beside_the_plan() -> None:
    with World(SHADOWED) as world:
        answer = world.call(chat(EXPLAIN)).explanation
    assert answer.shadow is not None
    assert (answer.route, answer.shadow.route, answer.shadow.differs) == ("all", "try", True)
    text = as_text(answer)
    assert "  try  matches, in shadow: the call goes on\n  all  matches\n" in text
    assert "In shadow, route try, strategy least_busy. It would have asked another one first:\n  1.  b/gpt-5  0 in flight\n" in text
