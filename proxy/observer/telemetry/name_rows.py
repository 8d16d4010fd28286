"""What the tables of names are made of: a row for each attribute, metric and event, as the documentation prints it.

Here: the types of rows. Not here: the names themselves (names.py), the documentation (document.py).
"""

from __future__ import annotations

from enum import Flag, auto
from typing import Literal

import msgspec

AttributeType = Literal["string", "string[]", "int", "double", "boolean", "any"]
Instrument = Literal["counter", "histogram", "gauge", "up-down counter"]
Generation = Literal["", "v1_41", "latest"]
"""Which value of telemetry.genai_semconv sends it, beside `both`; "" = any."""


class On(Flag):
    """Where an attribute may stand."""

    SERVER = auto()  # the span of a call
    INFERENCE = auto()  # the CLIENT span of an attempt: chat, text_completion, generate_content, and the operations without a convention
    EMBEDDINGS = auto()  # the CLIENT span of an attempt at embeddings
    FETCH = auto()  # the CLIENT span of fetch_response
    HTTP = auto()  # the CLIENT span of a call that is no operation
    EVENT = auto()  # an event on a span
    LOG = auto()  # a log record
    METRIC = auto()

    BILLED = INFERENCE | EMBEDDINGS
    OPERATION = INFERENCE | EMBEDDINGS | FETCH
    CLIENT = INFERENCE | EMBEDDINGS | FETCH | HTTP
    SPAN = SERVER | CLIENT


class AttributeRow(msgspec.Struct, frozen=True):
    """One attribute."""

    name: str  # `<…>` stands for a part that varies
    type: AttributeType
    on: On
    meaning: str
    convention: str
    generation: Generation = ""


class MetricRow(msgspec.Struct, frozen=True):
    """One metric."""

    name: str
    instrument: Instrument
    unit: str
    meaning: str
    boundaries: tuple[float, ...] = ()
    generation: Generation = ""


class EventRow(msgspec.Struct, frozen=True):
    """One event, of a span or as a log record."""

    name: str
    where: str
    meaning: str
