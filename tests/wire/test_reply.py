"""What a whole reply tells, also when only its ends were kept; and error bodies, both ways."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.call import Usage
from proxy.wire.endpoints import KINDS
from proxy.wire.error_bodies import MAX_MESSAGE_BYTES
from proxy.wire.reply import ErrorFacts, ReplyFacts, error_body, error_body_for, read_error, read_reply

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
READ = Usage(input_tokens=10, output_tokens=5)
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
    ],
    "usage": USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_1",
}
END_BYTES = 64 << 10


def read(kind: str, body: object, status: int = 200) -> ReplyFacts:
    return read_reply(kind, status, json.dumps(body).encode(), b"")


def read_ends(kind: str, body: object) -> ReplyFacts:
    raw = json.dumps(body).encode()
    assert len(raw) > 2 * END_BYTES
    return read_reply(kind, 200, raw[:END_BYTES], raw[-END_BYTES:])


def test_chat() -> None:
    assert read("chat", CHAT) == ReplyFacts(
        usage=READ,
        response_id="chatcmpl-1",
        response_model="gpt-4o-2024-08-06",
        finish_reasons=["stop", "length"],
        service_tier="default",
        system_fingerprint="fp_1",
        ended=True,
    )


def test_anthropic() -> None:
    body = {
        "id": "msg_1",
        "type": "message",
        "model": "claude-x",
        "content": [{"type": "text", "text": "x"}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5, "service_tier": "priority"},
    }
    assert read("messages", body) == ReplyFacts(
        usage=Usage(input_tokens=7, output_tokens=5, cache_read_tokens=4),
        response_id="msg_1",
        response_model="claude-x",
        finish_reasons=["tool_use"],
        service_tier="priority",
        ended=True,
    )


def test_gemini() -> None:
    body: dict[str, object] = {
        "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 3, "totalTokenCount": 5},
        "modelVersion": "gemini-x",
        "responseId": "g1",
    }
    expected = ReplyFacts(Usage(input_tokens=2, output_tokens=3), "g1", "gemini-x", ["STOP"], ended=True)
    assert read("gemini", body) == expected
    assert read("gemini", [{"candidates": []}, body]) == expected  # streamGenerateContent without alt=sse


def test_responses() -> None:
    body: dict[str, object] = {
        "id": "resp_1",
        "object": "response",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "error": None,
        "model": "gpt-5",
        "output": [],
        "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    }
    assert read("responses", body) == ReplyFacts(
        Usage(input_tokens=3, output_tokens=4), "resp_1", "gpt-5", ["max_output_tokens"], ended=True
    )


@pytest.mark.parametrize(("status", "pending"), [("queued", True), ("in_progress", True), ("completed", False), ("failed", False)])
def test_a_background_response_is_still_to_come(status: str, pending: bool) -> None:
    assert read("responses", {"id": "resp_1", "status": status, "background": True, "usage": None}).background_pending == pending


def test_a_failed_response_is_an_error_inside_200() -> None:
    facts = read("responses", {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "It broke."}})
    assert facts.error == ErrorFacts("server_error", None, "It broke.")
    assert read("responses", {"id": "r", "status": "failed", "error": None}).error == ErrorFacts(type="response_failed")


@pytest.mark.parametrize(
    ("kind", "body", "usage"),
    [
        ("chat", {"choices": [], "x_groq": {"usage": USAGE}}, READ),
        ("chat", {"choices": [], "usage": USAGE, "x_groq": {"id": "x"}}, READ),
        ("other", {"text": "x", "meta": {"billed_units": {"input_tokens": 10, "output_tokens": 5}}}, READ),
        (
            "realtime",
            {"type": "response.done", "response": {"status": "completed", "usage": {"input_tokens": 10, "output_tokens": 5}}},
            READ,
        ),
        ("embeddings", {"object": "list", "data": [], "usage": {"prompt_tokens": 10, "total_tokens": 10}}, Usage(input_tokens=10)),
        ("transcription", {"text": "x", "usage": {"type": "duration", "seconds": 3}}, Usage(audio_seconds=3.0)),
        ("chat", {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}, None),
        ("chat", {"choices": [], "usage": None}, None),
    ],
)
def test_usage_wherever_it_stands(kind: str, body: object, usage: Usage | None) -> None:
    assert read(kind, body).usage == usage


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        ("chat", {"error": {"message": "no", "type": "server_error", "code": 500}}, ErrorFacts("500", "server_error", "no")),
        ("chat", {"error": "no"}, ErrorFacts(message="no")),
        ("other", {"ok": False, "traceback": "Traceback…\nValueError: bad"}, ErrorFacts(None, "petals_error", "ValueError: bad")),
        ("chat", {"object": "error", "message": "no", "type": "t", "code": "3000"}, ErrorFacts("3000", "t", "no")),
        ("messages", {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}, ErrorFacts(None, "overloaded_error", "no")),
    ],
)
def test_an_error_inside_200_is_an_error(kind: str, body: object, error: ErrorFacts) -> None:
    assert read(kind, body).error == error


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("responses", {"id": "r", "status": "completed", "error": None}),
        ("other", {"id": "ftjob-1", "object": "fine_tuning.job", "error": {"code": "x", "message": "y"}}),
        ("other", {"id": "ftjob-1", "error": {"code": None, "message": None}}),
        ("other", {"ok": True, "outputs": "x"}),
        ("other", {"message": {"role": "assistant", "content": "error"}}),
    ],
)
def test_a_resource_that_holds_an_error_is_no_failed_call(kind: str, body: object) -> None:
    assert read(kind, body).error is None


def test_usage_at_the_end_of_a_large_body() -> None:
    body = {**CHAT, "choices": [{"index": 0, "message": {"content": 'x"usage":{' * 20_000}, "finish_reason": "stop"}], "usage": USAGE}
    facts = read_ends("chat", body)
    assert (facts.usage, facts.response_id, facts.service_tier, facts.ended) == (READ, "chatcmpl-1", "default", True)


def test_usage_at_the_start_of_a_large_body() -> None:
    facts = read_ends("chat", {"id": "c", "usage": USAGE, "choices": [{"index": 0, "message": {"content": "é" * 100_000}}]})
    assert (facts.usage, facts.response_id) == (READ, "c")


def test_usage_of_large_embeddings() -> None:
    body = {"object": "list", "data": [{"embedding": [0.125] * 40_000}], "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    facts = read_ends("embeddings", body)
    assert facts.usage == Usage(input_tokens=8)


def test_members_named_usage_further_in_are_not_the_usage() -> None:
    inner = {"usage": {"prompt_tokens": 999, "completion_tokens": 999}}
    facts = read_ends("chat", {"id": "c", "pad": "x" * 200_000, "usage": USAGE, "tools": [inner, {"type": "object", "properties": inner}]})
    assert facts.usage == READ


def test_a_large_body_that_was_cut_has_not_ended() -> None:
    raw = json.dumps({"id": "c", "pad": "x" * 200_000}).encode()
    facts = read_reply("chat", 200, raw[:END_BYTES], raw[-END_BYTES:-3])
    assert not facts.ended
    assert facts.response_id == "c"


@pytest.mark.parametrize(
    ("kind", "ended"), [("chat", False), ("embeddings", False), ("speech", True), ("transcription", True), ("other", True)]
)
def test_only_where_json_is_due_is_its_absence_a_cut(kind: str, ended: bool) -> None:
    assert read_reply(kind, 200, b'{"id": "x", "cho', b"").ended == ended


def test_lone_surrogates_in_the_content_do_not_hide_the_usage() -> None:
    body = rb'{"id":"c\ud800","choices":[{"index":0,"message":{"content":"\ud83d"}}],"usage":{"prompt_tokens":10,"completion_tokens":5}}'
    facts = read_reply("chat", 200, body, b"")
    assert (facts.usage, facts.response_id) == (READ, "c?")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from([200, 429, 500]),
    st.binary(max_size=40) | st.text(max_size=40).map(str.encode),
    st.binary(max_size=20),
)
def test_garbage_never_raises(kind: str, status: int, head: bytes, tail: bytes) -> None:
    read_reply(kind, status, head, tail)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["usage", "index", "finish_reason", "error", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
MEMBERS = st.sampled_from(
    [
        *("id", "type", "model", "usage", "usageMetadata", "x_groq", "meta", "choices", "candidates"),
        *("error", "response", "message", "delta", "status", "ok", "incomplete_details"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.dictionaries(MEMBERS, JUNK, max_size=4))
def test_members_of_any_type_never_raise(kind: str, body: dict[str, object]) -> None:
    raw = json.dumps(body).encode()
    read_reply(kind, 200, raw, b"")
    read_reply(kind, 200, raw[:10], raw[-10:])
    read_reply(kind, 400, raw, b"")


def test_deeply_nested_json_never_raises() -> None:
    facts = read_reply("chat", 200, b'{"usage":' + b"[" * 50_000, b"")
    assert facts.usage is None
    assert read_error(b"[" * 50_000) is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"error": {"message": "m", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}},
            ErrorFacts("insufficient_quota", "insufficient_quota", "m"),
        ),
        ({"error": {"message": "m", "type": "BadRequestError", "param": None, "code": 400}}, ErrorFacts("400", "BadRequestError", "m")),
        ({"error": {"code": "429", "message": "m", "innererror": {"code": "x"}}}, ErrorFacts("429", None, "m")),
        ({"statusCode": 401, "message": "Access denied"}, ErrorFacts("401", None, "Access denied")),
        (
            {"object": "error", "message": "m", "type": "invalid_request_error", "param": None, "code": None},
            ErrorFacts(None, "invalid_request_error", "m"),
        ),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "r"},
            ErrorFacts(None, "overloaded_error", "m"),
        ),
        ({"error": "model 'x' not found"}, ErrorFacts(message="model 'x' not found")),
        ([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], ErrorFacts("400", "INVALID_ARGUMENT", "m")),
        ({"detail": [{"loc": ["body"], "msg": "é"}]}, ErrorFacts(message='[{"loc": ["body"], "msg": "é"}]')),
        ({"message": {"detail": "m"}}, ErrorFacts(message='{"detail": "m"}')),
        ({}, None),
        ([], None),
        ("text", None),
        ({"error": {}}, None),
        ({"error": 5}, None),
    ],
)
def test_errors_in_every_envelope(body: object, error: ErrorFacts | None) -> None:
    assert read_error(json.dumps(body).encode()) == error
    assert read("chat", body, 400).error == error


def test_error_messages_are_cut_between_characters() -> None:
    error = read_error(json.dumps({"error": {"message": "é" * 2000}}).encode())
    assert error is not None
    assert error.message == "é" * (MAX_MESSAGE_BYTES // 2)


def test_error_body_is_openais_envelope_with_all_members() -> None:
    assert json.loads(error_body("m", "t", None, None)) == {"error": {"message": "m", "type": "t", "param": None, "code": None}}
    assert read_error(error_body("m", "t", "c", "p")) == ErrorFacts("c", "t", "m")


def test_anthropic_clients_get_their_own_envelope() -> None:
    assert json.loads(error_body_for("messages", "m", "postern_refused", "no_route", None)) == {
        "type": "error",
        "error": {"type": "permission_error", "message": "m"},
    }
    assert error_body_for("chat", "m", "t", "c", "p") == error_body("m", "t", "c", "p")


COUNTS = st.integers(0, 50) | st.none()
DETAILS = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens", "odd"]), COUNTS, max_size=2)
CHATS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["c", ""]),
        "object": st.sampled_from(["chat.completion", "error", "other"]),
        "model": st.sampled_from(["m", "", None]),
        "choices": st.lists(st.fixed_dictionaries({"finish_reason": st.sampled_from(["stop", "length", None])}), max_size=2).map(
            lambda choices: [{"index": index, **choice} for index, choice in enumerate(choices)][::-1]
        ),
        "usage": st.none()
        | st.fixed_dictionaries(
            {"prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS},
            optional={"prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS, "cost": st.just(0.1)},
        ),
    },
    optional={
        "error": st.none() | st.just({"message": "no"}),
        "service_tier": st.just("flex"),
        "status": st.just("x"),
        "usageMetadata": st.just({}),
    },
)


@settings(max_examples=300, deadline=None)
@given(CHATS)
def test_quick_reading_of_a_chat_reply_is_the_thorough_one(body: dict[str, object]) -> None:
    raw = json.dumps(body).encode()
    thorough = read_reply("completions", 200, raw, b"")
    assert read_reply("chat", 200, raw, b"") == thorough
