"""Names that must exist, routes that can't match, addresses, URLs, prices."""

from __future__ import annotations

import pytest

from proxy.call import Secret
from proxy.config.endpoints import parse_address
from tests.config.support import MINIMAL, TWO_TARGETS, load, only_problem, problems


def routes(*rules: str, head: str = TWO_TARGETS) -> str:
    return head + "routes:\n" + "".join(f"  - {rule}\n" for rule in rules)


def test_unknown_target_is_told_as_in_the_contract() -> None:
    text = routes(
        "{name: a, match: {model: x}, to: [openai]}", "{name: b, match: {model: y}, to: [openai]}", "name: c\n    to:\n      - opnai"
    )
    assert only_problem(text) == "postern.yaml:7:9: routes[2].to: no target named 'opnai' (did you mean 'openai'?)"


def test_unknown_target_of_an_alias_is_refused() -> None:
    assert "models.smart.targets: no target named 'x'" in only_problem(MINIMAL + "models: {smart: {targets: [{target: x, model: y}]}}")


def test_unknown_target_of_trust_is_refused() -> None:
    text = MINIMAL + "telemetry: {trust_upstream_context: [opena]}"
    assert "telemetry.trust_upstream_context: no target named 'opena' (did you mean 'openai'?)" in only_problem(text)


def test_several_targets_may_take_one_call() -> None:
    text = routes("{name: a, to: [openai, local]}", head=TWO_TARGETS + "models: {m: {targets: [openai, {target: local, model: x}]}}\n")
    config = load(text).config
    assert [choice.target for choice in config.routes[0].to] == ["openai", "local"]
    assert [choice.model for choice in config.models["m"].targets] == [None, "x"]


ALIAS = TWO_TARGETS + "models: {smart: {targets: [openai, local]}}\n"


def test_route_may_lead_to_an_alias() -> None:
    text = routes("{name: a, to: [smart, local], failover: {context_window_to: [smart]}}", head=ALIAS)
    assert load(text).config.routes[0].to[0].target == "smart"


def test_alias_and_target_may_not_share_a_name() -> None:
    text = routes("{name: a, to: [openai]}", head=TWO_TARGETS + "models: {local: {targets: [openai]}}\n")
    assert only_problem(text) == "postern.yaml:2:17: models.local: is the name of a target too: names must differ"


def test_alias_of_an_alias_is_refused() -> None:
    head = TWO_TARGETS + "models: {smart: {targets: [openai]}, smarter: {targets: [local, smart]}}\n"
    assert only_problem(routes("{name: a, to: [openai]}", head=head)) == (
        "postern.yaml:2:65: models.smarter.targets: 'smart' is an alias: only targets may stand here"
    )


def test_alias_of_itself_is_refused() -> None:
    head = TWO_TARGETS + "models: {smart: {targets: [smart]}}\n"
    assert "models.smart.targets: 'smart' is an alias" in only_problem(routes("{name: a, to: [openai]}", head=head))


@pytest.mark.parametrize(
    "at", ["to: [{target: smart, model: x}]", "to: [openai], failover: {content_filter_to: [{target: smart, model: x}]}"]
)
def test_alias_in_a_route_has_no_model_of_its_own(at: str) -> None:
    assert ".model: can't stand beside an alias" in only_problem(routes(f"{{name: a, {at}}}", head=ALIAS))


def test_unknown_name_in_a_route_is_compared_with_aliases_too() -> None:
    assert "routes[0].to: no target named 'smrt' (did you mean 'smart'?)" in only_problem(routes("{name: a, to: [smrt]}", head=ALIAS))


@pytest.mark.parametrize("key", ["context_window_to", "content_filter_to"])
def test_unknown_target_of_failover_is_refused(key: str) -> None:
    text = routes(f"{{name: a, to: [openai], failover: {{{key}: [opnai]}}}}")
    assert f"routes[0].failover.{key}: no target named 'opnai' (did you mean 'openai'?)" in only_problem(text)


def test_alias_that_could_not_be_read_causes_no_second_problem() -> None:
    assert "models: expected a mapping" in only_problem(routes("{name: a, to: [smart]}", head=TWO_TARGETS + "models: 5\n"))


def test_empty_target_lists_are_refused() -> None:
    assert "routes[0].to: must name a target" in only_problem(routes("{name: a, to: []}"))
    assert "models.m.targets: must name a target" in only_problem(MINIMAL + "models: {m: {targets: []}}")


def test_no_targets_at_all_are_refused() -> None:
    assert only_problem("targets: {}") == "postern.yaml:1:10: targets: must name at least one target"


