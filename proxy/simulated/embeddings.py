"""Embeddings and moderations, simulated.

A vector is the sum of its words' signs at places that the word's digest chooses: texts with words in common lie close together.
Here: both dialects, pure. Not here: pace and faults.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from proxy.simulated.completions import input_count, input_tokens
from proxy.simulated.counting import text_of
from proxy.simulated.mistakes import JsonObject

DEFAULT_DIMENSIONS = 1536
MODEL_DIMENSIONS = {"text-embedding-3-large": 3072}
PLACES_PER_WORD = 8

CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip

_WORD = re.compile(r"\w+")

EmbeddingInput = str | list[str | int | list[int]]


class EmbeddingRequest(msgspec.Struct, frozen=True):
    """The fields of POST /v1/embeddings that change the reply."""

    model: str
    input: EmbeddingInput
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=8192)] | None = None


class ModerationRequest(msgspec.Struct, frozen=True):
    """The fields of POST /v1/moderations that change the reply."""

    input: str | list[str | JsonObject]
    model: str = "omni-moderation-latest"


def embeddings_body(body: EmbeddingRequest, model: str) -> JsonObject:
    """The `list` of embeddings, with usage."""
    dimensions = body.dimensions or MODEL_DIMENSIONS.get(model, DEFAULT_DIMENSIONS)
    vectors = [embed(text, dimensions) for text in _inputs(body.input)]
    as_text = body.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": encode_vector(vector) if as_text else vector}
        for index, vector in enumerate(vectors)
    ]
    tokens = max(1, input_tokens(body.input))
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def embed(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 for a text, always the same one."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        digest = hashlib.sha256(word.encode()).digest()
        for place in range(0, 4 * PLACES_PER_WORD, 4):
            number = int.from_bytes(digest[place : place + 4], "big")
            vector[(number >> 1) % dimensions] += 1.0 if number & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else [1.0, *vector[1:]]


def encode_vector(vector: list[float]) -> str:
    """The vector as base64 of little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def moderation_body(body: ModerationRequest, model: str, reply_id: str) -> JsonObject:
    """The moderation object: a text that names a category is flagged for it."""
    inputs: list[str | JsonObject] = [body.input] if isinstance(body.input, str) else body.input
    texts = [entry if isinstance(entry, str) else text_of(entry.get("text")) for entry in inputs]
    return {"id": reply_id, "model": model, "results": [_moderate(text.lower()) for text in texts]}


def _moderate(text: str) -> JsonObject:
    found = {category: all(word in text for word in category.split("/")) for category in CATEGORIES}
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": {category: 0.98 if hit else 0.01 for category, hit in found.items()},
        "category_applied_input_types": {category: ["text"] for category in CATEGORIES},
    }


def _inputs(given: EmbeddingInput) -> list[str]:
    if isinstance(given, str):
        return [given]
    if input_count(given) == 1 and not isinstance(given[0], str):
        return [" ".join(map(str, given))]
    return [entry if isinstance(entry, str) else " ".join(map(str, entry)) for entry in given if not isinstance(entry, int)]
