"""What `identity` and `keys` may say, and what may not stand beside them."""

from __future__ import annotations

import pytest

from proxy.config.notes import notes
from tests.config.support import MINIMAL, load, only_problem, problems

DIGEST, OTHER = "ab" * 32, "cd" * 32
OWN = "targets: {openai: {provider: openai, credential: k}, local: {provider: ollama}}\nroutes: [{name: a, to: [openai, local]}]\n"


def identity(sources: str, label: str = "tenant") -> str:
    return f"{MINIMAL}identity: {{{label}: {sources}}}"


def keys(*rest: str, head: str = OWN) -> str:
    """Keys, each of them named and with a digest of its own unless it says so."""
    entries = (
        one if "sha256" in one else f"name: k{index}, sha256: '{index:064x}'{', ' if one else ''}{one}" for index, one in enumerate(rest)
    )
    return f"{head}keys: [{', '.join(f'{{{entry}}}' for entry in entries)}]"


# -------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "source", ["{header: X-Tenant}", "{body: org}", "{metadata: org}", "{baggage: org.id}", "{key: true}", "{env: POD_NAMESPACE}"]
)
def test_each_place_of_a_label_loads(source: str) -> None:
    assert len(load(identity(f"[{source}]")).config.identity.tenant) == 1


@pytest.mark.parametrize("source", ["{}", "{key: false}", "{header: a, body: b}", "{header: a, key: true}"])
def test_a_source_names_exactly_one_place(source: str) -> None:
    assert "identity.tenant[0]: must name one place: header, body, metadata, baggage, key or env" in only_problem(identity(f"[{source}]"))


@pytest.mark.parametrize("place", ["header", "body", "metadata", "baggage", "env"])
def test_a_place_has_a_name(place: str) -> None:
    assert f"identity.tenant[0]: has an empty name for `{place}`" in only_problem(identity(f"[{{{place}: ''}}]"))


def test_a_header_has_the_name_of_one() -> None:
    assert "identity.tenant[0]: `header` is not the name of a header" in only_problem(identity("[{header: 'a b'}]"))


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization"])
def test_a_label_is_not_read_from_a_field_that_holds_a_credential(header: str) -> None:
    assert "is a field that holds a credential" in only_problem(identity(f"[{{header: {header}}}]"))


@pytest.mark.parametrize("label", ["task", "workflow", "step"])
def test_a_key_says_no_other_label_than_tenant_user_and_app(label: str) -> None:
    assert f"identity.{label}[0]: a virtual key says no {label}" in only_problem(identity("[{key: true}]", label))


def test_the_same_place_twice_is_refused() -> None:
    told = only_problem(identity("[{header: a}, {key: true}, {header: a}]"))
    assert told.endswith("identity.tenant[2]: is the same as identity.tenant[0]: name it once")


def test_a_label_may_be_left_without_a_place_but_not_without_a_value() -> None:
    assert load(identity("[]")).config.identity.tenant == ()
    assert "identity.tenant: has no value" in only_problem(identity(""))
    assert "identity.tennant: unknown key (did you mean 'tenant'?)" in only_problem(identity("[]", "tennant"))


# ------------------------------------------------------------------------------------------------------ what matches


def matching(match: str, more: str = "") -> str:
    return f"{MINIMAL}routes: [{{name: a, match: {match}, to: [openai]}}]\n{more}"


@pytest.mark.parametrize("label", ["tenant", "user", "app", "task", "workflow", "step"])
def test_a_condition_on_a_label_that_is_never_read_is_refused(label: str) -> None:
    assert load(matching(f"{{{label}: 'a*'}}")).config.routes
    told = only_problem(matching(f"{{{label}: a}}", f"identity: {{{label}: []}}"))
    assert f"routes[0].match.{label}: never matches: `identity.{label}` is empty" in told


def test_a_condition_on_the_key_needs_keys() -> None:
    assert "routes[0].match.key: never matches: there are no `keys`" in only_problem(matching("{key: web}"))
    assert load(keys("", head=OWN.replace("name: a,", "name: a, match: {key: web},"))).config.keys


