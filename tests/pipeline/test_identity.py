"""Who a call is from: its labels are read once, told in its record, and asked by rules."""

from __future__ import annotations

import pytest

from proxy.call import MASK, HeaderList
from proxy.policy.identity import MAX_LABEL_CHARS
from tests.pipeline.replies import GOOD, json_reply
from tests.pipeline.scripts import CONFIG, TWO_TARGETS, chat, posted
from tests.pipeline.world import Request, World

OK = json_reply({})


def labels(
    headers: HeaderList, body: dict[str, object] | None = None, more: str = "", environment: dict[str, str] | None = None
) -> dict[str, str]:
    """Those of one chat call, as they are recorded."""
    with World(CONFIG + more, environment) as world:
        return world.call(chat(headers, body), GOOD).record.labels


def test_every_label_is_read_and_recorded() -> None:
    headers = [(b"X-Tenant", b"shop"), (b"x-app", b"web"), (b"x-workflow-id", b"w1"), (b"x-workflow-step", b"3")]
    read = labels(headers, {"user": "bob", "metadata": {"task": "caption", "workflow": "w2"}})
    assert read == {"tenant": "shop", "user": "bob", "app": "web", "task": "caption", "workflow": "w1", "step": "3"}


def test_a_call_that_says_nothing_has_no_labels() -> None:
    assert labels([]) == {}


def test_labels_come_from_the_environment_where_the_call_has_none() -> None:
    environment = {"POD_NAMESPACE": "shop", "OTEL_SERVICE_NAME": "web"}
    assert labels([], environment=environment) == {"tenant": "shop", "app": "web"}
    assert labels([(b"x-tenant", b"ads")], environment=environment) == {"tenant": "ads", "app": "web"}


def test_user_of_the_body_comes_before_the_safety_identifier_and_the_header() -> None:
    headers = [(b"x-user", b"third")]
    assert labels(headers, {"user": "first", "safety_identifier": "second"})["user"] == "first"
    assert labels(headers, {"user": "", "safety_identifier": "second"})["user"] == "second"
    assert labels(headers, {"user": 5, "safety_identifier": None})["user"] == "third"


def test_any_member_of_the_body_and_of_the_baggage_may_be_a_label() -> None:
    more = "identity: {tenant: [{body: org}], workflow: [{baggage: flow}], app: [{body: model}]}\n"
    assert labels([(b"baggage", b"a=b,flow=w%201;p=1")], {"org": "shop"}, more) == {"tenant": "shop", "workflow": "w 1", "app": "gpt-4o"}


def test_calls_without_a_json_body_have_the_labels_of_their_head() -> None:
    upload = Request(target="/v1/files", headers=[(b"x-tenant", b"shop"), (b"x-user", b"bob")], steps=[b'{"user": "eve"}'])
    with World(CONFIG) as world:
        assert world.call(upload, OK).record.labels == {"tenant": "shop", "user": "bob"}


def test_a_call_that_is_refused_for_its_body_has_the_labels_of_its_head() -> None:
    with World(CONFIG) as world:
        played = world.call(posted(b"{", headers=[(b"x-tenant", b"shop")]))
    assert (played.client.status, played.record.labels) == (400, {"tenant": "shop"})


def test_labels_are_sent_on_as_they_came() -> None:
    with World(CONFIG) as world:
        (sent,) = world.call(chat([(b"x-tenant", b" shop ")], {"user": "bob"}), GOOD).sent
    assert sent.values("x-tenant") == [b" shop "]
    assert b'"user": "bob"' in sent.body


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\xff\xfe\x00a", "\ufffd\ufffda"),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (b"a" * 70_000, "a" * MAX_LABEL_CHARS),
        (b"a\tb", "ab"),
        (b" ", None),
        (b"\x7f", None),
    ],
)
def test_hostile_values_become_short_printable_labels_or_none(value: bytes, expected: str | None) -> None:
    assert labels([(b"x-tenant", value)]).get("tenant") == expected


@pytest.mark.parametrize("where", ["authorization", "x-api-key", "api-key", "x-goog-api-key"])
def test_a_label_never_holds_the_clients_credential(where: str) -> None:
    secret = b"sk-client-0123456789"
    headers = [(where.encode(), b"Bearer " + secret), (b"x-tenant", b"a " + secret)]
    assert labels(headers, {"user": secret.decode()}) == {"tenant": f"a {MASK}", "user": MASK}


def test_a_label_never_holds_the_credential_of_a_target() -> None:
    assert labels([(b"x-tenant", b"sk-target")]) == {"tenant": MASK}


# --------------------------------------------------------------------------------------------------------- what is asked


def targets_asked(routes: str, *calls: Request) -> list[str]:
    config = TWO_TARGETS.partition("routes:")[0] + f"routes: [{routes}]\n"
    with World(config) as world:
        return [world.call(call, GOOD).sent[0].target.name for call in calls]


def test_a_route_is_chosen_by_labels() -> None:
    rules = "{name: ads, match: {tenant: 'ads-*', task: [caption, title]}, to: [second]}, {name: all, to: [first]}"
    calls = [
        chat([(b"x-tenant", b"ads-eu"), (b"x-task", b"title")]),
        chat([(b"x-tenant", b"ads-eu")], {"metadata": {"task": "caption"}}),
        chat([(b"x-tenant", b"ads-eu"), (b"x-task", b"other")]),
        chat([(b"x-task", b"title")]),
    ]
    assert targets_asked(rules, *calls) == ["second", "second", "first", "first"]


def test_a_route_is_chosen_by_labels_of_calls_without_a_body() -> None:
    rules = "{name: ads, match: {tenant: ads}, to: [second]}, {name: all, to: [first]}"
    reads = [Request("GET", "/v1/models", headers) for headers in ([(b"x-tenant", b"ads")], [])]
    assert targets_asked(rules, *reads) == ["second", "first"]


@pytest.mark.parametrize(("sticky_by", "field"), [("tenant", b"x-tenant"), ("workflow", b"x-workflow-id"), ("user", b"x-user")])
def test_calls_stick_by_any_label(sticky_by: str, field: bytes) -> None:
    rules = f"{{name: all, strategy: sticky, sticky_by: {sticky_by}, to: [first, second]}}"
    assert len(set(targets_asked(rules, *[chat([(field, b"same")])] * 12))) == 1
    assert len(set(targets_asked(rules, *[chat([(field, b"%d" % number)]) for number in range(12)]))) == 2
    assert len(set(targets_asked(rules, *[chat()] * 12))) == 2


def test_an_experiment_goes_by_any_label() -> None:
    more = "routes: [{name: a, to: [openai], experiment: {name: e, arms: {x: 50%, y: 50%}, by: tenant}}]\n"
    with World(CONFIG + more) as world:
        arms = [world.call(chat([(b"x-tenant", b"%d" % (number % 10))]), GOOD).record.arm for number in range(40)]
    assert set(arms) == {"x", "y"}
    assert arms[:10] * 4 == arms
