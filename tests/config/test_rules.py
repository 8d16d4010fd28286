"""What a rule does with a call: strategies, lists of targets, failover, changes of the request."""

from __future__ import annotations

import pytest

from proxy.call import LABELS
from proxy.config.schema import BackoffConfig, FailoverConfig
from proxy.policy.hedge import hedge_rule
from tests.config.support import MINIMAL, TWO_TARGETS, load, only_problem, problems


def route(rest: str, to: str = "[openai, local]") -> str:
    return TWO_TARGETS + f"routes: [{{name: a, to: {to}, {rest}}}]"


def alias(rest: str, targets: str = "[openai, local]") -> str:
    return TWO_TARGETS + f"models: {{m: {{targets: {targets}, {rest}}}}}\nroutes: [{{name: a, to: [m]}}]"


@pytest.mark.parametrize("strategy", ["priority", "weighted", "cheapest", "fastest", "least_busy", "headroom"])
def test_strategy_is_taken_by_routes_and_aliases(strategy: str) -> None:
    assert load(route(f"strategy: {strategy}")).config.routes[0].strategy == strategy
    assert load(alias(f"strategy: {strategy}")).config.models["m"].strategy == strategy


def test_unknown_strategy_is_refused_with_the_nearest_one() -> None:
    assert "did you mean 'weighted'?" in only_problem(route("strategy: weighed"))


@pytest.mark.parametrize("sticky_by", [*LABELS, "model", "header:x-session", "header:X_Y"])
def test_sticky_goes_by_a_label_the_model_or_a_header(sticky_by: str) -> None:
    assert load(route(f"strategy: sticky, sticky_by: '{sticky_by}'")).config.routes[0].sticky_by == sticky_by
    assert load(alias(f"strategy: sticky, sticky_by: '{sticky_by}'")).config.models["m"].sticky_by == sticky_by


@pytest.mark.parametrize(
    ("sticky_by", "message"),
    [
        ("'header:'", "what follows `header:` is not the name of a header"),
        ("'header:a b'", "what follows `header:` is not the name of a header"),
        ("x-session", "must be an identity label, key, model or header:NAME"),
        ("''", "must be an identity label, key, model or header:NAME"),
    ],
)
@pytest.mark.parametrize("place", [route, alias])
def test_sticky_by_anything_else_is_refused(place, sticky_by: str, message: str) -> None:
    assert f".sticky_by: {message}" in only_problem(place(f"strategy: sticky, sticky_by: {sticky_by}"))


def test_sticky_needs_something_to_stick_by() -> None:
    needed = "routes[0].strategy: sticky needs `sticky_by`: an identity label, key, model or header:NAME"
    assert only_problem(route("strategy: sticky")).endswith(needed)
    assert "models.m.strategy: sticky needs `sticky_by`" in only_problem(alias("strategy: sticky"))


@pytest.mark.parametrize("strategy", ["", "strategy: priority, "])
def test_sticky_by_may_stand_beside_another_strategy(strategy: str) -> None:
    assert load(route(strategy + "sticky_by: user")).config.routes[0].sticky_by == "user"


def test_wrong_strategy_causes_no_second_problem() -> None:
    assert len(problems(route("strategy: stiky, sticky_by: user"))) == 1
    assert len(problems(route("strategy: sticky, sticky_by: [user]"))) == 1


@pytest.mark.parametrize("strategy", ["strategy: weighted", "strategy: sticky, sticky_by: user"])
def test_weights_that_are_all_zero_are_refused(strategy: str) -> None:
    zero = "[{target: openai, weight: 0}, {target: local, weight: 0}]"
    assert "routes[0].to: has weight 0 only" in only_problem(route(strategy, zero))
    assert "models.m.targets: has weight 0 only" in only_problem(alias(strategy, zero))
    assert load(route(strategy, "[{target: openai, weight: 0}, local]")).targets


def test_weight_that_is_wrong_is_told_once() -> None:
    assert len(problems(route("strategy: weighted", "[{target: openai, weight: 0}, {target: local, weight: x}]"))) == 1


