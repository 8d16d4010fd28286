from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from proxy.observer.telemetry.spans import otlp_bytes
from proxy.observer.telemetry.spans.otlp_bytes import MAX_DEPTH, AttributeWriter, Json, any_value, hex_id, resource_bytes, scope_bytes
from tests.otlp_receiver import attributes_of

INT64 = (-(2**63), 2**63 - 1)
TEXTS = some.text(some.characters(codec="utf-8"), max_size=200)
PLAIN = TEXTS | some.booleans() | some.integers(*INT64) | some.floats()
NESTED = some.recursive(
    some.none() | PLAIN, lambda inner: some.lists(inner, max_size=5) | some.dictionaries(TEXTS, inner, max_size=5), max_leaves=20
)
ATTRIBUTES = some.dictionaries(TEXTS, PLAIN | some.lists(TEXTS, max_size=4), max_size=20)


def by_the_library(value: Json) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case str():
            return AnyValue(string_value=value)
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case dict():
            members = (KeyValue(key=name, value=by_the_library(member)) for name, member in value.items())
            return AnyValue(kvlist_value=KeyValueList(values=members))
        case _:
            return AnyValue(array_value=ArrayValue(values=map(by_the_library, value)))


def listed(attributes: Mapping[str, Json]) -> list[KeyValue]:
    return [KeyValue(key=name, value=by_the_library(value)) for name, value in attributes.items()]


@given(NESTED)
def test_any_value_is_what_the_library_writes(value: Json) -> None:
    assert AnyValue.FromString(any_value(value)).SerializeToString() == by_the_library(value).SerializeToString()


@given(some.lists(ATTRIBUTES, max_size=5))
def test_a_writer_that_remembers_writes_what_the_library_does(batches: Sequence[Mapping[str, Json]]) -> None:
    writer = AttributeWriter(9)
    for attributes in [*batches, *batches]:
        assert Span.FromString(writer.write(attributes)).SerializeToString() == Span(attributes=listed(attributes)).SerializeToString()


def test_equal_values_of_different_types_stay_apart() -> None:
    writer = AttributeWriter(9)
    for _ in range(2):
        for value in (1, True, 1.0, "1", ["1"]):
            (pair,) = Span.FromString(writer.write({"same": value})).attributes
            assert pair.value == by_the_library(value)


@given(some.integers(0, 2**64 - 1))
def test_numbers_survive(number: int) -> None:
    fields = (
        otlp_bytes.fixed64_field(7, number)
        + otlp_bytes.fixed32_field(16, number & 0xFFFFFFFF)
        + otlp_bytes.varint_field(10, number & 0xFFFFFFFF)
    )
    span = Span.FromString(fields)
    assert (span.start_time_unix_nano, span.flags, span.dropped_attributes_count) == (number, number & 0xFFFFFFFF, number & 0xFFFFFFFF)


@given(some.integers(0, 30))
def test_fields_are_told_their_length_whatever_it_is(power: int) -> None:
    for size in {2**power - 1, 2**power} if power < 18 else {power}:
        assert Status.FromString(otlp_bytes.text_field(2, "x" * size)).message == "x" * size


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_an_int_beyond_64_bits_becomes_text(number: int) -> None:
    assert AnyValue.FromString(any_value(number)).string_value == str(number)
    assert attributes_of(Span.FromString(AttributeWriter(9).write({"seed": number})).attributes) == {"seed": str(number)}


def test_what_is_no_number_stays_none() -> None:
    assert math.isnan(AnyValue.FromString(any_value(math.nan)).double_value)


def test_a_lone_surrogate_cannot_break_a_batch() -> None:
    assert AnyValue.FromString(any_value("a\ud800b")).string_value == "a?b"


@pytest.mark.parametrize(("levels", "text"), [(MAX_DEPTH + 2, '[["bottom"]]'), (5000, "…")])
def test_what_is_nested_too_deep_becomes_text(levels: int, text: str) -> None:
    value: Json = "bottom"
    for _ in range(levels):
        value = [value]
    found = AnyValue.FromString(any_value(value))
    for _ in range(MAX_DEPTH):
        (found,) = found.array_value.values
    assert found.string_value == text


def test_what_a_writer_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_bytes, "MAX_REMEMBERED", 10)
    writer = AttributeWriter(9)
    for number in range(100):
        written = writer.write({"call": f"call-{number}", f"name-{number}": number, "long": "x" * 1000})
        assert attributes_of(Span.FromString(written).attributes)["call"] == f"call-{number}"
        assert len(writer._pairs) <= 10
        assert len(writer._heads) <= 10
    assert not [value for _, value in writer._pairs if len(value) > otlp_bytes.MAX_REMEMBERED_CHARS]


@pytest.mark.parametrize(("text", "size"), [("zz", 1), ("abcd", 3), ("", 8)])
def test_an_id_of_another_size_is_refused(text: str, size: int) -> None:
    with pytest.raises(ValueError, match=r"hex|bytes"):
        hex_id(text, size)


@pytest.mark.parametrize(
    ("make", "request_type", "groups", "scopes", "items"),
    [
        (otlp_bytes.traces_request, ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
        (otlp_bytes.logs_request, ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    ],
)
def test_a_request_has_one_resource_and_one_scope(make, request_type, groups: str, scopes: str, items: str) -> None:
    resource = resource_bytes({"service.name": "postern", "host.cpus": 2, "tags": ["a", "b"]})
    item = otlp_bytes.bytes_field(2, b"")
    request = request_type.FromString(make(resource, scope_bytes("postern", "1.0"), item * 3))
    (group,) = getattr(request, groups)
    assert attributes_of(group.resource.attributes) == {"service.name": "postern", "host.cpus": 2, "tags": ["a", "b"]}
    (scope,) = getattr(group, scopes)
    assert (scope.scope.name, scope.scope.version, len(getattr(scope, items))) == ("postern", "1.0", 3)


def test_an_empty_resource_is_one() -> None:
    assert Resource.FromString(resource_bytes({})) == Resource()
