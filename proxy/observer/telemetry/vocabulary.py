"""Which words spans use for what the conventions disagree about: by telemetry.genai_semconv, openinference and cost_attribute.

Here: the choice, and the tables of names that follow from it. Not here: values, spans.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from proxy.observer.telemetry import names
from proxy.observer.telemetry.name_rows import On

Semconv = Literal["v1_41", "latest", "both"]
FieldNames = tuple[tuple[str, str], ...]

_FACTS = (
    ("max_tokens", names.REQUEST_MAX_TOKENS),
    ("temperature", names.REQUEST_TEMPERATURE),
    ("top_p", names.REQUEST_TOP_P),
    ("frequency_penalty", names.REQUEST_FREQUENCY_PENALTY),
    ("presence_penalty", names.REQUEST_PRESENCE_PENALTY),
    ("seed", names.REQUEST_SEED),
    ("stop_sequences", names.REQUEST_STOP_SEQUENCES),
    ("reasoning_level", names.REQUEST_REASONING_LEVEL),
    ("output_type", names.OUTPUT_TYPE),
    ("encoding_formats", names.REQUEST_ENCODING_FORMATS),
    ("dimensions", names.EMBEDDINGS_DIMENSIONS),
    ("conversation_id", names.CONVERSATION_ID),
    ("previous_response_id", names.REQUEST_PREVIOUS_RESPONSE),
)
"""Fields of RequestFacts that are told as they are. top_k, choice_count and service_tier have rules of their own."""

_USAGE = (
    ("input_tokens", names.USAGE_INPUT),
    ("output_tokens", names.USAGE_OUTPUT),
    ("cache_read_tokens", names.USAGE_CACHE_READ),
    ("cache_write_tokens", names.USAGE_CACHE_CREATION),
    ("cache_write_tokens", names.USAGE_CACHE_WRITE),
    ("reasoning_tokens", names.USAGE_REASONING),
    ("input_image_tokens", names.USAGE_IMAGE_INPUT),
    ("input_audio_tokens", names.USAGE_AUDIO_INPUT),
    ("output_image_tokens", names.USAGE_IMAGE_OUTPUT),
    ("output_audio_tokens", names.USAGE_AUDIO_OUTPUT),
    ("cache_read_audio_tokens", names.USAGE_AUDIO_CACHE_READ),
)
"""Fields of Usage that have an attribute. Text has none of its own: it is what the others leave."""

_GENERATIONS = {row.name: row.generation for row in names.ATTRIBUTES}


class Vocabulary(msgspec.Struct, frozen=True):
    """The words of one observer."""

    cost_attribute: str = "gen_ai.usage.cost"
    semconv: Semconv = "v1_41"
    openinference: bool = False

    @property
    def latest(self) -> bool:
        """Whether the names that came after core 1.41 are told."""
        return self.semconv != "v1_41"


def _tables(fields: FieldNames) -> dict[Semconv, FieldNames]:
    def table(semconv: Semconv) -> FieldNames:
        return tuple((field, name) for field, name in fields if semconv == "both" or _GENERATIONS[name] in ("", semconv))

    return {"v1_41": table("v1_41"), "latest": table("latest"), "both": table("both")}


_SAME_COST = frozenset({names.COST_USD, names.LLM_COST})

FACT_ATTRIBUTES = _tables(_FACTS)
USAGE_ATTRIBUTES = _tables(_USAGE)


def collides(cost_attribute: str) -> str | None:
    """The name that `cost_attribute` can't stand beside, if any: equal, or one is a parent of the other when dotted keys become objects.

    Names that hold the same cost may be equal to it.
    """
    if cost_attribute in _SAME_COST:
        return None
    return next((row.name for row in names.ATTRIBUTES if row.on & On.SPAN and nests(row.name, cost_attribute)), None)


def nests(name: str, other: str) -> bool:
    """Whether two dotted names can't both be keys of one span: they are equal, or one is the other's parent. `<…>` is any part."""
    return all(part == theirs or "<" in part + theirs for part, theirs in zip(name.split("."), other.split("."), strict=False))
