"""How much a prompt holds: its text, its token numbers, whether an image stands in it.

Here: one walk through the members of a JSON body that are sent to the model, in any dialect. Not here: its fields (request.py), how many
tokens that makes (policy/estimates.py), its content for telemetry (content.py).
What carries bytes (pictures, sound, files) isn't text, so it isn't counted: the figure is rather too low than too high.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.wire.json_text import NOT_JSON, parse

MAX_VISITED = 200_000
"""Values looked at, the last messages first: what is beyond isn't counted, so that no body can hold up other calls."""

_IMAGES = frozenset({"image_url", "input_image", "image", "image_file", "computer_screenshot"})
"""Types of parts that are an image: OpenAI's, Anthropic's."""
_TEXTS = frozenset({"text", "content", "output", "refusal", "thinking", "reasoning", "reasoning_content", "arguments", "input"})
"""Members of messages and parts that are read by the model where they are a string."""
_FREE = frozenset({"input", "args", "arguments", "response"})
"""Members that hold what a tool is called with or answers: any JSON, in which `type` and `image_url` mean nothing to us."""
_BLOBS = frozenset({"inlineData", "inline_data", "fileData", "file_data"})
"""Gemini's members for bytes and files."""


class Prompt(msgspec.Struct, frozen=True):
    """What a prompt holds."""

    text_chars: int = 0
    token_ids: int = 0  # tokens given by their numbers, as completions and embeddings take them
    has_images: bool = False


class _Members(msgspec.Struct, gc=False):
    """The members of a body that are sent to the model; the others aren't even decoded."""

    messages: Any = None
    input: Any = None
    prompt: Any = None
    suffix: Any = None
    contents: Any = None
    content: Any = None
    requests: Any = None
    system: Any = None
    instructions: Any = None
    systemInstruction: Any = None  # noqa: N815 - as Gemini spells it
    system_instruction: Any = None
    images: Any = None
    tools: Any = None
    functions: Any = None


_decode = msgspec.json.Decoder(_Members).decode
_SAID = tuple(name for name in _Members.__struct_fields__ if name not in ("images", "tools", "functions"))


def read_prompt(body: bytes) -> Prompt:
    """What the prompt of a JSON body holds; nothing, if it isn't one. Never raises."""
    try:
        members = _decode(body)
    except NOT_JSON:
        document = parse(body)
        if not isinstance(document, dict):
            return Prompt()
        members = msgspec.convert({name: document[name] for name in _Members.__struct_fields__ if name in document}, _Members)
    walk = _Walk()
    walk.parts([value for name in _SAID if (value := getattr(members, name)) is not None])
    walk.free([members.tools, members.functions])
    return Prompt(walk.text_chars, walk.token_ids, walk.has_images or _is_list_of_texts(members.images))


def may_hold_image(body: bytes) -> bool:
    """Whether a walk is worth its while: every way to write an image has that word in it, if only as letters that are escaped."""
    return b"image" in body or b"\\u" in body


class _Walk:
    """One walk, without recursion: a body may be nested as deeply as its parser takes it."""

    def __init__(self) -> None:
        self.text_chars = 0
        self.token_ids = 0
        self.has_images = False
        self._left = MAX_VISITED

    def parts(self, roots: list[Any]) -> None:
        """Messages and their parts; a string counts in a list, and as a member that is a text."""
        stack = roots
        while stack and self._left > 0:
            self._left -= 1
            item = stack.pop()
            if isinstance(item, str):
                self.text_chars += len(item)
            elif isinstance(item, dict):
                self._part(item, stack)
            elif isinstance(item, list):
                self._list(item, stack)

    def free(self, root: Any) -> None:
        """Any JSON that is sent as text: all of its strings, its keys too."""
        stack = [root]
        while stack and self._left > 0:
            self._left -= 1
            item = stack.pop()
            if isinstance(item, str):
                self.text_chars += len(item)
            elif isinstance(item, dict):
                self.text_chars += sum(map(len, item))
                stack.extend(item.values())
            elif isinstance(item, list):
                self._list(item, stack)

    def _list(self, items: list[Any], stack: list[Any]) -> None:
        if items and type(items[0]) is int:
            self.token_ids += len(items)
        else:
            stack.extend(items[-self._left :])

    def _part(self, part: dict[str, Any], stack: list[Any]) -> None:
        kind = part.get("type")
        if isinstance(kind, str) and kind in _IMAGES:
            self.has_images = True
            return
        for name, value in part.items():
            if isinstance(value, str):
                if name in _TEXTS:
                    self.text_chars += len(value)
            elif name in _FREE:
                self.free(value)
            elif name in _BLOBS:
                self.has_images |= _is_image(value)
            elif name == "images":
                self.has_images |= _is_list_of_texts(value)
            elif isinstance(value, dict | list):
                stack.append(value)


def _is_image(blob: Any) -> bool:
    kind = (blob.get("mimeType") or blob.get("mime_type")) if isinstance(blob, dict) else None
    return isinstance(kind, str) and kind.startswith("image/")


def _is_list_of_texts(value: Any) -> bool:
    """Ollama's images: base64, beside the text of a message or of the whole prompt."""
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], str)
