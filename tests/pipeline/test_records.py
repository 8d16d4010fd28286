"""What a record tells of the path of its call: decision, rule, attributes, sampling, the gaps between a stream's chunks, addresses."""

from __future__ import annotations

import pytest

from proxy.call import HeaderList, Target
from proxy.pipeline.request import ClientRequest
from proxy.policy.conditions import RouteFacts
from proxy.policy.telemetry_environment import Sampler, TelemetryEnvironment
from proxy.records import CHUNK_GAP_BOUNDARIES_S, CallRecord
from tests.pipeline.fakes import FakeRequestBody, Reply, Sent, Step, Wait
from tests.pipeline.replies import BYE, DONE, GOOD, delta, sse
from tests.pipeline.scripts import CONFIG, chat, chat_stream, posted
from tests.pipeline.world import Played, Request, World, runtime

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BAGGAGE = (b"baggage", b"user=jo")
TRUSTED = CONFIG + "telemetry: {trust_upstream_context: [openai]}"
ATTRIBUTES = CONFIG + "telemetry: {attributes: {team: {header: x-team}, feature: {metadata: feature}, mine: {header: x-postern-mine}}}"
ROUTES = CONFIG + 'routes: [{name: ads, match: {model: "gpt-*"}, to: [{target: openai, model: gpt-5.2}]}]'


def record_of(config: str, request: Request) -> CallRecord:
    with World(config) as world:
        return world.call(request, GOOD).record


def played_under(environment: TelemetryEnvironment, request: Request, config: str = TRUSTED) -> Played:
    with World(config) as world:
        plain = world.gate.runtime
        world.gate.use(type(plain)(plain.config, _targets(world), plain.prices, environment))
        return world.call(request, GOOD)


def _targets(world: World) -> dict[str, Target]:
    return {name: endpoint.target for name, endpoint in world.gate.runtime.endpoints.items()}


def traced(flags: str = "01") -> HeaderList:
    return [(b"traceparent", f"00-{TRACE}-{PARENT}-{flags}".encode()), (b"tracestate", b"a=1"), BAGGAGE]


def context_of(sent: Sent) -> dict[bytes, bytes]:
    return {name: value for name, value in sent.headers if name in (b"traceparent", b"tracestate", b"baggage")}


# ------------------------------------------------------------------------------------------------------------- decision


def test_decision_names_route_target_and_model() -> None:
    assert record_of(ROUTES, chat()).decision == "ads>openai/gpt-5.2"
    assert record_of(CONFIG, chat()).decision == "default>openai/gpt-4o"
    assert record_of(CONFIG, Request("GET", "/v1/models")).decision == "default>openai"


def test_rule_that_refused_a_call_is_named() -> None:
    config = ROUTES.replace("price: {per_million: {input: 2, output: 8}}", "") + "\nprices: {on_unknown: refuse}"
    with World(config.replace("gpt-5.2", "nobody-knows-it")) as world:
        refused = world.call(chat()).record
    assert (refused.error_type, refused.rule) == ("unknown_price", "ads")


def test_call_that_no_rule_refused_names_none() -> None:
    with World(ROUTES) as world:
        assert world.call(posted(b'{"model": 5}')).record.rule is None  # the param is the field
        assert world.call(chat(body={"model": "other"})).record.rule is None


def test_overhead_before_an_upstream_is_asked_is_told_apart() -> None:
    steps: list[Step] = [b'{"model":"gpt-4o",', Wait(0.5), b'"messages":[]}']
    slow = Reply(GOOD.status, GOOD.headers, GOOD.steps, before_head=(Wait(2),))
    with World(CONFIG) as world:
        record = world.call(Request(headers=[(b"content-type", b"application/json")], steps=steps), slow).record
    assert 500_000_000 <= record.overhead_before_ns <= record.overhead_ns < 600_000_000


# ----------------------------------------------------------------------------------------------------------- attributes


def test_attributes_of_the_user_are_recorded_and_their_headers_go_on() -> None:
    headers = [(b"X-Team", b"ads"), (b"X-Postern-Mine", b"m")]
    with World(ATTRIBUTES) as world:
        played = world.call(chat(headers=headers, body={"metadata": {"feature": "search"}}), GOOD)
    assert played.record.attributes == {"team": "ads", "feature": "search", "mine": "m"}
    names = [name for name, _ in played.sent[0].headers]
    assert b"X-Team" in names
    assert b"X-Postern-Mine" not in names


def test_credential_in_an_attribute_is_masked() -> None:
    headers = [(b"authorization", b"Bearer sk-client-1"), (b"x-team", b"key sk-client-1")]
    assert record_of(ATTRIBUTES, chat(headers=headers)).attributes == {"team": "key ***"}


def test_attributes_are_absent_where_none_are_declared() -> None:
    assert record_of(CONFIG, chat(headers=[(b"x-team", b"ads")])).attributes == {}


# ------------------------------------------------------------------------------------------------ sampling, propagation


