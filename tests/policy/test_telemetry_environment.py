"""OpenTelemetry's variables: head sampling as the SDK does it, propagators, capture of content."""

from __future__ import annotations

import random

import pytest
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from proxy.policy.telemetry_environment import Sampler, TelemetryEnvironment, read_telemetry_environment

LOW, HIGH = "f" * 16 + "0" * 16, "0" * 16 + "f" * 16
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def sampler(name: str, argument: str | None = None) -> Sampler:
    variables = {"OTEL_TRACES_SAMPLER": name} | ({} if argument is None else {"OTEL_TRACES_SAMPLER_ARG": argument})
    told, warnings = read_telemetry_environment(variables)
    assert not warnings
    return told.sampler


def test_nothing_set_means_the_defaults() -> None:
    assert read_telemetry_environment({}) == (TelemetryEnvironment(), [])
    empty = dict.fromkeys(("OTEL_TRACES_SAMPLER", "OTEL_PROPAGATORS", "OTEL_SDK_DISABLED", CAPTURE), "")
    assert read_telemetry_environment(empty) == (TelemetryEnvironment(), [])


@pytest.mark.parametrize(
    ("name", "root", "sampled_parent", "unsampled_parent"),
    [
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("ALWAYS_OFF", False, False, False),
    ],
)
def test_sampler_decides_by_its_name(name: str, root: bool, sampled_parent: bool, unsampled_parent: bool) -> None:
    chosen = sampler(name)
    for trace_id in (LOW, HIGH):
        assert chosen.samples(trace_id, None) is root
        assert chosen.samples(trace_id, True) is sampled_parent
        assert chosen.samples(trace_id, False) is unsampled_parent


@pytest.mark.parametrize("ratio", ["0", "1", "0.5", "0.001", "0.999999", "1e-3", "0.1"])
def test_ratio_samples_the_trace_ids_that_the_sdk_samples(ratio: str) -> None:
    ours, theirs = sampler("traceidratio", ratio), TraceIdRatioBased(float(ratio))
    edge = theirs.bound
    bits = random.Random(11)
    ids = [bits.getrandbits(128) for _ in range(2000)] + [max(0, edge - 1), min(edge, (1 << 64) - 1), 0, (1 << 128) - 1]
    for trace_id in ids:
        decision = theirs.should_sample(None, trace_id, "").decision.is_sampled()
        assert ours.samples(f"{trace_id:032x}", None) is decision


def test_ratio_without_parentbased_decides_whatever_the_parent_says() -> None:
    chosen = sampler("traceidratio", "0.5")
    assert chosen.samples(LOW, False) is True
    assert chosen.samples(HIGH, True) is False
    followed = sampler("parentbased_traceidratio", "0.5")
    assert followed.samples(LOW, False) is False
    assert followed.samples(HIGH, True) is True
    assert followed.samples(HIGH, None) is False


@pytest.mark.parametrize("argument", ["x", "-0.1", "1.1", "nan", "inf"])
def test_ratio_that_is_none_is_told_and_counts_as_one(argument: str) -> None:
    told, warnings = read_telemetry_environment({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": argument})
    assert told.sampler == Sampler(follows_parent=False)
    assert ["OTEL_TRACES_SAMPLER_ARG" in warning for warning in warnings] == [True]


def test_unknown_sampler_is_told_and_the_default_used() -> None:
    told, warnings = read_telemetry_environment({"OTEL_TRACES_SAMPLER": "jaeger_remote"})
    assert told.sampler == Sampler()
    assert ["OTEL_TRACES_SAMPLER" in warning for warning in warnings] == [True]


@pytest.mark.parametrize(
    ("text", "trace_context", "baggage", "is_told"),
    [
        ("tracecontext,baggage", True, True, False),
        ("tracecontext", True, False, False),
        (" baggage ", False, True, False),
        ("none", False, False, False),
        ("b3,tracecontext", True, False, True),
    ],
)
def test_propagators_are_those_named(text: str, trace_context: bool, baggage: bool, is_told: bool) -> None:
    told, warnings = read_telemetry_environment({"OTEL_PROPAGATORS": text})
    assert (told.trace_context, told.baggage, bool(warnings)) == (trace_context, baggage, is_told)


@pytest.mark.parametrize(
    ("text", "to"),
    [
        ("NO_CONTENT", ()),
        ("span_only", ("span",)),
        ("EVENT_ONLY", ("event",)),
        ("Span_And_Event", ("span", "event")),
        ("true", ("span", "event")),
        ("FALSE", ()),
    ],
)
def test_capture_is_what_the_variable_says(text: str, to: tuple[str, ...]) -> None:
    told, warnings = read_telemetry_environment({CAPTURE: text})
    assert (told.capture, warnings) == (to, [])


def test_unknown_capture_is_told_and_captures_nothing() -> None:
    told, warnings = read_telemetry_environment({CAPTURE: "everything"})
    assert told.capture == ()
    assert len(warnings) == 1
    assert "everything" not in warnings[0]
