"""Scopes: whom a rule counts together, as text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.scopes import EVERYBODY, MAX_VALUE_CHARS, scope_text

values = st.one_of(st.none(), st.text(), st.text(alphabet="a%*(),=: none", max_size=100), st.binary(max_size=200))
lists = st.lists(
    st.one_of(st.none(), st.text(min_size=1), st.text(alphabet="a%*(),=:/@ none", min_size=1, max_size=100)), min_size=2, max_size=2
)


def test_scope_reads_as_it_is_meant() -> None:
    assert scope_text(["tenant", "user"], ["acme", "bob@example.org"]) == "tenant=acme,user=bob@example.org"
    assert scope_text(["model"], ["meta/llama-3:free"]) == "model=meta/llama-3:free"
    assert scope_text([], []) == EVERYBODY


def test_a_value_that_is_missing_or_empty_is_a_scope_of_its_own() -> None:
    assert scope_text(["tenant"], [None]) == scope_text(["tenant"], [""]) == scope_text(["tenant"], [b""]) == "tenant=(none)"
    assert scope_text(["tenant"], ["none"]) == "tenant=none"
    assert scope_text(["tenant"], ["(none)"]) == "tenant=%28none%29"


def test_a_value_cannot_pass_for_two() -> None:
    assert scope_text(["tenant", "user"], ["a,user=b", "c"]) == "tenant=a%2Cuser%3Db,user=c"


@given(lists, lists)
def test_different_values_never_share_a_scope(one: list[str | None], other: list[str | None]) -> None:
    names = ["tenant", "user"]
    assert (scope_text(names, one) == scope_text(names, other)) == (one == other)


@given(values)
def test_a_scope_has_only_letters_digits_and_marks_and_is_short(value: str | bytes | None) -> None:
    text = scope_text(["header:x-team"], [value])
    assert re.fullmatch(r"[!-~]+", text)
    assert len(text) <= len("header:x-team=") + MAX_VALUE_CHARS + 1 + 32


def test_long_values_differ_by_their_hash() -> None:
    one, other = (scope_text(["user"], ["x" * 1000 + end]) for end in "ab")
    assert one != other
    assert one.startswith("user=xxx")


def test_a_text_and_its_bytes_are_one() -> None:
    assert scope_text(["tenant"], ["Käse"]) == scope_text(["tenant"], ["Käse".encode()]) == "tenant=K%C3%A4se"
