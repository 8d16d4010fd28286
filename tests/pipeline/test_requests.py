"""What goes upstream: the client's own bytes, at the target's address, under the right credential and trace."""

from __future__ import annotations

import json

import pytest

from proxy.call import HeaderList, Outcome
from tests.pipeline.fakes import Sent
from tests.pipeline.replies import GOOD, chat_reply, json_reply
from tests.pipeline.scripts import CONFIG, chat, posted
from tests.pipeline.world import Request, World, world_under

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-03".encode()
TWO_TARGETS = """
targets:
  openai: {provider: openai, credential: sk-target}
  own: {provider: vllm, base_url: "http://llm.example:8000/base/v1"}
"""
PASSTHROUGH = "targets: {openai: {provider: openai, credential: passthrough}}"
TRUSTED = CONFIG + "telemetry: {trust_upstream_context: [openai]}"

world = world_under(CONFIG)


def sent_under(config: str, request: Request) -> Sent:
    with World(config) as world:
        return world.call(request, GOOD).sent[0]


# ---------------------------------------------------------------------------------------------------- body and address


def test_a_body_that_no_rule_is_about_passes_byte_for_byte(world: World) -> None:
    body = b' {"model" : "gpt-4o","unknown":[1.0, 1e3],"model2":"\\u00e9", "messages":[] }\n'
    sent = world.call(posted(body), GOOD).sent[0]
    assert (sent.body, sent.method, sent.url) == (body, "POST", "https://api.openai.com/v1/chat/completions")


@pytest.mark.parametrize("said", [b"text/plain", b"application/x-www-form-urlencoded", b"application/octet-stream"])
def test_an_object_that_is_not_said_to_be_json_is_read_all_the_same(world: World, said: bytes) -> None:
    """curl's `-d` says it is a form, and many servers take it for what it is: else it would be asked for no price and held to no budget."""
    body = b' {"model": "gpt-4o", "messages": []}'
    played = world.call(Request(headers=[(b"Content-Type", said)], steps=[body]), GOOD)
    assert (played.record.requested_model, played.sent[0].body) == ("gpt-4o", body)


@pytest.mark.parametrize("body", [b"model=gpt-4o", b"{model", b'{"model": 1}', b"\xff\x00{}", b""])
def test_what_is_no_object_and_not_said_to_be_one_passes_unread(world: World, body: bytes) -> None:
    played = world.call(Request(headers=[(b"Content-Type", b"application/x-www-form-urlencoded")], steps=[body]), GOOD)
    assert (played.client.status, played.record.requested_model, played.sent[0].body or b"") == (200, None, body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"smart","messages":[],"n" : 1}', b'{"model":"house-7b","messages":[],"n" : 1}'),
        (b'{ "messages":[{"model":"smart"}] , "model" :"smart" }', b'{ "messages":[{"model":"smart"}] , "model" :"house-7b" }'),
        (b'{"mod\\u0065l":"smart","x":"\xc3\xa9"}', b'{"mod\\u0065l":"house-7b","x":"\xc3\xa9"}'),
    ],
)
def test_renaming_a_model_changes_no_other_byte(body: bytes, expected: bytes) -> None:
    config = TWO_TARGETS + "models: {smart: {targets: [{target: own, model: house-7b}]}}\nroutes: [{name: all, to: [openai]}]"
    with World(config) as world:
        played = world.call(posted(body), GOOD)
    assert played.sent[0].body == expected
    assert played.sent[0].url == "http://llm.example:8000/base/v1/chat/completions"
    assert (played.record.requested_model, played.record.attempts[0].model) == ("smart", "house-7b")
    assert played.client.value("x-postern-target") == "own"
    assert played.client.value("x-postern-model") == "house-7b"


def test_the_query_goes_along(world: World) -> None:
    sent = world.call(Request("GET", "/v1/files?limit=2&after=a%2Fb"), json_reply({})).sent[0]
    assert sent.url == "https://api.openai.com/v1/files?limit=2&after=a%2Fb"


def test_an_absolute_target_does_not_choose_the_host(world: World) -> None:
    sent = world.call(Request("GET", "http://evil.example/v1/models"), json_reply({})).sent[0]
    assert sent.url == "https://api.openai.com/v1/models"


