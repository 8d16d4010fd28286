"""What a request says about itself: the fields that routing, accounting and telemetry read.

Here: reading JSON bodies. Not here: changing them, deciding on them.
Only `model` may be refused here: any other wrong type is the provider's to refuse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from proxy.errors import InvalidField
from proxy.records import RequestFacts
from proxy.wire.json_text import NO_VALUE, NOT_JSON, clean, is_given, parse, parse_strictly

_MAX_INT64 = (1 << 63) - 1
_Int = Annotated[int, msgspec.Meta(ge=-_MAX_INT64, le=_MAX_INT64)]  # what a record can carry
_OUTPUT_TYPE_OF_KIND = {"images": "image", "speech": "speech"}
_OUTPUT_TYPE_OF_FORMAT = {"json_schema": "json", "json_object": "json", "text": "text"}
_NO_TOOLS = re.compile(rb"null|\[[ \t\n\r]*\]")
_TYPE_NAMES = {
    dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number", type(None): "null",
}  # fmt: skip


class OutputLimits(msgspec.Struct, frozen=True, gc=False):
    """How much a request lets a reply have; None: it doesn't say."""

    tokens: int | None = None  # of one choice, by the member that the endpoint's API has for it; the largest, if there are several
    old_tokens: int | None = None  # the same as a server understands it that doesn't know `max_completion_tokens`
    choices: int = 1  # that are paid for


NO_LIMITS = OutputLimits()


class RequestFields(msgspec.Struct, frozen=True):
    """What Postern reads of a request body."""

    model: str | None = None
    stream: bool = False
    include_usage: bool | None = None  # what the client asked
    has_stream_options: bool = False
    has_data_sources: bool = False  # Azure "on your data", which refuses stream_options
    background: bool = False
    facts: RequestFacts = RequestFacts()
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] = {}
    tools: bool = False  # it offers some
    response_format: str | None = None  # text | json_object | json_schema, as OpenAI calls them; None: it asks for none of these
    limits: OutputLimits = NO_LIMITS


class _Body(msgspec.Struct, gc=False):
    """The common path: one typed decode. Raw where the type varies between endpoints."""

    model: str | None = None
    stream: bool | None = None
    stream_options: msgspec.Raw = NO_VALUE
    data_sources: msgspec.Raw = NO_VALUE
    dataSources: msgspec.Raw = NO_VALUE  # noqa: N815 - as old Azure spells it
    background: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    max_tokens: _Int | None = None
    max_completion_tokens: _Int | None = None
    max_output_tokens: _Int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: _Int | None = None
    n: _Int | None = None
    best_of: _Int | None = None
    stop: str | list[str] | None = None
    stop_sequences: list[str] | None = None
    reasoning_effort: str | None = None
    reasoning: msgspec.Raw = NO_VALUE
    response_format: msgspec.Raw = NO_VALUE
    modalities: msgspec.Raw = NO_VALUE
    text: msgspec.Raw = NO_VALUE
    output_format: msgspec.Raw = NO_VALUE  # Anthropic's, and where it is going
    output_config: msgspec.Raw = NO_VALUE
    tools: msgspec.Raw = NO_VALUE
    functions: msgspec.Raw = NO_VALUE
    encoding_format: str | None = None
    dimensions: _Int | None = None
    conversation: msgspec.Raw = NO_VALUE
    previous_response_id: str | None = None
    service_tier: str | None = None
    generationConfig: msgspec.Raw = NO_VALUE  # noqa: N815 - as Gemini spells it


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_request(body: bytes, kind: str) -> RequestFields:
    """The fields of a JSON body of an endpoint of `kind`.

    Raises InvalidJson, and InvalidField if the body is no object or the model no string.
    """
    try:
        fields = _decode_body(body)
    except NOT_JSON:
        fields = _read_leniently(body)
    options = _object(fields.stream_options) if fields.stream_options else {}
    include_usage = options.get("include_usage")
    form = _gemini_format(fields) if fields.generationConfig else _format(fields)
    return RequestFields(
        model=fields.model,
        stream=fields.stream is True,
        include_usage=include_usage if isinstance(include_usage, bool) else None,
        has_stream_options=is_given(fields.stream_options),
        has_data_sources=is_given(fields.data_sources) or is_given(fields.dataSources),
        background=fields.background is True,
        facts=_gemini_facts(fields, form) if fields.generationConfig else _facts(fields, kind, form),
        user=fields.user,
        safety_identifier=fields.safety_identifier,
        metadata=fields.metadata or {},
        tools=_offers(fields.tools) or _offers(fields.functions),
        response_format=form,
        limits=_gemini_limits(fields) if fields.generationConfig else _limits(fields, kind),
    )