def test_target_named_twice_in_a_list_is_refused() -> None:
    assert only_problem(route("strategy: weighted", "[openai, {target: local, model: x}, openai]")).endswith(
        "routes[0].to[2]: is the same as routes[0].to[0]: name it once"
    )
    assert "models.m.targets[1]: is the same as models.m.targets[0]" in only_problem(alias("strategy: weighted", "[openai, openai]"))
    assert "routes[0].failover.content_filter_to[1]: is the same" in only_problem(route("failover: {content_filter_to: [local, local]}"))
    assert load(route("strategy: weighted", "[openai, {target: openai, model: x}]")).targets


def failover(rest: str) -> str:
    return route(f"failover: {{{rest}}}")


def test_failover_has_defaults() -> None:
    assert load(failover("")).config.routes[0].failover == FailoverConfig()
    assert load(route("mode: enforce")).config.routes[0].failover is None


def test_failover_is_taken_whole() -> None:
    told = "on: [connect, timeout], attempts: 2, backoff: {first_ms: 50, max_s: 1}, context_window_to: [{target: local, model: big}]"
    rule = load(failover(told)).config.routes[0].failover
    assert rule is not None
    assert (rule.on, rule.attempts, rule.backoff) == (("connect", "timeout"), 2, BackoffConfig(50, 1))
    assert [(choice.target, choice.model) for choice in rule.context_window_to] == [("local", "big")]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("on: []", "on: is empty: give `attempts: 1`"),
        ("on: [timeout, connect, timeout]", "on: names a fault twice"),
        (
            "on: [conect]",
            "on[0]: expected one of connect, server_error, throttled, timeout, truncated; found 'conect' (did you mean 'connect'?)",
        ),
        ("on: [quota]", "on[0]: expected one of connect, "),
        ("on: timeout", "on: expected a list, found a single value"),
        ("on: [~]", "on[0]: expected one of connect, "),
        ("backoff: {first_ms: 9000}", "backoff: begins with 9 s, which is more than `max_s` (8 s)"),
        ("backoff: {max_s: 0.1}", "backoff: begins with 0.2 s, which is more than `max_s` (0.1 s)"),
        ("context_window_to: [{target: local, weight: 2}]", "context_window_to[0].weight: does nothing here"),
        ("attempts: 1, continue_midstream: true", "continue_midstream: needs `attempts` of 2 at least"),
    ],
)
def test_failover_that_makes_no_sense_is_refused(rest: str, message: str) -> None:
    assert f"routes[0].failover.{message}" in only_problem(failover(rest))


@pytest.mark.parametrize("after", ["p50", "p95", "p99", "300ms", "1.5s", "2s", "0.25ms"])
def test_whatever_hedge_after_takes_the_policy_reads(after: str) -> None:
    config = load(TWO_TARGETS + f"routes: [{{name: a, to: [openai, local], hedge: {{after: {after}, max_ratio: 5%}}}}]").config
    assert config.routes[0].hedge is not None
    rule = hedge_rule(config.routes[0].hedge)
    assert (rule.quantile is None, rule.max_ratio) == (not after.startswith("p"), 0.05)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        *(
            (f"hedge: {{after: {after}}}", "hedge.after: must be p50 to p99")
            for after in ("p49", "p100", "p9", "1m", "soon", "-1s", "1e3s")
        ),
        ("hedge: {max_ratio: 120%}", "hedge.max_ratio: must be at least 0 and at most 1"),
        ("hedge: {}, failover: {attempts: 1}", "hedge: needs `failover.attempts` of 2 at least"),
        ("mirror: {to: []}", "mirror.to: names no target"),
        ("mirror: {to: [nobody]}", "mirror.to: no target named 'nobody'"),
        ("mirror: {to: [smart]}", "mirror.to: 'smart' is an alias: only targets may stand here"),
        ("mirror: {to: [local, local]}", "mirror.to[1]: is the same as routes[0].mirror.to[0]"),
        ("mirror: {to: [{target: local, weight: 2}]}", "mirror.to[0].weight: does nothing here"),
        ("mirror: {to: [local], ratio: 2}", "mirror.ratio: must be at least 0 and at most 1"),
        ("mirror: {ratio: 10%}", "mirror.to: is required"),
    ],
)
def test_a_hedge_or_a_mirror_that_makes_no_sense_is_refused(rest: str, message: str) -> None:
    text = TWO_TARGETS + f"models: {{smart: {{targets: [openai]}}}}\nroutes: [{{name: a, to: [openai, local], {rest}}}]"
    assert f"routes[0].{message}" in only_problem(text)


