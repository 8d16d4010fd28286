from __future__ import annotations

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from proxy.call import Cost, Outcome, Usage, UsageSource
from proxy.observer.telemetry.attributes import MAX_TEXT_CHARS
from proxy.observer.telemetry.spans import SpanBuilder
from proxy.records import CallRecord, RequestFacts
from tests.call_records import SECOND_NS, START_NS, attempt_record, call_record

BUILDER = SpanBuilder(Resource({}), "1.0", "gen_ai.usage.cost")


def spans_of(record: CallRecord) -> list[ReadableSpan]:
    return BUILDER.spans_of(record)


def server_attributes(**changes) -> dict[str, object]:
    return dict(spans_of(call_record(**changes))[0].attributes or {})


def client_attributes(call: dict[str, object] | None = None, **changes) -> dict[str, object]:
    return dict(spans_of(call_record(**(call or {}), attempts=[attempt_record(**changes)]))[1].attributes or {})


def test_server_span_tells_the_http_exchange_and_what_it_came_to() -> None:
    span = spans_of(call_record())[0]
    assert span.name == "POST /v1/chat/completions"
    assert span.kind is SpanKind.SERVER
    assert (span.start_time, span.end_time) == (START_NS, START_NS + SECOND_NS)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": 4000,
        "client.address": "127.0.0.1",
        "user_agent.original": "OpenAI/Python 3.52.0",
        "network.protocol.version": "1.1",
        "postern.call_id": "call-1",
        "postern.route": "everything",
        "postern.target": "openai",
        "postern.outcome": "succeeded",
        "postern.usage_source": "provider",
        "postern.cost_usd": 0.00145,
        "postern.overhead_ms": 0.25,
        "postern.tenant": "shop",
    }


def test_client_span_tells_the_operation() -> None:
    span = spans_of(call_record())[1]
    assert span.name == "chat gpt-4o"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 256,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gen_ai.usage.cost": 0.00145,
        "openai.api.type": "chat_completions",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
        "http.response.status_code": 200,
        "server.address": "api.openai.com",
        "server.port": 443,
        "postern.target": "openai",
        "postern.attempt": 1,
        "postern.outcome": "succeeded",
        "postern.usage_source": "provider",
        "postern.cost_usd": 0.00145,
    }


def test_spans_have_the_ids_the_gate_gave_out() -> None:
    server, client = spans_of(call_record())
    assert server.context is not None
    assert client.context is not None
    assert server.parent is not None
    assert f"{server.context.trace_id:032x}" == "a" * 32
    assert f"{server.parent.span_id:016x}" == "d" * 16
    assert server.parent.is_remote
    assert server.context.trace_state.get("vendor") == "1"
    assert client.parent == server.context
    assert f"{client.context.span_id:016x}" == "b" * 16


def test_a_call_without_incoming_context_is_a_root() -> None:
    assert spans_of(call_record(parent_span_id=None, trace_state=None))[0].parent is None


def test_unsampled_call_has_no_spans() -> None:
    assert spans_of(call_record(sampled=False)) == []


def test_unknown_stays_absent() -> None:
    bare = client_attributes(
        usage=None, cost=None, status=None, first_chunk_ns=None, response_id=None, response_model=None, finish_reasons=None,
        service_tier=None, system_fingerprint=None, outcome=Outcome.FAILED, error_type="connect",
    )  # fmt: skip
    assert not [name for name in bare if "usage" in name or "cost" in name or name.startswith(("gen_ai.response", "openai.response"))]
    assert "http.response.status_code" not in bare
    server = server_attributes(attempts=[], status=None, route=None, user_agent=None, labels={}, outcome=Outcome.ABANDONED)
    assert not {"postern.cost_usd", "postern.usage_source", "postern.target", "postern.route", "user_agent.original"} & server.keys()


def test_partly_known_usage_tells_only_what_is_known() -> None:
    attributes = client_attributes(usage=Usage(input_tokens=7))
    assert attributes["gen_ai.usage.input_tokens"] == 7
    assert "gen_ai.usage.output_tokens" not in attributes


def test_zero_cost_is_told_as_zero() -> None:
    attributes = client_attributes(cost=Cost(0))
    assert attributes["gen_ai.usage.cost"] == 0.0


@pytest.mark.parametrize(
    ("provider", "name"), [("azure", "azure.ai.openai"), ("gemini", "gcp.gemini"), ("mistral", "mistral_ai"), ("vllm", "vllm")]
)
def test_provider_is_named_as_the_conventions_do(provider: str, name: str) -> None:
    assert client_attributes(provider=provider)["gen_ai.provider.name"] == name


def test_openai_attributes_are_for_openai_only() -> None:
    assert not [name for name in client_attributes(provider="azure") if name.startswith("openai.")]


def test_read_reports_neither_usage_nor_cost() -> None:
    call = {"billable": False, "operation": "fetch_response", "method": "GET"}
    attributes = client_attributes(call, model="")
    assert not [name for name in attributes if "usage" in name or "cost" in name]
    server = server_attributes(**call)
    assert not [name for name in server if "usage" in name or "cost" in name]
    assert spans_of(call_record(**call, attempts=[attempt_record(model="")]))[1].name == "fetch_response"