@pytest.mark.parametrize("match", ["{tenant: ''}", "{task: []}", "{key: [a, '']}"])
def test_a_label_without_a_glob_is_refused(match: str) -> None:
    assert any("is empty and matches nothing" in line for line in problems(matching(match)))


def budget(match: str, per: str = "[tenant]") -> str:
    return matching(f"{{budget_used: {match}}}", f"budgets: [{{name: day, per: {per}, window: {{every: day}}, limit: {{usd: 1}}}}]")


@pytest.mark.parametrize(("written", "share"), [("80%", 0.8), ("0.8", 0.8), ("3%", 0.03), ("1%", 0.01), ("100%", 1.0), ("0", 0.0)])
def test_use_of_a_budget_is_written_as_a_share_or_as_a_percentage(written: str, share: float) -> None:
    used = load(budget(f"{{budget: day, over: {written}}}")).config.routes[0].match.budget_used
    assert used is not None
    assert used.over == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("written", ["80", "1.01", "-1%", "101%", "x"])
def test_a_share_beyond_the_whole_is_refused(written: str) -> None:
    assert "routes[0].match.budget_used.over" in only_problem(budget(f"{{budget: day, over: {written}}}"))


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("{budget: day}", "routes[0].match.budget_used: says nothing"),
        ("{budget: day, over: 80%, under: 80%}", "routes[0].match.budget_used: never matches"),
        ("{budget: day, under: 0}", "routes[0].match.budget_used: never matches"),
        ("{budget: month, over: 80%}", "routes[0].match.budget_used.budget: is the name of no budget"),
    ],
)
def test_a_condition_on_the_use_of_a_budget_can_hold(match: str, message: str) -> None:
    assert message in only_problem(budget(match))


@pytest.mark.parametrize("scope", ["model", "provider", "target"])
def test_use_of_a_budget_is_asked_of_scopes_that_are_known_before_routing(scope: str) -> None:
    told = only_problem(budget("{budget: day, over: 80%}", f"[tenant, {scope}]"))
    assert f"names a budget per {scope}, which isn't known before a route is chosen" in told


# ---------------------------------------------------------------------------------------------------------------- keys


