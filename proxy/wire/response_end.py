"""Ends a stream of the Responses API before its model did: what is open is closed, and the response is `incomplete`.

Here: the items a stream has built so far, out of its deltas, and the events that end them. Not here: framing (length_end.py).
Source: wire.md C3.
"""

from __future__ import annotations

import json
from typing import Any

_OVER = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_MAX_INDEX = 1024
_PART_TEXTS = {
    "output_text": ("response.output_text", "text"),
    "reasoning_text": ("response.reasoning_text", "text"),
    "refusal": ("response.refusal", "refusal"),
}
"""By a part's type: what the names of its events begin with, and the member that holds its text."""

_PART_DELTAS = {f"{prefix}.delta": member for prefix, member in _PART_TEXTS.values()}
_ITEM_DELTAS = {
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
"""By event: the member of the item or part that its delta goes on with."""

_Place = tuple[int, int]  # of an item in the output, of a part in its content


class ResponseEnding:
    """What a Responses stream needs for its end. An item ends as `incomplete`, with the text that came."""

    def __init__(self) -> None:
        self.is_over = False
        self._response: dict[str, Any] = {}
        self._number = -1  # of the last event
        self._items: dict[int, dict[str, Any]] = {}
        self._open_items: set[int] = set()
        self._parts: dict[_Place, dict[str, Any]] = {}  # of open items
        self._open_parts: set[_Place] = set()
        self._texts: dict[_Place, list[str]] = {}  # what deltas brought; of an item's own member at part -1

    def take(self, document: dict[str, Any]) -> None:
        """Learn from an event."""
        kind, response, number = document.get("type"), document.get("response"), document.get("sequence_number")
        if isinstance(response, dict):
            self._response = response
        if isinstance(number, int):
            self._number = max(self._number, number)
        if kind in _OVER:
            self.is_over = True
        elif isinstance(kind, str) and (item := _index(document, "output_index")) is not None:
            self._take_item(kind, item, document)

    def _take_item(self, kind: str, item: int, document: dict[str, Any]) -> None:
        if kind in ("response.output_item.added", "response.output_item.done"):
            if isinstance(document.get("item"), dict):
                self._items[item] = document["item"]
                (self._open_items.add if kind.endswith(".added") else self._open_items.discard)(item)
        elif kind in _ITEM_DELTAS:
            self._add_text((item, -1), document)
        elif (part := _index(document, "content_index")) is not None:
            self._take_part(kind, (item, part), document)

    def _take_part(self, kind: str, place: _Place, document: dict[str, Any]) -> None:
        if kind in ("response.content_part.added", "response.content_part.done"):
            if isinstance(document.get("part"), dict):
                self._parts[place] = document["part"]
                (self._open_parts.add if kind.endswith(".added") else self._open_parts.discard)(place)
        elif kind in _PART_DELTAS:
            self._add_text(place, document)

    def _add_text(self, place: _Place, document: dict[str, Any]) -> None:
        delta = document.get("delta")
        if isinstance(delta, str):
            self._texts.setdefault(place, []).append(delta)

    # ---------------------------------------------------------------------------------------------------------- the end

    def events(self, output_tokens: int) -> bytes:
        """The events that are missing for an end by length. Usage stays null: the provider tells none."""
        documents: list[dict[str, Any]] = []
        items = dict(self._items)
        for index in sorted(self._open_items):
            documents += self._part_ends(index)
            items[index] = self._incomplete(index)
            documents.append({"type": "response.output_item.done", "output_index": index, "item": items[index]})
        ending = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": None}
        response = {"object": "response", **self._response, **ending, "output": [items[index] for index in sorted(items)]}
        documents.append({"type": "response.incomplete", "response": response})
        return b"".join(_event(document, self._number + 1 + position) for position, document in enumerate(documents))

    def _part_ends(self, item: int) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = []
        for place in sorted(place for place in self._open_parts if place[0] == item):
            part = self._part(place)
            spot = {"item_id": self._items[item].get("id"), "output_index": item, "content_index": place[1]}
            prefix, member = _PART_TEXTS.get(str(part.get("type")), ("", ""))
            if prefix:
                documents.append({"type": f"{prefix}.done", **spot, member: part[member], "logprobs": []})
            documents.append({"type": "response.content_part.done", **spot, "part": part})
        return documents

    def _part(self, place: _Place) -> dict[str, Any]:
        """A part with the text that came for it."""
        part = self._parts[place]
        member = _PART_TEXTS.get(str(part.get("type")), ("", ""))[1]
        return {**part, member: "".join(self._texts.get(place, ()))} if member and place in self._open_parts else part

    def _incomplete(self, item: int) -> dict[str, Any]:
        """An open item as it is left. A call of a tool has its arguments as far as they came, and no event says that they are whole."""
        ended = {**self._items[item], "status": "incomplete"}
        places = sorted(place for place in self._parts if place[0] == item)
        if places:
            ended["content"] = [self._part(place) for place in places]
        for member in ("arguments", "input"):
            if member in ended and (item, -1) in self._texts:
                ended[member] = "".join(self._texts[item, -1])
        return ended


def _index(document: dict[str, Any], member: str) -> int | None:
    value = document.get(member)
    return value if isinstance(value, int) and 0 <= value < _MAX_INDEX else None


def _event(document: dict[str, Any], number: int) -> bytes:
    payload = json.dumps({"type": document["type"], "sequence_number": number, **document}, separators=(",", ":"))
    return f"event: {document['type']}\ndata: {payload}\n\n".encode()
