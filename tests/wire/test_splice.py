"""Changing one member leaves every other byte alone. The oracle is the standard library's json."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from proxy.wire.json_text import members
from proxy.wire.splice import set_field, set_member, value_of

KEYS = st.sampled_from(["model", "stream_options", 'mod"el', '"model":', '{"model":"x"}', "é", "😀", "", "m", "a/b"])
SPACE = st.sampled_from(["", "", "", " ", "\n", "\t\r "])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | KEYS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def text_of(draw: DrawFn, text: str) -> str:
    if draw(st.integers(0, 5)) == 0:  # every UTF-16 unit escaped
        units = text.encode("utf-16-be", "surrogatepass")
        return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)) + '"'
    return json.dumps(text, ensure_ascii=draw(st.booleans()))


def value_text(draw: DrawFn, value: object) -> str:
    def space() -> str:
        return draw(SPACE)

    if isinstance(value, dict):
        return object_text(draw, list(value.items()))
    if isinstance(value, list):
        return "[" + space() + ",".join(space() + value_text(draw, item) + space() for item in value) + "]"
    return text_of(draw, value) if isinstance(value, str) else json.dumps(value)


def object_text(draw: DrawFn, pairs: list[tuple[str, object]]) -> str:
    def space() -> str:
        return draw(SPACE)

    inner = [space() + text_of(draw, key) + space() + ":" + space() + value_text(draw, value) + space() for key, value in pairs]
    return "{" + space() + ",".join(inner) + "}"


@st.composite
def bodies(draw: DrawFn) -> bytes:
    pairs = draw(st.lists(st.tuples(KEYS, VALUES), max_size=5))  # duplicates among them
    return (draw(SPACE) + object_text(draw, pairs) + draw(SPACE)).encode("utf-8", "surrogatepass")


@settings(max_examples=400, deadline=None)
@given(bodies(), KEYS, VALUES)
def test_set_field_changes_the_member_and_nothing_else(body: bytes, key: str, value: object) -> None:
    encoded = json.dumps(value).encode()
    changed = set_field(body, key, encoded)
    before, after = json.loads(body), json.loads(changed)
    assert after == {**before, key: json.loads(encoded)}
    if key in before:
        assert [other for other in json.loads(changed, object_pairs_hook=list) if other[0] != key] == [
            other for other in json.loads(body, object_pairs_hook=list) if other[0] != key
        ]
        assert without_values(changed, key) == without_values(body, key)
    else:
        start = body.index(b"{") + 1
        assert changed.startswith(body[:start])
        assert changed.endswith(body[start:])


def without_values(body: bytes, key: str) -> bytes:
    for member in reversed([*members(body)]):
        if member.key == key:
            body = body[: member.start] + body[member.end :]
    return body


@settings(max_examples=200, deadline=None)
@given(bodies(), KEYS)
def test_members_are_those_that_json_sees_in_order_with_duplicates(body: bytes, key: str) -> None:
    found = [(member.key, json.loads(body[member.start : member.end])) for member in members(body)]
    assert [name for name, _ in found] == [name for name, _ in json.loads(body, object_pairs_hook=tuple)]
    assert dict(found) == json.loads(body)
    raw = value_of(body, key)
    assert (None if raw is None else json.loads(raw)) == json.loads(body).get(key)


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b"{}", b'{"k":1}'),
        (b"{ \n}", b'{"k":1 \n}'),
        (b' {"a":0}', b' {"k":1,"a":0}'),
        (b'{"k" : 2 }', b'{"k" : 1 }'),
        (b'{"a":{"k":2},"b":"\\"k\\":2","k":[2,{"k":3}]}', b'{"a":{"k":2},"b":"\\"k\\":2","k":1}'),
        (b'{"a":"k","b":["k"]}', b'{"k":1,"a":"k","b":["k"]}'),
        (rb'{"\u006b":2}', rb'{"\u006b":1}'),
        (rb'{"a":{"k":2},"\u006b":2}', rb'{"a":{"k":2},"\u006b":1}'),
        (rb'{"a":"\ud800","k":2}', rb'{"a":"\ud800","k":1}'),
        (b'{"a":"\xff","k":2}', b'{"a":"\xff","k":1}'),
        (b'{"a":1e999,"k":2}', b'{"a":1e999,"k":1}'),
    ],
)
def test_set_field_exactly(body: bytes, changed: bytes) -> None:
    assert set_field(body, "k", b"1") == changed


def test_every_duplicate_is_set_because_parsers_differ_over_which_counts() -> None:
    assert set_field(b'{"model":"a","x":1,"model":"b"}', "model", b'"c"') == b'{"model":"c","x":1,"model":"c"}'
    assert set_field(b'{"model":12,"model":1}', "model", b'"c"') == b'{"model":"c","model":"c"}'


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"x{}"])
def test_set_field_takes_only_objects(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        set_field(body, "k", b"1")


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"a":1}', b'{"o":{"s":true},"a":1}'),
        (b'{"o":{"t":1},"a":1}', b'{"o":{"s":true,"t":1},"a":1}'),
        (b'{"o":{"t":1,"s" : false}}', b'{"o":{"t":1,"s" : true}}'),
        (b'{"o":null}', b'{"o":{"s":true}}'),
        (b'{"o":{}}', b'{"o":{"s":true}}'),
        (b'{"o":"text"}', b'{"o":"text"}'),
        (b'{"o":{},"o":{"s":1}}', b'{"o":{"s":true},"o":{"s":true}}'),
    ],
)
def test_set_member(body: bytes, changed: bytes) -> None:
    assert set_member(body, "o", "s", b"true") == changed


def test_large_bodies_with_hostile_repetition_take_linear_time() -> None:
    hostile = b'{"a":[' + b'{"model":"x"},' * 60_000 + b'0],"model":"x"}'
    assert set_field(hostile, "model", b'"y"') == hostile[:-4] + b'"y"}'
