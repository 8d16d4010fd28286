"""The most that a prompt can hold: nothing that a provider counts may be missed, in any dialect."""

from __future__ import annotations

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.observer.encodings import CL100K, O200K, PER_FUNCTION_TOKENS, TokenCounter
from proxy.observer.prompt_text import read_prompt
from proxy.policy.bounds import HIDDEN_TOKENS, HIDDEN_TOOL_TOKENS
from proxy.wire import prompt_size as words
from proxy.wire.prompt_size import MAX_VISITED, PromptSize, prompt_size

PNG = "iVBORw0KGgo" * 100
DATA_URL = f"data:image/png;base64,{PNG}"
WAV = "UklGRiQA" * 100
FUNCTION = {"type": "function", "function": {"name": "f", "description": "type image_url", "parameters": {"type": "object"}}}


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


def size(body: object) -> PromptSize:
    return prompt_size(encoded(body))


def user(*parts: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


TEXT_ONLY = [
    {"messages": [{"role": "user", "content": "an image of a file, a document and audio"}]},
    user({"type": "text", "text": 'what is an "image_url"?'}),
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}], "instructions": "be brief"},
    {"contents": [{"parts": [{"text": "hello"}]}], "generationConfig": {"maxOutputTokens": 5}},
    {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}], "messages": []},
    {"prompt": "once upon a time", "suffix": "the end"},
    {"input": ["one", "two"], "model": "text-embedding-3-small"},
    {"input": [[1, 2], [3, 4]]},
    user({"type": "tool_use", "name": "draw", "input": {"type": "image", "image_url": "x" * 100}}),
    user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words " * 50}}),
    {"previous_response_id": None, "conversation": None, "plugins": [], "input": "hello"},
    {"input": [{"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA"}]},
    {"messages": [{"role": "user", "images": []}]},
]


@pytest.mark.parametrize("body", TEXT_ONLY)
def test_text_is_at_most_the_bodys_bytes(body: object) -> None:
    assert size(body) == PromptSize(len(encoded(body)))


@pytest.mark.parametrize(
    "body",
    [
        user({"type": "image_url", "image_url": {"url": DATA_URL}}),
        user({"type": "image_url", "image_url": DATA_URL}),
        user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA_URL}}),
        user({"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "data": DATA_URL}}]}),
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": DATA_URL}]}]},
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": DATA_URL}}]},
        {"input": [{"type": "image_generation_call", "id": "ig_1", "result": DATA_URL}]},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": DATA_URL}}]}]},
        {"contents": [{"parts": [{"inline_data": {"mime_type": "image/jpeg", "data": DATA_URL}}]}]},
        {"messages": [{"role": "user", "content": "see", "images": [DATA_URL]}]},
        {"model": "llava", "prompt": "see", "images": [DATA_URL]},
    ],
)
def test_an_image_counts_as_one_and_its_bytes_are_no_text(body: object) -> None:
    assert size(body) == PromptSize(len(encoded(body)) - len(DATA_URL), images=1)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "image_file", "image_file": {"file_id": "file-1"}},
    ],
)
def test_an_image_that_is_only_named_counts_as_one(part: object) -> None:
    found = size(user({"type": "text", "text": "x"}, part, part))
    assert (found.images, found.is_whole) == (2, True)


@pytest.mark.parametrize(
    "body",
    [
        user({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}),
        {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": WAV}}]}]},
    ],
)
def test_sound_is_measured_in_bytes(body: object) -> None:
    assert size(body) == PromptSize(len(encoded(body)) - len(WAV), audio_bytes=len(WAV) * 3 // 4)


@pytest.mark.parametrize(
    "body",
    [
        user({"type": "file", "file": {"file_id": "file-1"}}),
        user({"type": "file", "file": {"file_data": "JVBERi0=", "filename": "a.pdf"}}),
        {"input": [{"content": [{"type": "input_file", "file_url": "https://example.com/a.pdf"}]}]},
        user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}),
        user({"type": "document", "source": {"type": "file", "file_id": "file-1"}}),
        user({"type": "container_upload", "file_id": "file-1"}),
        user({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}),
        user({"type": "video_of_tomorrow", "video": {"data": "AAAA"}}),
        user({"type": "audio_url", "audio_url": {"url": "https://example.com/a.mp3"}}),
        {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]},
        {"contents": [{"parts": [{"fileData": {"fileUri": "https://example.com/a", "mimeType": "image/png"}}]}]},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}]}]},
        {"cachedContent": "cachedContents/1", "contents": []},
        {"previous_response_id": "resp_1", "input": "and then?"},
        {"conversation": "conv_1", "input": "and then?"},
        {"conversation": {"id": "conv_1"}, "input": "and then?"},
        {"prompt": {"id": "pmpt_1", "version": "2"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
        {"messages": [], "data_sources": [{"type": "azure_search"}]},
        {"messages": [], "web_search_options": {}, "plugins": [{"id": "web"}]},
        {"messages": [], "mcp_servers": [{"url": "https://example.com"}]},
        {"messages": [], "container": "container_1"},
        {"messages": [], "context_management": {"edits": [{"type": "compact_20260112"}]}},
    ],
)
def test_what_is_not_in_the_body_is_seen(body: object) -> None:
    assert not size(body).is_whole


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "mcp", "server_url": "https://example.com"},
        {"type": "image_generation"},
        {"type": "browser_search"},
        {"googleSearch": {}},
        {"functionDeclarations": [], "codeExecution": {}},
        {"type": "a_tool_of_tomorrow"},
    ],
)
def test_tools_that_the_provider_runs_bring_in_more_than_the_body_has(tool: object) -> None:
    assert not size({"messages": [], "tools": [FUNCTION, tool]}).is_whole


