"""Keys kept in Redis: what is written is read again, what makes no sense is skipped, what was read last outlives Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from proxy.call import Secret
from proxy.config.schema import KeyConfig, StoreConfig
from proxy.policy.keys import VirtualKeys
from proxy.stores.opening import link_for
from proxy.stores.redis_link import RedisLost
from proxy.stores.shared_keys import ANSWER_S, REFRESH_S, KeyHash, SharedKeys, read_entry
from tests.fake_time import FakeTimeLoop, in_fake_time, pass_time
from tests.project.tree import source
from tests.stores.support import SystemClock

WEB = KeyConfig("web", sha256(b"pk-web").hexdigest(), tenant="shop", models=["gpt-*"], routes=["day"], expires="2999-12-31")
CLI = KeyConfig("cli", sha256(b"pk-cli").hexdigest())
SERVERS = {"redis": "shared_redis", "cluster": "redis_cluster", "sentinel": "redis_sentinels"}


def text_of(**said: object) -> str:
    return json.dumps({"name": "web", "sha256": WEB.sha256, **said})


class FakeKept(KeyHash):
    """A hash that a test fills, breaks and holds up."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.fault: Exception | None = None
        self.reads = 0
        self.is_closed = False

    async def changed(self, known: str, timeout_s: float) -> tuple[str, dict[str, str]] | None:
        self.reads += 1
        if self.fault:
            raise self.fault
        digest = json.dumps(self.texts)
        return None if digest == known else (digest, dict(self.texts))

    async def close(self) -> None:
        self.is_closed = True


