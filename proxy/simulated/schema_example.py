"""A small JSON value that fits a JSON Schema: arguments of simulated tool calls, and structured outputs.

Here: the example. Not here: validation; a keyword that isn't known is passed over.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_DEPTH = 12

JsonSchema = dict[str, object]

_STRING_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "simulated@example.com",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example_of(schema: JsonSchema) -> object:
    """A value that fits the schema: all properties, as few items as allowed, the first of every choice. Below 12 levels it is null."""
    return _example(schema, schema, 0)


def _example(schema: object, root: JsonSchema, depth: int) -> object:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    for key in ("enum", "anyOf", "oneOf"):
        choices = schema.get(key)
        if isinstance(choices, list) and choices:
            return choices[0] if key == "enum" else _example(choices[0], root, depth + 1)
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _example(_resolve(reference, root), root, depth + 1)
    return _BY_TYPE.get(_type_of(schema), _null)(schema, root, depth + 1)


def _type_of(schema: JsonSchema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        kind = kind[0]
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "string"


def _resolve(reference: str, root: JsonSchema) -> object:
    place: object = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            place = place.get(step) if isinstance(place, dict) else None
    return place


def _object(schema: JsonSchema, root: JsonSchema, depth: int) -> object:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: _example(entry, root, depth) for name, entry in properties.items()}


def _array(schema: JsonSchema, root: JsonSchema, depth: int) -> object:
    least = schema.get("minItems")
    count = least if isinstance(least, int) else 1
    return [_example(schema.get("items"), root, depth) for _ in range(min(count, 100))] if "items" in schema else []


def _string(schema: JsonSchema, root: JsonSchema, depth: int) -> object:
    kind = schema.get("format")
    text = _STRING_FORMATS.get(kind, "simulated") if isinstance(kind, str) else "simulated"
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if isinstance(shortest, int):
        text = text.ljust(min(shortest, 10_000), "x")
    return text[:longest] if isinstance(longest, int) else text


def _number(schema: JsonSchema, root: JsonSchema, depth: int) -> object:
    least, most = schema.get("minimum"), schema.get("maximum")
    if isinstance(least, int | float):
        return least
    return min(most, 1) if isinstance(most, int | float) else 1


def _boolean(schema: JsonSchema, root: JsonSchema, depth: int) -> object:
    return True


def _null(schema: JsonSchema, root: JsonSchema, depth: int) -> object:
    return None


_BY_TYPE: dict[str, Callable[[JsonSchema, JsonSchema, int], object]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
    "integer": _number,
    "boolean": _boolean,
    "null": _null,
}
