"""Virtual keys: asked for before anything of a body is read, on every path; swapped for the target's credential; told nowhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from proxy.call import HeaderList, Outcome
from tests.pipeline.replies import GOOD, JSON_TYPE, json_reply
from tests.pipeline.scripts import CONFIG, bearer, chat, posted
from tests.pipeline.world import Played, Request, World, world_under

OK = json_reply({})
KEY, BATCH, OLD = b"pk-postern-web-0123456789", b"pk-postern-batch-0123456789", b"pk-postern-old-0123456789"
BEARER: HeaderList = [(b"Authorization", b"Bearer " + KEY)]
MODELS = "models: {smart: {targets: [{target: openai, model: gpt-5}]}}\n"
ROUTES = "routes: [{name: night, match: {header: {x-night: '1'}}, to: [openai]}, {name: day, to: [openai]}]\n"


def digest(key: bytes) -> str:
    return sha256(key).hexdigest()


KEYS = f"""
keys:
  - {{name: web, sha256: {digest(KEY)}, tenant: shop, app: front}}
  - {{name: batch, sha256: {digest(BATCH)}, models: ["gpt-4*", smart], routes: [day, default]}}
  - {{name: old, sha256: {digest(OLD)}, expires: 2001-01-01}}
"""

world = world_under(CONFIG + MODELS + ROUTES + KEYS)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        (BEARER, ""),
        ([(b"authorization", b"bearer " + KEY)], ""),
        ([(b"x-api-key", KEY)], ""),
        ([(b"api-key", KEY)], ""),
        ([(b"X-Goog-Api-Key", KEY)], ""),
        ([], f"?key={KEY.decode()}"),
        ([], f"?a=1&k%65y={KEY.decode().replace('-', '%2D')}"),
        ([(b"authorization", b"Bearer sk-another"), (b"x-api-key", KEY)], ""),
        ([(b"authorization", b"Bearer sk-another"), (b"authorization", b"Bearer " + KEY)], ""),
    ],
)
def test_a_key_is_taken_wherever_clients_send_one_and_goes_no_further(world: World, headers: HeaderList, query: str) -> None:
    played = world.call(chat(headers, target=f"/v1/chat/completions{query}"), GOOD)
    assert (played.client.status, played.record.labels["key"]) == (200, "web")
    (sent,) = played.sent
    assert KEY not in repr((sent.url, sent.headers, sent.body)).encode()
    assert sent.values("authorization") == [b"Bearer sk-target"]
    assert KEY.decode() not in repr(played.record)


def test_what_the_key_says_is_what_the_call_is_labelled_with(world: World) -> None:
    assert world.call(chat(BEARER), GOOD).record.labels == {"tenant": "shop", "app": "front", "key": "web"}
    assert world.call(chat([*BEARER, (b"x-app", b"cli")]), GOOD).record.labels == {"tenant": "shop", "app": "cli", "key": "web"}


def test_a_field_that_repeats_the_key_goes_no_further_and_any_other_does(world: World) -> None:
    headers = [*BEARER, (b"x-subscription-key", KEY), (b"x-note", b"a " + KEY), (b"x-other", b"pk-postern"), (b"x-user", b"bob")]
    (sent,) = world.call(chat(headers), GOOD).sent
    assert [sent.values(name) for name in ("x-subscription-key", "x-note", "x-other", "x-user")] == [[], [], [b"pk-postern"], [b"bob"]]


@pytest.mark.parametrize("place", [b"x-user", b"x-tenant"])
def test_a_label_never_holds_a_key(world: World, place: bytes) -> None:
    record = world.call(chat([*BEARER, (place, b"as " + KEY)]), GOOD).record
    assert KEY.decode() not in repr(record)


HOSTILE = [
    [],
    bearer(b""),
    bearer(b"sk-unknown"),
    bearer(KEY + b"x"),
    bearer(KEY[:-1]),
    bearer(KEY.upper()),
    bearer(digest(KEY).encode()),
    bearer(b"\xff\x00\xfe"),
    bearer("caf\u00e9".encode()),
    bearer(b"x" * 60_000),
    [(b"x-api-key", b"sk-%d" % number) for number in range(500)],
    [(b"cookie", b"key=" + KEY), (b"x-key", KEY)],
    [(b"sec-websocket-protocol", b"openai-insecure-api-key." + KEY)],  # of a handshake only
]


@pytest.mark.parametrize("headers", HOSTILE)
def test_without_a_good_key_the_call_is_refused_and_nothing_of_its_body_is_read(world: World, headers: HeaderList) -> None:
    played = world.call(chat(headers))
    error = played.error
    assert (played.client.status, error["type"], error["code"], error["param"]) == (401, "postern_refused", "key_invalid", None)
    assert (played.client.value("x-should-retry"), played.client.value("www-authenticate")) == ("false", 'Bearer realm="postern"')
    assert (played.record.outcome, played.record.error_type, played.record.labels) == (Outcome.REJECTED, "key_invalid", {})
    assert (played.sent, played.body.was_read_whole) == ([], False)


def test_an_expired_key_is_refused_under_its_name(world: World) -> None:
    played = world.call(chat(bearer(OLD)))
    assert (played.client.status, played.error["code"], played.error["param"]) == (401, "key_invalid", "old")
    assert "'old' has expired" in str(played.error["message"])
    assert (played.record.rule, played.record.labels) == ("old", {"key": "old"})


def test_a_key_expires_at_its_moment_by_the_clock() -> None:
    with World(CONFIG) as world:
        unix_s = world.clock.time_ns() / 1e9
    end = datetime.fromtimestamp(int(unix_s) + 10, UTC).isoformat().replace("+00:00", "Z")
    with World(f"{CONFIG}keys: [{{name: web, sha256: {digest(KEY)}, expires: '{end}'}}]\n") as world:
        assert world.call(chat(BEARER), GOOD).client.status == 200
        world.pass_time(10)
        assert world.call(chat(BEARER)).client.status == 401


PATHS = [
    ("POST", "/v1/files"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/audio/transcriptions"),
    ("GET", "/v1/models"),
    ("DELETE", "/v1/files/f"),
    ("POST", "/anything/else"),
    ("OPTIONS", "/"),
    ("POST", "/v1beta/models/gemini:generateContent"),
    ("POST", "/v1/messages"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_every_path_needs_a_key(world: World, method: str, path: str) -> None:
    assert world.call(Request(method, path)).client.status == 401
    assert world.call(Request(method, path, bearer(b"sk-unknown"))).client.status == 401
    body = [b"{}"] if method == "POST" else []
    assert world.call(Request(method, path, [*BEARER, *JSON_TYPE], body), OK).client.status == 200


def test_a_path_that_is_refused_later_needs_a_key_first(world: World) -> None:
    assert world.call(Request("GET", "/v1/../admin")).client.status == 401
    assert world.call(Request("GET", "/v1/../admin", BEARER)).client.status == 400


def test_an_explanation_needs_a_key(world: World) -> None:
    explain = (b"x-postern-explain", b"1")
    assert world.call(chat([explain])).client.status == 401
    played = world.call(chat([explain, *BEARER, (b"x-user", b"bob")]))
    assert json.loads(played.client.body)["labels"] == {"tenant": "shop", "user": "bob", "app": "front", "key": "web"}


def test_anthropics_clients_get_their_own_envelope(world: World) -> None:
    played = world.call(posted({"model": "claude"}, "/v1/messages"))
    assert json.loads(played.client.body)["error"]["type"] == "authentication_error"


def test_without_keys_none_is_needed_and_the_clients_own_goes_on() -> None:
    with World("targets: {openai: {provider: openai}}") as world:
        (sent,) = world.call(chat(BEARER), GOOD).sent
    assert sent.values("authorization") == [b"Bearer " + KEY]


def test_with_keys_no_target_gets_the_clients_credential() -> None:
    with World(f"targets: {{openai: {{provider: openai}}}}\nkeys: [{{name: web, sha256: {digest(KEY)}}}]\n") as world:
        (sent,) = world.call(chat(BEARER), GOOD).sent
    assert sent.values("authorization") == []


def test_a_reload_takes_keys_and_gives_them_from_the_next_call_on(world: World) -> None:
    assert world.call(chat(BEARER), GOOD).client.status == 200
    world.reload(CONFIG + f"keys: [{{name: new, sha256: {digest(b'pk-new')}}}]\n")
    assert world.call(chat(BEARER)).client.status == 401
    assert world.call(chat(bearer(b"pk-new")), GOOD).record.labels == {"key": "new"}


# ------------------------------------------------------------------------------------------------- what a key is for


def refusal(played: Played) -> tuple[int | None, object, object]:
    assert played.sent == []
    assert played.client.value("x-should-retry") == "false"
    return played.client.status, played.error["code"], played.error["param"]


NOT_ALLOWED = (403, "model_not_allowed", "batch")


def test_a_key_opens_the_models_that_it_names(world: World) -> None:
    for model in ("gpt-4o", "smart"):  # the alias that is asked for, not what it leads to
        assert world.call(chat(bearer(BATCH), {"model": model}), GOOD).client.status == 200
    for other in ("gpt-5", "claude", "", None):
        assert refusal(world.call(chat(bearer(BATCH), {"model": other}))) == NOT_ALLOWED


def test_a_model_that_the_path_names_counts_too(world: World) -> None:
    def deployment(name: str) -> Request:
        return posted({"model": "gpt-4o"}, f"/openai/deployments/{name}/chat/completions", bearer(BATCH))

    assert world.call(deployment("gpt-4o"), GOOD).client.status == 200
    assert refusal(world.call(deployment("gpt-5"))) == NOT_ALLOWED


def test_models_that_stand_in_for_the_model_count_too(world: World) -> None:
    assert world.call(chat(bearer(BATCH), {"models": ["gpt-4o-mini", "smart"]}), GOOD).client.status == 200
    assert refusal(world.call(chat(bearer(BATCH), {"models": ["gpt-4o-mini", "gpt-5"]}))) == NOT_ALLOWED


def test_a_call_whose_model_cannot_be_read_is_refused_where_the_key_is_for_some(world: World) -> None:
    coded = [(b"content-encoding", b"exotic")]
    assert refusal(world.call(posted({"model": "gpt-4o"}, headers=[*bearer(BATCH), *coded]))) == NOT_ALLOWED
    for path in ("/v1/audio/transcriptions", "/v1/batches", "/anything/else"):
        assert refusal(world.call(Request("POST", path, bearer(BATCH), [b"x"]))) == NOT_ALLOWED
    assert world.call(Request("GET", "/v1/models", bearer(BATCH)), OK).client.status == 200
    assert world.call(Request("POST", "/v1/batches", BEARER, [b"x"]), OK).client.status == 200


def test_a_key_opens_the_routes_that_it_names(world: World) -> None:
    assert world.call(chat(bearer(BATCH)), GOOD).record.route == "day"
    at_night = (b"x-night", b"1")
    assert refusal(world.call(chat([*bearer(BATCH), at_night]))) == (403, "route_not_allowed", "batch")
    assert world.call(chat([*BEARER, at_night]), GOOD).record.route == "night"


def test_what_a_key_is_not_for_is_explained(world: World) -> None:
    told = json.loads(world.call(chat([*bearer(BATCH), (b"x-postern-explain", b"1")], {"model": "claude"})).client.body)
    assert (told["refusal"]["status"], told["refusal"]["code"]) == (403, "model_not_allowed")


def test_a_route_is_chosen_by_the_key() -> None:
    routes = "routes: [{name: web, match: {key: 'w*'}, to: [openai]}, {name: others, to: [openai]}]\n"
    with World(CONFIG + KEYS.replace(", routes: [day, default]", "") + routes) as world:
        assert [world.call(chat(bearer(key)), GOOD).record.route for key in (KEY, BATCH)] == ["web", "others"]
