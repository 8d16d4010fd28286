from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from proxy.call import Cost, Outcome, Usage, UsageSource
from proxy.observer.telemetry.spans.attribute_values import MAX_ATTRIBUTES, MAX_TEXT_CHARS
from proxy.observer.telemetry.spans.span_bytes import SpanEncoder
from proxy.records import RequestFacts
from tests.call_records import SECOND_NS, START_NS, attempt_record, call_record
from tests.observer.decoded_spans import attributes, full_call, full_usage, spans_of, types


def server_attributes(**changes) -> dict[str, object]:
    return attributes(spans_of(call_record(**changes))[0])


def client_attributes(call: dict[str, object] | None = None, **changes) -> dict[str, object]:
    return attributes(spans_of(call_record(**(call or {}), attempts=[attempt_record(**changes)]))[1])


def events(span: Span) -> list[tuple[str, int, dict[str, object]]]:
    return [(event.name, event.time_unix_nano, attributes(event)) for event in span.events]


def test_server_span_tells_the_http_exchange_and_what_it_came_to() -> None:
    span = spans_of(call_record())[0]
    assert span.name == "POST /v1/chat/completions"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (START_NS, START_NS + SECOND_NS)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert attributes(span) == {
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
        "postern.retries": 0,
        "postern.usage_source": "provider",
        "postern.cost_usd": 0.00145,
        "postern.cost_input_usd": 0.00015,
        "postern.cost_output_usd": 0.0012,
        "postern.cost_cache_read_usd": 0.0001,
        "postern.cost_cache_write_usd": 0.0,
        "postern.overhead_ms": 0.25,
        "postern.tenant": "shop",
    }


def test_client_span_tells_the_operation() -> None:
    span = spans_of(call_record())[1]
    assert span.name == "chat gpt-4o"
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert attributes(span) == {
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
        "postern.call_id": "call-1",
        "postern.route": "everything",
        "postern.tenant": "shop",
        "postern.target": "openai",
        "postern.attempt": 1,
        "postern.outcome": "succeeded",
        "postern.usage_source": "provider",
        "postern.cost_usd": 0.00145,
        "postern.cost_input_usd": 0.00015,
        "postern.cost_output_usd": 0.0012,
        "postern.cost_cache_read_usd": 0.0001,
        "postern.cost_cache_write_usd": 0.0,
    }


def test_spans_have_the_ids_the_gate_gave_out() -> None:
    server, client = spans_of(call_record())
    assert (server.trace_id.hex(), server.span_id.hex(), server.parent_span_id.hex()) == ("a" * 32, "c" * 16, "d" * 16)
    assert (client.trace_id.hex(), client.span_id.hex(), client.parent_span_id.hex()) == ("a" * 32, "b" * 16, "c" * 16)
    assert (server.trace_state, client.trace_state) == ("vendor=1", "vendor=1")


def test_a_call_without_incoming_context_is_a_root() -> None:
    span = spans_of(call_record(parent_span_id=None, trace_state=None))[0]
    assert (span.parent_span_id, span.trace_state) == (b"", "")


def test_flags_say_that_the_trace_is_sampled_and_whether_the_parent_is_remote() -> None:
    assert [span.flags for span in spans_of(call_record())] == [0x301, 0x101]
    assert [span.flags for span in spans_of(call_record(parent_span_id=None))] == [0x101, 0x101]


@pytest.mark.parametrize("field", ["trace_id", "span_id", "parent_span_id"])
@pytest.mark.parametrize("identifier", ["no id at all", "abcd", ""])
def test_an_id_that_is_none_is_an_error(field: str, identifier: str) -> None:
    with pytest.raises(ValueError, match=r"hex|bytes"):
        spans_of(call_record(**{field: identifier}))


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
    assert spans_of(call_record(**call, attempts=[attempt_record(model="gpt-4o")]))[1].name == "fetch_response"


def test_fetch_is_never_billed_whatever_the_record_says() -> None:
    for span in spans_of(full_call(operation="fetch_response", billable=True, content=None), "both", openinference=True):
        assert not [name for name in attributes(span) if "usage" in name or "cost" in name or "token_count" in name]


def test_call_without_operation_is_a_plain_http_span() -> None:
    span = spans_of(call_record(operation="", method="GET", http_route="/v1/models", billable=False))[1]
    assert span.name == "GET"
    assert attributes(span)["http.request.method"] == "GET"
    assert not [name for name in attributes(span) if name.startswith("gen_ai.")]


