"""One of two targets fails before anything of its reply was sent on: what the client sees, what is recorded, whom it was."""

from __future__ import annotations

import json

import pytest

from proxy.call import HeaderList, Outcome
from proxy.errors import UpstreamClosed, UpstreamGarbage
from tests.pipeline.fakes import SILENCE, Reply, Step, broken
from tests.pipeline.replies import (
    DONE,
    GOOD,
    GOOD_STREAM,
    HELLO,
    JSON_TYPE,
    NO_CONNECTION,
    SILENT,
    SSE_TYPE,
    USAGE_NUSD,
    chat_reply,
    failure,
    json_reply,
    sse,
)
from tests.pipeline.scripts import TWO_TARGETS, chat, chat_stream, posted
from tests.pipeline.world import Request, World, world_under

LONG_ERROR = Reply(500, JSON_TYPE, [b'{"error":{"code":"huge","message":"' + b"x" * (300 << 10) + b'"}}'])

world = world_under(TWO_TARGETS)


# ------------------------------------------------------------------------------------------ the other target answers

FAILURES: dict[str, tuple[Reply | Step, Outcome, str]] = {
    "refused": (NO_CONNECTION, Outcome.FAILED, "connect"),
    "no HTTP": (UpstreamGarbage("Target 'first' failed: its reply is not HTTP/1.1."), Outcome.FAILED, "invalid_reply"),
    "closed without a reply": (UpstreamClosed("Target 'first' failed."), Outcome.FAILED, "closed"),
    "silence": (SILENT, Outcome.FAILED, "timeout"),
    "silence after the head": (Reply(200, JSON_TYPE, [SILENCE]), Outcome.FAILED, "timeout"),
    "cut": (Reply(200, JSON_TYPE, [b'{"choices":[', broken()]), Outcome.FAILED, "closed"),
    "rate": (failure(429, "rate_limit_exceeded", "tokens"), Outcome.THROTTLED, "rate_limit_exceeded"),
    "rate for minutes": (failure(429, headers=[(b"Retry-After", b"600")]), Outcome.THROTTLED, "429"),
    "quota": (failure(429, None, "insufficient_quota"), Outcome.THROTTLED, "insufficient_quota"),
    "529": (failure(529, None, "overloaded_error"), Outcome.THROTTLED, "overloaded_error"),
    "500": (failure(500), Outcome.FAILED, "500"),
    "502": (Reply(502, [(b"Content-Type", b"text/html")], [b"<html>bad gateway"]), Outcome.FAILED, "502"),
    "503": (failure(503, "busy"), Outcome.FAILED, "busy"),
    "500 of any length": (LONG_ERROR, Outcome.FAILED, "huge"),
    "408": (failure(408), Outcome.FAILED, "408"),
    "401": (failure(401, "invalid_api_key"), Outcome.REJECTED, "invalid_api_key"),
    "402": (failure(402), Outcome.REJECTED, "402"),
    "403": (failure(403), Outcome.REJECTED, "403"),
    "error inside a 200": (json_reply({"error": {"message": "down", "code": 502}}), Outcome.FAILED, "502"),
    "no JSON inside a 200": (json_reply(b"<html>"), Outcome.FAILED, "invalid_reply"),
    "prompt too long": (failure(400, "context_length_exceeded"), Outcome.REJECTED, "context_length_exceeded"),
    "filtered": (failure(400, "content_filter"), Outcome.REJECTED, "content_filter"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_other_target_answers(world: World, name: str) -> None:
    script, outcome, error_type = FAILURES[name]
    played = world.call(chat(), script, GOOD)
    assert (played.client.status, played.client.body) == (200, GOOD.steps[0])
    first, second = played.record.attempts
    assert (first.target, first.outcome, first.error_type) == ("first", outcome, error_type)
    assert (second.target, second.outcome, second.error_type) == ("second", Outcome.SUCCEEDED, None)
    assert (played.record.outcome, played.record.error_type, played.record.status) == (Outcome.SUCCEEDED, None, 200)
    assert played.client.value("x-postern-attempts") == "2"
    assert played.client.value("x-postern-target") == "second"


def test_the_other_target_is_asked_at_once(world: World) -> None:
    began_ns = world.clock.monotonic_ns()
    world.call(chat(), failure(429, headers=[(b"Retry-After", b"5")]), GOOD)
    assert world.clock.monotonic_ns() == began_ns


def test_waiting_for_a_target_that_failed_is_no_overhead_of_ours(world: World) -> None:
    for script in (SILENT, Reply(200, JSON_TYPE, [SILENCE]), Reply(200, SSE_TYPE, [SILENCE])):
        assert world.call(chat_stream(), script, GOOD_STREAM).record.overhead_ns == 0


def test_each_attempt_has_the_credential_of_its_target_and_no_other() -> None:
    with World(TWO_TARGETS) as world:
        played = world.call(chat([(b"Authorization", b"Bearer sk-client"), (b"api-key", b"sk-client")]), failure(500), GOOD)
    assert [sent.values("authorization") for sent in played.sent] == [[b"Bearer sk-target"], [b"Bearer sk-other-target"]]
    assert not any(b"sk-client" in value for sent in played.sent for _, value in sent.headers)
    assert not any(b"sk-target" in value for _, value in played.sent[1].headers)
    assert [sent.url for sent in played.sent] == [f"https://{name}.example/v1/chat/completions" for name in ("first", "second")]


def test_a_client_that_brings_its_own_credential_gives_it_only_to_the_target_it_passes_to() -> None:
    with World(TWO_TARGETS.replace("credential: sk-target", "credential: passthrough")) as world:
        request = posted(
            {"model": "gpt-4o", "messages": []}, "/v1/chat/completions?key=sk-client", [(b"Authorization", b"Bearer sk-client")]
        )
        played = world.call(request, failure(401), GOOD)
    assert [sent.values("authorization") for sent in played.sent] == [[b"Bearer sk-client"], [b"Bearer sk-other-target"]]
    assert "sk-client" not in played.sent[1].url


def test_each_target_has_its_own_name_for_the_model() -> None:
    with World(TWO_TARGETS.replace("to: [first, second]", "to: [first, {target: second, model: gpt-5-mini}]")) as world:
        request = chat()
        played = world.call(request, failure(500), GOOD)
    assert played.sent[0].body == request.steps[0]
    assert json.loads(played.sent[1].body)["model"] == "gpt-5-mini"
    assert [attempt.model for attempt in played.record.attempts] == ["gpt-4o", "gpt-5-mini"]
    assert played.client.value("x-postern-model") == "gpt-5-mini"


def test_each_attempt_has_a_span_of_its_own_in_the_calls_trace() -> None:
    with World(TWO_TARGETS + "telemetry: {trust_upstream_context: [first, second]}") as world:
        played = world.call(chat(), failure(500), GOOD)
    told = [sent.values("traceparent")[0].decode().split("-")[1:3] for sent in played.sent]
    assert told == [[played.record.trace_id, attempt.span_id] for attempt in played.record.attempts]
    assert told[0] != told[1]


def test_what_a_failed_attempt_cost_counts(world: World) -> None:
    billed = json_reply(chat_reply() | {"error": {"message": "broke", "code": "server_error"}})
    played = world.call(chat(), billed, GOOD)
    assert [attempt.cost.total_nusd for attempt in played.record.attempts if attempt.cost] == [USAGE_NUSD, USAGE_NUSD]
    assert played.client.value("x-postern-cost-usd") == "0.00072"


def test_a_question_for_usage_that_only_one_target_refuses_is_put_to_the_other(world: World) -> None:
    refusal = json_reply({"error": {"message": "Unknown field stream_options."}}, 400)
    played = world.call(chat_stream(asks=False), failure(500), refusal, sse(HELLO, DONE))
    assert ["stream_options" in json.loads(sent.body) for sent in played.sent] == [True, True, False]
    assert played.asked == ["first", "second", "second"]
    again = world.call(chat_stream(asks=False), failure(500), sse(HELLO, DONE))
    assert ["stream_options" in json.loads(sent.body) for sent in again.sent] == [True, False]


def test_a_question_that_is_refused_takes_none_of_the_attempts() -> None:
    refusal = json_reply({"error": {"message": "Unknown field stream_options."}}, 400)
    with World(TWO_TARGETS.replace("attempts: 3", "attempts: 2")) as world:
        played = world.call(chat_stream(asks=False), refusal, failure(500), GOOD_STREAM)
    assert (played.asked, played.client.status) == (["first", "first", "second"], 200)


# ------------------------------------------------------------------------------------------------- nobody else is asked


@pytest.mark.parametrize("script", [failure(400, "invalid_value"), failure(404, "model_not_found"), failure(422), failure(413)])
def test_a_fault_of_the_client_is_answered_by_the_first_target(world: World, script: Reply) -> None:
    played = world.call(chat(), script)
    assert (played.client.status, played.client.body) == (script.status, script.steps[0])
    assert played.record.outcome is Outcome.REJECTED


def test_an_upload_that_was_begun_is_never_sent_twice(world: World) -> None:
    request = Request(target="/v1/files", headers=[(b"Content-Type", b"multipart/form-data; boundary=b")], steps=[b"a" * 300])
    played = world.call(request, failure(500))
    assert (played.asked, played.client.status) == (["first"], 500)


def test_an_upload_that_was_not_begun_goes_to_the_other_target(world: World) -> None:
    request = Request(target="/v1/files", headers=[(b"Content-Type", b"multipart/form-data; boundary=b")], steps=[b"a" * 300])
    played = world.call(request, NO_CONNECTION, json_reply({"id": "file-1"}))
    assert (played.asked, played.sent[1].body) == (["first", "second"], b"a" * 300)


def test_a_fault_that_the_rule_does_not_name_is_the_clients() -> None:
    with World(TWO_TARGETS.replace("{attempts: 3", "{on: [connect], attempts: 3")) as world:
        assert world.call(chat(), failure(500)).asked == ["first"]
        assert world.call(chat(), NO_CONNECTION, GOOD).asked == ["first", "second"]


def test_without_a_rule_nothing_follows_a_failure() -> None:
    with World(TWO_TARGETS.replace("to: [first, second], failover: {attempts: 3}", "to: [first]")) as world:
        played = world.call(chat(), failure(500))
    assert (played.asked, played.client.status) == (["first"], 500)


# ------------------------------------------------------------------------------------------------------ everybody fails


def test_where_all_fail_the_last_reply_is_passed_on_byte_for_byte(world: World) -> None:
    last = failure(401, "invalid_api_key", headers=[(b"x-request-id", b"req-2")])
    played = world.call(chat(), failure(500), last)
    assert (played.client.status, played.client.body, played.client.value("x-request-id")) == (401, last.steps[0], "req-2")
    assert (played.record.outcome, played.record.error_type) == (Outcome.REJECTED, "invalid_api_key")
    assert played.client.value("x-postern-attempts") == "2"


def test_where_none_gave_a_reply_the_error_names_each_and_is_not_to_be_retried(world: World) -> None:
    played = world.call(chat(), NO_CONNECTION, SILENT)
    error = played.error
    assert played.client.status == 504
    assert (error["type"], error["code"], error["param"]) == ("postern_unavailable", "all_targets_failed", "both")
    assert error["message"] == "None of 2 attempts succeeded (first: connect; second: timeout)."
    assert played.client.value("x-should-retry") == "false"
    assert (played.record.outcome, played.record.error_type) == (Outcome.FAILED, "all_targets_failed")


def test_a_single_failure_keeps_its_own_error() -> None:
    with World(TWO_TARGETS.replace("attempts: 3", "attempts: 1")) as world:
        played = world.call(chat(), NO_CONNECTION)
    assert (played.error["code"], played.client.value("x-should-retry")) == ("upstream_connect_failed", "true")


def test_a_question_for_usage_that_was_refused_is_no_failed_attempt() -> None:
    refusal = json_reply({"error": {"message": "Unknown field stream_options."}}, 400)
    with World(TWO_TARGETS.replace("attempts: 3", "attempts: 1")) as world:
        played = world.call(chat_stream(asks=False), refusal, NO_CONNECTION)
    assert played.error["code"] == "upstream_connect_failed"


# ------------------------------------------------------------------------------------------------ the last one, once more


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ([(b"Retry-After", b"3")], 3),
        ([(b"retry-after-ms", b"2500"), (b"Retry-After", b"3")], 2.5),
        ([(b"Retry-After", b"Mon, 21 Sep 2026 14:13:24 GMT")], 4),  # the fake clock starts at :20
        ([(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", b"1s500ms")], 1.5),
        ([(b"anthropic-ratelimit-tokens-remaining", b"0"), (b"anthropic-ratelimit-tokens-reset", b"2026-09-21T14:13:25Z")], 5),
    ],
)
def test_the_last_target_is_asked_again_when_it_wants_to_be(world: World, headers: HeaderList, wait_s: float) -> None:
    began_ns = world.clock.monotonic_ns()
    played = world.call(chat(), NO_CONNECTION, failure(429, headers=headers), GOOD)
    assert (played.asked, played.client.status) == (["first", "second", "second"], 200)
    assert (world.clock.monotonic_ns() - began_ns) / 1e9 == pytest.approx(wait_s, abs=0.01)
    assert played.record.overhead_ns == 0


def test_a_target_that_wants_to_be_left_alone_for_minutes_is(world: World) -> None:
    last = failure(429, headers=[(b"Retry-After", b"600")])
    began_ns = world.clock.monotonic_ns()
    played = world.call(chat(), NO_CONNECTION, last)
    assert (played.client.status, played.client.body, played.client.value("retry-after")) == (429, last.steps[0], "600")
    assert world.clock.monotonic_ns() == began_ns


def test_a_target_that_says_retries_are_of_no_use_is_believed(world: World) -> None:
    played = world.call(chat(), NO_CONNECTION, failure(500, headers=[(b"x-should-retry", b"false")]))
    assert played.asked == ["first", "second"]


def test_waits_without_a_word_of_the_target_are_short_and_random(world: World) -> None:
    waits = set()
    for _ in range(4):
        began_ns = world.clock.monotonic_ns()
        world.call(chat(), NO_CONNECTION, failure(500), GOOD)
        waits.add(world.clock.monotonic_ns() - began_ns)
        assert max(waits) <= 200_000_000
    assert len(waits) == 4


def test_retries_stop_when_their_budget_is_used_up() -> None:
    with World(TWO_TARGETS.replace("to: [first, second]", "to: [first]").replace("failures: 5", "failures: 1000")) as world:
        world.upstream.default = lambda: failure(500)
        began_ns = world.clock.monotonic_ns()
        counts = [len(world.call(chat()).record.attempts) for _ in range(30)]
        passed_s = (world.clock.monotonic_ns() - began_ns) / 1e9
    assert counts[:5] == [3] * 5
    assert sum(count - 1 for count in counts) <= 0.2 * 30 + 10 + 0.1 * passed_s
    assert counts[-5:].count(1) >= 3
