"""Budgets, limits and the store, as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.schema import Config, WhenShort
from proxy.config.spending import NAME, PER, RATE
from proxy.policy.budgets import Bound, Spending, Subject
from proxy.policy.conditions import RouteFacts
from proxy.policy.limits import parse_rate
from tests.config.support import MINIMAL, TWO_TARGETS, load, loaded_or_refused, only_problem, problems

CONTRACT = (Path(__file__).parent / "contract.yaml").read_text(encoding="utf-8")
KEYS = f"keys: [{{name: web, sha256: {'a' * 64}}}]\n"
ROUTES = "routes: [{name: a, to: [openai]}]\nmodels: {smart: [local]}\n".replace("[local]", "{targets: [local]}")
RULES = TWO_TARGETS + ROUTES


def budget(more: str = "", *, window: str = "{every: day}", limit: str = "{usd: 10}", name: str = "b") -> str:
    return RULES + f"budgets: [{{name: {name}, window: {window}, limit: {limit}, {more}}}]\n"


def limit(keys: str) -> str:
    return RULES + f"limits: [{{name: l, {keys}}}]\n"


def told(text: str) -> str:
    """The one problem of a text, without its place."""
    return only_problem(text).split(": ", 1)[1]


def test_the_contracts_budgets_and_limits_load() -> None:
    said = problems(CONTRACT, {"ANTHROPIC_API_KEY": "k"})
    assert [line for line in said if any(word in line for word in ("budgets", "limits[", "store"))] == []


def test_budgets_and_limits_load_as_they_are_meant() -> None:
    config = load(
        RULES + KEYS + "budgets:\n"
        "  - name: tenant-day\n"
        "    per: [tenant, model, 'header:X-Team', key]\n"
        "    window: {every: day, time_zone: Europe/Berlin}\n"
        "    limit: {usd: 10, tokens: 2_000_000, requests: 5000}\n"
        "    match: {model: 'gpt-*'}\n"
        "    warn_at: [50%, 0.8, 120%]\n"
        "    when_short: {degrade_to: [local, smart]}\n"
        "    critical_multiplier: 2.5\n"
        "    cut: true\n"
        "  - {name: hour, window: {rolling_s: 3600}, limit: {requests: 5}, spend: posthoc, when_short: {allow: true}, mode: shadow}\n"
        "limits:\n"
        "  - {name: per-user, per: [user], requests: 100/min, tokens: 200_000/min, concurrency: 8, wait_ms: 250, on_store_lost: open}\n"
    ).config
    assert [budget.name for budget in config.budgets] == ["tenant-day", "hour"]
    assert config.budgets[0].warn_at == [0.5, 0.8, 1.2]
    assert config.budgets[0].when_short == WhenShort(degrade_to=config.budgets[0].when_short.degrade_to)
    assert config.limits[0].wait_ms == 250


# ----------------------------------------------------------------------------------------------------------------- names


def test_names_of_budgets_and_limits_must_differ() -> None:
    text = budget() + "limits: [{name: b, concurrency: 1}]\n"
    assert told(text) == "limits[0].name: is the name of budgets[0] too: names of budgets and limits must differ"
    two = "budgets: [{name: b, window: {every: day}, limit: {usd: 1}}, {name: b, window: {every: week}, limit: {usd: 1}}]\n"
    assert told(RULES + two).startswith("budgets[1].name: is the name of budgets[0] too")


@pytest.mark.parametrize("name", ["a b", "a:b", "'{a}'", "-a", "ä", "a" * 65])
def test_a_name_is_plain_for_accounts_are_named_after_it(name: str) -> None:
    assert told(budget(name=name)).startswith("budgets[0].name: must be letters, digits,")
    assert NAME.fullmatch("Tenant-day_1.2")


@pytest.mark.parametrize("rule", ["budgets: [{name: '', window: {every: day}, limit: {usd: 1}}]", "limits: [{name: '', concurrency: 1}]"])
def test_a_name_is_not_empty(rule: str) -> None:
    assert told(RULES + rule).endswith("[0].name: must not be empty")


# ------------------------------------------------------------------------------------------------------------------- per


@pytest.mark.parametrize(
    ("per", "message"),
    [
        ("[tennant]", f"must be one of {', '.join(PER)} (did you mean 'tenant'?)"),
        ("[zzz]", "must be one of tenant, user, app, task, workflow, step, key, model, provider, target, header:NAME"),
        ("[key]", "is nothing that a call has: there are no `keys`"),
        ("['header:a b']", "what follows `header:` is"),
        ("['header:Authorization']", "holds credentials, which are not recorded: name virtual keys under `keys`, and count per `key`"),
        ("['header:x-api-key']", "holds credentials"),
    ],
)  # fmt: skip
def test_per_names_what_a_call_has(per: str, message: str) -> None:
    for path, text in (("budgets", budget(f"per: {per}")), ("limits", limit(f"concurrency: 1, per: {per}"))):
        assert told(text).startswith(f"{path}[0].per[0]: {message}")


def test_per_names_nothing_twice() -> None:
    assert told(budget("per: [user, model, user]")) == "budgets[0].per[2]: is named twice"
    assert told(limit("concurrency: 1, per: ['header:X-Team', 'header:x-team']")) == "limits[0].per[1]: is named twice"


def test_per_names_no_label_that_is_not_read() -> None:
    assert (
        told("identity: {task: []}\n" + budget("per: [task]")) == "budgets[0].per[0]: is nothing that a call has: `identity.task` is empty"
    )


def test_what_came_from_outside_is_not_shown() -> None:
    text = budget("per: ['${env:S}']")
    (problem,) = problems(text, {"S": "tenent"})
    assert "tenent" not in problem
    assert "did you mean" not in problem


# ---------------------------------------------------------------------------------------------------------------- window


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("{}", "window: must say how long it is"),
        ("{every: day, rolling_s: 60}", "window: has `every` and `rolling_s`: leave one of them out"),
        ("{rolling_s: 60, time_zone: Europe/Berlin}", "window.time_zone: does nothing beside `rolling_s`"),
        ("{every: day, time_zone: Europe/Nowhere}", "window.time_zone: is no time zone that this machine knows"),
        ("{every: day, time_zone: ../etc}", "window.time_zone: is no time zone that this machine knows"),
        ("{rolling_s: 0.5}", "window.rolling_s: must be at least 1 and at most 2678400"),
        ("{rolling_s: 2678401}", "window.rolling_s: must be at least 1 and at most 2678400"),
        ("{every: fortnight}", "window.every: expected one of day, hour, minute, month, week"),
    ],
)
def test_a_window_is_one_that_time_has(window: str, message: str) -> None:
    assert told(budget(window=window)).startswith(f"budgets[0].{message}")


# ---------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("{}", "limit: must name a limit: usd, tokens, requests, or several of these"),
        ("{usd: 0}", "limit.usd: must be at least 1e-09"),
        ("{usd: -1}", "limit.usd: must be at least"),
        ("{usd: 10_000_000}", "limit.usd: must be at least 1e-09 and at most 9000000"),
        ("{usd: .nan}", "limit.usd: must be"),
        ("{tokens: 0}", "limit.tokens: must be at least 1"),
        ("{tokens: 1.5}", "limit.tokens: expected a whole number"),
        ("{requests: 0}", "limit.requests: must be at least 1"),
    ],
)
def test_a_budget_has_a_limit_that_can_be_counted(limit: str, message: str) -> None:
    assert told(budget(limit=limit)).startswith(f"budgets[0].{message}")


def test_what_is_wrong_with_a_limit_is_said_once() -> None:
    assert told(budget(limit="{usd: lots}")).startswith("budgets[0].limit.usd: expected a number")


def test_a_multiplier_raises_a_limit_to_what_can_be_counted() -> None:
    assert told(budget("critical_multiplier: 0.5")).startswith("budgets[0].critical_multiplier: must be at least 1 and at most 1000")
    message = told(budget("critical_multiplier: 3", limit="{usd: 4_000_000}"))
    assert message == "budgets[0].critical_multiplier: makes more than 9000000 of `limit.usd`, which is more than can be counted"


@pytest.mark.parametrize("warn_at", ["[0]", "[0%]"])
def test_a_warning_is_of_something(warn_at: str) -> None:
    assert told(budget(f"warn_at: {warn_at}")) == "budgets[0].warn_at[0]: must be more than 0"


def test_a_warning_is_named_once_and_within_reason() -> None:
    assert told(budget("warn_at: [50%, 0.5]")) == "budgets[0].warn_at[1]: is named twice"
    assert told(budget("warn_at: [80]")).startswith("budgets[0].warn_at[0]: must be at least 0 and at most 10")


# ------------------------------------------------------------------------------------------------------------ when short


@pytest.mark.parametrize(
    "when_short",
    ["{}", "{refuse: false}", "{refuse: true, allow: true}", "{degrade_to: [local], allow: true}", "{degrade_to: []}"],
)
def test_one_thing_is_done_when_a_budget_is_short(when_short: str) -> None:
    text = budget(f"when_short: {when_short}")
    assert told(text) == "budgets[0].when_short: must say one thing: `refuse: true`, `degrade_to: […]` or `allow: true`"


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("[locall]", "degrade_to: no target named 'locall' (did you mean 'local'?)"),
        ("[local, local]", "degrade_to[1]: is the same as budgets[0].when_short.degrade_to[0]: name it once"),
        ("[{target: smart, model: m}]", "degrade_to[0].model: can't stand beside an alias"),
        ("[{target: local, weight: 2}]", "degrade_to[0].weight: does nothing here"),
    ],
)
def test_calls_are_degraded_to_targets_that_exist(targets: str, message: str) -> None:
    assert told(budget(f"when_short: {{degrade_to: {targets}}}")).startswith(f"budgets[0].when_short.{message}")


@pytest.mark.parametrize(
    ("more", "limit", "message"),
    [
        ("cut: true", "{requests: 5}", "needs a limit of usd or tokens"),
        ("cut: true, spend: headroom", "{usd: 5}", "needs `spend: strict`"),
        ("cut: true, when_short: {allow: true}", "{usd: 5}", "does nothing beside `allow`"),
    ],
)
def test_only_what_holds_a_streams_bound_can_cut_it(more: str, limit: str, message: str) -> None:
    assert told(budget(more, limit=limit)).startswith(f"budgets[0].cut: {message}")


# ----------------------------------------------------------------------------------------------------------------- match


@pytest.mark.parametrize("path", ["budgets", "limits"])
def test_a_match_is_one_that_a_call_can_meet(path: str) -> None:
    def rule(match: str) -> str:
        return told(budget(f"match: {match}") if path == "budgets" else limit(f"concurrency: 1, match: {match}"))

    assert rule("{path: chat}") == f"{path}[0].match.path: never matches: a path starts with '/'"
    assert rule("{budget_used: {budget: b, over: 50%}}").startswith(f"{path}[0].match.budget_used: can't stand in a")
    assert rule("{key: web}").startswith(f"{path}[0].match.key: never matches")


# ---------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "rate", ["100/min", "1/s", "200_000/min", "5/sec", "5/h", "5/hour", "5/day", "1000000000/s", "0", "0/min", "1.5/s", "-1/s", "5/week",
             "5 / min", "5/MIN", "1__0/s", "_1/s", "1000000001/s", "x/s", "5/min/s", ""],
)  # fmt: skip
def test_a_rate_that_loads_is_one_that_the_policy_reads(rate: str) -> None:
    try:
        parsed = parse_rate(rate).burst <= 10**9
    except ValueError:
        parsed = False
    text = limit(f"requests: '{rate}'")
    if parsed:
        assert load(text).config.limits[0].requests == rate
    else:
        assert told(text).startswith("limits[0].requests: must be a rate such as 100/min")
    assert RATE.fullmatch("100/min")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("per: [user]", "limits[0]: limits nothing: give requests, tokens, concurrency, or several of these"),
        ("tokens: 5", "limits[0].tokens: expected a string"),
        ("tokens: 5/year", "limits[0].tokens: must be a rate"),
        ("concurrency: 0", "limits[0].concurrency: must be at least 1"),
        ("concurrency: 1, wait_ms: 60001", "limits[0].wait_ms: must be at least 1 and at most 60000"),
        ("concurrency: 1, wait_ms: 0", "limits[0].wait_ms: must be at least 1"),
        ("concurrency: 1, mode: shadowed", "limits[0].mode: expected one of enforce, shadow"),
    ],
)
def test_a_limit_limits_something(keys: str, message: str) -> None:
    assert told(limit(keys)).startswith(message)


# ----------------------------------------------------------------------------------------------------------------- store


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "redis://h:6379", "rediss://user:p@h:6380/3", "redis+cluster://a:1,b:2", "rediss+cluster://:p@a", "redis://[::1]:6379/0",
        "redis+sentinel://a:26379,b:26379/mymaster", "rediss+sentinel://u:p@a/mymaster/2", "redis+cluster://a:1/0",
        "rediss://h?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false", "rediss+cluster://h?ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
    ],
)  # fmt: skip
def test_a_redis_is_named_by_its_url(url: str) -> None:
    store = load(MINIMAL + f"store: {{kind: redis, url: '{url}'}}").config.store
    assert store.url is not None
    assert store.url.reveal() == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://s3cret@h", "must begin with one of redis://, rediss://, redis+cluster://"),
        ("s3cret", "must begin with one of"),
        ("redis://", "names no host"),
        ("redis://s3cret@", "names no host"),
        ("redis://:s3cret@h:99999", "names a host, or a port, that can't be one"),
        ("redis://:s3cret@h:x", "names a host, or a port, that can't be one"),
        ("redis://[s3cret", "is no URL"),
        ("redis://:s3cret@h/one", "must end with the number of a database, or nothing"),
        ("redis://:s3cret@a,b", "names several hosts: that is redis+cluster:// or redis+sentinel://"),
        ("redis+sentinel://:s3cret@a:1,b:2", "must name the master behind the Sentinels"),
        ("redis+sentinel://:s3cret@a/m/x", "must end with the number of a database, or nothing"),
        ("redis+cluster://:s3cret@a/3", "names a database: a cluster has none but 0"),
        ("redis://h/0#s3cret", "has a `#`"),
        ("redis://:s3cret@h?ssl_ca_certs=/ca.pem", "has options behind a `?`: they are for rediss:// and rediss+cluster://"),
        ("rediss+sentinel://:s3cret@a/m?ssl_ca_certs=/ca.pem", "has options behind a `?`"),
        ("rediss://h?s3cret=1", "has an option that isn't one of ssl_ca_certs, "),
        ("rediss://h?socket_timeout=3600", "has an option that isn't one of ssl_ca_certs, "),
        ("rediss://:s3cret@h?ssl_ca_certs=", "has an option without a value"),
    ],
)
def test_an_address_that_cannot_be_one_is_told_without_it(url: str, message: str) -> None:
    problem = told(MINIMAL + f"store: {{kind: redis, url: '{url}'}}")
    assert problem.startswith(f"store.url: {message}")
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("{kind: redis}", "store.url: is required with `kind: redis`"),
        ("{url: 'redis://h'}", "store.url: does nothing with `kind: embedded`"),
        ("{timeout_ms: 0.5}", "store.timeout_ms: must be at least 1 and at most 1000"),
        ("{timeout_ms: 5000}", "store.timeout_ms: must be at least 1 and at most 1000"),
        ("{lease_s: 1}", "store.lease_s: must be at least 2 and at most 3600"),
        ("{prefix: 'a{b}'}", "store.prefix: must be 1 to 64 letters"),
        ("{prefix: 'a b'}", "store.prefix: must be 1 to 64 letters"),
        ("{prefix: ''}", "store.prefix: must be 1 to 64 letters"),
        ("{keys: true}", "store.keys: needs `kind: redis`"),
        ("{kind: memcached, url: 'redis://h'}", "store.kind: expected one of embedded, redis"),
    ],
)
def test_a_store_is_one_that_can_be_asked(store: str, message: str) -> None:
    assert told(MINIMAL + f"store: {store}").startswith(message)


def test_an_address_from_outside_that_is_empty_is_missing() -> None:
    text = MINIMAL + "store: {kind: redis, url: '${env:REDIS_URL:-}'}"
    assert told(text) == "store.url: is required with `kind: redis`"


def test_a_rule_may_say_what_it_does_without_a_store_that_cannot_be_lost() -> None:
    assert load(budget("on_store_lost: closed")).config.budgets[0].on_store_lost == "closed"


def test_all_that_is_wrong_is_told_at_once() -> None:
    text = budget("per: [x], warn_at: [0], critical_multiplier: 0", window="{}", limit="{}") + "limits: [{name: l, wait_ms: 0}]\n"
    assert len(problems(text + "store: {prefix: ''}")) == 8


# ------------------------------------------------------------------------------------------------------------- anything

ODD = ("~", "0", "-1", ".nan", ".inf", "9e99", "x", "''", "true", "[]", "{}", "[x]", "'${env:A}'", "50%", "[0]", "{usd: .inf}", "0/s")
WINDOWS = ("{every: day}", "{rolling_s: 1}", "{every: month, time_zone: Asia/Beirut}", "{every: hour, rolling_s: 5}")
AMOUNTS = ("{usd: 1e-9}", "{usd: 9e6}", "{tokens: 5, requests: 1}", "{usd: 0.3, tokens: 7, requests: 9e15}", "{requests: 9_000_000}")
SOUND = {
    "per": ("[tenant]", "[target, 'header:x-a']", "[model, provider]"),
    "match": ("{model: 'gpt-*'}", "{time: {days: [mon]}}", "{budget_used: {budget: b, over: 1%}}", "{tenant: x}"),
    "spend": ("strict", "headroom", "posthoc"),
    "warn_at": ("[50%, 120%]", "[0.001]"),
    "when_short": ("{allow: true}", "{degrade_to: [local]}", "{degrade_to: [smart, nobody]}"),
    "critical_multiplier": ("1", "2.5", "1000"),
    "on_store_lost": ("open", "closed"),
    "cut": ("true", "false"),
    "mode": ("shadow", "enforce"),
    "requests": ("100/min", "1/s"),
    "tokens": ("200_000/day",),
    "concurrency": ("1", "500"),
    "wait_ms": ("1", "60000"),
}


def mapping(*names: str) -> st.SearchStrategy[str]:
    """Some of these keys with values, mostly sound ones, as what follows in a mapping."""
    pairs = [st.tuples(st.just(name), st.sampled_from((*SOUND[name] * 3, *ODD))) for name in names]
    return st.lists(st.one_of(pairs), max_size=3, unique_by=lambda pair: pair[0]).map(
        lambda values: "".join(f", {key}: {value}" for key, value in values)
    )


BUDGETS = mapping("per", "match", "spend", "warn_at", "when_short", "critical_multiplier", "on_store_lost", "cut", "mode")
LIMITS = mapping("per", "match", "requests", "tokens", "concurrency", "wait_ms", "on_store_lost", "mode")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from((*WINDOWS, "{}")), st.sampled_from((*AMOUNTS, "{}")), BUDGETS, LIMITS)
def test_any_rule_is_refused_in_words_or_can_be_drawn_on(window: str, limit: str, budget: str, rate: str) -> None:
    text = RULES + f"budgets: [{{name: b, window: {window}, limit: {limit}{budget}}}]\nlimits: [{{name: l{rate}}}]\n"
    config = loaded_or_refused(text)
    if config is not None:
        check_draws(config)


def check_draws(config: Config) -> None:
    spending, subject = Spending(config), Subject({}, {}, None, "openai", "openai")
    facts = RouteFacts("POST", "/v1/chat/completions", "gpt-4o", [], False)
    draws = spending.call_draws(facts, subject, 1, True) + spending.attempt_draws(facts, subject, Bound(5, 5), 1, True)
    assert all(0 < draw.line.ordinary_limit <= draw.line.limit <= 9e15 for draw in draws)
