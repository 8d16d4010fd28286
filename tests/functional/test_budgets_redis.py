"""Sidecars that share their budgets in a real Redis: a crowd over four of them, sidecars that are killed, a Redis that is lost.

`--log-cli-level=info` tells how long calls waited.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.functional.counting_provider import CountingProvider, counting_provider
from tests.functional.crowd import BODY, STREAM_BODY, Answered, ask, burst, keep_asking, statuses
from tests.functional.gate import RunningGate, free_port, postern, running_gate
from tests.functional.raw_http import Connection, exchange, post
from tests.redis_servers import RedisServer, Sentinels, own_redis, wait_for

__all__ = ["own_redis"]

LATENCY_S = 0.03  # of the provider
SIDECARS = 4
CLIENTS_EACH = 4  # of a sidecar under load
MOST_WAIT_S = 0.12  # that a call may wait for Redis
LEASE_S = 2.0
LATE_S = 2.0  # a busy machine's
CONTROL_S, TROUBLE_S = 1.5, 2.0
PLANTED = "redis-planted-0123456789"
DAY = "limit: {usd: 1}"

log = logging.getLogger(__name__)


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider(LATENCY_S) as running:
        yield running


def config(provider: CountingProvider, url: str, limit: str, store: str = "", budget: str = "") -> str:
    """A target whose calls cost a cent, and one budget for all, kept in Redis. `store` and `budget`: more of their keys."""
    target = f'up: {{provider: openai, base_url: "{provider.url}/v1", price: {{per_request: 0.01}}}}'
    return (
        f'targets: {{{target}}}\nstore: {{kind: redis, url: "{url}", lease_s: {LEASE_S}{store}}}\n'
        f"budgets: [{{name: day, window: {{every: month}}, {limit}{budget}}}]\n"
    )


@contextmanager
def sidecars(count: int, text: str) -> Iterator[list[RunningGate]]:
    """As many gates with this configuration."""
    with ExitStack() as stack:
        yield [stack.enter_context(running_gate(text)) for _ in range(count)]


def account(gate: RunningGate) -> tuple[float, float]:
    """What Redis says is used and held of the budget."""
    with urllib.request.urlopen(f"{gate.admin_url}/budgets", timeout=5) as answer:
        rows = json.load(answer)
    return (round(rows[0]["used"], 6), round(rows[0]["held"], 6)) if rows else (0, 0)


def status_of_next(gate: RunningGate) -> int:
    (answered,) = asyncio.run(burst([gate.port], 1))
    return answered.status


# ------------------------------------------------------------------------------------------------------------------ crowds


@pytest.mark.parametrize("body", [BODY, STREAM_BODY], ids=["whole", "streamed"])
@pytest.mark.parametrize("limit", ["limit: {usd: 1}", "limit: {requests: 100}"])
def test_two_thousand_calls_over_four_sidecars_get_exactly_what_the_budget_fits(
    provider: CountingProvider, own_redis: RedisServer, limit: str, body: bytes
) -> None:
    with sidecars(SIDECARS, config(provider, own_redis.url, limit)) as gates:
        answered = asyncio.run(burst([gate.port for gate in gates], 500, body))
        assert statuses(answered) == {200: 100, 429: 1900}
        assert provider.served == 100
        gates[0].until(lambda: account(gates[0]) == (100 if "usd" not in limit else 1, 0), "told to Redis")


def test_two_accounts_at_once_are_never_passed_and_what_one_call_gave_back_the_next_one_gets(
    provider: CountingProvider, own_redis: RedisServer
) -> None:
    with sidecars(SIDECARS, config(provider, own_redis.url, "limit: {usd: 1, requests: 150}")) as gates:
        ports = [gate.port for gate in gates]
        served = 0
        while answered := statuses(asyncio.run(burst(ports, 100)))[200]:
            served += answered
        assert (served, provider.served) == (100, 100)


def test_restarted_sidecars_know_what_was_spent(provider: CountingProvider, own_redis: RedisServer) -> None:
    text = config(provider, own_redis.url, DAY)
    with sidecars(2, text) as gates:
        assert statuses(asyncio.run(burst([gate.port for gate in gates], 20))) == {200: 40}
    with sidecars(1, text) as gates:
        assert statuses(asyncio.run(burst([gates[0].port], 100))) == {200: 60, 429: 40}


# ------------------------------------------------------------------------------------------------------------ killed sidecars


def test_two_of_four_sidecars_killed_mid_stream_the_cap_holds_and_their_money_is_back_within_the_lease(
    provider: CountingProvider, own_redis: RedisServer
) -> None:
    with sidecars(SIDECARS, config(provider, own_redis.url, DAY)) as gates:
        asyncio.run(_killed_mid_stream(provider, gates))


async def _killed_mid_stream(provider: CountingProvider, gates: list[RunningGate]) -> None:
    provider.hold()
    async with asyncio.TaskGroup() as clients:
        streams = [clients.create_task(_stream(gate.port)) for gate in gates for _ in range(20)]
        while provider.under_way < len(streams):
            await asyncio.sleep(0.01)
        for gate in gates[:2]:
            gate.process.kill()
        killed_s = time.monotonic()
        left = [gate.port for gate in gates[2:]]
        served = statuses(await burst(left, 50))[200]
        assert served <= 20  # what the killed held isn't free yet, nor what they had drawn ahead
        while served < 60:
            served += statuses(await burst(left, 5))[200]
            assert time.monotonic() - killed_s < LEASE_S + LATE_S
        assert statuses(await burst(left, 20)) == {429: 40}
        provider.let_go()
    assert [stream.result() for stream in streams] == [0] * 40 + [200] * 40
    assert provider.served == 100
    gates[2].until(lambda: account(gates[2]) == (1, 0), "settled")


async def _stream(port: int) -> int:
    async with Connection(port) as connection:
        return (await ask(connection, post(STREAM_BODY))).status


# ------------------------------------------------------------------------------------------------------------- a Redis that is lost


def under_load(gates: list[RunningGate], during: Callable[[], None]) -> list[Answered]:
    """All answers of a few clients of each gate, while something is done."""

    async def load() -> list[Answered]:
        is_over = False
        asking = [asyncio.create_task(keep_asking(gate.port, CLIENTS_EACH, lambda: is_over)) for gate in gates]
        await asyncio.to_thread(during)
        is_over = True
        return [one for clients in await asyncio.gather(*asking) for client in clients for one in client]

    gc.disable()  # one collection of what thousands of tests have left holds these clients up for a quarter of a second
    try:
        return asyncio.run(load())
    finally:
        gc.enable()


def worst_wait_s(answered: list[Answered]) -> float:
    """The longest that a call took beyond what its provider takes."""
    return max(one.took_s - (LATENCY_S if one.status == 200 else 0) for one in answered)


def stopped(redis: RedisServer) -> None:
    redis.pause()
    time.sleep(TROUBLE_S)
    redis.go_on()


def killed(redis: RedisServer) -> None:
    redis.kill()
    time.sleep(TROUBLE_S)
    redis.start()


def flushed(redis: RedisServer) -> None:
    redis.command("FLUSHALL")
    time.sleep(TROUBLE_S)


@pytest.mark.parametrize("trouble", [stopped, killed, flushed])
@pytest.mark.parametrize(("on_lost", "others"), [("open", set()), ("closed", {503}), ("local", {429})])
def test_no_call_waits_for_a_redis_that_is_lost(
    provider: CountingProvider, own_redis: RedisServer, trouble: Callable[[RedisServer], None], on_lost: str, others: set[int]
) -> None:
    """What the budget has plenty of: so that only the loss can refuse a call. Afterwards Redis knows of all that was spent."""
    text = config(provider, own_redis.url, "limit: {usd: 100000}", budget=f", on_store_lost: {on_lost}")
    with sidecars(2, text) as gates:
        control = under_load(gates, lambda: time.sleep(CONTROL_S))
        assert statuses(control).keys() == {200}
        answered = under_load(gates, lambda: trouble(own_redis))
        waited_s, usual_s = worst_wait_s(answered), worst_wait_s(control)
        log.info("%s, %s: %.3f s at worst, %.3f s before; %s", trouble.__name__, on_lost, waited_s, usual_s, statuses(answered))
        assert waited_s < MOST_WAIT_S + usual_s
        lost = others if trouble is not flushed else set()
        assert statuses(answered).keys() == {200} | lost
        gates[0].until(lambda: [status_of_next(gate) for gate in gates] == [200, 200], "as before")
        gates[0].until(lambda: account(gates[0]) == (round(provider.served * 0.01, 6), 0), "told to Redis, all of it")


def test_no_call_waits_while_redis_fails_over(provider: CountingProvider) -> None:
    """Until there is a new master, `local` lets through what was drawn ahead; then all goes on, and the new master is told everything."""
    redis = Sentinels()
    try:
        with sidecars(2, config(provider, redis.url, "limit: {usd: 100000}")) as gates:
            control = under_load(gates, lambda: time.sleep(CONTROL_S))
            answered = under_load(gates, lambda: failed_over(redis))
            waited_s, usual_s = worst_wait_s(answered), worst_wait_s(control)
            log.info("failed over: %.3f s at worst, %.3f s before; %s", waited_s, usual_s, statuses(answered))
            assert waited_s < MOST_WAIT_S + usual_s
            assert statuses(answered).keys() <= {200, 429}
            gates[0].until(lambda: [status_of_next(gate) for gate in gates] == [200, 200], "as before")
            gates[0].until(lambda: account(gates[0]) == (round(provider.served * 0.01, 6), 0), "told to the new master, all of it")
    finally:
        redis.close()


def failed_over(redis: Sentinels) -> None:
    before = redis.master_port
    redis.master.kill()
    wait_for(lambda: redis.master_port != before)
    time.sleep(TROUBLE_S)


def test_cap_holds_though_redis_forgets_everything_under_load(provider: CountingProvider, own_redis: RedisServer) -> None:
    def flush_often() -> None:
        for _ in range(8):
            time.sleep(0.2)
            own_redis.command("FLUSHALL")

    with sidecars(2, config(provider, own_redis.url, DAY)) as gates:
        answered = under_load(gates, flush_often)
        assert statuses(answered).keys() == {200, 429}
        gates[0].until(lambda: {status_of_next(gate) for gate in gates} and provider.served >= 100, "to be had, what was kept for others")
        assert [status_of_next(gate) for gate in gates] == [429, 429]
        assert provider.served == 100
        gates[0].until(lambda: account(gates[0]) == (1, 0), "told again")


@pytest.mark.parametrize(("on_lost", "status"), [("open", 200), ("closed", 503), ("local", 429)])
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_gate_is_ready_without_redis_and_does_as_told(provider: CountingProvider, scheme: str, on_lost: str, status: int) -> None:
    text = config(provider, f"{scheme}://127.0.0.1:{free_port()}/0", DAY, f", on_lost: {on_lost}")
    with sidecars(1, text) as (gate,):
        assert status_of_next(gate) == status
        assert gate.said.count("Redis is lost") == 1
        with urllib.request.urlopen(f"{gate.admin_url}/readyz", timeout=5) as answer:
            assert answer.status == 200


def test_readiness_and_status_do_not_wait_for_redis(provider: CountingProvider, own_redis: RedisServer) -> None:
    with sidecars(1, config(provider, own_redis.url, DAY)) as (gate,):
        assert status_of_next(gate) == 200
        own_redis.pause()
        for page in ("readyz", "livez", "status"):
            began_s = time.monotonic()
            with urllib.request.urlopen(f"{gate.admin_url}/{page}", timeout=5) as answer:
                assert answer.status == 200
            assert time.monotonic() - began_s < 1
        told = postern("budgets", "--config", str(gate.config_file))
        assert told.returncode == 1
        assert "The store of budgets can't be reached" in told.stderr
        own_redis.go_on()


def test_drain_ends_though_redis_does_not_answer(provider: CountingProvider, own_redis: RedisServer) -> None:
    with sidecars(1, config(provider, own_redis.url, DAY)) as (gate,):
        assert status_of_next(gate) == 200
        own_redis.pause()
        began_s = time.monotonic()
        gate.stop()
        assert time.monotonic() - began_s < 5
        own_redis.go_on()


# ---------------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("user", ["", "postern"])
@pytest.mark.parametrize("case", ["right", "wrong", "away"])
def test_password_of_redis_turns_up_nowhere(provider: CountingProvider, own_redis: RedisServer, case: str, user: str) -> None:
    if user:
        own_redis.command("ACL", "SETUSER", user, "on", f">{PLANTED}", "~*", "&*", "+@all")
    own_redis.command("CONFIG", "SET", "requirepass", "another" if case == "wrong" and not user else PLANTED)
    password = f"{PLANTED}-not" if case == "wrong" else PLANTED
    port = free_port() if case == "away" else own_redis.port
    with sidecars(1, config(provider, f"redis://{user}:{password}@127.0.0.1:{port}/0", DAY, ", on_lost: closed")) as (gate,):
        reply = asyncio.run(exchange(gate.port, post(BODY)))
        assert reply.status == (200 if case == "right" else 503)
        shown = postern("budgets", "--config", str(gate.config_file))
        assert shown.returncode == (0 if case == "right" else 1)
        assert ("Redis is lost" in gate.said) == (case != "right")
        status = json.dumps(gate.status())
        gate.stop()
        told = [gate.said, status, str(reply), shown.stdout, shown.stderr]
        assert not [text for text in told if PLANTED in text]
        kept = b"".join(path.read_bytes() for path in gate.state_dir.rglob("*") if path.is_file())
        assert PLANTED.encode() not in kept


def test_bad_url_of_redis_is_told_without_its_password(provider: CountingProvider) -> None:
    for url in (f"redis://:{PLANTED}@127.0.0.1:notaport/0", f"rediss+nonsense://:{PLANTED}@h/0", f"redis://:{PLANTED}@[::1/0"):
        with pytest.raises(AssertionError, match=r"store\.url") as refused, sidecars(1, config(provider, url, DAY)):
            pass
        assert PLANTED not in str(refused.value)
