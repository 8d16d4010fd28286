"""Which endpoint a method and path are: its route, operation, kind, and whether a call to it is billed.

Here: the table of endpoints, models named in paths. Not here: bodies, routing rules.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import unquote

import msgspec

CACHED_PATHS = 256  # an app has a few dozen; paths with an id in them would only fill it
KINDS = (
    "chat", "completions", "responses", "embeddings", "messages", "gemini", "images", "transcription", "speech", "moderations",
    "realtime", "models", "other",
)  # fmt: skip
_WILDCARD = "{"


class Endpoint(msgspec.Struct, frozen=True):
    """What is known about a call from its method and path alone."""

    route: str  # template of low cardinality; /{path} if unknown
    operation: str = ""  # gen_ai.operation.name
    api_type: str = ""  # openai.api.type: chat_completions | responses
    kind: str = "other"  # one of KINDS
    json_body: bool = False  # the body is JSON and says which model is meant, unless the path does
    billable: bool = False  # False: a read, or a call whose usage is billed elsewhere or not at all
    streams: bool = False  # the path alone asks for a stream


UNKNOWN = Endpoint("/{path}", billable=True)
UNKNOWN_READ = Endpoint("/{path}")
_READS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})

_PREFIXES: tuple[tuple[str, ...], ...] = (
    ("openai", "deployments", "{deployment}", "extensions"),
    ("openai", "deployments", "{deployment}"),
    ("v1beta", "openai"),
    ("openai", "v1"),
    ("compatibility", "v1"),
    ("api", "v1"),
    ("openai",),
    ("v1",),
    ("v2",),
    (),
)
"""What may stand before an endpoint's own path, longest first."""

_ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "chat/completions"): Endpoint("", "chat", "chat_completions", "chat", json_body=True, billable=True),
    ("POST", "completions"): Endpoint("", "text_completion", "", "completions", json_body=True, billable=True),
    ("POST", "responses"): Endpoint("", "chat", "responses", "responses", json_body=True, billable=True),
    ("GET", "responses"): Endpoint("", "chat", "responses", "responses", billable=True),  # over WebSocket
    ("POST", "responses/compact"): Endpoint("", "chat", "responses", "responses", json_body=True, billable=True),
    ("POST", "responses/input_tokens"): Endpoint("", "count_tokens", "responses", json_body=True),
    ("GET", "responses/{id}"): Endpoint("", "fetch_response", "responses", "responses"),
    ("POST", "responses/{id}/cancel"): Endpoint("", "fetch_response", "responses", "responses"),  # it tells what was used by then
    ("POST", "embeddings"): Endpoint("", "embeddings", "", "embeddings", json_body=True, billable=True),
    ("POST", "messages"): Endpoint("", "chat", "", "messages", json_body=True, billable=True),
    ("POST", "messages/count_tokens"): Endpoint("", "count_tokens", json_body=True),
    ("POST", "images/generations"): Endpoint("", "image_generation", "", "images", json_body=True, billable=True),
    ("POST", "images/edits"): Endpoint("", "image_generation", "", "images", billable=True),
    ("POST", "images/variations"): Endpoint("", "image_generation", "", "images", billable=True),
    ("POST", "audio/speech"): Endpoint("", "speech", "", "speech", json_body=True, billable=True),
    ("POST", "audio/transcriptions"): Endpoint("", "transcription", "", "transcription", billable=True),
    ("POST", "audio/translations"): Endpoint("", "translation", "", "transcription", billable=True),
    ("POST", "moderations"): Endpoint("", "", "", "moderations", json_body=True, billable=True),
    ("POST", "rerank"): Endpoint("", "rerank", json_body=True, billable=True),
    ("GET", "realtime"): Endpoint("", "chat", "", "realtime", billable=True),
    ("POST", "videos"): Endpoint("", billable=True),
    ("POST", "videos/{id}/remix"): Endpoint("", billable=True),
    ("GET", "models"): Endpoint("", kind="models"),
    ("GET", "models/{model}"): Endpoint("", kind="models"),
    ("POST", "api/chat"): Endpoint("", "chat", json_body=True, billable=True),
    ("POST", "api/generate"): Endpoint("", "text_completion", json_body=True, billable=True),
    ("POST", "api/embed"): Endpoint("", "embeddings", json_body=True, billable=True),
    ("GET", "api/tags"): Endpoint(""),
}
"""By method and path after the prefix. The route is filled in from both."""

