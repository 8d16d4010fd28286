"""The most that a prompt can hold: text by its bytes, what isn't text by its number or size, and whether all of it is in the body.

Here: one search through a JSON body, and a walk through it where it may hold more than text. Not here: how many tokens that makes
(policy/bounds.py), a guess at what it probably holds (prompt.py).
Text is counted as the body's bytes, JSON and all: a token is at least one byte, and escapes make a text longer, never shorter.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from proxy.wire.json_text import parse

MAX_VISITED = 20_000
"""Values looked at; in a body that has more, anything may stand."""
MAX_PAYLOADS = 4
"""Of one part; it has one."""

_MORE_THAN_TEXT = re.compile(
    rb'"(?=[iavfcdptrmw])'  # most quotes are passed over by this alone
    rb'(?:(?:input_)?(?:image|audio|video|file)|computer|document|inline_?[dD]|prompt"|tools"|functions"|previous_response|conversation"'
    rb"|item_reference|rs_|cached_?[cC]ontent|data_?[sS]ources|web_search|plugins|mcp_|container|connectors|context_management)"
)
"""How a member or value begins that stands for more than its own text."""

_ESCAPED = b"\\u00"
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")
"""Any of those words may be written with letters that are escaped so. A lone backslash is looked for first: that is many times faster."""

_ELSEWHERE = (
    "previous_response_id", "conversation", "cachedContent", "cached_content", "data_sources", "dataSources", "web_search_options",
    "plugins", "mcp_servers", "container", "connectors", "context_management",
)  # fmt: skip
"""Members of a body that bring into the prompt what doesn't stand in the body, or let the provider ask its model more than once."""

_SAID = (
    "messages", "input", "inputs", "prompt", "contents", "content", "requests", "system", "instructions", "systemInstruction",
    "system_instruction", "documents",
)  # fmt: skip
"""Members in which messages and parts stand."""

_IMAGES = ("image", "input_image", "computer_screenshot")
"""How types of parts begin that are an image, in any API; of sound, and of what the body only refers to, as well."""
_SOUNDS = ("audio", "input_audio")
_FILES = ("file", "input_file", "container_upload", "item_reference", "video", "input_video")
_DOCUMENT = "document"
_SPELLED_OUT = frozenset({"text", "content"})
"""Types of an Anthropic document's source that are text in the body."""

_FREE = frozenset({"args", "arguments", "response"})
"""Members that hold any JSON, in which `type` means nothing to us; so does `input`, where it is an object."""
_BLOBS = frozenset({"inlineData", "inline_data"})
_UPLOADS = frozenset({"fileData", "file_data"})
_PAYLOADS = frozenset(
    {"url", "image_url", "data", "result", "file_data", "input_audio", "audio_url", "source", "inlineData", "inline_data"}
)
"""Members under which the bytes of an image or sound stand, in base64."""

_OWN_TOOLS = ("function", "custom", "local_shell", "apply_patch", "bash_", "text_editor_", "computer", "memory_")
"""How types of tools begin that the client runs itself; all others are the provider's, and what they find joins the prompt."""
_DECLARED_TOOLS = frozenset({"function", "custom"})
_DECLARATIONS = frozenset({"functionDeclarations", "function_declarations"})


class PromptSize(msgspec.Struct, frozen=True, gc=False):
    """The most that a prompt holds."""

    text_bytes: int = 0
    images: int = 0
    audio_bytes: int = 0  # of encoded sound
    hidden_tools: int = 0  # tools' worth of instructions that a provider writes into the prompt
    prompts: int = 1  # that are answered one by one, as completions do
    is_whole: bool = True  # False: a part of the prompt isn't in the body


def prompt_size(body: bytes) -> PromptSize:
    """The most that the prompt in a JSON body can hold. Never raises."""
    may_hide = b"\\" in body and _ESCAPED in body and _ESCAPED_ASCII.search(body) is not None
    if not may_hide and _MORE_THAN_TEXT.search(body) is None:
        return PromptSize(len(body))
    document = parse(body)
    if not isinstance(document, dict):
        return PromptSize(len(body), is_whole=False)
    walk = _Walk()
    walk.members(document)
    return PromptSize(
        max(0, len(body) - walk.blob_chars),
        walk.images,
        walk.audio_bytes,
        walk.hidden_tools,
        _prompts(document.get("prompt")),
        walk.is_whole,
    )


