"""What a running Postern can't take over."""

from __future__ import annotations

import pytest

from proxy.config.changes import needs_restart, refused_until_restart
from tests.config.support import MINIMAL, load


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("listen: 127.0.0.1:1", "listen"),
        ("admin: {listen: '127.0.0.1:1'}", "admin.listen"),
        ("state_dir: elsewhere", "state_dir"),
        ("store: {prefix: other}", "store"),
    ],
)
def test_key_read_at_start_needs_a_restart(text: str, key: str) -> None:
    old, new = load(MINIMAL).config, load(MINIMAL + text).config
    assert needs_restart(old, new) == [key]
    assert needs_restart(new, old) == [key]


def test_a_file_that_changes_where_keys_are_kept_is_refused_until_a_restart() -> None:
    shared = "store: {kind: redis, url: 'redis://h', keys: true}\n"
    old, new = load(MINIMAL).config, load(MINIMAL + shared).config
    for before, after in ((old, new), (new, old)):
        assert (refused_until_restart(before, after) or "").startswith("store.keys: ")
    moved = load(MINIMAL + shared + f"keys: [{{name: web, sha256: {'ab' * 32}}}]\n").config
    assert refused_until_restart(new, moved) is None


def test_rules_and_targets_are_swapped_without_a_restart() -> None:
    new = load("targets: {b: {provider: ollama}}\ndrain_s: 5\nroutes: [{name: a, to: [b]}]\nprices: {on_unknown: refuse}\nmax_body_mib: 1")
    routing = load(
        "targets: {openai: {provider: openai, breaker: {failures: 9}, limits: {concurrency: 3}, context_window: 9, lacks: [tools]}}\n"
        "models: {m: {targets: [openai], strategy: sticky, sticky_by: user}}\n"
        "routes: [{name: a, to: [m], match: {tools: true}, strategy: weighted, failover: {attempts: 2}, request: {set: {n: 1}}}]"
    )
    telemetry = load(MINIMAL + "telemetry: {otlp: {endpoint: 'http://h'}, cost_attribute: x, capture_content: span, keep: {ratio: 0}}")
    assert needs_restart(load(MINIMAL).config, telemetry.config) == []
    assert needs_restart(load(MINIMAL).config, new.config) == []
    assert needs_restart(load(MINIMAL).config, routing.config) == []