def test_unknown_method_is_not_in_names() -> None:
    record = call_record(method="BREW")
    span = spans_of(record)[0]
    assert span.name == "HTTP /v1/chat/completions"
    assert attributes(span)["http.request.method"] == "_OTHER"
    assert attributes(span)["http.request.method_original"] == "BREW"


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
    assert (span.status.code == Status.STATUS_CODE_ERROR) is is_error
    assert attributes(span).get("error.type") == error_type


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
    assert (span.status.code == Status.STATUS_CODE_ERROR) is is_error
    assert attributes(span).get("error.type") == error_type


def test_providers_error_code_is_the_error_type() -> None:
    attributes = client_attributes(outcome=Outcome.REJECTED, status=400, error_type="context_length_exceeded", error_message="too long")
    assert attributes["error.type"] == "context_length_exceeded"


def test_retry_tells_how_often_it_was_sent_again() -> None:
    first, second = attempt_record(outcome=Outcome.FAILED, status=500), attempt_record(number=2, span_id="e" * 16)
    spans = spans_of(call_record(attempts=[first, second]))
    assert "http.request.resend_count" not in attributes(spans[1])
    assert attributes(spans[2])["http.request.resend_count"] == 1


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
    told = attributes(spans_of(call_record(), cost_attribute="llm.cost.total")[1])
    assert told["llm.cost.total"] == 0.00145
    assert "gen_ai.usage.cost" not in told


def test_the_proposed_cost_family_is_told_whole_or_not_at_all() -> None:
    told = attributes(spans_of(call_record(), cost_attribute="gen_ai.usage.cost.amount")[1])
    assert told["gen_ai.usage.cost.amount"] == 0.00145
    assert (told["gen_ai.usage.cost.currency"], told["gen_ai.usage.cost.source"]) == ("USD", "local")
    assert not [name for name in client_attributes() if name.startswith("gen_ai.usage.cost.")]


def test_a_cost_that_stood_in_the_reply_says_so() -> None:
    record = call_record(attempts=[attempt_record(cost=Cost(5, source="provider"))])
    assert attributes(spans_of(record, cost_attribute="gen_ai.usage.cost.amount")[1])["gen_ai.usage.cost.source"] == "provider"


def test_parts_of_a_cost_add_up_on_both_spans() -> None:
    parts = ("postern.cost_input_usd", "postern.cost_output_usd", "postern.cost_cache_read_usd", "postern.cost_cache_write_usd")
    for span in spans_of(full_call())[::2]:
        told = attributes(span)
        assert sum(float(str(told[part])) for part in parts) == pytest.approx(told["postern.cost_usd"])


def test_a_cost_without_known_parts_tells_none() -> None:
    for told in (client_attributes(cost=Cost(7)), server_attributes(attempts=[attempt_record(cost=Cost(7)), attempt_record()])):
        assert [name for name in told if name.startswith("postern.cost")] == ["postern.cost_usd"]


def test_a_hit_of_the_cache_costs_nothing_and_tells_what_it_saved() -> None:
    told = server_attributes(attempts=[], cache="hit", cache_age_s=12.5, saved_nusd=1_450_000)
    assert (told["postern.cost_usd"], told["gen_ai.usage.cost"]) == (0.0, 0.0)
    assert (told["postern.cache"], told["postern.cache_age_s"], told["postern.saved_usd"]) == ("hit", 12.5, 0.00145)


@pytest.mark.parametrize("cache", [None, "miss", "bypass"])
def test_only_a_hit_of_the_cache_costs_nothing_without_an_attempt(cache: str | None) -> None:
    assert "postern.cost_usd" not in server_attributes(attempts=[], cache=cache)


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
        assert all(len(value) <= MAX_TEXT_CHARS for value in attributes(span).values() if isinstance(value, str))


def test_plain_http_call_tells_its_url_and_an_operation_does_not() -> None:
    url = "https://api.openai.com/v1/models"
    assert client_attributes({"operation": "", "billable": False}, url=url)["url.full"] == url
    assert "url.full" not in client_attributes(url=url)