# -------------------------------------------------------------------------------------------------------- credentials


CLIENT_KEYS: HeaderList = [
    (b"Authorization", b"Bearer sk-client"),
    (b"api-key", b"sk-client"),
    (b"X-Api-Key", b"sk-client"),
    (b"x-goog-api-key", b"sk-client"),
]


def keys_in(sent: Sent) -> HeaderList:
    return [field for field in sent.headers if b"sk-" in field[1]]


def test_a_targets_credential_replaces_every_credential_of_the_client() -> None:
    assert keys_in(sent_under(CONFIG, chat(CLIENT_KEYS))) == [(b"authorization", b"Bearer sk-target")]


def test_a_target_without_credential_beside_others_gets_none() -> None:
    routes = "routes: [{name: all, to: [own]}]"
    assert keys_in(sent_under(TWO_TARGETS + routes, chat(CLIENT_KEYS))) == []


def test_passthrough_sends_what_the_client_sent() -> None:
    assert keys_in(sent_under(PASSTHROUGH, chat(CLIENT_KEYS))) == CLIENT_KEYS


def test_the_credential_stands_in_the_field_its_provider_reads() -> None:
    config = "targets: {claude: {provider: anthropic, credential: sk-target}}"
    assert keys_in(sent_under(config, chat(CLIENT_KEYS))) == [(b"x-api-key", b"sk-target")]


def test_a_key_in_the_query_goes_only_where_the_clients_credential_goes() -> None:
    request = posted({"contents": []}, "/v1beta/models/gemini-x:generateContent?alt=json&key=sk-client&b=1")
    assert sent_under(CONFIG, request).url.endswith(":generateContent?alt=json&b=1")
    assert sent_under(PASSTHROUGH, request).url.endswith("?alt=json&key=sk-client&b=1")


def test_a_key_in_the_query_is_not_recorded(world: World) -> None:
    played = world.call(Request("GET", "/v1/models?key=sk-client"), json_reply({}))
    assert played.record.path == "/v1/models"


# ------------------------------------------------------------------------------------------------------ trace context


CONTEXT: HeaderList = [(b"traceparent", TRACEPARENT), (b"tracestate", b"vendor=1"), (b"baggage", b"user=7")]


def test_a_caller_whose_flags_are_03_is_joined_and_sampled(world: World) -> None:
    record = world.call(chat(CONTEXT), GOOD).record
    assert (record.trace_id, record.parent_span_id, record.sampled, record.trace_state) == (TRACE, PARENT, True, "vendor=1")
    assert record.span_id not in (PARENT, record.attempts[0].span_id)


def test_an_unsampled_caller_stays_unsampled(world: World) -> None:
    record = world.call(chat([(b"traceparent", TRACEPARENT[:-2] + b"02")]), GOOD).record
    assert (record.trace_id, record.sampled) == (TRACE, False)


@pytest.mark.parametrize("value", [b"00-xyz", TRACEPARENT.replace(b"0", b"-", 1), b"00-" + b"0" * 32 + TRACEPARENT[35:], b""])
def test_a_malformed_traceparent_is_ignored(world: World, value: bytes) -> None:
    played = world.call(chat([(b"traceparent", value), (b"tracestate", b"vendor=1")]), GOOD)
    record = played.record
    assert record.trace_id != TRACE
    assert (record.parent_span_id, record.sampled, record.trace_state) == (None, True, None)
    assert played.client.value("x-postern-trace-id") == record.trace_id


def test_an_untrusted_target_sees_no_trace_context_and_no_baggage(world: World) -> None:
    sent = world.call(chat(CONTEXT), GOOD).sent[0]
    assert not [name for name, _ in sent.headers if name in (b"traceparent", b"tracestate", b"baggage")]


def test_a_trusted_target_gets_the_attempts_span_and_the_baggage() -> None:
    with World(TRUSTED) as world:
        played = world.call(chat(CONTEXT), GOOD)
    sent, attempt = played.sent[0], played.record.attempts[0]
    assert sent.values("traceparent") == [f"00-{TRACE}-{attempt.span_id}-01".encode()]
    assert (sent.values("tracestate"), sent.values("baggage")) == ([b"vendor=1"], [b"user=7"])


