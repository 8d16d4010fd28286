"""Virtual keys that sidecars share, at the gate: as good as the YAML's, swapped whole, and what is answered before they were read."""

from __future__ import annotations

import json
from hashlib import sha256

from proxy.config.schema import KeyConfig
from proxy.policy.keys import VirtualKeys, compile_key
from tests.pipeline.replies import GOOD
from tests.pipeline.scripts import CONFIG, bearer, chat, posted
from tests.pipeline.world import Played, World, world_under

OWN, SHARED, OTHER, OLD = (b"pk-postern-%s-0123456789" % name for name in (b"own", b"shared", b"other", b"old"))
STORE = "store: {kind: redis, url: 'redis://h', keys: true}\n"


def entry(name: str, key: bytes, **said: str) -> str:
    return f"{{{', '.join(f'{at}: {value!r}' for at, value in {'name': name, 'sha256': sha256(key).hexdigest(), **said}.items())}}}"


KEYS = f"keys: [{entry('own', OWN)}, {entry('old', OLD, expires='2001-01-01')}]\n"

world = world_under(CONFIG + STORE + KEYS)


def shared(**keys: bytes) -> VirtualKeys:
    return VirtualKeys(compile_key(KeyConfig(name, sha256(key).hexdigest(), tenant="of-" + name)) for name, key in keys.items())


def status(world: World, key: bytes) -> int | None:
    call = world.gate.keys.find([key])
    return world.call(chat(bearer(key)), *([GOOD] if call is not None and call.name != "old" else [])).client.status


def told(played: Played) -> tuple[int | None, object, object]:
    error = played.error
    return played.client.status, error["code"], error["type"]


def test_a_shared_key_opens_the_gate_as_one_of_the_yaml_does(world: World) -> None:
    world.gate.share_keys(shared(web=SHARED))
    played = world.call(chat(bearer(SHARED)), GOOD)
    assert played.record.labels == {"tenant": "of-web", "key": "web"}
    assert played.sent[0].values("authorization") == [b"Bearer sk-target"]
    assert status(world, OWN) == 200
    assert told(world.call(chat(bearer(OTHER)))) == (401, "key_invalid", "postern_refused")


def test_shared_keys_are_swapped_whole_from_the_next_call_on(world: World) -> None:
    world.gate.share_keys(shared(web=SHARED))
    world.gate.share_keys(shared(batch=OTHER))
    assert [status(world, key) for key in (SHARED, OTHER)] == [401, 200]
    world.gate.share_keys(shared())
    assert [status(world, key) for key in (SHARED, OTHER, OWN)] == [401, 401, 200]


def test_of_two_keys_with_one_name_or_digest_the_yamls_counts(world: World) -> None:
    world.gate.share_keys(shared(own=SHARED, double=OWN))
    assert status(world, SHARED) == 401
    assert world.call(chat(bearer(OWN)), GOOD).record.labels == {"key": "own"}


def test_a_reload_leaves_the_shared_keys_in_force(world: World) -> None:
    world.gate.share_keys(shared(web=SHARED))
    world.reload(CONFIG + STORE)
    assert [status(world, key) for key in (SHARED, OWN)] == [200, 401]
    world.reload(CONFIG + STORE + f"keys: [{entry('web', OTHER)}]\n")
    assert [status(world, key) for key in (SHARED, OTHER)] == [401, 200]


def test_before_they_were_read_a_key_that_is_not_in_the_yaml_is_not_called_wrong(world: World) -> None:
    played = world.call(chat(bearer(SHARED)))
    assert told(played) == (503, "store_unavailable", "postern_unavailable")
    assert (played.client.value("x-should-retry"), played.client.value("retry-after")) == ("true", "2")
    assert played.sent == []
    messages = world.call(posted({"model": "claude"}, "/v1/messages", bearer(SHARED)))
    assert json.loads(messages.client.body)["error"]["type"] == "api_error"


def test_before_they_were_read_what_is_known_is_told_as_ever(world: World) -> None:
    assert status(world, OWN) == 200
    assert told(world.call(chat())) == (401, "key_invalid", "postern_refused")
    assert told(world.call(chat(bearer(OLD)))) == (401, "key_invalid", "postern_refused")


def test_where_keys_are_shared_one_is_needed_even_if_there_is_none() -> None:
    with World(CONFIG + STORE) as world:
        assert world.call(chat()).client.status == 401
        world.gate.share_keys(shared())
        assert status(world, SHARED) == 401
        world.gate.share_keys(shared(web=SHARED))
        assert status(world, SHARED) == 200