def test_what_was_decided_is_on_the_server_span() -> None:
    told = attributes(spans_of(full_call(rule="pii"))[0])
    assert told["postern.decision"] == "everything>openai/gpt-4o"
    assert (told["postern.rule"], told["postern.retries"], told["postern.budget_left_usd"]) == ("pii", 1, 3.0)
    assert (told["postern.step"], told["postern.key"]) == ("some step", "some key")


def test_labels_are_on_both_spans() -> None:
    for span in spans_of(full_call()):
        assert attributes(span)["postern.workflow"] == "some workflow"


def test_an_unknown_label_is_not_told() -> None:
    assert not [name for name in server_attributes(labels={"color": "red"}) if name.endswith("color")]


def test_tags_and_own_attributes_have_namespaces_of_their_own() -> None:
    server, *clients = map(attributes, spans_of(full_call()))
    assert [span["postern.attribute.feature"] for span in (server, *clients)] == ["captions"] * 3
    assert (server["postern.tag.team"], server["postern.tag.team_lead"]) == ("search", "ada")


def test_tags_that_would_overflow_a_span_are_counted() -> None:
    told = server_attributes(tags={f"t{n}": "x" for n in range(500)})
    assert len(told) == MAX_ATTRIBUTES
    assert told["postern.tags_dropped"] == 500 - len([name for name in told if name.startswith("postern.tag.")])
    assert "postern.tags_dropped" not in server_attributes(tags={"a": "b"})


@pytest.mark.parametrize(
    ("semconv", "told", "untold"),
    [
        ("v1_41", {"cache_creation"}, {"cache_write", "text", "audio", "image"}),
        ("latest", {"cache_write", "text", "audio", "image"}, {"cache_creation"}),
        ("both", {"cache_creation", "cache_write", "text", "audio", "image"}, set()),
    ],
)
def test_each_generation_of_the_conventions_has_its_names(semconv, told: set[str], untold: set[str]) -> None:
    names = attributes(spans_of(full_call(), semconv)[2])
    assert told <= {name.split(".")[2] for name in names if name.startswith("gen_ai.usage.")}
    assert not [name for name in names if name.startswith("gen_ai.usage.") and name.split(".")[2] in untold]
    assert ("gen_ai.request.reasoning.level" in names) is (semconv != "v1_41")
    assert ("gen_ai.request.previous_response.id" in names) is (semconv != "v1_41")


def test_modalities_are_told_as_they_were_counted() -> None:
    told = attributes(spans_of(full_call(), "latest")[2])
    usage = {name.removeprefix("gen_ai.usage."): value for name, value in told.items() if name.startswith("gen_ai.usage.")}
    assert usage == {
        "input_tokens": 100, "output_tokens": 60, "cache_read.input_tokens": 40, "cache_write.input_tokens": 10,
        "reasoning.output_tokens": 5, "text.input_tokens": 90, "image.input_tokens": 7, "audio.input_tokens": 3, "text.output_tokens": 50,
        "image.output_tokens": 8, "audio.output_tokens": 2, "audio.cache_read.input_tokens": 1, "cost": 0.00145,
    }  # fmt: skip


@pytest.mark.parametrize("usage", [Usage(100, 20, input_audio_tokens=3), Usage(3, 2, input_audio_tokens=3, input_image_tokens=1)])
def test_text_tokens_are_told_only_where_they_are_what_is_left(usage: Usage) -> None:
    told = attributes(spans_of(call_record(attempts=[attempt_record(usage=usage)]), "latest")[1])
    assert "gen_ai.usage.text.input_tokens" not in told


@pytest.mark.parametrize(("semconv", "kind"), [("v1_41", "double"), ("latest", "int"), ("both", "double")])
def test_top_k_has_the_generations_type(semconv, kind: str) -> None:
    assert types(spans_of(full_call(), semconv)[2])["gen_ai.request.top_k"] == kind


def test_a_fraction_of_top_k_is_no_int() -> None:
    span = spans_of(call_record(facts=RequestFacts(top_k=0.5)), "latest")[1]
    assert "gen_ai.request.top_k" not in attributes(span)


