"""The text in a request body that a model reads, and the tokens its structure costs beside the text.

Here: OpenAI's cookbook rule for messages and tools, and the same for the other shapes (Responses, completions, embeddings, Anthropic,
Gemini); pure. Not here: tokenizing. Images, sound and files are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from proxy.wire.json_text import parse
from proxy.wire.reply_text import loose_text

PER_MESSAGE_TOKENS = 3
PER_NAME_TOKENS = 1
REPLY_PRIMING_TOKENS = 3

PROPERTIES_TOKENS = 3
PER_PROPERTY_TOKENS = 3
ENUM_TOKENS = -3
PER_ENUM_ITEM_TOKENS = 3
TOOLS_END_TOKENS = 12

_MESSAGE_LISTS = ("messages", "input", "contents")
_LONE_TEXTS = ("system", "instructions", "systemInstruction", "system_instruction")
_PROMPTS = ("prompt", "input", "inputs", "content")
_PART_TEXTS = ("text", "output", "arguments", "thinking", "content")


class Prompt(msgspec.Struct):
    """What is to be counted: texts, and tokens that are known already."""

    texts: list[str]
    known_tokens: int = 0
    functions: int = 0  # what each costs depends on the encoding
    whole: bool = True  # False: the body didn't parse, the texts are only what could be made out


def read_prompt(body: bytes) -> Prompt | None:
    """The prompt in a JSON request body; None if it holds nothing that could be counted."""
    value = parse(body)
    if value is None:
        text = loose_text(body)
        return Prompt([text], whole=False) if text else None
    if not isinstance(value, dict):
        return None
    fields: dict[str, object] = value
    prompt = Prompt([])
    for key in _MESSAGE_LISTS:
        _add_messages(prompt, fields.get(key))
    for key in _LONE_TEXTS:
        if key in fields:
            prompt.known_tokens += PER_MESSAGE_TOKENS
            prompt.texts.extend(_texts_of(fields[key]))
    for key in _PROMPTS:
        _add_prompt(prompt, fields.get(key))
    _add_tools(prompt, fields.get("tools"))
    return prompt if prompt.texts or prompt.known_tokens else None


def _add_messages(prompt: Prompt, messages: object) -> None:
    """A list of messages, by the cookbook: three tokens each, its role, its text, one for a name; three before the reply."""
    if not isinstance(messages, list):
        return
    items = [message for message in messages if isinstance(message, dict)]
    for message in items:
        _add_message(prompt, message)
    if items:
        prompt.known_tokens += REPLY_PRIMING_TOKENS


def _add_message(prompt: Prompt, message: dict[str, object]) -> None:
    prompt.known_tokens += PER_MESSAGE_TOKENS
    role, name = message.get("role"), message.get("name")
    if isinstance(role, str):
        prompt.texts.append(role)
    if isinstance(name, str):
        prompt.texts.append(name)
        prompt.known_tokens += PER_NAME_TOKENS
    for key in ("content", "parts", "output", "arguments", "reasoning_content"):
        prompt.texts.extend(_texts_of(message.get(key)))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            prompt.texts.extend(value for value in (function.get("name"), function.get("arguments")) if isinstance(value, str))


def _texts_of(content: object) -> Iterator[str]:
    """The text of a message's content: a string, or the text of its text parts (not their types, nor pictures)."""
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            stack.extend(reversed(item))
        elif isinstance(item, dict):
            stack.extend(item[key] for key in reversed(_PART_TEXTS) if key in item)
            if isinstance(item.get("parts"), list):
                stack.append(item["parts"])


def _add_prompt(prompt: Prompt, value: object) -> None:
    """A bare prompt: a string, several, or token ids, which count as themselves."""
    if isinstance(value, str):
        prompt.texts.append(value)
    elif isinstance(value, dict):
        prompt.texts.extend(_texts_of(value))
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, str):
                prompt.texts.append(item)
            elif isinstance(item, list):
                prompt.known_tokens += sum(isinstance(token, int) for token in item)
            else:
                prompt.known_tokens += isinstance(item, int)


def _add_tools(prompt: Prompt, tools: object) -> None:
    functions = [function for function in map(_function_of, tools if isinstance(tools, list) else []) if function is not None]
    for function in functions:
        prompt.functions += 1
        prompt.texts.append(_described(function, function.get("name")))
        _add_properties(prompt, function.get("parameters") or function.get("input_schema"))
    if functions:
        prompt.known_tokens += TOOLS_END_TOKENS


def _function_of(tool: object) -> dict[str, object] | None:
    """The function in a tool: under `function` in chat, the tool itself in Responses and for Anthropic."""
    if not isinstance(tool, dict):
        return None
    function: dict[str, object] = tool["function"] if isinstance(tool.get("function"), dict) else tool
    return function if isinstance(function.get("name"), str) else None


def _add_properties(prompt: Prompt, schema: object) -> None:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not properties:
        return
    prompt.known_tokens += PROPERTIES_TOKENS
    for key, declared in properties.items():
        prompt.known_tokens += PER_PROPERTY_TOKENS
        if not isinstance(declared, dict):
            continue
        prompt.texts.append(_described(declared, key, declared.get("type")))
        choices = declared.get("enum")
        if isinstance(choices, list):
            prompt.known_tokens += ENUM_TOKENS + PER_ENUM_ITEM_TOKENS * len(choices)
            prompt.texts.extend(str(choice) for choice in choices)


def _described(declared: dict[str, object], *names: object) -> str:
    description = declared.get("description")
    parts = [str(name) for name in names if name is not None]
    if isinstance(description, str):
        parts.append(description.removesuffix("."))
    return ":".join(parts)
