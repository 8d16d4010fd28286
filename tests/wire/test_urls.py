"""Where a client's path lands at a target, and which paths land nowhere."""

from __future__ import annotations

import pytest

from proxy.errors import BadRequest
from proxy.wire.urls import Base, join, origin_form, parse_base


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.openai.com/v1", Base("https://api.openai.com", "/v1", "https", "api.openai.com", 443)),
        ("http://llm:8000", Base("http://llm:8000", "", "http", "llm", 8000)),
        ("http://llm/", Base("http://llm", "", "http", "llm", 80)),
        ("http://[::1]:8000/a/b/", Base("http://[::1]:8000", "/a/b", "http", "::1", 8000)),
    ],
)
def test_a_base_url_is_taken_apart(base_url: str, expected: Base) -> None:
    assert parse_base(base_url) == expected


@pytest.mark.parametrize(
    ("base_url", "target", "expected"),
    [
        ("https://api.openai.com/v1", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("https://x.example/base/openai", "/v1/models?a=b", "https://x.example/base/openai/models?a=b"),
        ("https://x.example/base", "/v1", "https://x.example/base"),
        ("https://x.example/base", "/v1?a=b", "https://x.example/base?a=b"),
        ("http://llm:8000", "/v1/chat/completions", "http://llm:8000/v1/chat/completions"),
        ("https://x.example/base", "/v1beta/models/m:generateContent", "https://x.example/v1beta/models/m:generateContent"),
        ("https://x.example/base", "/v10/x", "https://x.example/v10/x"),
        ("https://x.example/base", "//evil.example/x", "https://x.example//evil.example/x"),
        ("https://x.example/base", "/", "https://x.example/"),
    ],
)
def test_v1_stands_for_the_base_and_any_other_path_for_itself(base_url: str, target: str, expected: str) -> None:
    assert join(parse_base(base_url), target) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/models", "/v1/models"),
        ("/v1/models/gpt-4.1?x=../y", "/v1/models/gpt-4.1?x=../y"),
        ("/v1/files/a%2Fb%20c", "/v1/files/a%2Fb%20c"),
        ("/v1/files/..a/b..", "/v1/files/..a/b.."),
        ("/v1/\u00e9", "/v1/\u00e9"),
        ("http://elsewhere.example:1/v1/models?x=1", "/v1/models?x=1"),
        ("https://elsewhere.example", "/"),
    ],
)
def test_a_target_is_its_path_and_query_as_they_were_sent(target: str, expected: str) -> None:
    assert origin_form(target) == expected


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../admin",
        "/v1/./x",
        "/v1/..",
        "/v1/.",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/..%2fadmin",
        "/v1/%2e%2e",
        "http://elsewhere.example/v1/../admin",
    ],
)
def test_a_path_that_climbs_out_of_the_base_is_refused(target: str) -> None:
    with pytest.raises(BadRequest, match="dot segments"):
        origin_form(target)


@pytest.mark.parametrize("target", ["elsewhere.example:443", "*", "", "ftp://x/y", "http://[::1/v1", "v1/models"])
def test_what_is_no_path_is_refused(target: str) -> None:
    with pytest.raises(BadRequest, match="not a path"):
        origin_form(target)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadRequest, match="UTF-8"):
        origin_form("/v1/\udcff")
