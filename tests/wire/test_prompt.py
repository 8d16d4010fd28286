"""What a prompt holds, in every dialect."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.prompt import MAX_VISITED, Prompt, may_hold_image, read_prompt

PNG = "iVBORw0KGgo" * 100
DATA_URL = f"data:image/png;base64,{PNG}"


def read(body: object) -> Prompt:
    return read_prompt(json.dumps(body).encode())


def user(*parts: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("body", "text_chars"),
    [
        ({"messages": [{"role": "user", "content": "four"}, {"role": "assistant", "content": "five!"}]}, 9),
        (user({"type": "text", "text": "abc"}, {"type": "text", "text": "de"}), 5),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}]}]}, 7),
        ({"messages": [{"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]}, 5),
        ({"instructions": "be nice", "input": "hello"}, 12),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]}, 5),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "42"}]}, 2),
        ({"system": "ab", "messages": [{"role": "user", "content": "c"}]}, 3),
        ({"system": [{"type": "text", "text": "ab"}]}, 2),
        (user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "ok"}]}), 2),
        (user({"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Bonn"}}), 8),
        ({"systemInstruction": {"parts": [{"text": "ab"}]}, "contents": [{"role": "user", "parts": [{"text": "cde"}]}]}, 5),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {"a": "bc"}}}]}]}, 3),
        ({"prompt": "abc", "suffix": "d"}, 4),
        ({"prompt": ["abc", "d"]}, 4),
        ({"tools": [{"name": "f", "description": "does"}]}, len("name") + 1 + len("description") + 4),
        ({"model": "gpt-4o", "user": "someone", "metadata": {"a": "b"}, "stop": ["xyz"]}, 0),
        ({"messages": [{"role": "user", "content": "日本語"}]}, 3),
        ({}, 0),
    ],
)
def test_text_is_counted_where_the_model_reads_it(body: object, text_chars: int) -> None:
    assert read(body) == Prompt(text_chars)


@pytest.mark.parametrize(
    "body",
    [
        user({"type": "image_url", "image_url": {"url": DATA_URL}}),
        user({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": DATA_URL}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": DATA_URL}}]},
        user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
        user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "url", "url": "https://a/b"}}]}),
        {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]}]},
        {"contents": [{"parts": [{"inline_data": {"mime_type": "image/jpeg", "data": PNG}}]}]},
        {"contents": [{"parts": [{"fileData": {"mimeType": "image/png", "fileUri": "https://a/b"}}]}]},
        {"messages": [{"role": "user", "images": [PNG]}]},
        {"model": "llava", "images": [PNG]},
    ],
)
def test_images_are_seen_and_their_bytes_are_no_text(body: object) -> None:
    assert read(body) == Prompt(has_images=True)
    assert may_hold_image(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        user({"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}),
        user({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PNG}", "filename": "a.pdf"}}),
        {"input": [{"content": [{"type": "input_file", "file_data": PNG}]}]},
        user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}}),
        {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": PNG}}]}]},
        {"input": [{"type": "reasoning", "encrypted_content": PNG}]},
    ],
)
def test_sound_and_files_are_neither_text_nor_images(body: object) -> None:
    assert read(body) == Prompt()


@pytest.mark.parametrize(
    "body",
    [
        user({"type": "text", "text": "see image_url and data:image/png"}),
        user({"type": "tool_use", "name": "draw", "input": {"type": "image", "image_url": "https://a/b"}}),
        {"tools": [{"name": "draw", "input_schema": {"properties": {"type": "image", "image_url": {"type": "string"}}}}]},
        {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": '{"type":"image"}'}}]},
        {"contents": [{"parts": [{"functionCall": {"name": "f", "args": {"type": "image"}}}]}]},
        {"contents": [{"parts": [{"inlineData": "image/png"}]}]},
        {"messages": [{"role": "user", "images": []}]},
    ],
)
def test_what_only_speaks_of_images_is_none(body: object) -> None:
    assert not read(body).has_images


def test_an_image_is_seen_through_escapes() -> None:
    body = rb'{"messages":[{"content":[{"type":"\u0069mage_url","image_url":{}}]}]}'.replace(b'"image_url"', rb'"\u0069mage_url"')
    assert b"image" not in body
    assert may_hold_image(body)
    assert read_prompt(body).has_images


def test_token_numbers_are_tokens() -> None:
    assert read({"prompt": [1, 2, 3]}) == Prompt(token_ids=3)
    assert read({"input": [[1, 2], [3]]}) == Prompt(token_ids=3)


def test_lone_surrogates_are_counted_as_they_are_passed() -> None:
    assert read_prompt(rb'{"messages":[{"content":"\ud800ab"}]}') == Prompt(3)


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b'{"messages":' + b"[" * 100_000, b'{"messages":5,"input":true,"tools":"x"}'])
def test_what_is_no_prompt_is_not_refused_here(body: bytes) -> None:
    assert not read_prompt(body).has_images


def test_no_body_is_walked_without_end() -> None:
    prompt = read({"messages": ["x"] * (2 * MAX_VISITED)})
    assert prompt.text_chars < MAX_VISITED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["type", "content", "parts", "input", "text"]), inner),
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "contents", "system", "tools", "images", "prompt"]), JSON))
def test_no_prompt_has_more_text_than_its_body_has_bytes(body: object) -> None:
    encoded = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    prompt = read_prompt(encoded)
    assert prompt.text_chars + prompt.token_ids <= len(encoded)