@pytest.mark.parametrize(
    ("tools", "hidden"),
    [
        ([FUNCTION], 1),
        ([FUNCTION] * 20, 1),
        ([{"type": "function", "name": "f", "parameters": {}}], 1),
        ([{"type": "custom", "name": "f"}], 1),
        ([{"name": "f", "input_schema": {"type": "object"}}], 1),
        ([{"functionDeclarations": [{"name": "f"}]}], 1),
        ([{"type": "bash_20250124", "name": "bash"}], 2),
        ([FUNCTION, {"type": "computer_20250124", "name": "computer"}, {"type": "text_editor_20250728", "name": "edit"}], 3),
        ([], 0),
    ],
)
def test_tools_of_the_client_are_text_and_what_the_provider_writes_for_them(tools: list[object], hidden: int) -> None:
    body = {"messages": [], "tools": tools}
    assert size(body) == PromptSize(len(encoded(body)), hidden_tools=hidden)


@pytest.mark.parametrize(("prompt", "prompts"), [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2], [3]], 3), ([], 1)])
def test_completions_answer_each_of_several_prompts(prompt: object, prompts: int) -> None:
    assert size({"prompt": prompt}).prompts == prompts


WALKED_FOR = {*words._ELSEWHERE, *words._IMAGES, *words._SOUNDS, *words._FILES, *words._BLOBS, *words._UPLOADS, words._DOCUMENT}


@pytest.mark.parametrize("name", sorted(WALKED_FOR | {"images", "audio", "tools", "functions", "prompt"}))
def test_no_body_is_taken_for_text_that_has_a_word_the_walk_looks_for(name: str) -> None:
    assert words._MORE_THAN_TEXT.search(encoded({"role": "user", name: 1}))
    assert words._MORE_THAN_TEXT.search(encoded({"type": name}))


def test_nothing_hides_behind_escapes() -> None:
    image = rb'{"messages":[{"content":[{"type":"\u0069mage_url","\u0069mage_url":{"url":"https://a/b"}}]}]}'
    assert b'"image' not in image
    assert prompt_size(image).images == 1
    assert not prompt_size(rb'{"\u0070revious_response_id":"resp_1"}').is_whole


def test_a_body_that_is_no_object_may_hold_anything() -> None:
    assert not prompt_size(b'["image"]').is_whole
    assert not prompt_size(b'{"image').is_whole


def test_a_body_too_large_to_look_through_may_hold_anything() -> None:
    parts: list[object] = [{"type": "text"}] * (MAX_VISITED + 1)
    assert not size(user({"type": "image_url"}, *parts)).is_whole


# ------------------------------------------------------------------------------------------------- against a tokenizer

ODD_TEXTS = ["Hello, world", "日本語のテキスト", "😀👩‍👩‍👧", '\u0000\n\t\\"', "ﷺ", "a" * 50, "def f(x): return x"]
TEXTS = st.text() | st.sampled_from(ODD_TEXTS)
PARTS = st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS))
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
MESSAGES = st.fixed_dictionaries({"role": ROLES, "content": TEXTS | PARTS}, optional={"name": TEXTS})


def tool(name: str, text: str) -> dict[str, object]:
    parameters = {"type": "object", "properties": {name: {"type": "string", "enum": [text]}}}
    return {"type": "function", "function": {"name": name, "description": text, "parameters": parameters}}


TOOLS = st.builds(tool, st.from_regex(r"[a-z_]{1,20}", fullmatch=True), TEXTS)
BODIES = st.fixed_dictionaries({"messages": st.lists(MESSAGES, max_size=6)}, optional={"tools": st.lists(TOOLS, max_size=4)})


@cache
def counter() -> TokenCounter:
    return TokenCounter()


@settings(deadline=None)
@given(BODIES, st.booleans(), st.sampled_from([("gpt-4o", O200K), ("gpt-4", CL100K)]))
def test_no_tokenizer_finds_more_tokens_than_the_bound(body: object, escaped: bool, model: tuple[str, str]) -> None:
    raw = json.dumps(body, ensure_ascii=escaped, separators=(",", ":")).encode("utf-8", "replace")
    prompt = read_prompt(raw)
    found = prompt_size(raw)
    name, encoding = model
    tokens = 0
    if prompt is not None:
        tokens = counter().count(name, prompt.texts) + prompt.known_tokens + prompt.functions * PER_FUNCTION_TOKENS[encoding]
    assert found.is_whole
    assert tokens <= found.text_bytes + HIDDEN_TOKENS + found.hidden_tools * HIDDEN_TOOL_TOKENS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.sampled_from(["type", "content", "parts", "image_url", "inlineData", "data"]), inner)
    ),
)
NAMES = st.sampled_from(["messages", "input", "contents", "tools", "images", "prompt", "plugins"])


@given(st.dictionaries(NAMES, JSON))
def test_no_body_is_refused_here(body: object) -> None:
    raw = encoded(body)
    found = prompt_size(raw)
    assert 0 <= found.text_bytes <= len(raw)
    assert found.prompts > 0
