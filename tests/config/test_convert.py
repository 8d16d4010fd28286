"""Types, required and unknown keys, keys that are not built yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.key_tables import NOT_YET
from tests.config.support import MINIMAL, TWO_TARGETS, load, only_problem, problems


def test_defaults_hold_where_keys_are_left_out() -> None:
    config = load(MINIMAL).config
    assert (config.listen, config.admin.listen, config.drain_s) == ("127.0.0.1:4000", "127.0.0.1:4001", 600)


def test_unknown_key_is_refused_with_the_nearest_one() -> None:
    assert only_problem(MINIMAL + "lisetn: 127.0.0.1:1\n") == "postern.yaml:2:1: lisetn: unknown key (did you mean 'listen'?)"


def test_unknown_key_without_a_near_one_is_refused() -> None:
    assert only_problem(MINIMAL + "zzz: 1\n") == "postern.yaml:2:1: zzz: unknown key"


def test_unknown_key_of_a_section_is_told_with_its_path() -> None:
    text = "targets: {openai: {provider: openai, timeouts: {conect_s: 1}}}"
    assert only_problem(text) == "postern.yaml:1:49: targets.openai.timeouts.conect_s: unknown key (did you mean 'connect_s'?)"


def test_missing_required_key_is_told_where_its_section_stands() -> None:
    assert (
        only_problem("targets:\n  openai: {base_url: http://h}\n") == "postern.yaml:2:11: targets.openai.provider: is required, and missing"
    )


def test_required_key_with_nothing_after_it_is_missing() -> None:
    assert only_problem("targets:\n") == "postern.yaml:1:1: targets: is required, and missing"


def test_target_with_nothing_after_it_lacks_its_provider() -> None:
    assert only_problem("targets:\n  openai:\n").endswith("targets.openai.provider: is required, and missing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen: 4000", "listen: expected a string, found the number 4000 (put it in quotes)"),
        ("listen: true", "listen: expected a string, found the word true (put it in quotes)"),
        ("listen: [a]", "listen: expected a string, found a list"),
        ("listen: {a: b}", "listen: expected a string, found a mapping"),
        ("drain_s: soon", "drain_s: expected a number, found the string 'soon'"),
        ("drain_s: '5'", "drain_s: expected a number, found the string '5'"),
        ("drain_s: true", "drain_s: expected a number, found the word true"),
        ("transparent: no", "transparent: expected true or false, found the string 'no'"),
        ("transparent: 1", "transparent: expected true or false, found the number 1"),
        ("admin: word", "admin: expected a mapping, found a single value"),
        ("routes: {}", "routes: expected a list, found a mapping"),
        ("routes: [{name: a, to: openai}]", "routes[0].to: expected a list, found a single value"),
        (
            "routes: [{name: a, to: [openai], match: {model: {a: b}}}]",
            "routes[0].match.model: expected a string or a list, found a mapping",
        ),
        (
            "routes: [{name: a, to: [openai], match: {model: [1]}}]",
            "routes[0].match.model[0]: expected a string, found the number 1 (put it in quotes)",
        ),
        ("routes: [{name: a, to: [~]}]", "routes[0].to[0].target: is required, and missing"),
        ("telemetry: {trust_upstream_context: [~]}", "telemetry.trust_upstream_context[0]: expected a string, found nothing"),
        ("prices: {on_unknown: refuze}", "prices.on_unknown: expected one of allow, refuse; found 'refuze' (did you mean 'refuse'?)"),
        ("state_dir: ''", "state_dir: must not be empty"),
    ],
)
def test_wrong_value_is_told_with_what_was_expected_and_found(text: str, message: str) -> None:
    assert only_problem(MINIMAL + text).partition(": ")[2] == message


@pytest.mark.parametrize("value", ["0", "-1", ".nan", ".inf", "-.inf", "1e10", "9" * 400])
@pytest.mark.parametrize("key", ["drain_s", "max_body_mib"])
def test_seconds_and_sizes_are_positive_and_finite(key: str, value: str) -> None:
    assert f"{key}: must be more than 0 and at most 1000000000" in only_problem(MINIMAL + f"{key}: {value}")


def test_timeouts_are_positive() -> None:
    assert "connect_s: must be more than 0" in only_problem("targets: {a: {provider: openai, timeouts: {connect_s: 0, idle_s: 1}}}")


def test_string_may_stand_for_a_list_of_one_in_conditions() -> None:
    routes = "routes: [{name: a, match: {model: a*, path: [/x, /y], header: {x-env: prod}}, to: [openai]}]"
    match = load(MINIMAL + routes).config.routes[0].match
    assert (match.model, match.path, match.header) == ("a*", ["/x", "/y"], {"x-env": "prod"})


def test_name_alone_stands_for_a_target_choice() -> None:
    choices = [load(MINIMAL + f"routes: [{{name: a, to: [{choice}]}}]").config.routes[0].to[0] for choice in ("openai", "{target: openai}")]
    assert choices[0] == choices[1]


@pytest.mark.parametrize(
    "match",
    [
        "{model: }",
        "{path: ~}",
        "{method: null}",
        "{header: }",
        "{stream: }",
        "{stream: '${env:S:-}'}",
        "{tools: }",
        "{images: ~}",
        "{response_format: }",
        "{metadata: }",
        "{input_tokens: }",
        "{input_tokens: {over: }}",
        "{max_tokens: {under: '${env:S:-}'}}",
        "{time: }",
        "{time: {after: , before: '08:00'}}",
        "{time: {days: }}",
    ],
)
def test_condition_without_a_value_does_not_widen_its_route(match: str) -> None:
    assert "has no value: give one, or leave the key out" in only_problem(MINIMAL + f"routes: [{{name: a, match: {match}, to: [openai]}}]")


def test_credential_without_a_value_is_not_taken_as_left_out() -> None:
    assert "credential: has no value" in only_problem("targets: {openai: {provider: openai, credential: }}")


def test_long_values_are_shortened_in_messages() -> None:
    assert len(only_problem(MINIMAL + f"drain_s: {'x' * 5000}")) < 200


def test_endless_key_is_refused_quickly() -> None:
    assert "unknown key" in only_problem(MINIMAL + f"{'x' * 1000}: 1")


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = (
        "listen: nowhere\ndrain_s: -1\nguards: [{name: a}]\ntargets:\n  openai: {provider: opnai, bla: 1}\n  azure: {provider: azure}\n"
        "routes:\n  - {name: a, match: {model: 5}, to: [opnai]}\n  - {name: b, to: [{target: azur, weight: -2}]}\ndrain_s: 3\n"
    )
    found = [line.split(": ")[1] for line in problems(text)]
    assert found == [
        "listen", "drain_s", "guards", "targets.openai.provider", "targets.openai.bla", "targets.azure.base_url",
        "routes[0].match.model", "routes[0].to", "routes[1].to", "routes[1].to[0].weight", "drain_s",
    ]  # fmt: skip


def test_wrong_value_causes_no_second_problem() -> None:
    assert len(problems("targets: {openai: {provider: nobody}}")) == 1
    assert len(problems("targets: 5\nroutes: [{name: a, to: [openai]}]")) == 1
    assert len(problems(MINIMAL + "admin: {listen: '0.0.0.0:1', token: 5}")) == 1
    assert len(problems("targets: {openai: {provider: openai, price: {free: maybe}}}")) == 1
    assert len(problems(MINIMAL + "routes: [{name: a, match: {model: 5}, to: [openai]}, {name: b, to: [openai]}]")) == 1


def test_problem_reached_twice_through_an_alias_is_told_for_each_place() -> None:
    text = "targets:\n  a: &a {provider: ollama, bla: 1}\n  b: *a\nroutes: [{name: r, to: [a]}]"
    assert [line.split(": ")[1] for line in problems(text)] == ["targets.a.bla", "targets.b.bla"]


def test_key_not_built_yet_is_refused_and_says_why() -> None:
    assert only_problem(MINIMAL + "guards:\n  - {name: day}\n").startswith(
        "postern.yaml:2:1: guards: `guards` is not built in this version (0.1.0): remove it, it would not be enforced"
    )


@pytest.mark.parametrize(
    "text",
    [
        "workers: 1", "workers: ~", "cache:", "guards: []", "notify: {}", "telemetry: {http_client_spans: false}",
        "routes: [{name: a, to: [openai], strategy: priority, hedge: ~, mode: enforce, failover: {}}]",
    ],
)  # fmt: skip
def test_key_not_built_yet_that_asks_for_nothing_is_accepted(text: str) -> None:
    assert load(MINIMAL + text).targets


@pytest.mark.parametrize("text", ["workers: 2", "guards: [~]", "telemetry: {http_client_spans: true}"])
def test_key_not_built_yet_with_another_value_is_refused(text: str) -> None:
    assert "is not built in this version" in only_problem(MINIMAL + text)


def test_every_key_not_built_yet_is_refused_where_the_table_says() -> None:
    sections = {
        "targets.*.": "targets: {openai: {provider: openai, KEY: 7}}",
        "models.*.targets[].": MINIMAL + "models: {a: {targets: [{target: openai, KEY: 7}]}}",
        "routes[].to[].": MINIMAL + "routes: [{name: a, to: [{target: openai, KEY: 7}]}]",
        "routes[].match.": MINIMAL + "routes: [{name: a, to: [openai], match: {KEY: 7}}]",
        "routes[].": MINIMAL + "routes: [{name: a, to: [openai], KEY: 7}]",
        "telemetry.": MINIMAL + "telemetry: {KEY: 7}",
        "": MINIMAL + "KEY: 7",
    }
    for shape in NOT_YET:
        section = next(prefix for prefix in sections if shape.startswith(prefix) and "." not in shape[len(prefix) :])
        assert f"`{shape[len(section) :]}` is not built in this version" in only_problem(
            sections[section].replace("KEY", shape[len(section) :])
        )


def test_contract_has_no_key_that_this_version_does_not_know() -> None:
    text = (Path(__file__).parent / "contract.yaml").read_text(encoding="utf-8")
    told = problems(text.replace('"…"', "ab" * 32), {"ANTHROPIC_API_KEY": "sk-1"})
    assert [line for line in told if "is not built in this version" not in line] == []


@pytest.mark.parametrize(
    "text",
    [
        "targets: {openai: {provider: openai, credential: 1234567}}",
        "targets: {openai: {provider: openai, credential: 'sk 1234567 é'}}",
        "targets: {openai: {provider: openai, credential: {a: 1234567}}}",
        "targets: {openai: {provider: openai, credential: [s1, 1234567]}}",
        "targets: {openai: 's1234567'}",
        "targets: {openai: {provider: openai, credentials: s1234567}}",
        "targets: {openai: {provider: openai, base_url: 'https://user:1234567@host'}}",
        "targets: {openai: {provider: openai, base_url: 'https://host?key=1234567'}}",
        "targets: {openai: {provider: '${env:S}'}}",
        "targets: {openai: {provider: openai, base_url: '${env:S}'}}",
        "targets: {openai: {provider: openai, timeouts: {connect_s: '${env:S}'}}}",
        MINIMAL + "admin: {token: 1234567}",
        MINIMAL + "admin: {token: '1234567 '}",
        MINIMAL + "listen: ${env:S}",
        MINIMAL + "telemetry: {otlp: {headers: {authorization: 1234567}}}",
        MINIMAL + "telemetry: {otlp: {headers: {authorization: [s1234567]}}}",
        MINIMAL + "telemetry: {otlp: {headers: {authorization: '1234567é'}}}",
        MINIMAL + "telemetry: {trust_upstream_context: ['x${env:S}']}",
        MINIMAL + "routes: [{name: a, to: ['${env:S}']}]",
        MINIMAL + "routes: [{name: a, to: ['x${file:/s}']}]",
        MINIMAL + "routes: [{name: '${env:S}', to: [openai]}, {name: '${env:S}', to: [openai]}]",
        MINIMAL + "routes: [{name: a, to: [openai], match: {header: {authorization: 1234567}}}]",
        MINIMAL + "prices: {on_unknown: '${env:S}'}",
        MINIMAL + "transparent: ${env:S}",
    ],
)  # fmt: skip
def test_no_message_holds_a_secret(text: str) -> None:
    told = problems(text, {"S": "s1234567"}, {"/s": "1234567"})
    assert "1234567" not in "\n".join(told)


def test_nearest_name_is_not_told_for_a_secret() -> None:
    assert "did you mean" not in only_problem(MINIMAL + "routes: [{name: a, to: ['${env:S}']}]", {"S": "openaii"})


SET = "routes: [{name: a, to: [openai], request: {set: VALUE}}]"


def test_any_json_value_may_be_set_in_a_request() -> None:
    value = (
        "{a: -1, b: 0.5, c: text, d: '1', e: true, f: ~, g: [1, [x], {y: null}], h: {i: {j: []}}, k: 010, l: 18_446_744_073_709_551_615}"
    )
    request = load(MINIMAL + SET.replace("VALUE", value)).config.routes[0].request
    assert request is not None
    assert request.set == {
        "a": -1, "b": 0.5, "c": "text", "d": "1", "e": True, "f": None, "g": [1, ["x"], {"y": None}], "h": {"i": {"j": []}}, "k": 10,
        "l": (1 << 64) - 1,
    }  # fmt: skip


def test_value_from_outside_is_set_as_a_string_at_any_depth() -> None:
    request = (
        load(MINIMAL + SET.replace("VALUE", "{a: '${env:N}', b: [{c: 'x-${file:/f}'}]}"), {"N": "7"}, {"/f": "1\n"})
        .config.routes[0]
        .request
    )
    assert request is not None
    assert request.set == {"a": "7", "b": [{"c": "x-1"}]}


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e999", "18446744073709551616", "-9223372036854775809", "9" * 400])
def test_number_that_json_has_no_room_for_is_not_set(value: str) -> None:
    assert "routes[0].request.set.a[0].b: is a number that JSON has no room for, found " in only_problem(
        MINIMAL + SET.replace("VALUE", f"{{a: [{{b: {value}}}]}}")
    )


def test_problem_within_a_value_to_set_is_told_with_its_path() -> None:
    problem = only_problem(MINIMAL + SET.replace("VALUE", "{a: {b: [x, '${env:NOPE}']}}"))
    assert "routes[0].request.set.a.b[1]: environment variable NOPE is not set" in problem


@pytest.mark.parametrize(
    ("text", "share"), [("50%", 0.5), ("'50%'", 0.5), ("12.5%", 0.125), ("0%", 0), ("100%", 1), ("0.5", 0.5), ("1", 1)]
)
def test_ratio_may_be_written_as_a_percentage(text: str, share: float) -> None:
    config = load(f"targets: {{a: {{provider: openai, breaker: {{ratio: {text}}}}}}}\ntelemetry: {{keep: {{ratio: {text}}}}}").config
    assert (config.targets["a"].breaker.ratio, config.telemetry.keep.ratio) == (share, share)


def test_ratio_from_outside_may_be_a_percentage() -> None:
    assert load(MINIMAL + "telemetry: {keep: {ratio: '${env:R}'}}", {"R": "25%"}).config.telemetry.keep.ratio == 0.25


@pytest.mark.parametrize("value", ["101%", "-1%", "1.5", "-0.1", ".nan"])
def test_ratio_is_a_share_of_a_whole(value: str) -> None:
    told = only_problem(f"targets: {{a: {{provider: openai, breaker: {{ratio: {value}}}}}}}")
    assert "breaker.ratio: must be at least 0 and at most 1, found " in told


@pytest.mark.parametrize("value", ["half", "%", "5 %", "5%%", "5,5%"])
def test_ratio_that_is_no_number_is_refused(value: str) -> None:
    assert "breaker.ratio: expected a number, found the string" in only_problem(
        f"targets: {{a: {{provider: openai, breaker: {{ratio: '{value}'}}}}}}"
    )


def test_percentage_stands_for_a_ratio_only() -> None:
    assert "drain_s: expected a number, found the string '50%'" in only_problem(MINIMAL + "drain_s: 50%")


RANGES = [
    ("targets.*.breaker", "failures", "0", "at least 1"),
    ("targets.*.breaker", "probes", "0", "at least 1"),
    ("targets.*.breaker", "window_s", "0", "more than 0"),
    ("targets.*.breaker", "open_s", "-1", "more than 0"),
    ("targets.*.breaker", "failures", "1.5", "expected a whole number"),
    ("targets.*.limits", "concurrency", "0", "at least 1"),
    ("targets.*", "context_window", "0", "at least 1"),
    ("targets.*.request.clamp", "top_p", ".inf", "at least -1000000000 and at most 1000000000"),
    ("routes[].request.clamp", "top_p", ".nan", "at least -1000000000 and at most 1000000000"),
    ("routes[].to[]", "weight", "-1", "at least 0"),
    ("models.*.targets[]", "weight", ".inf", "at least 0"),
    ("routes[].failover", "attempts", "0", "at least 1 and at most 10"),
    ("routes[].failover", "attempts", "11", "at least 1 and at most 10"),
    ("routes[].failover.backoff", "first_ms", "0", "more than 0"),
    ("routes[].failover.backoff", "max_s", "0", "more than 0"),
    ("routes[].match.input_tokens", "over", "-1", "at least 0"),
]


@pytest.mark.parametrize(("section", "key", "value", "message"), RANGES)
def test_number_of_a_rule_is_in_its_range(section: str, key: str, value: str, message: str) -> None:
    heads = {
        "targets.*": "targets: {a: {provider: openai, KEYS}}",
        "models.*.targets[]": "targets: {a: {provider: openai}}\nmodels: {m: {targets: [{target: a, KEYS}]}}",
        "routes[].to[]": "targets: {a: {provider: openai}}\nroutes: [{name: r, to: [{target: a, KEYS}]}]",
        "routes[]": "targets: {a: {provider: openai}}\nroutes: [{name: r, to: [a], KEYS}]",
    }
    head = max((shape for shape in heads if section.startswith(shape)), key=len)
    keys = f"{key}: {value}"
    for name in reversed(section[len(head) :].split(".")[1:]):
        keys = f"{name}: {{{keys}}}"
    problem = only_problem(heads[head].replace("KEYS", keys))
    assert f".{key}: " in problem
    assert message in problem


def test_limits_of_a_range_are_in_it() -> None:
    text = (
        "targets: {a: {provider: openai, breaker: {failures: 1, probes: 1, window_s: 0.1}, limits: {concurrency: 1}, context_window: 1}}\n"
        "routes: [{name: r, to: [{target: a, weight: 0}], failover: {attempts: 10}, request: {clamp: {presence_penalty: -0.5}}}]"
    )
    config = load(text).config
    assert config.targets["a"].breaker.failures == 1
    assert config.routes[0].failover is not None
    assert config.routes[0].failover.attempts == 10


def test_repr_of_a_configuration_holds_no_secret() -> None:
    text = (
        "targets: {openai: {provider: openai, credential: [s1234567, s1234568]}}\nadmin: {token: s1234567}\n"
        "telemetry: {otlp: {headers: {a: s1234567}}}\n"
        "routes: [{name: a, to: [openai], match: {header: {x-key: s1234567}}, request: {set: {key: s1234567}}}]"
    )
    assert "1234567" not in repr(load(text))


def test_two_targets_without_routes_are_refused() -> None:
    assert "routes: is required with more than one target (2 given)" in only_problem(TWO_TARGETS)
