"""What we send against the conventions' own table (conventions.py), both ways, and against the package that froze core 1.41."""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from proxy.call import Outcome
from proxy.observer.telemetry import names
from proxy.observer.telemetry.name_rows import AttributeRow, MetricRow, On
from proxy.observer.telemetry.vocabulary import Semconv
from proxy.records import CallRecord, RequestFacts
from tests.observer import conventions
from tests.observer.conventions import Attribute
from tests.observer.decoded_spans import full_call, spans_of, types

GENERATIONS: dict[str, set[str]] = {"v1_41": {"both", "1.41", "http"}, "latest": {"both", "gen-3", "http"}}
VERSION_OF = {"v1_41": "1.41", "latest": "gen-3"}

CALLS: dict[str, CallRecord] = {
    "server": full_call(method="BREW", outcome=Outcome.FAILED, status=502, error_type="all_targets_failed"),
    "inference": full_call(),
    "embeddings": full_call(
        {"finish_reasons": None}, operation="embeddings", stream=False, facts=RequestFacts(encoding_formats=["float"], dimensions=256)
    ),
    "fetch": full_call({"model": ""}, operation="fetch_response", billable=False, content=None, facts=None),
    "http": full_call(operation="", method="BREW", billable=False, content=None, facts=None),
}
"""By kind of span: a call of which everything is known, with a failed attempt and one that succeeded."""

PLACES = {
    "server": On.SERVER,
    "inference": On.INFERENCE,
    "embeddings": On.EMBEDDINGS,
    "fetch": On.FETCH,
    "http": On.HTTP,
    "metric": On.METRIC,
}


def spans(kind: str, semconv: Semconv) -> list[Span]:
    """The call's spans of that kind."""
    all_spans = spans_of(CALLS[kind], semconv)
    return all_spans[:1] if kind == "server" else all_spans[1:]


def sent(kind: str, semconv: Semconv) -> dict[str, str]:
    """Types of the attributes on them."""
    return {name: type_name for span in spans(kind, semconv) for name, type_name in types(span).items()}


def theirs(name: str) -> bool:
    return not name.startswith("postern.")


def rows(name: str) -> list[Attribute]:
    return [row for row in conventions.ATTRIBUTES if row.name == name]


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("semconv", ["v1_41", "latest"])
def test_every_attribute_sent_is_the_conventions_and_of_its_type(kind: str, semconv: Semconv) -> None:
    known = {row.name: row.type for row in conventions.ATTRIBUTES if row.version in GENERATIONS[semconv]} | conventions.PROPOSED
    told = {name: type_name for name, type_name in sent(kind, semconv).items() if theirs(name)}
    assert told == {name: "string" if known.get(name) == "any" else known.get(name) for name in told}


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("semconv", ["v1_41", "latest", "both"])
def test_every_attribute_required_or_recommended_is_sent_or_excused(kind: str, semconv: Semconv) -> None:
    told = sent(kind, semconv).keys()
    excused = conventions.NOT_TOLD | (conventions.NOT_TOLD_ON_PLAIN_HTTP if kind == "http" else {})
    versions = GENERATIONS["v1_41"] | GENERATIONS["latest"] if semconv == "both" else GENERATIONS[semconv]
    wanted = {row.name for row in conventions.ATTRIBUTES if getattr(row, kind) in ("R", "C", "r") and row.version in versions}
    assert wanted - told - excused.keys() == set()
    assert not excused.keys() & told


@pytest.mark.parametrize("row", [row for row in names.ATTRIBUTES if row.convention in (names.GENAI, names.HTTP)], ids=lambda row: row.name)
def test_every_row_of_our_table_is_in_the_conventions(row: AttributeRow) -> None:
    found = rows(row.name)
    assert row.type in {one.type for one in found}
    versions = {one.version for one in found}
    expected = {VERSION_OF[row.generation]} if row.generation else {"both"} if row.name.startswith(("gen_ai.", "openai.")) else {"http"}
    assert versions == expected or (row.name == names.REQUEST_TOP_K and versions == {"1.41", "gen-3"})


@pytest.mark.parametrize("kind", [*CALLS, "metric"])
def test_our_table_puts_attributes_where_the_conventions_do(kind: str) -> None:
    ours = {row.name for row in names.ATTRIBUTES if row.convention in (names.GENAI, names.HTTP) and PLACES[kind] in row.on}
    assert ours <= {row.name for row in conventions.ATTRIBUTES if getattr(row, kind)} | extras(kind)


def extras(kind: str) -> set[str]:
    """What stands on spans whose own convention doesn't mention it: on all operations, what inference may have."""
    inference = {row.name for row in conventions.ATTRIBUTES if row.inference}
    return {"embeddings": inference, "fetch": inference, "metric": set()}.get(kind, set()) | set(
        conventions.ALSO_TOLD if kind != "metric" else ()
    )


@pytest.mark.parametrize("kind", CALLS)
def test_spans_carry_no_attribute_that_our_table_does_not_put_there(kind: str) -> None:
    told = {row.name for row in names.ATTRIBUTES if PLACES[kind] in row.on} | conventions.PROPOSED.keys()
    own = (names.TAG_PREFIX, names.CUSTOM_PREFIX) if kind == "server" else names.CUSTOM_PREFIX
    assert not {name for name in sent(kind, "both").keys() - told if not name.startswith(own)}


def test_names_of_core_1_41_are_those_of_the_package_that_froze_it() -> None:
    frozen = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_") and isinstance(value, str)}
    ours = {row.name: row.generation for row in names.ATTRIBUTES if row.name.startswith("gen_ai.")}
    assert {name for name, generation in ours.items() if generation != "latest"} <= frozen
    assert not {name for name, generation in ours.items() if generation == "latest"} & frozen


@pytest.mark.parametrize("row", [row for row in names.METRICS if theirs(row.name)], ids=lambda row: row.name)
def test_every_metric_is_the_conventions(row: MetricRow) -> None:
    (found,) = [one for one in conventions.METRICS if one.name == row.name]
    assert (row.instrument, row.unit) == (found.instrument, found.unit)
    assert row.boundaries[: len(found.boundaries)] == found.boundaries
    assert not row.generation or VERSION_OF[row.generation] == found.version


def test_every_metric_of_the_conventions_for_a_client_is_there() -> None:
    assert {row.name for row in conventions.METRICS} <= {row.name for row in names.METRICS}


def test_no_name_stands_twice_in_a_table() -> None:
    for table in (names.ATTRIBUTES, names.METRICS, names.EVENTS):
        listed = [row.name for row in table]
        assert sorted(set(listed)) == sorted(listed)


def test_no_excuse_outlives_its_reason() -> None:
    listed = {row.name for row in conventions.ATTRIBUTES}
    assert conventions.NOT_TOLD.keys() | conventions.NOT_TOLD_ON_PLAIN_HTTP.keys() | conventions.ALSO_TOLD.keys() <= listed
    assert not conventions.NOT_TOLD.keys() & {row.name for row in names.ATTRIBUTES}
