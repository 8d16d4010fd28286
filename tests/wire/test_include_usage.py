"""Asking for usage where it is taken, and hiding exactly what that adds."""

import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.schema import Provider
from proxy.wire.dialects.table import dialect
from proxy.wire.include_usage import UsageChunkFilter, asks_for_usage, inject
from proxy.wire.request import RequestFields, read_request

STREAM = RequestFields(stream=True)
TAKERS = {"openai", "azure", "vllm", "ollama", "tgi", "groq", "openrouter", "deepseek", "gemini", "anthropic", "simulated"}


def injected(body: bytes) -> bytes | None:
    return inject(body, read_request(body, "chat"))


def filtered(provider: str, *pieces: bytes) -> bytes:
    edit = UsageChunkFilter(dialect(provider))
    return b"".join([edit.feed(piece) for piece in pieces]) + edit.flush()


@pytest.mark.parametrize("provider", get_args(Provider))
def test_only_providers_that_take_the_question_are_asked(provider: str) -> None:
    assert asks_for_usage("chat", STREAM, provider) == (provider in TAKERS)
    assert asks_for_usage("completions", STREAM, provider) == (provider in TAKERS)


@pytest.mark.parametrize("kind", ["responses", "messages", "gemini", "embeddings", "speech", "other"])
def test_only_chat_and_completions_are_asked(kind: str) -> None:
    assert not asks_for_usage(kind, STREAM, "openai")


@pytest.mark.parametrize(
    "fields",
    [
        RequestFields(stream=False),
        RequestFields(stream=True, include_usage=True, has_stream_options=True),
        RequestFields(stream=True, has_data_sources=True),
    ],
)
def test_nothing_is_asked_of_whole_replies_nor_twice_nor_with_data_sources(fields: RequestFields) -> None:
    assert not asks_for_usage("chat", fields, "openai")


def test_vllm_takes_empty_options_for_the_question() -> None:
    empty = RequestFields(stream=True, has_stream_options=True)
    assert not asks_for_usage("chat", empty, "vllm")
    assert asks_for_usage("chat", empty, "openai")
    assert asks_for_usage("chat", RequestFields(stream=True, has_stream_options=True, include_usage=False), "vllm")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (b'{"stream_options":null}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{"include_usage": false}}', b'{"stream_options":{"include_usage": true}}'),
        (b'{"stream_options":{"include_obfuscation":false}}', b'{"stream_options":{"include_usage":true,"include_obfuscation":false}}'),
        (b'{"stream_options":{"include_usage":true}}', None),
        (b'{"stream_options":"x"}', None),
        (b'{"stream_options":{"include_usage":"yes"}}', None),
        (b'{"stream_options":{"continuous_usage_stats":true}}', None),
    ],
)
def test_inject(body: bytes, expected: bytes | None) -> None:
    assert injected(body) == expected


def test_null_usage_is_left_where_the_provider_sends_it_unasked() -> None:
    event = b'data: {"choices":[{"index":0}],"usage":null}\n\n'
    assert filtered("deepseek", event) == event
    assert filtered("openai", event) == b'data: {"choices":[{"index":0}]}\n\n'


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"index":0,"usage":null}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\\"usage\\":null"}}]}\n\n',
        b'data: {"choices":["usage"]}\n\n',
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
        b'data: {"choices":[{"index":0}],"usage":{"total_tokens":3}}\n\n',
        b'data: {"usage":{"total_tokens":3}}\n\n',
        b'data: {"choices":[],"usage": nul\n\n',
        b': "usage"\n\n',
        b'event: "usage"\nid: 5\n\n',
        b"data: [DONE]\n\n",
        b"\n\n\n\n",
    ],
)
def test_what_was_not_added_stays(event: bytes) -> None:
    assert filtered("openai", event) == event