class Reading:
    """Keys that are read from a fake hash; `taken` are the names of each set."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FakeTimeLoop)
        self.kept, self.taken = FakeKept(), list[list[str]]()
        self.keys = SharedKeys(self.kept, loop.clock, self.take)

    def take(self, keys: VirtualKeys) -> None:
        self.taken.append([key.name for key in keys])


@contextlib.asynccontextmanager
async def reading(**texts: str) -> AsyncIterator[Reading]:
    one = Reading()
    one.kept.texts = texts
    await one.keys.start()
    try:
        yield one
    finally:
        await one.keys.close()
        assert one.kept.is_closed


# ------------------------------------------------------------------------------------------------------------- entries


def test_an_entry_says_what_a_key_of_the_yaml_may_say() -> None:
    said = text_of(tenant="shop", models=["gpt-*"], routes=["day"], expires="2999-12-31")
    assert read_entry("web", said) == WEB
    assert read_entry("web", text_of()) == KeyConfig("web", WEB.sha256)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pk-web",
        "[]",
        "{}",
        "[" * 100_000,
        text_of(name="other"),
        text_of(sha256="ab"),
        text_of(tenant=" "),
        text_of(models="gpt-*"),
        text_of(models=[""]),
        text_of(expires="soon"),
        text_of(only_on="sunday"),  # of a later version: what this one doesn't know may be a restriction
    ],
)
def test_an_entry_that_makes_no_sense_is_no_key(text: str) -> None:
    assert read_entry("web", text) is None


# ---------------------------------------------------------------------------------------------------------- when it reads


@in_fake_time
async def test_keys_are_read_at_the_start_and_every_two_seconds() -> None:
    async with reading(web=text_of()) as one:
        assert (one.taken, one.kept.reads) == ([["web"]], 1)
        one.kept.texts = {}
        await pass_time(REFRESH_S - 0.1)
        assert one.kept.reads == 1
        await pass_time(0.2)
        assert one.taken == [["web"], []]
    assert REFRESH_S == 2.0


@in_fake_time
async def test_keys_that_did_not_change_are_not_taken_again() -> None:
    async with reading(web=text_of()) as one:
        await pass_time(5 * REFRESH_S)
        assert len(one.taken) == 1
        assert one.kept.reads >= 5


@in_fake_time
async def test_an_empty_redis_is_known_to_have_no_keys() -> None:
    async with reading() as one:
        assert one.taken == [[]]
        assert one.keys.health() == {"known": 0, "skipped": 0, "age_s": 0.0, "is_lost": False}


@pytest.mark.parametrize("planted", ["planted-content", "pk-planted"])
def test_what_makes_no_sense_is_counted_and_told_once_by_its_name_alone(planted: str, caplog) -> None:
    @in_fake_time
    async def script() -> None:
        async with reading(web=text_of(), odd=planted) as one:
            await pass_time(3 * REFRESH_S)
            one.kept.texts["cli"] = text_of(name="cli", sha256=CLI.sha256)
            await pass_time(REFRESH_S)
            assert one.taken == [["web"], ["cli", "web"]]
            assert one.keys.health()["skipped"] == 1

    script()
    (told,) = [record.getMessage() for record in caplog.records]
    assert "'odd'" in told
    assert planted not in caplog.text


# ---------------------------------------------------------------------------------------------------------- Redis is lost


@in_fake_time
async def test_what_was_read_last_outlives_redis_and_tells_its_age() -> None:
    async with reading(web=text_of()) as one:
        one.kept.fault = RedisLost("gone")
        await pass_time(10 * REFRESH_S)
        assert one.taken == [["web"]]
        health = one.keys.health()
        assert (health["known"], health["is_lost"]) == (1, True)
        assert health["age_s"] == 10 * REFRESH_S
        one.kept.fault, one.kept.texts = None, {}
        await pass_time(REFRESH_S)
        assert one.taken == [["web"], []]
        assert one.keys.health()["is_lost"] is False


@in_fake_time
async def test_before_redis_answered_nothing_is_taken_and_no_age_is_told() -> None:
    one = Reading()
    one.kept.fault = RedisLost("not there yet")
    await one.keys.start()
    assert one.taken == []
    assert one.keys.health() == {"known": 0, "skipped": 0, "age_s": None, "is_lost": True}
    one.kept.fault, one.kept.texts = None, {"web": text_of()}
    await pass_time(REFRESH_S + 0.1)
    assert one.taken == [["web"]]
    await one.keys.close()


def test_a_loss_and_its_end_are_told_once(caplog) -> None:
    @in_fake_time
    async def script() -> None:
        async with reading(web=text_of()) as one:
            one.kept.fault = RedisLost("gone")
            await pass_time(5 * REFRESH_S)
            one.kept.fault = None
            await pass_time(5 * REFRESH_S)

    with caplog.at_level("WARNING"):
        script()
    lost, back = [record.getMessage() for record in caplog.records]
    assert lost == "the keys in Redis can't be read (gone): those read last stay in force"
    assert "back" in back


@in_fake_time
async def test_a_fault_of_ours_does_not_end_the_reading() -> None:
    async with reading(web=text_of()) as one:
        one.kept.fault = ZeroDivisionError()
        await pass_time(2 * REFRESH_S)
        one.kept.fault, one.kept.texts = None, {}
        await pass_time(REFRESH_S)
        assert one.taken == [["web"], []]


# ---------------------------------------------------------------------------------------------------------- a real Redis


@contextlib.asynccontextmanager
async def key_hash(url: str, prefix: str) -> AsyncIterator[KeyHash]:
    kept = KeyHash(link_for(StoreConfig(kind="redis", url=Secret(url))), prefix)
    try:
        yield kept
    finally:
        await kept.close()


async def fills_and_empties(url: str, prefix: str) -> None:
    async with key_hash(url, prefix) as kept:
        assert await kept.entries() == {}
        assert await kept.add(WEB)
        assert await kept.add(CLI)
        assert not await kept.add(KeyConfig("web", "ab" * 32))
        assert {name: read_entry(name, text) for name, text in (await kept.entries()).items()} == {"web": WEB, "cli": CLI}
        assert await kept.remove("web")
        assert not await kept.remove("web")
        assert [*await kept.entries()] == ["cli"]
        assert await kept.changed("", ANSWER_S) is not None


@pytest.mark.parametrize("kind", SERVERS)
async def test_what_is_kept_is_read_again_and_a_name_is_taken_once(kind: str, request: pytest.FixtureRequest) -> None:
    await fills_and_empties(request.getfixturevalue(SERVERS[kind]).url, f"test-{secrets.token_hex(4)}")


async def test_keys_need_no_more_than_the_documented_rights(own_redis) -> None:
    rights = next(text for text in source("docs/stores.md").splitlines() if text.startswith("ACL SETUSER"))
    assert own_redis.command(*rights.replace("<password>", "word").split()) == "OK"
    await fills_and_empties(f"redis://postern:word@127.0.0.1:{own_redis.port}/0", "postern")


@pytest.mark.parametrize("kind", SERVERS)
async def test_keys_are_sent_only_where_they_are_no_longer_what_is_known(kind: str, request: pytest.FixtureRequest) -> None:
    async with key_hash(request.getfixturevalue(SERVERS[kind]).url, f"test-{secrets.token_hex(4)}") as kept:
        nothing = await kept.changed("", ANSWER_S)
        assert nothing is not None
        assert nothing[1] == {}
        assert await kept.changed(nothing[0], ANSWER_S) is None
        await kept.add(WEB)
        found = await kept.changed(nothing[0], ANSWER_S)
        assert found is not None
        assert found[1] == await kept.entries()
        assert await kept.changed(found[0], ANSWER_S) is None
        await kept.remove("web")
        assert await kept.changed(found[0], ANSWER_S) == nothing


async def test_the_same_text_at_another_place_is_a_change(own_redis) -> None:
    async with key_hash(own_redis.url, "postern") as kept:
        own_redis.command("HSET", "postern:keys", "a", "bc")
        found = await kept.changed("", ANSWER_S)
        own_redis.command("DEL", "postern:keys")
        own_redis.command("HSET", "postern:keys", "ab", "c")
        assert found is not None
        assert await kept.changed(found[0], ANSWER_S) not in (None, found)


async def test_a_redis_that_is_silent_holds_up_nobody_for_longer_than_a_second(own_redis) -> None:
    async with key_hash(own_redis.url, "postern") as kept:
        await kept.add(WEB)
        own_redis.pause()
        keys = SharedKeys(kept, SystemClock(), lambda _: None)
        async with asyncio.timeout(4 * ANSWER_S):  # a busy machine's second
            await keys.start()
        assert keys.health()["is_lost"] is True
        own_redis.go_on()
        await keys.close()


async def test_something_else_in_the_keys_place_is_a_lost_redis(own_redis) -> None:
    own_redis.command("SET", "postern:keys", "text")
    async with key_hash(own_redis.url, "postern") as kept:
        for read in (kept.entries(), kept.changed("", ANSWER_S)):
            with pytest.raises(RedisLost, match="WRONGTYPE"):
                await read


async def test_a_redis_that_stops_and_comes_back_is_read_on(own_redis) -> None:
    taken: list[list[str]] = []
    async with key_hash(own_redis.url, "postern") as kept:
        await kept.add(WEB)
        keys = SharedKeys(kept, SystemClock(), lambda found: taken.append([key.name for key in found]))
        await keys.start()
        own_redis.kill()
        await keys._read()
        assert (taken, keys.health()["is_lost"]) == ([["web"]], True)
        own_redis.start()
        await keys._read()
        assert (taken, keys.health()["is_lost"]) == ([["web"], []], False)
        await keys.close()
