"""What a rule asks of a member is done wherever it stands, and to no other byte. The oracle is the standard library's json."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from proxy.wire.json_text import Member, members
from proxy.wire.shape import Clamp, Drop, Edit, Edits, NotShapeable, Set, combined, shape
from tests.wire.test_splice import SPACE, VALUES, object_text

KEYS = st.sampled_from(
    ["temperature", "Temperature", "max_tokens", "MAX_TOKENS", "logit_bias", "k", "\u212a", "é", "😀", "", 'k"e\\y', "{}"]
)
NUMBERS = st.integers(-10, 1000) | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def bodies(draw: DrawFn) -> bytes:
    pairs = draw(st.lists(st.tuples(KEYS, VALUES | NUMBERS), max_size=7))  # duplicates among them
    return (draw(SPACE) + object_text(draw, pairs) + draw(SPACE)).encode("utf-8", "surrogatepass")


SETS = st.builds(Set, KEYS, VALUES.map(lambda value: json.dumps(value).encode()))
EDITS = st.lists(SETS | st.builds(Clamp, KEYS, st.sampled_from([0.0, 5.0, 0.5, -3.0, 800.0, 1e300])) | st.builds(Drop, KEYS), max_size=4)


def pairs_of(text: bytes) -> list[tuple[str, object]]:
    return list(json.loads(text, object_pairs_hook=tuple))


def expected_pairs(pairs: list[tuple[str, object]], edit: Edit) -> list[tuple[str, object]]:
    """One edit, as the rule is documented."""
    ours, others = edit.name.casefold(), [(key, value) for key, value in pairs if key.casefold() != edit.name.casefold()]
    match edit:
        case Drop():
            return others
        case Clamp():
            return [(key, least(value, edit.limit) if key.casefold() == ours else value) for key, value in pairs]
        case Set():
            new = json.loads(edit.value, object_pairs_hook=tuple)
            if edit.name not in dict(pairs):
                return [(edit.name, new), *others]
            return [(key, new if key == edit.name else value) for key, value in pairs if key == edit.name or key.casefold() != ours]


def least(value: object, limit: float) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return limit if is_number and value > limit else value  # type: ignore[operator]


@settings(max_examples=200, deadline=None)
@given(bodies(), SETS | st.builds(Clamp, KEYS, st.sampled_from([0.0, 5.0, 0.5, 800.0])) | st.builds(Drop, KEYS))
def test_a_rule_changes_its_member_wherever_it_stands_and_no_other(body: bytes, edit: Edit) -> None:
    assert pairs_of(shape(body, combined([edit])).body) == expected_pairs(pairs_of(body), edit)


@settings(max_examples=200, deadline=None)
@given(bodies(), EDITS)
def test_rules_put_together_do_what_they_do_one_after_the_other(body: bytes, edits: list[Edit]) -> None:
    one_by_one = body
    for edit in edits:
        one_by_one = shape(one_by_one, combined([edit])).body
    assert json.loads(shape(body, combined(edits)).body) == json.loads(one_by_one)


def plainly(body: bytes, edits: Edits) -> bytes:
    """The same by plain means: member by member from the last to the first, each cut with the comma that joins it to the others."""
    present = {member.key for member in members(body)}
    inserted = [
        json.dumps(edit.name, ensure_ascii=False).encode() + b":" + edit.value
        for edit in edits.values()
        if isinstance(edit, Set) and edit.name not in present
    ]
    for at in reversed(range(len([*members(body)]))):
        found = [*members(body)]  # as many as `at` asks for stay in place: what changed stands behind
        body = plainly_one(body, found, at, edits.get(found[at].key.casefold()))
    start = body.index(b"{") + 1
    comma = b"," if inserted and any(True for _ in members(body)) else b""
    return body[:start] + b",".join(inserted) + comma + body[start:]


def plainly_one(body: bytes, found: list[Member], at: int, edit: Edit | None) -> bytes:
    member = found[at]
    value = body[member.start : member.end]
    if isinstance(edit, Drop) or (isinstance(edit, Set) and member.key != edit.name):
        if at > 0:
            return body[: found[at - 1].end] + body[member.end :]
        return body[: member.key_start] + body[found[1].key_start if len(found) > 1 else member.end :]
    if isinstance(edit, Set) or (isinstance(edit, Clamp) and value[:1] in b"-0123456789" and float(value) > edit.limit):
        return body[: member.start] + edit.value + body[member.end :]
    return body


@settings(max_examples=200, deadline=None)
@given(bodies(), EDITS)
def test_every_byte_outside_the_edited_members_stays(body: bytes, edits: list[Edit]) -> None:
    assert shape(body, combined(edits)).body == plainly(body, combined(edits))


@settings(max_examples=200, deadline=None)
@given(bodies(), EDITS)
def test_a_second_time_changes_nothing(body: bytes, edits: list[Edit]) -> None:
    once = shape(body, combined(edits)).body
    again = shape(once, combined(edits))
    assert again.body is once
    assert again.changes == ""


@pytest.mark.parametrize(
    ("edit", "body"),
    [
        (Set("t", b"0"), b'{"a":1, "t" : 0}'),
        (Clamp("t", 800), b'{"t":800}'),
        (Clamp("t", 800), b'{"t":8e2}'),
        (Clamp("t", 800), b'{"t":-9000}'),
        (Clamp("t", 800), b'{"a":900}'),
        (Clamp("t", 800), b'{"t":"900"}'),
        (Clamp("t", 800), b'{"t":null}'),
        (Clamp("t", 800), b'{"t":true}'),
        (Clamp("t", 800), b'{"t":[900],"a":{"t":900}}'),
        (Drop("t"), b'{"a":{"t":1},"b":"\\"t\\":1"}'),
        (Drop("t"), b" { } "),
    ],
)
def test_a_body_that_needs_no_change_is_the_very_same(edit: Edit, body: bytes) -> None:
    shaped = shape(body, combined([edit]))
    assert shaped.body is body
    assert shaped.changes == ""


@pytest.mark.parametrize("number", [b"801", b"800.5", b"1e3", b"1E+999", b"9" * 5000, b"0.9e4"])
def test_a_number_over_the_limit_becomes_the_limit(number: bytes) -> None:
    assert shape(b'{"a":1,"t" : ' + number + b"\n}", combined([Clamp("t", 800)])).body == b'{"a":1,"t" : 800\n}'


@pytest.mark.parametrize(("limit", "written"), [(800.0, b"800"), (0.5, b"0.5"), (-1.0, b"-1"), (1e300, b"1e300")])
def test_a_limit_is_written_as_people_write_it(limit: float, written: bytes) -> None:
    assert Clamp("t", limit).value == written


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"d":1}', b"{}"),
        (b'{ "d":1 }', b"{  }"),
        (b'{"d":1,"a":2}', b'{"a":2}'),
        (b'{"a":2 , "d":1 }', b'{"a":2 }'),
        (b'{"a":1,"d":2,"b":3}', b'{"a":1,"b":3}'),
        (b'{"d":1,"d":2,"a":3}', b'{"a":3}'),
        (b'{"a":3,"d":1,"d":2}', b'{"a":3}'),
        (b'{"a":3,"d":1,"b":4,"d":2,"c":5}', b'{"a":3,"b":4,"c":5}'),
        (b'{"d":1,"d":2}', b"{}"),
        (b'{"a":1,' + b" " * 500 + b'"d":2}', b'{"a":1}'),
        (rb'{"\u0064":1,"a":2}', b'{"a":2}'),
        (b'{"D":1,"a":2}', b'{"a":2}'),
        (b'{"a":"\xff","d":2}', b'{"a":"\xff"}'),
        (rb'{"a":"\ud800","d":2,"d":"\ud800"}', rb'{"a":"\ud800"}'),
    ],
)
def test_a_member_is_dropped_at_every_place_with_one_comma(body: bytes, left: bytes) -> None:
    assert shape(body, combined([Drop("d")])).body == left


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b"{}", b'{"t":0}'),
        (b' { "a":1}', b' {"t":0, "a":1}'),
        (b'{"t":1,"t":{"t":2}}', b'{"t":0,"t":0}'),
        (b'{"T":1}', b'{"t":0}'),
        (b'{"a":1,"T":1,"t":2}', b'{"a":1,"t":0}'),
        (b'{"d":1}', b'{"t":0}'),
        (b'{"d":1,"a":2}', b'{"t":0,"a":2}'),
    ],
)
def test_a_member_is_set_at_every_place_or_put_first(body: bytes, changed: bytes) -> None:
    assert shape(body, combined([Set("t", b"0"), Drop("d")])).body == changed


@pytest.mark.parametrize(
    ("edits", "one"),
    [
        ([Set("t", b"9"), Clamp("t", 5)], Set("t", b"5")),
        ([Set("t", b"3"), Clamp("t", 5)], Set("t", b"3")),
        ([Set("t", b'"x"'), Clamp("t", 5)], Set("t", b'"x"')),
        ([Set("t", b"1"), Set("t", b"2")], Set("t", b"2")),
        ([Clamp("t", 5), Clamp("t", 9)], Clamp("t", 5)),
        ([Clamp("t", 9), Clamp("t", 5)], Clamp("t", 5)),
        ([Drop("t"), Clamp("t", 5)], Drop("t")),
        ([Drop("t"), Set("t", b"1")], Set("t", b"1")),
        ([Set("t", b"1"), Drop("t")], Drop("t")),
        ([Clamp("t", 5), Set("t", b"9")], Set("t", b"9")),
    ],
)
def test_two_rules_for_a_member_are_one(edits: Sequence[Edit], one: Edit) -> None:
    assert combined(edits) == {"t": one}


def test_changes_name_what_was_changed_in_the_order_of_the_rules_and_never_a_value_that_was_set() -> None:
    edits = combined([Set("user", b'"secret"'), Clamp("max_tokens", 800), Drop("logit_bias"), Drop("absent"), Clamp("n", 1)])
    shaped = shape(b'{"LOGIT_BIAS":{},"n":1,"max_tokens":900}', edits)
    assert shaped.changes == "set user; clamp max_tokens 800; drop logit_bias"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b'"text"', b"x{}", b'{"a":1', b'{"a":1,}', b'{"a":1}{}', b'{"a":1} x', b'{"a" 1}', b'{"a":nan}', b"{a:1}",
        b'{"\xff\\n":1}', b'{"\\q":1}', b'\xef\xbb\xbf{"a":1}', b"{'a':1}",
    ],
)  # fmt: skip
def test_a_body_whose_members_cannot_all_be_told_is_not_edited(body: bytes) -> None:
    with pytest.raises(NotShapeable):
        shape(body, combined([Set("t", b"0"), Drop("d")]))


@settings(max_examples=200, deadline=None)
@given(bodies(), st.integers(0, 200), st.binary(max_size=2), EDITS)
def test_a_damaged_body_is_edited_right_or_not_at_all(body: bytes, at: int, damage: bytes, edits: list[Edit]) -> None:
    damaged = body[:at] + damage + body[at + 1 :]
    try:
        shaped = shape(damaged, combined(edits))
    except NotShapeable:
        return
    left = {member.key.casefold() for member in members(shaped.body)}
    assert not left & {edit.name.casefold() for edit in combined(edits).values() if isinstance(edit, Drop)}


def test_large_bodies_with_hostile_repetition_take_linear_time() -> None:
    hostile = b'{"d":0' + b',"d":1,"t":900' * 60_000 + b"}"
    assert shape(hostile, combined([Drop("d"), Clamp("t", 800)])).body == b"{" + b",".join([b'"t":800'] * 60_000) + b"}"
