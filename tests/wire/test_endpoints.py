"""What a method and a path mean."""

import pytest

from proxy.wire.endpoints import KINDS, Endpoint, endpoint_of, model_in_path


def summary(method: str, path: str) -> tuple[str, str, str, bool]:
    found = endpoint_of(method, path)
    return found.route, found.operation, found.kind, found.billable


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", ("/v1/chat/completions", "chat", "chat", True)),
        ("/v1/chat/completions/", ("/v1/chat/completions", "chat", "chat", True)),
        ("//v1/chat/completions", ("/v1/chat/completions", "chat", "chat", True)),
        ("/chat/completions", ("/chat/completions", "chat", "chat", True)),
        ("/v1/completions", ("/v1/completions", "text_completion", "completions", True)),
        ("/v1/responses", ("/v1/responses", "chat", "responses", True)),
        ("/v1/embeddings", ("/v1/embeddings", "embeddings", "embeddings", True)),
        ("/v1/messages", ("/v1/messages", "chat", "messages", True)),
        ("/v1/images/generations", ("/v1/images/generations", "image_generation", "images", True)),
        ("/v1/audio/transcriptions", ("/v1/audio/transcriptions", "transcription", "transcription", True)),
        ("/v1/audio/translations", ("/v1/audio/translations", "translation", "transcription", True)),
        ("/v1/audio/speech", ("/v1/audio/speech", "speech", "speech", True)),
        ("/openai/v1/responses", ("/openai/v1/responses", "chat", "responses", True)),
        ("/v1beta/openai/chat/completions", ("/v1beta/openai/chat/completions", "chat", "chat", True)),
        (
            "/openai/deployments/my-gpt/chat/completions",
            ("/openai/deployments/{deployment}/chat/completions", "chat", "chat", True),
        ),
        ("/openai/deployments/ada/embeddings", ("/openai/deployments/{deployment}/embeddings", "embeddings", "embeddings", True)),
        ("/v1beta/models/gemini-x:generateContent", ("/v1beta/models/{model}:generateContent", "generate_content", "gemini", True)),
        ("/v1/models/gemini-x:streamGenerateContent", ("/v1/models/{model}:streamGenerateContent", "generate_content", "gemini", True)),
        ("/api/chat", ("/api/chat", "chat", "other", True)),
    ],
)
def test_posts_are_known_under_every_prefix(path: str, expected: tuple[str, str, str, bool]) -> None:
    assert summary("POST", path) == expected


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v1/responses/resp_1", "/v1/responses/{id}"),
        ("DELETE", "/v1/responses/resp_1", "/v1/responses/{id}"),
        ("POST", "/v1/responses/resp_1/cancel", "/v1/responses/{id}/cancel"),
        ("GET", "/v1/responses/resp_1/input_items", "/v1/responses/{id}/input_items"),
        ("POST", "/v1/responses/input_tokens", "/v1/responses/input_tokens"),
        ("POST", "/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("GET", "/v1/models", "/v1/models"),
        ("GET", "/v1/models/gpt-4o", "/v1/models/{model}"),
        ("GET", "/v1/chat/completions", "/v1/chat/completions"),
        ("POST", "/v1/files", "/v1/files"),
        ("GET", "/v1/files/file-1/content", "/v1/files/{id}/content"),
        ("POST", "/v1/batches", "/v1/batches"),
        ("POST", "/v1beta/models/gemini-x:countTokens", "/v1beta/models/{model}:countTokens"),
        ("GET", "/v1/what/ever", "/{path}"),
    ],
)
def test_reads_and_counting_are_never_billed(method: str, path: str, route: str) -> None:
    found = endpoint_of(method, path)
    assert (found.route, found.billable) == (route, False)


def test_fetching_a_response_is_an_operation_of_its_own() -> None:
    assert endpoint_of("GET", "/v1/responses/resp_1") == Endpoint("/v1/responses/{id}", "fetch_response", "responses", "responses")


def test_unknown_posts_have_a_route_of_low_cardinality_and_are_billable() -> None:
    assert endpoint_of("POST", "/some/thing/42") == Endpoint("/{path}", billable=True)


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/images/edits", "/v1/files"])
def test_multipart_endpoints_promise_no_json(path: str) -> None:
    assert not endpoint_of("POST", path).json_body


def test_websocket_upgrades_are_known() -> None:
    assert summary("GET", "/v1/realtime") == ("/v1/realtime", "chat", "realtime", True)
    assert summary("GET", "/v1/responses") == ("/v1/responses", "chat", "responses", True)


def test_gemini_says_in_the_path_that_it_streams() -> None:
    assert endpoint_of("POST", "/v1beta/models/g:streamGenerateContent").streams
    assert not endpoint_of("POST", "/v1beta/models/g:generateContent").streams


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/openai/deployments/my%20gpt/chat/completions", "my gpt"),
        ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
        ("/v1/models/gpt-4o", None),
        ("/v1/chat/completions", None),
        ("/openai/deployments/x", None),
    ],
)
def test_model_named_by_the_path(path: str, model: str | None) -> None:
    assert model_in_path(path) == model


def test_every_endpoint_has_a_known_kind() -> None:
    paths = ["/v1/chat/completions", "/v1/moderations", "/v1/models", "/x"]
    assert all(endpoint_of(method, path).kind in KINDS for method in ("GET", "POST") for path in paths)