class _Walk:
    """One walk, without recursion: a body may be nested as deeply as its parser takes it."""

    def __init__(self) -> None:
        self.blob_chars = 0  # of the body, that are no text
        self.images = 0
        self.audio_bytes = 0
        self.hidden_tools = 0
        self.is_whole = True

    def members(self, document: dict[str, Any]) -> None:
        """All of a body."""
        if any(document.get(name) for name in _ELSEWHERE) or isinstance(document.get("prompt"), dict):
            self.is_whole = False
        for name in ("tools", "functions"):
            self._tools(document.get(name))
        images = document.get("images")
        if isinstance(images, list):
            self._pictures(images)
        self._parts([value for name in _SAID if isinstance(value := document.get(name), dict | list)])

    def _tools(self, tools: Any) -> None:
        if not isinstance(tools, list) or not tools:
            return
        self.hidden_tools += 1
        for tool in tools:
            kind = tool.get("type") if isinstance(tool, dict) else None
            if isinstance(kind, str):
                self.hidden_tools += kind not in _DECLARED_TOOLS
                self.is_whole &= kind.startswith(_OWN_TOOLS)
            elif isinstance(tool, dict):
                self.is_whole &= "name" in tool or tool.keys() <= _DECLARATIONS

    def _parts(self, stack: list[Any]) -> None:
        left = MAX_VISITED
        while stack:
            left -= 1
            if left < 0:
                self.is_whole = False
                return
            item = stack.pop()
            if isinstance(item, dict):
                self._part(item, stack)
            elif isinstance(item, list) and not (item and isinstance(item[0], int | float)):
                stack.extend([one for one in item if isinstance(one, dict | list)])

    def _part(self, part: dict[str, Any], stack: list[Any]) -> None:
        kind = part.get("type")
        if isinstance(kind, str):
            if kind.startswith(_IMAGES):
                self.images += 1
                self.blob_chars += sum(map(len, _payloads(part)))
                return
            if kind.startswith(_SOUNDS):
                self._sound(_payloads(part))
                return
            if self._refers(kind, part):
                self.is_whole = False
                return
        for name, value in part.items():
            if isinstance(value, dict | list):
                self._member(name, value, stack)

    def _refers(self, kind: str, part: dict[str, Any]) -> bool:
        """Whether a part stands for what isn't in the body, or is no text that could be counted by its bytes."""
        if kind == _DOCUMENT:
            source = part.get("source")
            return not isinstance(source, dict) or source.get("type") not in _SPELLED_OUT
        return kind.startswith(_FILES) or (kind == "reasoning" and "id" in part and not part.get("encrypted_content"))

    def _member(self, name: str, value: Any, stack: list[Any]) -> None:
        if name in _BLOBS:
            self._blob(value)
        elif name in _UPLOADS or name == "audio":  # a chat message's `audio` is an earlier reply, by its id
            self.is_whole = False
        elif name == "images" and isinstance(value, list):
            self._pictures(value)
        elif name not in _FREE and not (name == "input" and isinstance(value, dict)):
            stack.append(value)

    def _blob(self, blob: Any) -> None:
        """Gemini's inline bytes, of any kind."""
        kind = (blob.get("mimeType") or blob.get("mime_type")) if isinstance(blob, dict) else None
        if isinstance(kind, str) and kind.startswith("image/"):
            self.images += 1
            self.blob_chars += sum(map(len, _payloads(blob)))
        elif isinstance(kind, str) and kind.startswith("audio/"):
            self._sound(_payloads(blob))
        else:
            self.is_whole = False

    def _sound(self, payloads: list[str]) -> None:
        """Sound in base64. How long one is that stands elsewhere isn't known."""
        chars = sum(map(len, payloads))
        self.audio_bytes += chars * 3 // 4
        self.blob_chars += chars
        self.is_whole &= chars > 0 and not any(one.startswith("http") for one in payloads)

    def _pictures(self, images: list[Any]) -> None:
        """Ollama's images, in base64, beside the text of a message or of the whole prompt."""
        self.images += len(images)
        self.blob_chars += sum(len(one) for one in images if isinstance(one, str))


def _payloads(part: Any) -> list[str]:
    """The texts in base64, or the URLs, of a part; what isn't found is counted as text."""
    found: list[str] = []
    stack = [part]
    while stack and len(found) < MAX_PAYLOADS:
        item = stack.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            stack.extend(item[name] for name in _PAYLOADS & item.keys())
    return found


def _prompts(prompt: Any) -> int:
    """How many prompts a completions call has: a list of texts or of lists of token numbers has one each."""
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