def test_first_chunk_is_an_event_of_a_stream() -> None:
    assert events(spans_of(call_record())[1]) == [("postern.first_chunk", START_NS + SECOND_NS // 4, {})]
    assert events(spans_of(call_record(stream=False))[1]) == []
    assert events(spans_of(call_record(attempts=[attempt_record(first_chunk_ns=None)]))[1]) == []


def test_failover_and_retry_are_events_of_the_server_span() -> None:
    attempts = [
        attempt_record(outcome=Outcome.FAILED, status=503),
        attempt_record(number=2, start_ns=START_NS + 1, outcome=Outcome.THROTTLED, status=429, error_type="rate_limit_exceeded"),
        attempt_record(number=3, start_ns=START_NS + 2, target="local"),
    ]
    assert events(spans_of(call_record(attempts=attempts))[0]) == [
        ("postern.retry", START_NS + 1, {"postern.attempt": 2, "error.type": "503"}),
        (
            "postern.failover",
            START_NS + 2,
            {"postern.attempt": 3, "error.type": "rate_limit_exceeded", "postern.from": "openai", "postern.to": "local"},
        ),
    ]


def test_a_hedge_and_a_continuation_are_events_of_their_own() -> None:
    attempts = [
        attempt_record(outcome=Outcome.ABANDONED, status=None),
        attempt_record(number=2, start_ns=START_NS + 1, target="local", cause="hedge", outcome=Outcome.INTERRUPTED, error_type="closed"),
        attempt_record(number=3, start_ns=START_NS + 2, target="local", cause="continuation", seam_chars=7),
    ]
    assert events(spans_of(call_record(attempts=attempts))[0]) == [
        (
            "postern.hedge",
            START_NS + 1,
            {"postern.attempt": 2, "postern.hedge_won": False, "postern.from": "openai", "postern.to": "local"},
        ),
        (
            "postern.continuation",
            START_NS + 2,
            {"postern.attempt": 3, "error.type": "closed", "postern.from": "local", "postern.to": "local", "postern.seam_chars": 7},
        ),
    ]
    told = [attributes(span) for span in spans_of(call_record(attempts=attempts))[1:]]
    assert [(one.get("postern.attempt_cause"), one.get("postern.seam_chars")) for one in told] == [
        (None, None), ("hedge", None), ("continuation", 7),
    ]  # fmt: skip


def test_the_span_of_a_call_names_the_target_that_answered() -> None:
    attempts = [attempt_record(), attempt_record(number=2, target="local", cause="hedge", outcome=Outcome.ABANDONED)]
    assert attributes(spans_of(call_record(attempts=attempts, answered_by=1))[0])["postern.target"] == "openai"


def test_the_attempt_that_opened_a_breaker_or_closed_it_says_so() -> None:
    opened = attempt_record(outcome=Outcome.FAILED, first_chunk_ns=None, opened_breaker=True)
    assert events(spans_of(call_record(attempts=[opened]))[1]) == [("postern.breaker_opened", START_NS + SECOND_NS, {})]
    closed = attempt_record(first_chunk_ns=None, recovery_ns=SECOND_NS)
    assert events(spans_of(call_record(attempts=[closed]))[1]) == [("postern.breaker_closed", START_NS + SECOND_NS, {})]


def test_a_copy_of_a_call_is_a_span_within_and_says_whose() -> None:
    span = spans_of(call_record(mirror_of="call-0"))[0]
    assert (span.kind, attributes(span)["postern.mirror_of"]) == (Span.SPAN_KIND_INTERNAL, "call-0")
    assert not span.flags & 0x200, "its parent is ours"


def test_refusal_is_an_event_that_names_the_rule() -> None:
    record = call_record(attempts=[], outcome=Outcome.REJECTED, status=429, rule="tenant-day", error_type="budget_exceeded")
    told = {"postern.rule": "tenant-day", "postern.code": "budget_exceeded"}
    assert events(spans_of(record)[0]) == [("postern.refusal", record.end_ns, told)]


def test_each_failed_attempt_is_a_span() -> None:
    server, failed, succeeded = spans_of(full_call())
    assert failed.parent_span_id == succeeded.parent_span_id == server.span_id
    assert [span.status.code for span in (failed, succeeded)] == [Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET]


def test_an_errors_message_is_the_status_description() -> None:
    record = call_record(attempts=[attempt_record(outcome=Outcome.REJECTED, status=400, error_message="too long")])
    assert spans_of(record)[1].status.message == "too long"


def test_one_encoder_writes_call_after_call_alike() -> None:
    encoder = SpanEncoder("gen_ai.usage.cost", "both", True)
    first = encoder.encode(full_call())
    other = encoder.encode(call_record(attempts=[attempt_record(usage=full_usage(), finish_reasons=["length"])]))
    assert encoder.encode(full_call()) == first != other
