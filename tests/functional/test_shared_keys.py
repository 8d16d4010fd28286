"""Virtual keys in a real Redis: made and revoked by the command, taken over by running gates, there while Redis isn't."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.functional.gate import RunningGate, free_port, postern, running_gate
from tests.redis_servers import RedisServer, own_redis

__all__ = ["own_redis"]

SIMULATED = "targets: {sim: {provider: simulated}}\nroutes: [{name: all, to: [sim]}]\n"
IN_YAML = "pk-postern-yaml-planted-0123456789"
KEYS = f"keys: [{{name: yaml, sha256: {sha256(IN_YAML.encode()).hexdigest()}}}]\n"
PASSWORD = "redis-planted-0123456789"
HELLO: Any = [{"role": "user", "content": "Hello"}]


def store(url: str) -> str:
    return f'store: {{kind: redis, url: "{url}", keys: true}}\n'


@pytest.fixture
def gate(own_redis: RedisServer) -> Iterator[RunningGate]:
    with running_gate(SIMULATED + store(own_redis.url)) as running:
        yield running


@pytest.fixture
def file(own_redis: RedisServer, tmp_path: Path) -> Path:
    path = tmp_path / "postern.yaml"
    path.write_text(SIMULATED + store(own_redis.url) + KEYS)
    return path


def key(gate: RunningGate | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = gate if isinstance(gate, Path) else gate.config_file
    return postern("key", *arguments, "--config", str(path))


def made(gate: RunningGate | Path, name: str, *arguments: str) -> str:
    done = key(gate, "new", "--redis", "--name", name, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()[0]


def status(gate: RunningGate, shown: str, model: str = "sim/gpt-4o-mini") -> int:
    """What a call with this key is answered."""
    with openai.OpenAI(
        base_url=f"{gate.url}/v1", api_key=shown, max_retries=0, timeout=10, default_headers={"x-sim": "lat=0,d=0"}
    ) as client:
        try:
            client.chat.completions.create(model=model, messages=HELLO)
        except openai.APIStatusError as error:
            return error.status_code
        return 200


# ------------------------------------------------------------------------------------------------------------ the running gate


def test_a_key_made_in_redis_opens_a_running_gate_until_it_is_revoked(gate: RunningGate) -> None:
    assert status(gate, "pk-postern-nobody") == 401
    shown = made(gate, "web", "--tenant", "shop", "--models", "sim/gpt-*")
    gate.until(lambda: status(gate, shown) == 200, "taken over")
    assert status(gate, shown, "sim/o3") == 403
    row = gate.until(lambda: next((row for row in gate.ledger() if row.get("key")), None), "in the ledger")
    assert (row["key"], row["tenant"]) == ("web", "shop")
    assert gate.status()["shared_keys"]["known"] == 1
    assert key(gate, "revoke", "web", "--redis").returncode == 0
    gate.until(lambda: status(gate, shown) == 401, "refused")


def test_what_was_read_last_stays_in_force_while_redis_is_away(gate: RunningGate, own_redis: RedisServer) -> None:
    shown = made(gate, "web")
    gate.until(lambda: status(gate, shown) == 200, "taken over")
    own_redis.kill()
    gate.until(lambda: gate.status()["shared_keys"]["is_lost"], "noticed")
    began_s = time.monotonic()
    assert [status(gate, shown), status(gate, "pk-postern-nobody")] == [200, 401]
    assert time.monotonic() - began_s < 5  # nobody waits for it
    assert gate.status()["shared_keys"]["age_s"] > 0
    assert "those read last stay in force" in gate.said


def test_a_redis_that_was_never_there_leaves_the_keys_of_the_yaml_in_force(own_redis: RedisServer) -> None:
    shown = IN_YAML.replace("yaml", "redis")
    own_redis.kill()
    with running_gate(SIMULATED + store(own_redis.url.replace("//", f"//:{PASSWORD}@")) + KEYS) as gate:
        assert [status(gate, shown), status(gate, IN_YAML)] == [503, 200]
        assert gate.status()["shared_keys"]["age_s"] is None
        assert PASSWORD not in gate.said
        own_redis.start()
        own_redis.command("CONFIG", "SET", "requirepass", PASSWORD)
        gate.until(lambda: status(gate, shown) == 401, "read")


def test_a_file_that_would_stop_reading_them_is_refused_whole(gate: RunningGate) -> None:
    shown = made(gate, "web")
    gate.until(lambda: status(gate, shown) == 200, "taken over")
    gate.write_config(SIMULATED)
    assert "store.keys" in gate.until(lambda: gate.status()["config"]["last_reload_error"], "refused")
    assert [status(gate, shown), status(gate, "pk-postern-nobody")] == [200, 401]


# ---------------------------------------------------------------------------------------------------------------- the command


def test_a_key_in_redis_is_shown_once_and_kept_as_its_digest(file: Path, own_redis: RedisServer) -> None:
    done = key(file, "new", "--redis", "--name", "web", "--tenant", "shop", "--expires", "2999-12-31")
    shown = done.stdout.splitlines()[0]
    assert shown.startswith("pk-postern-")
    assert "keys:" not in done.stdout
    kept = own_redis.command("HGETALL", "postern:keys")
    assert sha256(shown.encode()).hexdigest() in kept
    assert shown not in kept
    assert shown not in file.read_text()


def test_a_list_tells_where_each_key_is_kept(file: Path, own_redis: RedisServer) -> None:
    made(file, "web", "--tenant", "shop")
    own_redis.command("HSET", "postern:keys", "odd", "planted")
    own_redis.command("HSET", "postern:keys", "yaml", f'{{"name":"yaml","sha256":"{"ab" * 32}"}}')
    head, *rows, odd = key(file, "list").stdout.splitlines()
    assert head.split()[:3] == ["NAME", "KEPT", "TENANT"]
    assert [re.split(r"  +", row.strip())[:3] for row in rows] == [
        ["yaml", "yaml", "-"],
        ["web", "redis", "shop"],
        ["yaml", "redis, not in force", "-"],
    ]
    assert odd == "What Redis has as 'odd' makes no sense, and opens nothing."
    only = key(file, "list", "--redis").stdout
    assert only.splitlines()[1:] == [*rows[1:], odd]
    assert "planted" not in only


def test_a_list_of_no_keys_says_how_to_make_one(file: Path) -> None:
    file.write_text(file.read_text().replace(KEYS, ""))
    assert key(file, "list").stdout == "There is no key in Redis. `postern key new --redis` makes one.\n"


def not_done(gate: Path, *arguments: str) -> str:
    done = key(gate, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_a_name_belongs_to_one_key(file: Path, own_redis: RedisServer) -> None:
    made(file, "web")
    kept = own_redis.command("HGETALL", "postern:keys")
    assert "a key in Redis is named 'web'" in not_done(file, "new", "--redis", "--name", "web")
    assert "a key is named 'yaml' under `keys`" in not_done(file, "new", "--redis", "--name", "yaml")
    assert own_redis.command("HGETALL", "postern:keys") == kept


def test_a_key_is_revoked_where_it_is_kept(file: Path) -> None:
    made(file, "web")
    assert "no key is named 'web'; one in Redis is revoked with --redis" in not_done(file, "revoke", "web")
    assert "no key in Redis is named 'wev' (did you mean 'web'?)" in not_done(file, "revoke", "wev", "--redis")
    assert "no key in Redis is named 'yaml'" in not_done(file, "revoke", "yaml", "--redis")
    assert key(file, "revoke", "web", "--redis").returncode == 0
    assert "no key in Redis is named 'web'" in not_done(file, "revoke", "web", "--redis")


def test_the_last_key_of_the_yaml_is_left_to_its_owner(file: Path) -> None:
    assert "'yaml' is the only key under `keys`: take the whole section out" in not_done(file, "revoke", "yaml")


def test_without_redis_the_command_says_so_and_tells_no_password(file: Path, own_redis: RedisServer) -> None:
    file.write_text(SIMULATED + store(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0") + KEYS)
    for arguments in (("new", "--redis", "--name", "web"), ("revoke", "web", "--redis"), ("list", "--redis")):
        assert "Redis (store.url) didn't answer" in not_done(file, *arguments)
    listed = key(file, "list")
    assert (listed.returncode, "yaml" in listed.stdout) == (1, True)
    assert PASSWORD not in listed.stdout + listed.stderr
    file.write_text(SIMULATED + store(own_redis.url.replace("//", f"//:{PASSWORD}@")) + KEYS)
    own_redis.command("CONFIG", "SET", "requirepass", "another")
    assert PASSWORD not in not_done(file, "new", "--redis", "--name", "web")


def test_where_keys_are_not_read_from_redis_none_is_kept_there(file: Path, own_redis: RedisServer) -> None:
    file.write_text(file.read_text().replace(", keys: true", ""))
    for arguments in (("new", "--redis", "--name", "web"), ("revoke", "web", "--redis"), ("list", "--redis")):
        assert "keys in Redis are not read: that takes" in not_done(file, *arguments)
    assert own_redis.command("EXISTS", "postern:keys") == "0"


def test_explain_asks_no_redis_and_says_so(file: Path) -> None:
    made(file, "web")
    said = postern("explain", "--assume", "key:web", "--config", str(file))
    assert (said.returncode, said.stdout) == (2, "")
    assert "no key is named 'web' in the file, and Redis isn't asked" in said.stderr
    assert postern("explain", "--assume", "key:yaml", "--method", "GET", "--path", "/v1/models", "--config", str(file)).returncode == 0