def test_a_hedge_without_a_second_target_is_refused() -> None:
    text = TWO_TARGETS + "routes: [{name: a, to: [openai], hedge: {}}]"
    assert "routes[0].hedge: does nothing: `to` names one target" in only_problem(text)
    assert load(text + "\nmodels: {smart: {targets: [openai, local]}}").config.routes[0].hedge is not None


def test_wrong_backoff_causes_no_second_problem() -> None:
    assert len(problems(failover("backoff: {first_ms: 9000, max_s: long}"))) == 1


def on_route(request: str) -> str:
    return MINIMAL + f"routes: [{{name: a, to: [openai], request: {request}}}]"


def on_target(request: str) -> str:
    return f"targets: {{openai: {{provider: openai, request: {request}}}}}"


@pytest.mark.parametrize("place", [on_route, on_target])
def test_members_of_a_request_may_be_set_clamped_and_dropped(place) -> None:
    config = load(place("{set: {temperature: 0}, clamp: {max_completion_tokens: 800}, drop: [logit_bias, top-k]}")).config
    request = config.routes[0].request if config.routes else config.targets["openai"].request
    assert request is not None
    assert (request.set, request.clamp, request.drop) == ({"temperature": 0}, {"max_completion_tokens": 800}, ["logit_bias", "top-k"])


@pytest.mark.parametrize("place", [on_route, on_target])
@pytest.mark.parametrize("member", ["model", "Model", "stream", "messages", "input", "prompt", "contents"])
@pytest.mark.parametrize("request_", ["{set: {X: 1}}", "{clamp: {X: 1}}", "{drop: [X]}"])
def test_what_is_asked_and_how_it_is_answered_is_not_changed(place, member: str, request_: str) -> None:
    told = only_problem(place(request_.replace("X", member)))
    assert f"{member}: can't be changed: " in told or "drop[0]: can't be changed: " in told


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("{set: {temperature: 0}, drop: [temperature]}", "request.drop[0]: is under `set` too"),
        ("{set: {temperature: 0}, clamp: {Temperature: 1}}", "request.clamp.Temperature: is under `set` too"),
        ("{clamp: {top_p: 1}, drop: [n, top_p]}", "request.drop[1]: is under `clamp` too"),
        ("{drop: [n, N]}", "request.drop[1]: is named twice"),
        ("{set: {n: 1, N: 2}}", "request.set.N: is named twice"),
        ("{drop: ['']}", "request.drop[0]: is not the name of a member"),
        ("{drop: [stream_options.include_usage]}", "request.drop[0]: is not the name of a member at the top level"),
        ("{set: {'a b': 1}}", "request.set['a b']: is not the name of a member"),
        ("{clamp: {max_tokens: many}}", "request.clamp.max_tokens: expected a number"),
        ("{clamp: [max_tokens]}", "request.clamp: expected a mapping"),
    ],
)
@pytest.mark.parametrize("place", [on_route, on_target])
def test_change_of_a_request_that_makes_no_sense_is_refused(place, request_: str, message: str) -> None:
    assert message in only_problem(place(request_))


def test_target_says_what_it_lacks() -> None:
    config = load("targets: {a: {provider: ollama, lacks: [vision, tools], context_window: 8192, limits: {concurrency: 4}}}").config
    assert (config.targets["a"].lacks, config.targets["a"].context_window) == (["vision", "tools"], 8192)
    assert config.targets["a"].limits.concurrency == 4


def test_ability_named_twice_or_unknown_is_refused() -> None:
    assert "targets.a.lacks: names an ability twice" in only_problem("targets: {a: {provider: ollama, lacks: [tools, tools]}}")
    assert "did you mean 'vision'?" in only_problem("targets: {a: {provider: ollama, lacks: [visoin]}}")
