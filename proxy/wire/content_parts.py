"""Parts of messages in the shape of OpenTelemetry's GenAI messages, from those of any dialect.

Here: one part, one content, tool calls. Not here: whole requests and replies (content_request, content_reply), redaction (content).
What carries bytes (pictures, sound, files) is told by its kind: the bytes themselves are dropped. Never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from proxy.wire.json_text import parse

Part = dict[str, Any]
Message = dict[str, Any]

MAX_PARTS = 256  # of one content: what is beyond is left out

_TEXTS = {
    "text": "text", "input_text": "text", "output_text": "text", "summary_text": "text", "reasoning_text": "text", "refusal": "refusal",
}  # fmt: skip
"""Types of parts that are a text, and the member it stands in."""

_THOUGHTS = frozenset({"thinking", "reasoning", "summary_text", "reasoning_text"})


def text_part(text: str) -> Part:
    """A text."""
    return {"type": "text", "content": text}


def reasoning_part(text: str) -> Part:
    """What a model thought."""
    return {"type": "reasoning", "content": text}


def tool_call_part(call_id: object, name: object, arguments: object) -> Part:
    """A tool call; arguments given as JSON text are told as what they mean."""
    if isinstance(arguments, str):
        parsed = parse(arguments.encode("utf-8", "replace")) if arguments else {}
        arguments = arguments if parsed is None else parsed
    return _given(type="tool_call", id=_text(call_id), name=_text(name), arguments=arguments)


def tool_response_part(call_id: object, response: object) -> Part:
    """What a tool answered: a text, or parts, or any JSON."""
    if isinstance(response, list):
        response = parts_of(response)
    return _given(type="tool_call_response", id=_text(call_id), response=response)


def parts_of(content: object) -> list[Part]:
    """The parts of a content: a string, one part, or a list of both."""
    items = content[:MAX_PARTS] if isinstance(content, list) else [content]
    return [part for item in items for part in _parts_of_item(item)]


def _parts_of_item(item: object) -> Iterator[Part]:
    if isinstance(item, str):
        yield text_part(item)
    elif isinstance(item, dict):
        yield from _typed(item) if isinstance(item.get("type"), str) else _gemini(item)


def _typed(item: dict[str, Any]) -> Iterator[Part]:
    kind = item["type"]
    text = item.get(_TEXTS.get(kind, kind))
    if isinstance(text, str) and (kind in _TEXTS or kind in _THOUGHTS):
        yield reasoning_part(text) if kind in _THOUGHTS else text_part(text)
    elif kind in _READERS:
        yield _READERS[kind](item)
    else:
        yield {"type": kind}


def _tool_use(item: dict[str, Any]) -> Part:
    return tool_call_part(item.get("id"), item.get("name"), item.get("input"))


def _tool_result(item: dict[str, Any]) -> Part:
    return tool_response_part(item.get("tool_use_id"), item.get("content"))


def _image(item: dict[str, Any]) -> Part:
    """OpenAI's pictures: a URL, below `url` or not, or the id of a file; Anthropic's: a source."""
    url = item.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    return by_address("image", url) if isinstance(url, str) else _sourced(item, "image")


def _document(item: dict[str, Any]) -> Part:
    return _sourced(item, "document")


def _sourced(item: dict[str, Any], modality: str) -> Part:
    inner = item.get("source") or item.get("file")
    source: dict[str, Any] = inner if isinstance(inner, dict) else item
    if isinstance(source.get("text"), str):
        return text_part(source["text"])
    if isinstance(source.get("file_id"), str):
        return {"type": "file", "modality": modality, "file_id": source["file_id"]}
    address = source.get("url") or source.get("file_url")
    if isinstance(address, str):
        return by_address(modality, address)
    return blob_part(modality, source.get("media_type"))


def _audio(item: dict[str, Any]) -> Part:
    inner = item.get("input_audio")
    form = inner.get("format") if isinstance(inner, dict) else None
    return blob_part("audio", f"audio/{form}" if isinstance(form, str) else None)


_READERS: dict[str, Callable[[dict[str, Any]], Part]] = {
    "tool_use": _tool_use,
    "server_tool_use": _tool_use,
    "tool_result": _tool_result,
    "image_url": _image,
    "input_image": _image,
    "image": _image,
    "input_audio": _audio,
    "file": _document,
    "input_file": _document,
    "document": _document,
}
"""By the type of a part that isn't a text."""


def _gemini(item: dict[str, Any]) -> Iterator[Part]:
    """A part without a type: Gemini tells it by which member is there."""
    text = item.get("text")
    if isinstance(text, str):
        yield reasoning_part(text) if item.get("thought") is True else text_part(text)
    for name, read in _GEMINI_READERS.items():
        inner = item.get(name)
        if isinstance(inner, dict):
            yield read(inner)


def _gemini_file(inner: dict[str, Any]) -> Part:
    modality = _modality(inner.get("mimeType"))
    address = inner.get("fileUri")
    return by_address(modality, address) if isinstance(address, str) else blob_part(modality, inner.get("mimeType"))


_GEMINI_READERS: dict[str, Callable[[dict[str, Any]], Part]] = {
    "functionCall": lambda inner: tool_call_part(inner.get("id"), inner.get("name"), inner.get("args")),
    "functionResponse": lambda inner: tool_response_part(inner.get("id"), inner.get("response")),
    "inlineData": _gemini_file,
    "fileData": _gemini_file,
}


def by_address(modality: str, address: str) -> Part:
    """A picture, sound or file by its address; what a data: address holds is dropped."""
    if address[:5].lower() == "data:":
        return blob_part(modality, address[5:133].partition(",")[0].partition(";")[0])
    return {"type": "uri", "modality": modality, "uri": address}


def blob_part(modality: str, mime_type: object) -> Part:
    """Bytes that were part of a message, without them."""
    return _given(type="blob", modality=modality, mime_type=_text(mime_type), content="")


def _modality(mime_type: object) -> str:
    family = mime_type.partition("/")[0] if isinstance(mime_type, str) else ""
    return family if family in ("image", "video", "audio") else "document"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _given(**members: object) -> Part:
    return {name: value for name, value in members.items() if value is not None}