@pytest.mark.parametrize(
    ("sampler", "headers", "flag"),
    [
        (Sampler(), [], b"01"),
        (Sampler(), traced("00"), b"00"),
        (Sampler(), traced("03"), b"01"),
        (Sampler(0), [], b"00"),
        (Sampler(0), traced("01"), b"01"),
        (Sampler(0, follows_parent=False), traced("01"), b"00"),
        (Sampler(follows_parent=False), traced("00"), b"01"),
    ],
)
def test_decision_of_the_sampler_goes_upstream_and_into_the_record(sampler: Sampler, headers: HeaderList, flag: bytes) -> None:
    played = played_under(TelemetryEnvironment(sampler), chat(headers=headers))
    assert context_of(played.sent[0])[b"traceparent"][-2:] == flag
    assert played.record.sampled is (flag == b"01")
    assert played.record.attempts[0].cost is not None  # metrics and the ledger have every call


def test_disabled_sdk_passes_the_clients_context_on_untouched() -> None:
    played = played_under(TelemetryEnvironment(disabled=True), chat(headers=traced("03")))
    assert context_of(played.sent[0]) == dict(traced("03"))
    untrusted = played_under(TelemetryEnvironment(disabled=True), chat(headers=traced()), CONFIG)
    assert context_of(untrusted.sent[0]) == {}


def test_disabled_sdk_makes_no_context_up() -> None:
    assert context_of(played_under(TelemetryEnvironment(disabled=True), chat()).sent[0]) == {}


def test_propagators_that_are_not_named_neither_read_nor_send() -> None:
    none = played_under(TelemetryEnvironment(trace_context=False, baggage=False), chat(headers=traced()))
    assert context_of(none.sent[0]) == {}
    assert (none.record.trace_id == TRACE, none.record.parent_span_id) == (False, None)
    only_baggage = played_under(TelemetryEnvironment(trace_context=False), chat(headers=traced()))
    assert context_of(only_baggage.sent[0]) == dict([BAGGAGE])
    only_trace = played_under(TelemetryEnvironment(baggage=False), chat(headers=traced()))
    assert context_of(only_trace.sent[0]).keys() == {b"traceparent", b"tracestate"}


# -------------------------------------------------------------------------------------------------------- chunks, address


def test_gaps_between_chunks_are_counted_by_their_length() -> None:
    with World(CONFIG) as world:
        waits = [Wait(0.005), Wait(0.01), Wait(0.5), Wait(0.5)]
        steps: list[Step] = [
            delta("a"),
            waits[0],
            delta("b"),
            waits[1],
            delta("c"),
            waits[2],
            delta("d"),
            waits[3],
            BYE + DONE,
        ]
        record = world.call(chat_stream(), sse(*steps)).record
    (attempt,) = record.attempts
    assert attempt.chunk_gaps is not None
    assert len(attempt.chunk_gaps) == len(CHUNK_GAP_BOUNDARIES_S) + 1
    counted = {index: count for index, count in enumerate(attempt.chunk_gaps) if count}
    assert sum(counted.values()) == 4
    assert counted.get(CHUNK_GAP_BOUNDARIES_S.index(0.64)) == 2
    assert counted.get(CHUNK_GAP_BOUNDARIES_S.index(0.01), 0) >= 1
    assert attempt.first_chunk_ns is not None
    assert attempt.last_chunk_ns is not None
    assert attempt.last_chunk_ns - attempt.first_chunk_ns >= 1_015_000_000


def test_stream_of_one_piece_has_no_gaps() -> None:
    with World(CONFIG) as world:
        (attempt,) = world.call(chat_stream(), sse(delta("a", "stop") + DONE)).record.attempts
    assert attempt.chunk_gaps == [0] * (len(CHUNK_GAP_BOUNDARIES_S) + 1)
    assert attempt.last_chunk_ns == attempt.first_chunk_ns


def test_reply_that_is_no_stream_has_no_chunks() -> None:
    (attempt,) = record_of(CONFIG, chat()).attempts
    assert (attempt.chunk_gaps, attempt.last_chunk_ns) == (None, None)


def test_address_is_told_without_its_query_where_no_operation_is() -> None:
    (attempt,) = record_of(CONFIG, Request("GET", "/v1/models?key=sk-client-1&a=b")).attempts
    assert attempt.url == "https://api.openai.com/v1/models"
    assert record_of(CONFIG, chat()).attempts[0].url is None


def test_what_holds_headers_shows_none_of_them() -> None:
    headers = [(b"authorization", b"Bearer sk-client-1")]
    where = ("1.1", "http", "127.0.0.1", 4000, "127.0.0.1")
    request = ClientRequest("GET", "/v1/models?key=sk-client-1", headers, *where, FakeRequestBody(World(CONFIG), (), 0), 0, 0)
    facts = RouteFacts("GET", "/v1/models", None, headers, False)
    for one in (request, facts, runtime(CONFIG).endpoints["openai"]):
        assert "sk-" not in repr(one)


def test_runtime_of_a_plain_configuration_has_nothing_more_to_do() -> None:
    plain = runtime(CONFIG)
    assert not plain.attributes
    assert not plain.captures
    assert plain.redact is None