def read_text_member(body: bytes, name: str) -> str | None:
    """A string at the top level of a JSON object, for members that `read_request` doesn't read."""
    return _text(_member(body, name))


def read_stand_ins(body: bytes) -> list[str]:
    """The models that a body names beside `model`: in `models`, which OpenRouter asks where `model` fails, and in `Model`, as Go reads it.

    What is no text, or no list of texts, names none.
    """
    return [*(_texts(_member(body, "models")) or []), *_spelt_otherwise(body, "model")]


def _spelt_otherwise(body: bytes, name: str) -> list[str]:
    """The strings of members of this name but for upper and lower case, which Go's parser (Ollama's) takes for it."""
    try:
        found: dict[str, Any] = _decode_members(body)
    except NOT_JSON:
        document = parse(body)
        found = document if isinstance(document, dict) else {}
    same = [value for member, value in found.items() if member != name and member.casefold() == name]
    values = [parse(value) if isinstance(value, msgspec.Raw) else value for value in same]
    return [clean(value) for value in values if isinstance(value, str)]


def _member(body: bytes, name: str) -> Any:
    try:
        raw = _decode_members(body).get(name, NO_VALUE)
        return parse(raw) if raw else None
    except NOT_JSON:
        document = parse(body)
        return document.get(name) if isinstance(document, dict) else None


def _offers(tools: msgspec.Raw) -> bool:
    return bool(tools) and _NO_TOOLS.fullmatch(memoryview(tools)) is None


def _facts(fields: _Body, kind: str, form: str | None) -> RequestFacts:
    stop = fields.stop if fields.stop is not None else fields.stop_sequences
    return RequestFacts(
        max_tokens=_first(fields.max_completion_tokens, fields.max_tokens, fields.max_output_tokens),
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=fields.top_k,
        frequency_penalty=fields.frequency_penalty,
        presence_penalty=fields.presence_penalty,
        seed=fields.seed,
        choice_count=None if fields.n == 1 else fields.n,
        stop_sequences=[stop] if isinstance(stop, str) else stop,
        reasoning_level=fields.reasoning_effort or (_text(_object(fields.reasoning).get("effort")) if fields.reasoning else None),
        output_type=_output_type(fields, kind, form),
        encoding_formats=None if fields.encoding_format is None else [fields.encoding_format],
        dimensions=fields.dimensions,
        conversation_id=_conversation_id(fields.conversation) if fields.conversation else None,
        previous_response_id=fields.previous_response_id,
        service_tier=fields.service_tier,
    )


def _format(fields: _Body) -> str | None:
    """The first form that the request asks its reply to have, of those that are known."""
    return (
        (_format_type(_object(fields.response_format)) if fields.response_format else None)
        or (_format_type(_object(fields.text).get("format")) if fields.text else None)
        or (_format_type(_object(fields.output_format)) if fields.output_format else None)
        or (_format_type(_object(fields.output_config).get("format")) if fields.output_config else None)
    )


def _format_type(form: Any) -> str | None:
    kind = form.get("type") if isinstance(form, dict) else None
    return kind if isinstance(kind, str) and kind in _OUTPUT_TYPE_OF_FORMAT else None


def _output_type(fields: _Body, kind: str, form: str | None) -> str | None:
    if form is not None:
        return _OUTPUT_TYPE_OF_FORMAT[form]
    if fields.modalities and "audio" in (parse(fields.modalities) or ()):
        return "speech"
    return _OUTPUT_TYPE_OF_KIND.get(kind)


def _conversation_id(raw: msgspec.Raw) -> str | None:
    value = parse(raw)
    return _text(value.get("id") if isinstance(value, dict) else value)


def _gemini_format(fields: _Body) -> str | None:
    config = _object(fields.generationConfig)
    if config.get("responseMimeType") != "application/json":
        return None
    return "json_schema" if config.get("responseSchema") or config.get("responseJsonSchema") else "json_object"


