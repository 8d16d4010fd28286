"""Tools and tool_choice of a request, in the three spellings: Chat Completions, Responses, Anthropic Messages.

Here: reading them. Not here: whether a tool is called (composing.py).
"""

from __future__ import annotations

from proxy.simulated.composing import Tool, ToolChoice
from proxy.simulated.mistakes import JsonObject

_CHOICES = {"none": ToolChoice.NONE, "required": ToolChoice.REQUIRED, "any": ToolChoice.REQUIRED}


def read_tools(entries: list[JsonObject] | None) -> tuple[Tool, ...]:
    """The functions among a request's tools; others (web search, files) are never called."""
    tools: list[Tool] = []
    for entry in entries or ():
        function = _function_of(entry)
        name = function.get("name")
        parameters = function.get("parameters") or function.get("input_schema")
        if isinstance(name, str):
            tools.append(Tool(name, parameters if isinstance(parameters, dict) else {}))
    return tuple(tools)


def read_tool_choice(choice: str | JsonObject | None) -> tuple[ToolChoice, str | None]:
    """How free the reply is, and the tool it must call if one is named."""
    if not isinstance(choice, dict):
        return _CHOICES.get(choice or "auto", ToolChoice.AUTO), None
    name = _function_of(choice).get("name")
    if isinstance(name, str):
        return ToolChoice.REQUIRED, name
    return _CHOICES.get(str(choice.get("type")), ToolChoice.AUTO), None


def _function_of(entry: JsonObject) -> JsonObject:
    inner = entry.get("function")
    return inner if isinstance(inner, dict) else entry
