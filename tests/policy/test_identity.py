"""Where a call's labels come from, and what form they have."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import LABELS, HeaderList
from proxy.config.schema import IdentityConfig, LabelSource
from proxy.policy.identity import MAX_LABEL_CHARS, LabelFacts, LabelRules, label_text
from proxy.wire.http1 import first_values


def facts(
    headers: HeaderList | None = None,
    metadata: Mapping[str, str] | None = None,
    body: Mapping[str, str] | None = None,
    baggage: Mapping[str, str] | None = None,
    key: Mapping[str, str] | None = None,
) -> LabelFacts:
    fields = headers or []
    return LabelFacts(fields, first_values(fields), metadata or {}, (body or {}).get, baggage.get if baggage else None, key or {})


def tenant(*sources: LabelSource, environment: Mapping[str, str] | None = None, **given: object) -> str | None:
    """The tenant of a call, with these sources."""
    rules = LabelRules(IdentityConfig(tenant=sources), environment or {})
    return rules.read(facts(**given)).get("tenant")  # type: ignore[arg-type]


def test_labels_are_those_of_the_configuration_and_the_key() -> None:
    assert (*IdentityConfig.__struct_fields__, "key") == LABELS


def test_each_source_is_read_where_it_says() -> None:
    assert tenant(LabelSource(header="X-Tenant"), headers=[(b"x-TENANT", b"a")]) == "a"
    assert tenant(LabelSource(body="org"), body={"org": "a"}) == "a"
    assert tenant(LabelSource(metadata="org"), metadata={"org": "a"}) == "a"
    assert tenant(LabelSource(baggage="org"), baggage={"org": "a"}) == "a"
    assert tenant(LabelSource(key=True), key={"tenant": "a", "user": "b"}) == "a"
    assert tenant(LabelSource(env="NAMESPACE"), environment={"NAMESPACE": "a"}) == "a"


@pytest.mark.parametrize("source", [{"header": "x"}, {"body": "x"}, {"metadata": "x"}, {"baggage": "x"}, {"key": True}, {"env": "x"}])
def test_a_source_that_has_nothing_gives_no_label(source: dict[str, str]) -> None:
    assert tenant(LabelSource(**source)) is None  # type: ignore[arg-type]


def test_the_first_source_with_a_value_wins() -> None:
    sources = (LabelSource(header="x-a"), LabelSource(metadata="b"), LabelSource(key=True))
    assert tenant(*sources, headers=[(b"x-a", b"1")], metadata={"b": "2"}, key={"tenant": "3"}) == "1"
    assert tenant(*sources, headers=[(b"x-a", b"")], metadata={"b": " \t"}, key={"tenant": "3"}) == "3"


def test_of_a_repeated_header_the_first_value_that_is_one_counts() -> None:
    assert tenant(LabelSource(header="x-a"), headers=[(b"x-a", b" "), (b"X-A", b"b"), (b"x-a", b"c")]) == "b"


def test_a_label_without_sources_is_never_read() -> None:
    assert tenant(headers=[(b"x-tenant", b"a")], key={"tenant": "a"}) is None


def test_defaults_read_the_places_of_the_contract() -> None:
    rules = LabelRules(IdentityConfig(), {"POD_NAMESPACE": "shop", "OTEL_SERVICE_NAME": "web"})
    assert rules.read(facts()) == {"tenant": "shop", "app": "web"}
    read = rules.read(
        facts(
            [(b"x-tenant", b"t"), (b"x-app", b"a"), (b"x-user", b"h"), (b"x-task", b"k"), (b"x-workflow-step", b"s")],
            {"task": "m", "workflow": "w"},
            {"safety_identifier": "u"},
        )
    )
    assert read == {"tenant": "t", "user": "u", "app": "a", "task": "k", "workflow": "w", "step": "s"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  a b ", "a b"),
        ("a\x00b\x1b[31mc\r\nd", "ab[31mcd"),
        ("\x00", ""),
        ("caf\u00e9 \u4e2d\u6587", "caf\u00e9 \u4e2d\u6587"),
        ("a\u202eb\u2028c", "abc"),
        ("\ud800a", "a"),
        ("x" * 1000, "x" * MAX_LABEL_CHARS),
    ],
)
def test_a_label_is_printable_and_short(value: str, expected: str) -> None:
    assert label_text(value) == expected


@given(st.binary(max_size=600))
def test_whatever_a_header_holds_is_a_label_or_none(value: bytes) -> None:
    label = tenant(LabelSource(header="x-a"), headers=[(b"x-a", value)])
    assert label is None or (0 < len(label) <= MAX_LABEL_CHARS and label.isprintable() and label == label.strip())