def test_route_names_differ() -> None:
    text = routes("{name: a, match: {model: x}, to: [openai]}", "{name: a, to: [openai]}")
    assert only_problem(text) == "postern.yaml:4:12: routes[1].name: is the name of routes[0] too: names must differ"


@pytest.mark.parametrize("name", ["", "a\\nb", " a", "ü"])
def test_names_must_be_fit_for_a_header(name: str) -> None:
    assert "routes[0].name: " in only_problem(routes(f'{{name: "{name}", to: [openai]}}'))
    assert "the name " in only_problem(f'targets: {{"{name}": {{provider: openai}}}}')


def test_route_after_one_that_takes_all_is_dead() -> None:
    text = routes("{name: all, to: [openai]}", "{name: b, match: {model: x}, to: [openai]}")
    assert only_problem(text) == "postern.yaml:4:5: routes[1]: never matches: routes[0] ('all') takes every call that it would take"


DEAD = [
    ("{model: 'gpt-*'}", "{model: gpt-4}"),
    ("{model: 'gpt-*'}", "{model: 'gpt-4*'}"),
    ("{model: ['a*', 'b*']}", "{model: [ab, 'b?']}"),
    ("{path: '*'}", "{path: /v1/embeddings, stream: true}"),
    ("{method: [POST, get]}", "{method: GET}"),
    ("{stream: true}", "{stream: true, model: x}"),
    ("{header: {X-Env: 'prod*'}}", "{header: {x-env: prod-1, x-b: c}}"),
    ("{model: '*?*'}", "{model: '?*'}"),
    ("{}", "{}"),
]
ALIVE = [
    ("{model: 'gpt-4*'}", "{model: 'gpt-*'}"),
    ("{model: '*'}", "{}"),
    ("{model: x}", "{model: [x, y]}"),
    ("{model: GPT}", "{model: gpt}"),
    ("{stream: true}", "{stream: false}"),
    ("{stream: true}", "{model: x}"),
    ("{header: {x-env: prod}}", "{header: {x-other: prod}}"),
    ("{header: {x-env: prod}}", "{model: x}"),
    ("{method: POST}", "{method: [POST, GET]}"),
    ("{model: '[ab]*'}", "{model: '[ac]*'}"),
    ("{model: 'a?'}", "{model: 'a*'}"),
]


@pytest.mark.parametrize(("earlier", "later"), DEAD)
def test_route_that_an_earlier_one_covers_field_by_field_is_dead(earlier: str, later: str) -> None:
    text = routes(f"{{name: a, match: {earlier}, to: [openai]}}", f"{{name: b, match: {later}, to: [local]}}")
    assert "routes[1]: never matches: routes[0] ('a')" in only_problem(text)


@pytest.mark.parametrize(("earlier", "later"), ALIVE)
def test_route_that_may_match_is_not_called_dead(earlier: str, later: str) -> None:
    assert load(routes(f"{{name: a, match: {earlier}, to: [openai]}}", f"{{name: b, match: {later}, to: [local]}}")).config.routes


@pytest.mark.parametrize(
    "match",
    ["{model: []}", "{path: []}", "{method: []}", "{header: {x-a: []}}", "{model: ''}", "{model: [a, '']}", "{model: '${env:M:-}'}"],
)
def test_condition_without_values_is_refused(match: str) -> None:
    assert "is empty and matches nothing" in only_problem(routes(f"{{name: a, match: {match}, to: [openai]}}"))


def test_path_that_no_call_can_have_is_refused() -> None:
    assert "routes[0].match.path: never matches" in only_problem(routes("{name: a, match: {path: v1/chat}, to: [openai]}"))


@pytest.mark.parametrize("header", ["'x env'", "''", "'x:'", "ü"])
def test_condition_on_what_is_not_a_header_is_refused(header: str) -> None:
    assert "is not the name of a header" in only_problem(routes(f"{{name: a, match: {{header: {{{header}: x}}}}, to: [openai]}}"))


@pytest.mark.parametrize("address", ["127.0.0.1:4000", "[::1]:4000", "localhost:0", "0.0.0.0:65535", "gateway.local:80"])
def test_listen_takes_host_and_port(address: str) -> None:
    assert load(MINIMAL + f"listen: '{address}'").config.listen == address


@pytest.mark.parametrize(
    "address",
    ["4000", ":4000", "a:", "a:b", "a:65536", "::1:4000", "[::1]", "[x]:1", "[127.0.0.1]:1", "http://a:1", "a b:1", "-a:1", "a:１", ""],
)
def test_listen_refuses_what_is_not_host_and_port(address: str) -> None:
    assert only_problem(MINIMAL + f"listen: '{address}'").startswith("postern.yaml:2:9: listen: ")


