"""Whatever is written in a rule: it is refused in words, or it is a rule that can be compiled and sent."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.schema import Match
from proxy.policy.routing import Router
from tests.config.support import loaded_or_refused

VALUES = st.sampled_from(
    [
        "~", "0", "1", "-1", "2.5", ".nan", ".inf", "9e99", "x", "''", "true", "50%", "[]", "{}", "[x]", "{a: b}", "'${env:A}'",
        "a", "m", "[a]", "[m, b]", "[{target: a, weight: 0}]", "[{target: m, model: x}]", "[a, a]", "sticky", "weighted", "user",
        "'header:x'", "'12:00'", "'24:00'", "Europe/Berlin", "[mon]", "text", "[connect]", "[tools]", "{over: 1, under: 3}",
        "{temperature: [1, {x: ~}]}", "{n: 5}", "[n]",
    ]
)  # fmt: skip
SECTIONS = {
    "match": [*Match.__struct_fields__],
    "budget_used": ["budget", "over", "under"],
    "time": ["after", "before", "days", "time_zone"],
    "input_tokens": ["over", "under"],
    "failover": ["on", "attempts", "backoff", "context_window_to", "content_filter_to"],
    "backoff": ["first_ms", "max_s"],
    "request": ["set", "clamp", "drop"],
    "breaker": ["failures", "window_s", "ratio", "open_s", "probes"],
    "limits": ["concurrency"],
}


def keys(*names: str) -> st.SearchStrategy[str]:
    """Some of these keys with values, sound ones and others, as the inside of a mapping."""

    def value(name: str) -> st.SearchStrategy[str]:
        return st.one_of(VALUES, keys(*SECTIONS[name]).map("{{{}}}".format)) if name in SECTIONS else VALUES

    return st.lists(st.sampled_from(names), unique=True, max_size=3).flatmap(
        lambda some: st.tuples(*(value(name) for name in some)).map(
            lambda values: ", ".join(f"{name}: {one}" for name, one in zip(some, values, strict=True))
        )
    )


TARGET = keys("breaker", "limits", "request", "context_window", "lacks")
ALIAS = keys("strategy", "sticky_by")
ROUTE = keys("match", "strategy", "sticky_by", "failover", "request")
CHOICES = st.sampled_from(
    ["[a]", "[m, b]", "[{target: a, weight: 0}, {target: b, model: x, weight: 3}]", "[m, {target: m, model: x}]", "[nobody]"]
)


def inside(text: str) -> str:
    return f", {text}" if text else ""


@settings(max_examples=150, deadline=None)
@given(TARGET, ALIAS, CHOICES, ROUTE)
def test_any_rule_is_refused_in_words_or_can_be_compiled_and_sent(target: str, alias: str, to: str, route: str) -> None:
    text = (
        f"targets: {{a: {{provider: openai{inside(target)}}}, b: {{provider: ollama}}}}\n"
        f"models: {{m: {{targets: [a, b]{inside(alias)}}}}}\n"
        f"routes: [{{name: r, match: {{header: {{x-a: b}}}}, to: [a]}}, {{name: s, to: {to}{inside(route)}}}]"
    )
    config = loaded_or_refused(text)
    if config is not None:
        Router(config)
        msgspec.json.encode([route.request for route in config.routes])