def test_keys_load_whole() -> None:
    (key,) = load(keys("tenant: shop, user: u, app: a, models: ['gpt-*'], routes: [a], expires: 2027-01-01")).config.keys
    assert (key.tenant, key.user, key.app, key.models, key.routes, key.expires) == ("shop", "u", "a", ["gpt-*"], ["a"], "2027-01-01")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (f"name: '', sha256: {DIGEST}", "keys[0].name: the name is empty"),
        (f'name: "a\\nb", sha256: {DIGEST}', "keys[0].name: the name has characters"),
        ("name: a, sha256: pk-postern-plain", "keys[0].sha256: must be the key's SHA-256"),
        ("name: a, sha256: ''", "keys[0].sha256: must be the key's SHA-256"),
        (f"sha256: {DIGEST}", "keys[0].name: is required, and missing"),
        ("expires: soon", "keys[0].expires: must be a date such as 2027-01-31"),
        ("expires: 2027-02-30", "keys[0].expires: must be a date"),
        ("expires: 2027-01-01T00:00:00", "keys[0].expires: must be a date"),
        ("expires: 2027", "keys[0].expires: expected a string"),
        ("expires: ~", "keys[0].expires: has no value"),
        ("models: ~", "keys[0].models: has no value"),
        ("models: ['']", "keys[0].models: has an empty entry"),
        ("routes: [nowhere]", "keys[0].routes[0]: is the name of no route that takes calls"),
        ("tenant: ' '", "keys[0].tenant: must be a printable text"),
        ("tennant: a", "keys[0].tennant: unknown key"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(entry: str, message: str) -> None:
    assert message in only_problem(keys(entry))


def test_keys_differ_in_name_and_digest() -> None:
    told = problems(keys(f"name: a, sha256: {DIGEST}", f"name: a, sha256: {OTHER}", f"name: b, sha256: {DIGEST.upper()}"))
    assert [line.partition(": ")[2] for line in told] == [
        "keys[1].name: is that of keys[0] too: keys must differ",
        "keys[2].sha256: is that of keys[0] too: keys must differ",
    ]


def test_a_plain_key_in_the_place_of_its_digest_is_not_shown() -> None:
    assert "pk-postern" not in "".join(problems(keys("name: a, sha256: pk-postern-plain-0123456789"))).replace("`postern key new`", "")


def test_keys_without_a_value_do_not_open_the_gate() -> None:
    assert "keys: has no value: give one, or leave the key out" in only_problem(f"{OWN}keys:\n")


@pytest.mark.parametrize("label", ["tenant", "user", "app"])
def test_a_label_that_is_never_read_from_keys_is_said_by_none(label: str) -> None:
    def declared(places: str) -> str:
        return keys(f"{label}: shop", head=f"{OWN}identity: {{{label}: {places}}}\n")

    assert f"keys[0].{label}: counts for nothing: `identity.{label}` has no" in only_problem(declared("[{header: x-label}]"))
    assert load(declared("[{header: x-label}, {key: true}]")).config.keys
    assert load(keys(f"{label}: shop")).config.keys


def test_a_key_may_name_the_route_of_aliases() -> None:
    aliases = OWN + "models: {smart: {targets: [openai]}}\n"
    assert load(keys("routes: [default]", head=aliases)).config.keys
    assert "routes[0]: is the name of no route" in only_problem(keys("routes: [default]"))


def test_a_virtual_key_is_not_passed_through() -> None:
    head = MINIMAL.replace("}}", ", credential: passthrough}}")
    assert load(head).targets["openai"].passthrough
    loaded = load(keys("", head=head))
    assert (loaded.targets["openai"].passthrough, loaded.targets["openai"].credentials) == (False, ())
    assert [note.partition(":")[0] for note in notes(loaded.config)] == ["targets.openai.credential"]
    assert list(notes(load(head).config)) == []


def test_a_credential_that_is_left_out_is_not_the_clients_where_keys_are_needed() -> None:
    assert load(MINIMAL).targets["openai"].passthrough
    target = load(keys("", head=MINIMAL)).targets["openai"]
    assert (target.passthrough, target.credentials) == (False, ())


@pytest.mark.parametrize(
    ("target", "is_told"),
    [
        ("provider: openai", True),
        ("provider: anthropic", True),
        ("provider: azure, base_url: 'https://a.example'", True),
        ("provider: openai, base_url: 'http://127.0.0.1:8000/v1'", False),
        ("provider: ollama", False),
        ("provider: openai, credential: k", False),
    ],
)
def test_who_adds_keys_is_told_which_providers_will_be_sent_no_credential(target: str, is_told: bool) -> None:
    told = [note.partition(":")[0] for note in notes(load(keys("", head=f"targets: {{up: {{{target}}}}}\n")).config)]
    assert told == (["targets.up.credential"] if is_told else [])


def test_the_simulated_provider_may_keep_its_passthrough_and_is_sent_no_key() -> None:
    target = load(keys("", head="targets: {sim: {provider: simulated, credential: passthrough}}\n")).targets["sim"]
    assert (target.passthrough, target.credentials) == (False, ())


# ---------------------------------------------------------------------------------------------------------- keys in Redis

SHARED = "store: {kind: redis, url: 'redis://h', keys: true}\n"


def test_keys_in_redis_are_keys_to_whatever_asks_for_one() -> None:
    config = load(f"{OWN}{SHARED}budgets: [{{name: b, per: [key], window: {{every: day}}, limit: {{usd: 1}}}}]\n").config
    assert config.needs_keys
    assert load(OWN.replace("{name: a,", "{name: a, match: {key: 'w*'},") + SHARED).config.needs_keys
    assert not load(OWN).config.needs_keys


def test_with_keys_in_redis_no_target_is_sent_what_clients_show() -> None:
    text = f"targets: {{openai: {{provider: openai, credential: passthrough}}}}\n{SHARED}"
    loaded = load(text)
    assert not loaded.targets["openai"].passthrough
    assert "targets.openai.credential: what clients send is a virtual key" in next(notes(loaded.config))
    assert not load(f"targets: {{openai: {{provider: openai}}}}\n{SHARED}").targets["openai"].passthrough