def test_address_is_taken_apart() -> None:
    address = parse_address("[::1]:4000")
    assert (address.host, address.port) == ("::1", 4000)


@pytest.mark.parametrize("address", ["0.0.0.0:4001", "[::]:4001", "10.0.0.1:4001", "myhost:4001"])
def test_admin_that_others_can_reach_needs_a_token(address: str) -> None:
    assert "admin.listen: can be reached from other machines" in only_problem(MINIMAL + f"admin: {{listen: '{address}'}}")
    assert "admin.listen: can be" in only_problem(MINIMAL + f"admin: {{listen: '{address}', token: '${{env:T:-}}'}}")
    assert load(MINIMAL + f"admin: {{listen: '{address}', token: secret}}").config.admin.token == Secret("secret")


@pytest.mark.parametrize("address", ["127.0.0.1:4001", "127.8.8.8:1", "[::1]:4001", "localhost:4001"])
def test_admin_on_loopback_needs_no_token(address: str) -> None:
    assert load(MINIMAL + f"admin: {{listen: '{address}'}}").config.admin.token == Secret("")


def test_both_listeners_on_one_address_are_refused() -> None:
    assert "admin.listen: is the same address as `listen`" in only_problem(MINIMAL + "admin: {listen: '127.0.0.1:4000'}")
    assert load(MINIMAL + "listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}").targets


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must not be empty"),
        ("localhost:8000/v1", "must be an http:// or https:// URL with a host"),
        ("ftp://h", "must be an http:// or https:// URL with a host"),
        ("https://", "must be an http:// or https:// URL with a host"),
        ("https://u:p@h/v1", "must not hold credentials"),
        ("https://h/v1?a=b", "must not have a query or a fragment"),
        ("https://h/v1?", "must not have a query or a fragment"),
        ("https://h/#x", "must not have a query or a fragment"),
        ("https://h:99999", "its host or port is malformed"),
        ("https://[::1", "its host or port is malformed"),
        ("https://h:0", "has port 0"),
        ("https://h/a b", "characters that may not stand in a URL"),
        ("https://hé", "characters that may not stand in a URL"),
    ],
)
def test_base_url_is_a_plain_web_address(url: str, message: str) -> None:
    problem = only_problem(f"targets: {{openai: {{provider: openai, base_url: '{url}'}}}}")
    assert problem.startswith("postern.yaml:1:48: targets.openai.base_url: ")
    assert message in problem


def test_otlp_endpoint_is_checked_like_a_base_url() -> None:
    assert "telemetry.otlp.endpoint: must be an http" in only_problem(MINIMAL + "telemetry: {otlp: {endpoint: 'collector:4317'}}")


def test_otlp_headers_are_fit_to_be_sent() -> None:
    told = problems(MINIMAL + "telemetry: {otlp: {headers: {'a b': x, c: \"d\\n\"}}}")
    assert [line.split(": ")[1] for line in told] == ["telemetry.otlp.headers['a b']", "telemetry.otlp.headers.c"]


def test_provider_without_an_address_needs_a_base_url() -> None:
    assert only_problem("targets: {v: {provider: vllm}}").endswith(
        "targets.v.base_url: is required: provider vllm has no address of its own"
    )


PRICES = [
    ("{}", "names no price"),
    ("{free: false}", "names no price"),
    ("{per_million: {}}", "names no price"),
    ("{free: true, per_request: 0}", "is `free` and has a price"),
    ("{free: true, per_million: {input: 1}}", "is `free` and has a price"),
    ("{per_million: {inptu: 1}}", "unknown key (did you mean 'input'?)"),
    ("{per_million: {input: -1}}", "must be at least 0"),
    ("{per_request: -0.1}", "must be at least 0"),
    ("{per_gpu_hour: .nan}", "must be at least 0"),
    ("{per_million: {input: cheap}}", "expected a number"),
]


@pytest.mark.parametrize(("price", "message"), PRICES)
def test_price_that_says_nothing_or_too_much_is_refused(price: str, message: str) -> None:
    assert message in only_problem(f"targets: {{openai: {{provider: openai, price: {price}}}}}")
    assert message in only_problem(MINIMAL + f"prices: {{overrides: {{'gpt-*': {price}}}}}")


def test_price_may_be_zero() -> None:
    target = load("targets: {openai: {provider: openai, price: {per_million: {input: 0, output: 1_000}}}}").targets["openai"]
    assert target.price is not None
    assert target.price.per_million == {"input": 0.0, "output": 1000.0}
