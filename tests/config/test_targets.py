"""The targets that come of a configuration: addresses, credentials, trust."""

from __future__ import annotations

import pytest

from proxy.call import Secret
from tests.config.support import MINIMAL, load, only_problem

TO_A = "\nroutes: [{name: r, to: [a]}]"


def test_passthrough_sends_no_credential_of_ours() -> None:
    target = load("targets: {a: {provider: openai, credential: passthrough}}").targets["a"]
    assert (target.passthrough, target.credentials) == (True, ())


def test_credential_of_ours_replaces_the_clients() -> None:
    target = load("targets: {a: {provider: openai, credential: '${env:K}'}}", {"K": "sk-1"}).targets["a"]
    assert (target.passthrough, target.credentials) == (False, (Secret("sk-1"),))


def test_only_target_passes_the_clients_credential_on() -> None:
    loaded = load("targets: {a: {provider: openai}, sim: {provider: simulated}}" + TO_A)
    assert loaded.targets["a"].passthrough
    assert not loaded.targets["sim"].passthrough


def test_no_credential_is_sent_where_several_targets_could_get_it() -> None:
    loaded = load("targets: {a: {provider: openai}, b: {provider: ollama}}" + TO_A)
    assert [(target.passthrough, target.credentials) for target in loaded.targets.values()] == [(False, ()), (False, ())]


def test_equal_targets_are_still_two() -> None:
    loaded = load("targets: {a: &a {provider: openai}, b: *a}" + TO_A)
    assert not any(target.passthrough for target in loaded.targets.values())


@pytest.mark.parametrize("credential", ["''", "'${env:K:-}'", "'${file:/k}'"])
def test_empty_credential_is_a_problem(credential: str) -> None:
    problem = only_problem(f"targets: {{a: {{provider: openai, credential: {credential}}}}}", files={"/k": "\n"})
    assert problem.endswith("targets.a.credential: credential is empty")


def test_several_credentials_are_a_targets_in_their_order() -> None:
    text = "targets: {a: {provider: openai, credential: [sk-1, '${env:K}', '${file:/k}']}}"
    target = load(text, {"K": "sk-2"}, {"/k": "sk-3\n"}).targets["a"]
    assert (target.passthrough, target.credentials) == (False, (Secret("sk-1"), Secret("sk-2"), Secret("sk-3")))


def test_a_list_of_one_credential_is_that_credential() -> None:
    assert load("targets: {a: {provider: openai, credential: [sk-1]}}").targets["a"].credentials == (Secret("sk-1"),)


@pytest.mark.parametrize(
    ("credentials", "told"),
    [
        ("[]", "targets.a.credential: must hold a credential"),
        ("[passthrough]", "targets.a.credential[0]: `passthrough` can't stand in a list"),
        ("[s1234567, passthrough]", "targets.a.credential[1]: `passthrough` can't stand in a list"),
        ("[s1234567, '${env:K:-}']", "targets.a.credential[1]: credential is empty"),
        ('[s1234567, "s123456\\n7"]', "targets.a.credential[1]: credential has characters"),
        ("[s1234567, s7654321, s1234567]", "targets.a.credential[2]: is the same as credential[0]"),
        ("[s1234567, ]", None),
        ("[s1234567, null]", "targets.a.credential[1]: expected a string, found nothing"),
        ("[s1234567, 1234567]", "targets.a.credential[1]: expected a string, found the number '***'"),
        ("[s1234567, [s7654321]]", "targets.a.credential[1]: expected a string, found a list"),
        ("{key: s1234567}", "targets.a.credential: expected a string or a list, found a mapping"),
    ],
)
def test_each_credential_of_a_list_is_checked_and_none_is_shown(credentials: str, told: str | None) -> None:
    text = f"targets: {{a: {{provider: openai, credential: {credentials}}}}}"
    if told is None:
        assert load(text).targets["a"].credentials == (Secret("s1234567"),)
        return
    problem = only_problem(text)
    assert told in problem
    assert not any(secret in problem for secret in ("1234567", "7654321"))


def test_missing_variable_of_a_credential_is_a_problem() -> None:
    assert "environment variable K is not set" in only_problem("targets: {a: {provider: openai, credential: '${env:K}'}}")


def test_credential_that_would_break_a_header_is_a_problem() -> None:
    assert "may not stand in a header" in only_problem("targets: {a: {provider: openai, credential: '${env:K}'}}", {"K": "sk\r\nx: y"})


def test_provider_has_its_own_address() -> None:
    assert load(MINIMAL).targets["openai"].base_url == "https://api.openai.com/v1"


def test_trailing_slash_of_a_base_url_is_dropped() -> None:
    assert load("targets: {a: {provider: vllm, base_url: 'http://[::1]:8000/v1/'}}").targets["a"].base_url == "http://[::1]:8000/v1"


def test_simulated_target_is_built_in_unless_it_has_an_address() -> None:
    assert load("targets: {a: {provider: simulated}}").targets["a"].base_url == ""
    assert load("targets: {a: {provider: simulated, base_url: http://h}}").targets["a"].base_url == "http://h"


def test_trace_context_goes_to_trusted_targets_only() -> None:
    text = "targets: {a: {provider: openai}, b: {provider: ollama}}\ntelemetry: {trust_upstream_context: [b]}" + TO_A
    assert [target.trusted_context for target in load(text).targets.values()] == [False, True]


def test_declared_values_reach_the_target() -> None:
    target = load("targets: {a: {provider: ollama, tier: local, timeouts: {total_s: 5}, price: {free: true}}}").targets["a"]
    assert (target.name, target.provider, target.tier, target.timeouts.total_s, target.timeouts.connect_s) == ("a", "ollama", "local", 5, 5)
    assert target.price is not None
    assert target.price.free
