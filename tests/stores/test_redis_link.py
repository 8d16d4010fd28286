"""Ways to a Redis: users with few rights, TLS, URLs that can't be meant; and what it costs not to use it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from proxy.call import Secret
from proxy.config.schema import StoreConfig
from proxy.spending import Rate, Reserved
from proxy.stores.redis_link import ClientLink, RedisLost
from proxy.stores.redis_store import RedisStore
from tests.project.tree import ROOT, source
from tests.redis_servers import RedisServer, free_port, wait_for
from tests.stores.support import HOUR_MS, SystemClock, at_once, line, period, redis_store, reserve, spend, unix_ms

PATIENT = {"timeout_ms": 1000}


async def works(url: str) -> bool:
    now_ms = unix_ms()
    lines = [line(period(now_ms), 5, 10), at_once(2), line(Rate(10, HOUR_MS), 1, 10, "calls:requests:")]
    async with redis_store(url, **PATIENT) as store:
        answer = await reserve(store, lines, now_ms)
        if not isinstance(answer, Reserved):
            return False
        for hold in answer.holds:
            store.settle(hold, 1, now_ms)
        await store.put_spent("day:usd:tenant=acme", period(now_ms), 3)
        return bool(await store.accounts())


def test_the_client_is_imported_only_where_it_is_used() -> None:
    program = "import sys, proxy.stores.embedded, proxy.stores.redis_store; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


async def test_a_user_needs_no_more_than_the_documented_rights(own_redis) -> None:
    rights = next(text for text in source("docs/stores.md").splitlines() if text.startswith("ACL SETUSER"))
    assert own_redis.command(*rights.replace("<password>", "p@ss/wörd").split()[0:]) == "OK"
    assert await works(f"redis://postern:p%40ss%2Fw%C3%B6rd@127.0.0.1:{own_redis.port}/0")


async def test_a_wrong_password_is_a_lost_redis_that_says_why_without_saying_it(own_redis, caplog) -> None:
    own_redis.command("CONFIG", "SET", "requirepass", "right")
    async with redis_store(f"redis://:wrong-password@127.0.0.1:{own_redis.port}/0") as store:
        assert store.is_lost
    assert "AuthenticationError" in caplog.text
    assert "wrong-password" not in caplog.text


async def test_tls(tmp_path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl in PATH: a certificate can't be made")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    server = RedisServer("--tls-port", str(port), *files, "--tls-auth-clients", "no")
    try:
        assert await works(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
        with pytest.raises(RedisLost):
            await ClientLink(f"rediss://localhost:{port}/0").server_ms(1.0)  # nobody vouches for it
    finally:
        server.close()


@pytest.mark.parametrize("url", ["http://localhost", "memcached://localhost", "redis+sentinel://localhost:26379"])
def test_a_url_that_cannot_be_meant_is_refused(url) -> None:
    with pytest.raises(ValueError, match=r"none of|master's name"):
        RedisStore(StoreConfig(kind="redis", url=Secret(url)), SystemClock())


@contextlib.asynccontextmanager
async def slow_way(port: int, delay_s: float) -> AsyncIterator[int]:
    """A port that leads to another; what comes back takes its time."""

    async def passes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(delay_s)
            writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(passes(reader, there, 0), passes(back, writer, delay_s))
        there.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_an_answer_that_is_late_for_the_first_question_is_in_time_for_the_second(own_redis) -> None:
    """Each takes longer than `timeout_ms`, none longer than twice that."""
    now_ms = unix_ms()
    async with redis_store(own_redis.url, **PATIENT) as store:
        await spend(store, line(period(now_ms), 5, 10), 5, now_ms)  # from now on Redis knows the script
    async with slow_way(own_redis.port, 0.6) as port, redis_store(f"redis://127.0.0.1:{port}/0", timeout_ms=400) as store:
        assert isinstance(await reserve(store, [line(period(now_ms), 5, 10)], now_ms), Reserved)
        assert store.health()["failures"] == 0


async def test_a_redis_that_only_reads_is_lost_and_loses_nothing(own_redis) -> None:
    now_ms = unix_ms()
    async with redis_store(own_redis.url, **PATIENT) as store:
        await spend(store, line(period(now_ms), 5, 10), 5, now_ms)
        own_redis.command("REPLICAOF", "127.0.0.1", "1")
        await reserve(store, [line(period(now_ms), 5, 10)], now_ms)
        assert all(share.is_lost for share in store._shares.values())
        own_redis.command("REPLICAOF", "NO", "ONE")
        wait_for(lambda: own_redis.command("SET", secrets.token_hex(4), "1") == "OK")