def _gemini_facts(fields: _Body, form: str | None) -> RequestFacts:
    config = _object(fields.generationConfig)
    thinking = config.get("thinkingConfig")
    return RequestFacts(
        max_tokens=_integer(config.get("maxOutputTokens")),
        temperature=_number(config.get("temperature")),
        top_p=_number(config.get("topP")),
        top_k=_number(config.get("topK")),
        frequency_penalty=_number(config.get("frequencyPenalty")),
        presence_penalty=_number(config.get("presencePenalty")),
        seed=_integer(config.get("seed")),
        choice_count=None if config.get("candidateCount") == 1 else _integer(config.get("candidateCount")),
        stop_sequences=_texts(config.get("stopSequences")),
        reasoning_level=_text(thinking.get("thinkingLevel")) if isinstance(thinking, dict) else None,
        output_type=None if form is None else _OUTPUT_TYPE_OF_FORMAT[form],
    )


def _limits(fields: _Body, kind: str) -> OutputLimits:
    """A member of another API is no limit: whoever doesn't know it passes over it."""
    match kind:
        case "chat":
            new, old = fields.max_completion_tokens, _limit(fields.max_tokens)
            if new is None and old is None and fields.n is None:
                return NO_LIMITS
            return OutputLimits(old if new is None else _larger(new, old), old, _limit(fields.n) or 1)
        case "completions":
            old = _limit(fields.max_tokens)
            return OutputLimits(old, old, _larger(fields.n, fields.best_of) or 1)
        case "responses" | "messages":
            limit = _limit(fields.max_output_tokens if kind == "responses" else fields.max_tokens)
            return NO_LIMITS if limit is None else OutputLimits(limit, limit)
        case _:
            return NO_LIMITS


def _gemini_limits(fields: _Body) -> OutputLimits:
    """A budget for thinking is added: not every model takes it from what the reply may have."""
    config = _object(fields.generationConfig)
    thinking = config.get("thinkingConfig")
    budget = _limit(_integer(thinking.get("thinkingBudget"))) if isinstance(thinking, dict) else None
    limit = _limit(_integer(config.get("maxOutputTokens")))
    if limit is not None:
        limit += budget or 0
    return OutputLimits(limit, limit, _limit(_integer(config.get("candidateCount"))) or 1)


def _limit(value: int | None) -> int | None:
    """0 and what is below it mean no limit."""
    return value if value is not None and value > 0 else None


def _larger(one: int | None, other: int | None) -> int | None:
    return _limit(max(one or 0, other or 0))


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    value = parse(raw)
    return value if isinstance(value, dict) else {}


# The lenient pass: the typed decode failed, on a type or on JSON that msgspec doesn't take.


def _read_leniently(body: bytes) -> _Body:
    try:
        document = msgspec.json.decode(body)
    except NOT_JSON:
        document = parse_strictly(body)
    if not isinstance(document, dict):
        raise InvalidField(f"The body must be a JSON object, not {_TYPE_NAMES[type(document)]}.")
    model = document.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidField(f'"model" must be a string, not {_TYPE_NAMES[type(model)]}.', param="model")
    return msgspec.convert({name: read(document[name]) for name, read in _LENIENT.items() if name in document}, _Body)


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _texts(value: Any) -> list[str] | None:
    return [clean(item) for item in value if isinstance(item, str)] if isinstance(value, list) else None


def _text_or_texts(value: Any) -> str | list[str] | None:
    return _text(value) if isinstance(value, str) else _texts(value)


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    return value if type(value) is int and abs(value) <= _MAX_INT64 else None


def _count(value: Any) -> int | None:
    """A count as the most lenient server reads it: to pydantic, which is vLLM's, `"50"` and 50.0 are fifty."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _integer(value)


def _number(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) and math.isfinite(value) else None
    except OverflowError:  # an integer too large for a float
        return None


def _text_map(value: Any) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    return {clean(key): clean(item) for key, item in value.items() if isinstance(item, str)}


def _encoded(value: Any) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except (ValueError, RecursionError, OverflowError):  # a lone surrogate inside, or worse
        return NO_VALUE


_LENIENT_BY_TYPE: dict[object, Callable[[Any], object]] = {
    str | None: _text,
    bool | None: _flag,
    msgspec.Raw: _encoded,
    _Int | None: _integer,
    float | None: _number,
    dict[str, str] | None: _text_map,
    list[str] | None: _texts,
    str | list[str] | None: _text_or_texts,
}
_COUNTS = ("n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens")
_LENIENT = {field.name: _LENIENT_BY_TYPE[field.type] for field in msgspec.structs.fields(_Body)} | dict.fromkeys(_COUNTS, _count)
