"""What was said in a call, in OpenTelemetry's message format: every API, streamed or not; bounded; nothing that carries bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.records import Content
from proxy.wire.content import BEYOND_CUT, CUT, MAX_BYTES, MAX_READ_BYTES, Said, content_of
from proxy.wire.redaction import redactor
from tests.streams import STREAMS

PIXEL = "data:image/png;base64," + "A" * 100_000
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def told(kind: str, request: object, reply: object = b"", is_stream: bool = False, max_chars: int = 8192, **more: Any) -> Content | None:
    given_request = request if isinstance(request, bytes) else json.dumps(request).encode()
    given_reply = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return content_of(Said(kind, given_request, given_reply, is_stream, **more), ["span"], redactor(), max_chars)


def asked(kind: str, request: object) -> list[dict[str, Any]]:
    content = told(kind, request)
    assert content is not None
    assert content.output_messages is None
    messages: list[dict[str, Any]] = json.loads(content.input_messages or "[]")
    return messages


def answered(kind: str, reply: object, is_stream: bool = False) -> list[dict[str, Any]]:
    content = told(kind, {}, reply, is_stream)
    assert content is not None
    messages: list[dict[str, Any]] = json.loads(content.output_messages or "[]")
    return messages


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n" for event in events)


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


# ------------------------------------------------------------------------------------------------------------ requests


def test_chat_messages_with_tools_and_their_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "name": "jo"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    content = told("chat", {"messages": messages, "tools": TOOLS})
    assert content is not None
    assert json.loads(content.tool_definitions or "") == TOOLS
    assert json.loads(content.input_messages or "") == [
        {"role": "system", "parts": [text("Be brief.")]},
        {"role": "user", "parts": [text("Weather?")], "name": "jo"},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Bern"}},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
    ]


def test_pictures_and_sound_are_told_without_their_bytes() -> None:
    parts = [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "input_audio", "input_audio": {"data": "A" * 100_000, "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": PIXEL}},
        {"type": "something_new", "data": "A" * 100_000},
    ]
    assert asked("chat", {"messages": [{"role": "user", "content": parts}]})[0]["parts"] == [
        text("See"),
        {"type": "uri", "modality": "image", "uri": "https://a.example/b.png"},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""},
        {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": ""},
        {"type": "file", "modality": "document", "file_id": "file-1"},
        {"type": "blob", "modality": "document", "content": ""},
        {"type": "something_new"},
    ]


def test_responses_input_items() -> None:
    request = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": PIXEL}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "A" * 1000},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "42"},
        ],
    }
    content = told("responses", request)
    assert content is not None
    assert json.loads(content.system_instructions or "") == [text("Be brief.")]
    assert json.loads(content.input_messages or "") == [
        {"role": "user", "parts": [text("Hi"), {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
    ]
    assert asked("responses", {"input": "Hi"}) == [{"role": "user", "parts": [text("Hi")]}]


def test_anthropic_blocks() -> None:
    request = {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "A" * 1000}}]},
            {"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}}]},
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}]}]},
        ],
    }
    content = told("messages", request)
    assert content is not None
    assert json.loads(content.system_instructions or "") == [text("Be brief.")]
    assert [message["parts"] for message in json.loads(content.input_messages or "")] == [
        [{"type": "blob", "modality": "image", "mime_type": "image/gif", "content": ""}],
        [{"type": "uri", "modality": "document", "uri": "https://a.example/b.pdf"}],
        [{"type": "reasoning", "content": "hm"}, {"type": "tool_call", "id": "t", "name": "f", "arguments": {}}],
        [{"type": "tool_call_response", "id": "t", "response": [text("42")]}],
    ]


def test_gemini_contents() -> None:
    request = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}, {"inlineData": {"mimeType": "audio/mp3", "data": "A" * 1000}}]},
            {"role": "model", "parts": [{"text": "hm", "thought": True}, {"functionCall": {"name": "f", "args": {"a": 1}}}]},
            {"parts": [{"functionResponse": {"name": "f", "response": {"b": 2}}}]},
        ],
    }
    content = told("gemini", request)
    assert content is not None
    assert json.loads(content.system_instructions or "") == [text("Be brief.")]
    assert json.loads(content.input_messages or "") == [
        {"role": "user", "parts": [text("Hi"), {"type": "blob", "modality": "audio", "mime_type": "audio/mp3", "content": ""}]},
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "hm"}, {"type": "tool_call", "name": "f", "arguments": {"a": 1}}],
        },
        {"role": "user", "parts": [{"type": "tool_call_response", "response": {"b": 2}}]},
    ]


@pytest.mark.parametrize(
    ("kind", "request_body"),
    [("completions", {"prompt": "Hi"}), ("embeddings", {"input": "Hi"}), ("embeddings", {"input": ["Hi", [1, 2]]})],
)
def test_bare_prompts_are_what_the_user_said(kind: str, request_body: object) -> None:
    assert asked(kind, request_body) == [{"role": "user", "parts": [text("Hi")]}]


# ------------------------------------------------------------------------------------------------------------- replies


@pytest.mark.parametrize(
    ("kind", "reply", "messages"),
    [
        (
            "chat",
            {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}, {"finish_reason": "length"}]},
            [
                {"role": "assistant", "parts": [text("Hi")], "finish_reason": "stop"},
                {"role": "assistant", "parts": [], "finish_reason": "length"},
            ],
        ),
        (
            "completions",
            {"choices": [{"text": "Hi", "finish_reason": None}]},
            [{"role": "assistant", "parts": [text("Hi")], "finish_reason": "error"}],
        ),
        (
            "messages",
            {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}], "stop_reason": "tool_use"},
            [
                {
                    "role": "assistant",
                    "parts": [{"type": "tool_call", "id": "t", "name": "f", "arguments": {"a": 1}}],
                    "finish_reason": "tool_call",
                }
            ],
        ),
        (
            "responses",
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}],
            },
            [{"role": "assistant", "parts": [text("Hi")], "finish_reason": "length"}],
        ),
        (
            "responses",
            {"status": "completed", "output": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "not json"}]},
            [
                {
                    "role": "assistant",
                    "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": "not json"}],
                    "finish_reason": "tool_call",
                }
            ],
        ),
        (
            "gemini",
            {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "SAFETY"}]},
            [{"role": "assistant", "parts": [text("Hi")], "finish_reason": "content_filter"}],
        ),
    ],
)
def test_replies(kind: str, reply: object, messages: object) -> None:
    assert answered(kind, reply) == messages


def test_chat_stream_is_put_together_by_choice_and_tool_call() -> None:
    def chunk(index: int, delta: dict[str, object], reason: str | None = None) -> dict[str, object]:
        return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}

    def call(index: int, **members: object) -> dict[str, object]:
        return {"tool_calls": [{"index": index, **members}]}

    stream = sse(
        chunk(1, {"role": "assistant", "content": "Hel"}),
        chunk(0, call(0, id="a", function={"name": "f", "arguments": ""})),
        chunk(1, {"content": "lo"}, "stop"),
        chunk(0, call(1, id="b", function={"name": "g", "arguments": "{}"})),
        chunk(0, call(0, function={"arguments": '{"x":'})),
        chunk(0, call(0, function={"arguments": "1}"}), "tool_calls"),
        b"[DONE]",
    )
    assert answered("chat", stream, is_stream=True) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "a", "name": "f", "arguments": {"x": 1}},
                {"type": "tool_call", "id": "b", "name": "g", "arguments": {}},
            ],
            "finish_reason": "tool_call",
        },
        {"role": "assistant", "parts": [text("Hello")], "finish_reason": "stop"},
    ]


def test_anthropic_stream() -> None:
    stream = sse(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    )
    assert answered("messages", stream, is_stream=True) == [
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "hm"}, {"type": "tool_call", "id": "t", "name": "f", "arguments": {"a": 1}}],
            "finish_reason": "tool_call",
        }
    ]


DELTA = {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"}
ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}


@pytest.mark.parametrize(
    ("events", "said", "reason"),
    [
        ([DELTA, {"type": "response.completed", "response": {"status": "completed", "output": [ITEM]}}], "Hello", "stop"),
        ([DELTA, {"type": "response.output_item.done", "output_index": 0, "item": ITEM}], "Hello", "error"),
        ([DELTA], "Hel", "error"),
    ],
)
def test_responses_stream_that_is_whole_or_cut(events: list[object], said: str, reason: str) -> None:
    assert answered("responses", sse(*events), is_stream=True) == [{"role": "assistant", "parts": [text(said)], "finish_reason": reason}]


def test_gemini_stream_as_events_and_as_an_array() -> None:
    chunks = [
        {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "lo"}]}, "finishReason": "STOP"}]},
    ]
    said = [{"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, text("Hello")], "finish_reason": "stop"}]
    assert answered("gemini", sse(*chunks), is_stream=True) == answered("gemini", chunks) == said


@pytest.mark.parametrize(
    "case", [case for case in STREAMS.values() if case.kind in ("chat", "messages", "responses", "gemini", "completions")]
)
def test_streams_of_providers_say_what_was_counted(case: Any) -> None:
    content = told(case.kind, {}, case.unasked, is_stream=True)
    parts = [part for message in json.loads((content and content.output_messages) or "[]") for part in message["parts"]]
    said = "".join(part.get("content", "") for part in parts)
    assert all(piece in case.text for piece in said.split())
    assert bool(parts) == bool(case.text)


# --------------------------------------------------------------------------------------------------- bounds and redaction


def test_texts_are_redacted_and_then_cut() -> None:
    content = told("completions", {"prompt": "x" * 90 + " jane@example.com " + "y" * 90}, max_chars=100)
    assert content is not None
    assert json.loads(content.input_messages or "")[0]["parts"] == [text("x" * 90 + " [REDACTED" + CUT)]


def test_what_is_half_behind_the_cut_is_not_told() -> None:
    key = "-----BEGIN " + "PRIVATE KEY-----" + "A" * 20_000
    content = told("completions", {"prompt": "x" * 90 + key}, max_chars=100)
    assert content is not None
    assert "AAAA" not in (content.input_messages or "")
    border = 100 + BEYOND_CUT
    shrunk = (PEM_SHORT * 60)[: border - 6] + "jane@example.com"  # redaction pulls what was beyond the cut before it
    content = told("completions", {"prompt": shrunk}, max_chars=100)
    assert content is not None
    assert "jane" not in (content.input_messages or "")


PEM_SHORT = "-----BEGIN " + "PRIVATE KEY-----" + "A" * 50 + "-----END PRIVATE KEY-----"


def test_arguments_tools_and_numbers_are_redacted_too() -> None:
    call = {"function": {"name": "pay", "arguments": '{"card": 4111111111111111, "to": ["jane@example.com"], "a@b.co": 5}'}}
    content = told("chat", {"messages": [{"role": "assistant", "tool_calls": [call]}], "tools": [{"description": "ask jane@example.com"}]})
    assert content is not None
    arguments = json.loads(content.input_messages or "")[0]["parts"][0]["arguments"]
    assert arguments == {"card": "[REDACTED:credit_card]", "to": ["[REDACTED:email]"], "[REDACTED:email]": 5}
    assert "jane" not in (content.tool_definitions or "")


@pytest.mark.parametrize(
    "request_body",
    [
        {"messages": [{"role": "user", "content": "a" * 8000} for _ in range(1000)]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "\x01" * 8000}] * 1000}]},
        {"messages": [{"role": "user", "content": "é"} for _ in range(100_000)]},
        {"messages": [{"role": "user", "content": "x"}], "tools": [{"n": list(range(500_000))}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": json.dumps({str(n): n for n in range(99_999)})}}]}]},
    ],
)
def test_content_is_bounded_whatever_is_said(request_body: object) -> None:
    content = told("chat", request_body, {"choices": [{"message": {"content": "The answer"}, "finish_reason": "stop"}]})
    assert content is not None
    parts = [content.input_messages, content.output_messages, content.system_instructions, content.tool_definitions]
    assert sum(len(part.encode()) for part in parts if part) < 2 * MAX_BYTES
    assert "The answer" in (content.output_messages or "")
    for part in parts:
        assert part is None or json.loads(part)


def test_request_too_long_to_be_read_says_so() -> None:
    kept = asked("chat", {"messages": [{"role": "user", "content": "a" * MAX_READ_BYTES}]})
    assert kept == [{"role": "system", "parts": [text(CUT)]}]


def test_last_messages_are_kept_where_there_is_no_room_for_all() -> None:
    messages = [{"role": "user", "content": f"{number} " + "a" * 8000} for number in range(100)]
    kept = asked("chat", {"messages": messages})
    assert kept[0]["parts"] == [text(CUT)]
    assert kept[-1]["parts"][0]["content"].startswith("99 ")
    assert len(kept) > 25


def test_stream_that_was_cut_says_so() -> None:
    content = told("chat", {}, sse({"choices": [{"index": 0, "delta": {"content": "Hi"}}]}), is_stream=True, reply_is_cut=True)
    assert content is not None
    assert json.loads(content.output_messages or "")[0]["parts"] == [text("Hi"), text(CUT)]


DEEP = b'{"messages":[{"role":"user","content":' + b'[{"type":"tool_result","content":' * 400 + b"1" + b"}]" * 400 + b"}]}"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"messages":5}', b'{"messages":[5,{"content":{"type":[]}}]}', DEEP])
def test_garbage_is_absent(body: bytes) -> None:
    for kind in ("chat", "completions", "responses", "messages", "gemini", "embeddings", "other"):
        assert told(kind, body, body) is None or body == DEEP
        assert told(kind, body, b"data: " + body + b"\n\n", is_stream=True) is None or body == DEEP


def test_lone_surrogates_are_no_obstacle() -> None:
    content = told("completions", b'{"prompt": "a\\ud800b"}')
    assert content is not None
    assert json.loads(content.input_messages or "")[0]["parts"] == [text("a?b")]


WORDS = [
    "text", "tool_use", "image_url", "function_call", "message", "response.completed", "response.output_item.done",
    "response.output_text.delta", "assistant", "tool",
]  # fmt: skip
KEYS = [
    "messages", "content", "role", "type", "text", "tool_calls", "function", "arguments", "choices", "delta", "index", "message",
    "input", "output", "item", "output_index", "response", "candidates", "parts", "contents", "content_block", "image_url", "url",
    "source", "finish_reason", "status", "incomplete_details", "tools", "system", "instructions", "functionCall", "summary",
    "partial_json", "thinking", "reasoning_content",
]  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(WORDS)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, JSON, st.sampled_from(["chat", "completions", "responses", "messages", "gemini", "embeddings"]))
def test_no_json_makes_it_raise(request_body: object, reply: object, kind: str) -> None:
    told(kind, request_body, reply)
    told(kind, request_body, sse(reply, {"type": "response.output_item.done", "output_index": 0, "item": reply}), is_stream=True)