def test_a_trusted_target_is_told_that_a_trace_is_not_sampled() -> None:
    sent = sent_under(TRUSTED, chat([(b"traceparent", TRACEPARENT[:-2] + b"00")]))
    assert sent.values("traceparent")[0].endswith(b"-00")


# ------------------------------------------------------------------------------------------------------ header fields


def test_tags_are_recorded_and_not_sent_on(world: World) -> None:
    played = world.call(chat([(b"X-Postern-Tags", b" team=search , env = prod,=none,flag")]), GOOD)
    assert played.record.tags == {"team": "search", "env": "prod", "flag": ""}
    assert not [name for name, _ in played.sent[0].headers if name.lower().startswith(b"x-postern-")]


def test_tags_are_bounded(world: World) -> None:
    many = b",".join(b"k%d=v" % number for number in range(99))
    assert len(world.call(chat([(b"x-postern-tags", many)]), GOOD).record.tags) == 16


def test_hop_by_hop_fields_stop_here(world: World) -> None:
    fields: HeaderList = [(b"Connection", b"close, X-Hop"), (b"X-Hop", b"1"), (b"TE", b"trailers"), (b"X-End", b"2")]
    reply = json_reply(chat_reply(), headers=[(b"Keep-Alive", b"timeout=5"), (b"X-Request-Id", b"req_1")])
    played = world.call(chat(fields), reply)
    names = [name for name, _ in played.sent[0].headers]
    assert b"X-End" in names
    assert not {b"Connection", b"X-Hop", b"TE"} & {*names}
    assert (played.client.value("keep-alive"), played.client.value("x-request-id")) == (None, "req_1")


def test_transparent_mode_adds_nothing_to_a_reply() -> None:
    with World(CONFIG + "transparent: true") as world:
        replied = world.call(chat(), GOOD)
        refused = world.call(posted(b"no json"))
    assert replied.client.headers == GOOD.headers
    assert not [name for name, _ in refused.client.headers if name.startswith(b"x-postern-")]
    assert replied.record.attempts[0].cost


def test_replies_say_which_call_they_belong_to(world: World) -> None:
    played = world.call(chat(), GOOD)
    assert played.client.value("x-postern-call-id") == played.record.call_id
    assert played.client.value("x-postern-route") == played.record.route == "default"
    assert played.client.value("x-postern-attempts") == "1"


def test_what_a_client_calls_a_model_cannot_add_a_header_field(world: World) -> None:
    played = world.call(chat(body={"model": "gpt\r\nx-evil: 1"}), GOOD)
    assert played.client.value("x-postern-model") == "gpt??x-evil: 1"


def test_the_record_tells_what_was_asked(world: World) -> None:
    request = chat([(b"User-Agent", b"App/1.0")], {"temperature": 0.5, "max_tokens": 7})
    record = world.call(request, GOOD).record
    assert record.facts
    assert (record.facts.temperature, record.facts.max_tokens, record.user_agent) == (0.5, 7, "App/1.0")
    assert (record.http_route, record.operation, record.requested_model) == ("/v1/chat/completions", "chat", "gpt-4o")
    assert record.request_bytes == sum(len(step) for step in request.steps if isinstance(step, bytes))


def test_records_survive_any_bytes_a_client_can_send(world: World) -> None:
    odd: HeaderList = [(b"User-Agent", b"\xff\xfe"), (b"x-postern-tags", b"\xff=\xfe"), (b"tracestate", b"\xff")]
    assert world.call(chat([*odd, (b"traceparent", TRACEPARENT)]), GOOD).record.outcome is Outcome.SUCCEEDED
    played = world.call(Request("GET", "/v1/\udcff?x", odd))
    assert (played.client.status, played.record.outcome, played.record.path) == (400, Outcome.REJECTED, "/v1/?")


def test_a_models_name_may_be_any_text(world: World) -> None:
    body = json.dumps({"model": "\ud800"}).encode()
    played = world.call(posted(body), GOOD)
    assert (played.client.status, played.sent[0].body) == (200, body)
