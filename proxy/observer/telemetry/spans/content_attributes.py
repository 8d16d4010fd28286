"""Captured content as attributes of an attempt's CLIENT span: gen_ai's JSON texts, and OpenInference's flattened messages.

Here: the shapes and their bound: a span has at most MAX_ATTRIBUTES, the newest messages are what stays. Not here: capture, redaction.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from proxy.observer.telemetry import names
from proxy.observer.telemetry.spans.attribute_values import MAX_ATTRIBUTES, Attributes
from proxy.observer.telemetry.vocabulary import Vocabulary
from proxy.records import AttemptRecord, CallRecord, Content, decisive_attempt

JSON_TYPE = "application/json"
_RESERVED = 1  # for the mark that something was left out
_IMAGE = "image"
_TOOL_CALL, _TOOL_RESPONSE = "tool_call", "tool_call_response"


class Part(msgspec.Struct):
    """A part of a message, of any kind. Source: wire.md A4."""

    type: str
    content: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    modality: str | None = None
    uri: str | None = None


class Message(msgspec.Struct):
    """A message of gen_ai.input.messages or gen_ai.output.messages."""

    role: str
    parts: list[Part] = []
    name: str | None = None


_messages = msgspec.json.Decoder(list[Message])
_parts = msgspec.json.Decoder(list[Part])


def content_texts(record: CallRecord, attempt: AttemptRecord) -> dict[str, str]:
    """The captured JSON texts by attribute; the output only for the attempt whose reply it is."""
    content = record.content
    if content is None:
        return {}
    texts = {
        names.INPUT_MESSAGES: content.input_messages,
        names.OUTPUT_MESSAGES: content.output_messages if attempt is decisive_attempt(record) else None,
        names.SYSTEM_INSTRUCTIONS: content.system_instructions,
        names.TOOL_DEFINITIONS: content.tool_definitions,
    }
    return {name: text for name, text in texts.items() if text is not None}


def put_content(attributes: Attributes, record: CallRecord, attempt: AttemptRecord, vocabulary: Vocabulary) -> None:
    """Set what was captured for spans. Texts are as long as the gate left them; sets a mark where messages had to be left out."""
    content = record.content
    if content is None or "span" not in content.to:
        return
    texts = content_texts(record, attempt)
    attributes.update(texts)
    if vocabulary.openinference:
        _put_openinference(attributes, texts, content)


def _put_openinference(attributes: Attributes, texts: dict[str, str], content: Content) -> None:
    _put_value(attributes, names.INPUT_VALUE, names.INPUT_TYPE, texts.get(names.INPUT_MESSAGES))
    _put_value(attributes, names.OUTPUT_VALUE, names.OUTPUT_TYPE_OF_VALUE, texts.get(names.OUTPUT_MESSAGES))
    inputs = _system_message(content.system_instructions) + _read(content.input_messages)
    room = MAX_ATTRIBUTES - _RESERVED - len(attributes)
    outputs = _newest(names.LLM_OUTPUT_MESSAGES, _read(texts.get(names.OUTPUT_MESSAGES)), room)
    room -= sum(map(len, outputs.told))
    inputs_told = _newest(names.LLM_INPUT_MESSAGES, inputs, room)
    for message in (*inputs_told.told, *outputs.told):
        attributes.update(message)
    if inputs_told.is_cut or outputs.is_cut:
        attributes[names.CONTENT_TRUNCATED] = True


def _put_value(attributes: Attributes, name: str, type_name: str, text: str | None) -> None:
    if text is not None:
        attributes[name], attributes[type_name] = text, JSON_TYPE


def _read(text: str | None) -> list[Message]:
    """The messages; none where the text isn't such a list, which the JSON attribute beside still tells as it is."""
    if text is None:
        return []
    try:
        return [part for message in _messages.decode(text) for part in _one_response_each(message)]
    except (msgspec.DecodeError, RecursionError):
        return []


def _one_response_each(message: Message) -> list[Message]:
    """OpenInference has one tool's response a message."""
    responses = [part for part in message.parts if part.type == _TOOL_RESPONSE]
    if not responses:
        return [message]
    rest = [part for part in message.parts if part.type != _TOOL_RESPONSE]
    said = [Message(message.role, rest, message.name)] if rest else []
    return said + [Message(message.role, [response], message.name) for response in responses]


def _system_message(text: str | None) -> list[Message]:
    if text is None:
        return []
    try:
        return [Message("system", _parts.decode(text))]
    except (msgspec.DecodeError, RecursionError):
        return []


class _Told(msgspec.Struct, frozen=True):
    told: list[dict[str, str]]
    is_cut: bool


def _newest(prefix: str, messages: list[Message], room: int) -> _Told:
    """The attributes of as many of the newest messages as there is room for, numbered from 0 in their order."""
    kept: list[list[tuple[str, str]]] = []
    for message in reversed(messages):
        fields = list(_fields(message))
        room -= len(fields)
        if room < 0:
            break
        kept.append(fields)
    told = [{f"{prefix}.{n}.message.{name}": value for name, value in fields} for n, fields in enumerate(reversed(kept))]
    return _Told(told, len(kept) < len(messages))


def _fields(message: Message) -> Iterator[tuple[str, str]]:
    yield "role", message.role
    if message.name is not None:
        yield "name", message.name
    calls = [part for part in message.parts if part.type == _TOOL_CALL]
    said = [part for part in message.parts if part.type != _TOOL_CALL]
    if len(said) == 1 and said[0].type in ("text", _TOOL_RESPONSE):
        yield from _only_part(said[0])
    else:
        for n, part in enumerate(said):
            yield from ((f"contents.{n}.message_content.{name}", value) for name, value in _content_fields(part))
    for n, part in enumerate(calls):
        yield from ((f"tool_calls.{n}.tool_call.{name}", value) for name, value in _tool_call_fields(part))


def _only_part(part: Part) -> Iterator[tuple[str, str]]:
    if part.type == _TOOL_RESPONSE:
        yield "content", _text(part.response)
        if part.id is not None:
            yield "tool_call_id", part.id
    else:
        yield "content", part.content or ""


def _content_fields(part: Part) -> Iterator[tuple[str, str]]:
    if part.type == "uri" and part.modality == _IMAGE:
        yield "type", _IMAGE
        yield "image.image.url", part.uri or ""
    else:
        yield "type", part.type
        if part.content is not None:
            yield "text", part.content


def _tool_call_fields(part: Part) -> Iterator[tuple[str, str]]:
    if part.id is not None:
        yield "id", part.id
    yield "function.name", part.name or ""
    yield "function.arguments", _text(part.arguments)


def _text(raw: msgspec.Raw) -> str:
    """JSON as it stands, but a string without its quotes."""
    text = bytes(raw).decode()
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text