@pytest.mark.parametrize(
    ("event", "left"),
    [
        (b'data:{"usage":null,"choices":[1]}\n\n', b'data:{"choices":[1]}\n\n'),
        (b'data: {"usage":null}\n\n', b"data: {}\n\n"),
        (b'data: {"a":{"b":1,"usage":null},"usage":null}\n\n', b'data: {"a":{"b":1,"usage":null}}\n\n'),
        (
            b'data: {"a":{"usage":null} , "usage" : null ,"b":"\\"usage\\":null"}\n\n',
            b'data: {"a":{"usage":null}  ,"b":"\\"usage\\":null"}\n\n',
        ),
        (b'id: 1\ndata: {"a":1,"usage":null}\n\n', b'id: 1\ndata: {"a":1}\n\n'),
        (b'data: {"a":1,\ndata: "usage":null,\ndata: "b":2}\n\n', b'data: {"a":1\ndata: ,\ndata: "b":2}\n\n'),
        (b'data: {"a":1,\rdata: "usage":null}\n\n', b'data: {"a":1\rdata: }\n\n'),
        (b'event: x\r\ndata: {"choices":[],\r\ndata: "usage":{"total_tokens":1}}\r\n\r\n', b""),
    ],
)
def test_added_nulls_and_chunks_go_with_their_comma_and_blank_line(event: bytes, left: bytes) -> None:
    before, after = b'data: {"x":1}\n\n', b"data: [DONE]\n\n"
    assert filtered("openai", before + event + after) == before + left + after
    for cut in range(len(event)):
        assert filtered("openai", before + event[:cut], event[cut:] + after) == before + left + after


def test_line_feed_of_a_removed_event_goes_with_it_though_it_comes_late() -> None:
    event = b'data: {"choices":[],"usage":{"total_tokens":1}}\r\n\r\n'
    edit = UsageChunkFilter(dialect("openai"))
    assert edit.feed(event[:-1]) == b""
    assert edit.feed(b"\ndata: [DONE]\r\n\r\n") == b"data: [DONE]\r\n\r\n"


def test_events_that_end_in_carriage_returns_are_not_held_back() -> None:
    edit = UsageChunkFilter(dialect("openai"))
    assert edit.feed(b"data: a\r\r") == b"data: a\r\r"
    assert edit.feed(b"data: b\r\n\r") == b"data: b\r\n\r"
    assert edit.feed(b"\ndata: c\r\r") == b"\ndata: c\r\r"


def test_flush_gives_an_unfinished_event_as_it_is() -> None:
    edit = UsageChunkFilter(dialect("openai"))
    assert edit.feed(b'data: {"choices":[],"usage":{}}\n\ndata: {"choices":[],"usage":nu') == b""
    assert edit.flush() == b'data: {"choices":[],"usage":nu'
    assert edit.flush() == b""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"data: x", b'data: {"a":1}', b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"[DONE]"]), max_size=14), st.data())
def test_no_byte_is_lost_or_moved_where_nothing_was_added(parts: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert filtered("openai", *pieces) == raw


def test_zero_usage_that_ollama_adds_is_removed() -> None:
    zero = b'data: {"choices":[{"text":"a"}],"usage":{"prompt_tokens":0,"total_tokens":0}}\n\n'
    real = b'data: {"choices":[{"text":"a"}],"usage":{"prompt_tokens":0,"total_tokens":2}}\n\n'
    assert filtered("ollama", zero) == b'data: {"choices":[{"text":"a"}]}\n\n'
    assert filtered("ollama", real) == real


def test_dialects_cover_every_provider_of_the_configuration() -> None:
    for provider in get_args(Provider):
        spoken = dialect(provider)
        assert spoken.otel_provider
        assert spoken.credential_header == spoken.credential_header.lower()
    with pytest.raises(KeyError):
        dialect("nobody")


def test_injected_body_is_the_clients_body_otherwise() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": '"stream_options":{}'}], "stream": True}, indent=1).encode()
    changed = injected(body)
    assert changed is not None
    assert changed.replace(b'"stream_options":{"include_usage":true},', b"", 1) == body