def test_call_without_operation_is_a_plain_http_span() -> None:
    span = spans_of(call_record(operation="", method="GET", http_route="/v1/models", billable=False))[1]
    assert span.name == "GET"
    assert (span.attributes or {})["http.request.method"] == "GET"
    assert not [name for name in span.attributes or {} if name.startswith("gen_ai.")]


def test_unknown_method_is_not_in_names() -> None:
    record = call_record(method="BREW")
    span = spans_of(record)[0]
    assert span.name == "HTTP /v1/chat/completions"
    assert (span.attributes or {})["http.request.method"] == "_OTHER"
    assert (span.attributes or {})["http.request.method_original"] == "BREW"


@pytest.mark.parametrize(
    ("outcome", "status", "is_error", "error_type"),
    [
        (Outcome.SUCCEEDED, 200, False, None),
        (Outcome.REJECTED, 404, False, None),
        (Outcome.THROTTLED, 429, False, None),
        (Outcome.FAILED, 502, True, "502"),
        (Outcome.FAILED, 200, True, "failed"),
        (Outcome.INTERRUPTED, 200, True, "interrupted"),
        (Outcome.FAILED, None, True, "failed"),
        (Outcome.ABANDONED, 200, False, "abandoned"),
        (Outcome.ABANDONED, None, False, "abandoned"),
    ],
)
def test_server_status_is_error_only_when_it_is_not_the_clients_doing(
    outcome: Outcome, status: int | None, is_error: bool, error_type: str | None
) -> None:
    span = spans_of(call_record(outcome=outcome, status=status))[0]
    assert (span.status.status_code is StatusCode.ERROR) is is_error
    assert (span.attributes or {}).get("error.type") == error_type


@pytest.mark.parametrize(
    ("outcome", "status", "is_error", "error_type"),
    [
        (Outcome.SUCCEEDED, 200, False, None),
        (Outcome.REJECTED, 404, True, "404"),
        (Outcome.THROTTLED, 429, True, "429"),
        (Outcome.FAILED, 503, True, "503"),
        (Outcome.INTERRUPTED, 200, True, "interrupted"),
        (Outcome.ABANDONED, 200, False, "abandoned"),
    ],
)
def test_client_status_is_error_for_every_failure(outcome: Outcome, status: int, is_error: bool, error_type: str | None) -> None:
    span = spans_of(call_record(attempts=[attempt_record(outcome=outcome, status=status)]))[1]
    assert (span.status.status_code is StatusCode.ERROR) is is_error
    assert (span.attributes or {}).get("error.type") == error_type


def test_providers_error_code_is_the_error_type() -> None:
    attributes = client_attributes(outcome=Outcome.REJECTED, status=400, error_type="context_length_exceeded", error_message="too long")
    assert attributes["error.type"] == "context_length_exceeded"


def test_retry_tells_how_often_it_was_sent_again() -> None:
    first, second = attempt_record(outcome=Outcome.FAILED, status=500), attempt_record(number=2, span_id="e" * 16)
    spans = spans_of(call_record(attempts=[first, second]))
    assert "http.request.resend_count" not in (spans[1].attributes or {})
    assert (spans[2].attributes or {})["http.request.resend_count"] == 1


def test_service_tier_auto_and_single_choice_are_not_told() -> None:
    attributes = client_attributes({"facts": RequestFacts(choice_count=1, service_tier="auto")})
    assert not {"gen_ai.request.choice.count", "openai.request.service_tier"} & attributes.keys()
    attributes = client_attributes({"facts": RequestFacts(choice_count=3, service_tier="flex")})
    assert (attributes["gen_ai.request.choice.count"], attributes["openai.request.service_tier"]) == (3, "flex")


def test_estimated_usage_says_so() -> None:
    usage = Usage(input_tokens=5, output_tokens=6, source=UsageSource.TOKENIZER)
    assert client_attributes(usage=usage)["postern.usage_source"] == "tokenizer"
    both = [attempt_record(usage=usage), attempt_record(number=2, span_id="e" * 16)]
    assert server_attributes(attempts=both)["postern.usage_source"] == "tokenizer"


def test_cost_goes_under_the_configured_attribute() -> None:
    builder = SpanBuilder(Resource({}), "1.0", "llm.cost.total")
    attributes = builder.spans_of(call_record())[1].attributes or {}
    assert attributes["llm.cost.total"] == 0.00145
    assert "gen_ai.usage.cost" not in attributes


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    attempts = [attempt_record(), attempt_record(number=2, span_id="e" * 16, cost=None, unpriced=True)]
    assert "postern.cost_usd" not in server_attributes(attempts=attempts)


def test_failed_attempt_without_cost_leaves_the_sum_known() -> None:
    attempts = [attempt_record(outcome=Outcome.FAILED, usage=None, cost=None), attempt_record(number=2, span_id="e" * 16)]
    assert server_attributes(attempts=attempts)["postern.cost_usd"] == 0.00145


def test_clients_cannot_make_telemetry_huge() -> None:
    spans = spans_of(call_record(path="/" + "x" * 100_000, attempts=[attempt_record(model="m" * 100_000)]))
    for span in spans:
        assert len(span.name) <= MAX_TEXT_CHARS
        assert all(len(value) <= MAX_TEXT_CHARS for value in (span.attributes or {}).values() if isinstance(value, str))