_FREE_ROUTES = (
    "chat/completions", "chat/completions/{id}", "chat/completions/{id}/messages",
    "responses/{id}", "responses/{id}/cancel", "responses/{id}/input_items",
    "models/{model}", "files", "files/{id}", "files/{id}/content", "uploads", "uploads/{id}/parts", "uploads/{id}/complete",
    "batches", "batches/{id}", "batches/{id}/cancel", "messages/batches", "messages/batches/{id}", "messages/batches/{id}/results",
    "videos", "videos/{id}", "videos/{id}/content", "conversations", "conversations/{id}", "conversations/{id}/items",
    "vector_stores", "vector_stores/{id}", "vector_stores/{id}/files", "fine_tuning/jobs", "fine_tuning/jobs/{id}",
    "realtime/sessions", "realtime/client_secrets", "realtime/transcription_sessions",
)  # fmt: skip
"""Paths that bill nothing by themselves, whatever the method, unless _ENDPOINTS says so."""

_GEMINI_VERSIONS = frozenset({"v1", "v1beta", "v1alpha"})
_GEMINI_ACTIONS: dict[str, Endpoint] = {
    "generateContent": Endpoint("", "generate_content", "", "gemini", json_body=True, billable=True),
    "streamGenerateContent": Endpoint("", "generate_content", "", "gemini", json_body=True, billable=True, streams=True),
    "embedContent": Endpoint("", "embeddings", "", "gemini", json_body=True, billable=True),
    "batchEmbedContents": Endpoint("", "embeddings", "", "gemini", json_body=True, billable=True),
    "countTokens": Endpoint("", "count_tokens", "", json_body=True),
}

_BY_LENGTH: dict[int, list[tuple[str, tuple[str, ...], Endpoint]]] = {}
for (_method, _template), _endpoint in _ENDPOINTS.items():
    _BY_LENGTH.setdefault(_template.count("/") + 1, []).append((_method, tuple(_template.split("/")), _endpoint))
for _template in _FREE_ROUTES:
    _BY_LENGTH.setdefault(_template.count("/") + 1, []).append(("", tuple(_template.split("/")), Endpoint("")))


@lru_cache(CACHED_PATHS)
def endpoint_of(method: str, path: str) -> Endpoint:
    """The endpoint that a method and a path (no query) mean; an unknown POST is billable, so that nothing slips by unmetered."""
    segments = tuple(unquote(segment) for segment in path.split("/") if segment)  # servers read %63hat as chat
    gemini = _gemini(method, segments)
    if gemini is not None:
        return gemini
    for prefix in _PREFIXES:
        if _matches(prefix, segments[: len(prefix)]):
            found = _lookup(method, segments[len(prefix) :])
            if found is not None:
                return msgspec.structs.replace(found[1], route="/" + "/".join(prefix + found[0]))
    return UNKNOWN_READ if method in _READS else UNKNOWN


def model_in_path(path: str) -> str | None:
    """The model that the path itself names: an Azure deployment or a Gemini model."""
    segments = [segment for segment in path.split("/") if segment]
    if len(segments) > 3 and segments[:2] == ["openai", "deployments"]:
        return unquote(segments[2])
    if len(segments) == 3 and segments[0] in _GEMINI_VERSIONS and segments[1] == "models" and ":" in segments[2]:
        return unquote(segments[2].rpartition(":")[0])
    return None


def _gemini(method: str, segments: tuple[str, ...]) -> Endpoint | None:
    if method != "POST" or len(segments) != 3 or segments[0] not in _GEMINI_VERSIONS or segments[1] != "models":
        return None
    model, _, action = segments[2].rpartition(":")
    endpoint = _GEMINI_ACTIONS.get(action) if model else None
    if endpoint is None:
        return None
    return msgspec.structs.replace(endpoint, route=f"/{segments[0]}/models/{{model}}:{action}")


def _lookup(method: str, segments: tuple[str, ...]) -> tuple[tuple[str, ...], Endpoint] | None:
    for row_method, template, endpoint in _BY_LENGTH.get(len(segments), ()):
        if row_method in (method, "") and _matches(template, segments):
            return template, endpoint
    return None


def _matches(template: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    if len(template) != len(segments):
        return False
    return all(want == have or want.startswith(_WILDCARD) for want, have in zip(template, segments, strict=True))
