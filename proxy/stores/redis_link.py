"""The connection to Redis: a URL becomes a client, scripts are run on it in one round trip, what goes wrong becomes RedisLost.

Here: the only import of `redis`. Not here: retries, what is lost when Redis is (sync.py, shared_keys.py), what the scripts do (lua/).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from proxy.stores.patience import Patience

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster

SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
MAX_CONNECTIONS = 64
COMMANDS_PER_NODE = 8  # of a cluster, at a time: each has a connection of its own
FIRST_KEY = 3  # where it stands in EVALSHA and EVAL
CLIENT_TIMEOUT_S = 5.0  # never what decides: the client counts the time in which this process is held up (patience.py)

Argument = str | int
Result = TypeVar("Result")
Reply = list[bytes | int | list[int]]
"""What a script returns."""
Answers = list[Reply | Exception]


class RedisLost(OSError):
    """Redis didn't answer, or answered that it can't."""


class Script:
    """A Lua script of this package; Redis knows it by its hash."""

    def __init__(self, name: str) -> None:
        self.source = (files("proxy.stores") / "lua" / name).read_text("utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class ScriptCall(msgspec.Struct, frozen=True):
    """A script with its arguments. All keys of one call are in one slot of a cluster."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument]

    def command(self, verb: str) -> tuple[Argument, ...]:
        """As Redis takes it: by EVALSHA or by EVAL."""
        return (verb, self.script.sha if verb == "EVALSHA" else self.script.source, len(self.keys), *self.keys, *self.arguments)


class RedisLink(Protocol):
    """What the store needs of Redis."""

    @property
    def is_cluster(self) -> bool:
        """Whether there are several nodes, each with its own accounts."""
        ...

    async def run(self, calls: Sequence[ScriptCall], timeout_s: float, again: Sequence[ScriptCall] = ()) -> list[Reply | RedisLost]:
        """Run scripts in one round trip: each has its reply or its error.

        With `again`, as many as `calls`, those that weren't answered in `timeout_s` are asked once more in these words, and have as much
        time again; what was asked first may still be answered meanwhile.
        """
        ...

    async def server_ms(self, timeout_s: float) -> int:
        """The server's Unix time in milliseconds. Raises RedisLost."""
        ...

    def keys(self, pattern: str) -> AsyncIterator[str]:
        """The names of keys. Raises RedisLost."""
        ...

    async def fields(self, key: str) -> dict[str, str]:
        """A hash; empty where there is none. Raises RedisLost."""
        ...

    async def add_field(self, key: str, name: str, value: str) -> bool:
        """Put a field into a hash; False: it has one of that name, which stays. Raises RedisLost."""
        ...

    async def drop_field(self, key: str, name: str) -> bool:
        """Take a field out of a hash; False: it has none. Raises RedisLost."""
        ...

    async def close(self) -> None:
        """Drop all connections."""
        ...


class ClientLink:
    """A RedisLink over the `redis` package, imported here and now: who keeps budgets elsewhere doesn't pay for it.

    The client retries nothing by itself and waits for nothing longer than it is told.
    """

    def __init__(self, url: str) -> None:
        import redis.exceptions

        self._patience = Patience()
        self._left: set[asyncio.Task[object]] = set()  # what nobody waits for any more

        unreachable = redis.exceptions.RedisClusterException  # no node of a cluster answers; it is no RedisError
        self._errors = (redis.exceptions.RedisError, unreachable, OSError, TimeoutError, asyncio.TimeoutError)
        self._lanes: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(COMMANDS_PER_NODE))
        self._no_script = redis.exceptions.NoScriptError
        self._client, self._cluster, self._sentinels = _clients(url)

    @property
    def is_cluster(self) -> bool:
        return self._cluster is not None

    async def run(self, calls: Sequence[ScriptCall], timeout_s: float, again: Sequence[ScriptCall] = ()) -> list[Reply | RedisLost]:
        loop = asyncio.get_running_loop()
        asked = [loop.create_task(self._answers(calls, timeout_s))]
        try:
            replies = await self._first_of(asked, len(calls), timeout_s)
            unanswered = [index for index, reply in enumerate(replies) if isinstance(reply, Exception)]
            if unanswered and again:
                asked = [task for task in asked if not task.done()]  # then nothing was answered yet
                asked.append(loop.create_task(self._answers([again[index] for index in unanswered], timeout_s)))
                for index, reply in zip(unanswered, await self._first_of(asked, len(unanswered), timeout_s), strict=True):
                    replies[index] = reply
        finally:
            for task in asked:
                self._leave(task)
        return [_lost(reply) if isinstance(reply, Exception) else reply for reply in replies]

    async def _first_of(self, asked: Sequence[asyncio.Task[Answers]], count: int, timeout_s: float) -> Answers:
        """What is answered first; `count` errors if nothing is in time, which in a cluster each node has for itself."""
        limit = self._patience.timeout(timeout_s) if self._cluster is None else contextlib.nullcontext()
        pending = set(asked)
        failed: Answers = [TimeoutError()] * count
        with contextlib.suppress(TimeoutError):
            async with limit:
                while pending:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        failed = task.result()
                        if not all(isinstance(reply, Exception) for reply in failed):
                            return failed
        return failed

    async def _answers(self, calls: Sequence[ScriptCall], timeout_s: float) -> Answers:
        try:
            return await self._run(calls, timeout_s)
        except self._errors as error:
            return [error] * len(calls)

    async def _run(self, calls: Sequence[ScriptCall], timeout_s: float) -> Answers:
        replies = await self._execute([call.command("EVALSHA") for call in calls], timeout_s)
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, self._no_script)]
        if unknown:  # Redis was started again, or the script is new to it
            again = await self._execute([calls[index].command("EVAL") for index in unknown], timeout_s)
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        return replies

    async def _within(self, timeout_s: float, work: Coroutine[object, object, Result]) -> Result:
        """What the work comes to; TimeoutError without waiting for its end: the client can swallow a cancellation (redis 8.1.0)."""
        task = asyncio.get_running_loop().create_task(work)
        try:
            async with self._patience.timeout(timeout_s):
                return await asyncio.shield(task)
        finally:
            self._leave(task)

    def _leave(self, task: asyncio.Task[Result]) -> None:
        """Nobody waits for it any more."""
        if not task.done():
            task.cancel()
            self._left.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it

    async def _execute(self, commands: list[tuple[Argument, ...]], timeout_s: float) -> Answers:
        if self._cluster is not None:
            return await asyncio.gather(*(self._execute_on_its_node(self._cluster, command, timeout_s) for command in commands))
        assert self._client is not None
        if len(commands) == 1:
            try:
                only: Reply = await self._client.execute_command(*commands[0])  # type: ignore[no-untyped-call]
            except self._no_script as error:
                return [error]
            return [only]
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            found: Answers = await pipeline.execute(raise_on_error=False)
            return found

    async def _execute_on_its_node(self, cluster: RedisCluster, command: tuple[Argument, ...], timeout_s: float) -> Reply | Exception:
        nodes = cluster.nodes_manager.slots_cache.get(cluster.keyslot(str(command[FIRST_KEY])))
        lane = self._lanes[nodes[0].name if nodes else ""]
        try:
            async with self._patience.timeout(timeout_s):
                await lane.acquire()
        except TimeoutError as error:
            return error
        try:
            reply: Reply = await self._within(2 * timeout_s, cluster.execute_command(*command))  # for a new connection, and for the reply
            return reply
        except self._errors as error:
            return error
        finally:
            lane.release()

    async def server_ms(self, timeout_s: float) -> int:
        try:
            seconds, microseconds = await self._within(timeout_s, self._time())
        except self._errors as error:
            raise _lost(error) from error
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def _time(self) -> tuple[bytes, bytes]:
        """Of a cluster, by whichever node answers first: one that hangs is no reason to take the others for lost."""
        nodes = self._cluster.get_nodes() if self._cluster is not None else []
        if self._cluster is None or not nodes:  # a cluster's are known only after a command
            only: tuple[bytes, bytes] = await self._any().execute_command("TIME")
            return only
        loop = asyncio.get_running_loop()
        asked = [loop.create_task(self._cluster.execute_command("TIME", target_nodes=[node])) for node in nodes]
        try:
            for answer in asyncio.as_completed(asked):
                with contextlib.suppress(*self._errors):
                    first: tuple[bytes, bytes] = await answer
                    return first
        finally:
            for task in asked:
                self._leave(task)
        raise RedisLost("no node of the cluster answers")

    async def keys(self, pattern: str) -> AsyncIterator[str]:
        try:
            async for key in self._any().scan_iter(match=pattern, count=1000):
                yield _text(key)
        except self._errors as error:
            raise _lost(error) from error

    async def fields(self, key: str) -> dict[str, str]:
        try:
            found = await self._any().hgetall(key)
        except self._errors as error:
            raise _lost(error) from error
        return {_text(name): _text(value) for name, value in found.items()}

    async def add_field(self, key: str, name: str, value: str) -> bool:
        try:
            return bool(await self._any().hsetnx(key, name, value))
        except self._errors as error:
            raise _lost(error) from error

    async def drop_field(self, key: str, name: str) -> bool:
        try:
            return bool(await self._any().hdel(key, name))
        except self._errors as error:
            raise _lost(error) from error

    async def close(self) -> None:
        for client in (self._any(), *self._sentinels):
            with contextlib.suppress(*self._errors):
                await client.aclose()

    def _any(self) -> Redis | RedisCluster:
        client = self._client or self._cluster
        assert client is not None
        return client


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _lost(error: Exception) -> RedisLost:
    return RedisLost(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _clients(url: str) -> tuple[Redis | None, RedisCluster | None, Sequence[Redis]]:
    """A client for a URL of SCHEMES, and those of its sentinels. Raises ValueError for one that can't be meant."""
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    never = Retry(NoBackoff(), 0)
    limits: dict[str, object] = {
        "socket_timeout": CLIENT_TIMEOUT_S,
        "socket_connect_timeout": CLIENT_TIMEOUT_S,
        "retry": never,
        "protocol": 2,  # no handshake: one round trip less for each connection
        "driver_info": None,  # nor for telling who we are
        "max_connections": MAX_CONNECTIONS,
    }
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if parts.scheme not in SCHEMES:
        raise ValueError(f"'{parts.scheme}' is none of {', '.join(SCHEMES)}")
    if kind == "sentinel":
        return _sentinel_clients(url, limits)
    plain = urlunsplit((scheme, *parts[1:]))
    if kind == "cluster":
        return None, RedisCluster.from_url(plain, require_full_coverage=False, **limits), ()
    return Redis.from_url(plain, **limits), None, ()  # type: ignore[arg-type]


def _sentinel_clients(url: str, limits: dict[str, object]) -> tuple[Redis, None, Sequence[Redis]]:
    """A client of the master that sentinels name: `redis+sentinel://user:password@host:port,host:port/MASTER/DB`, the user the master's."""
    from redis.asyncio.sentinel import Sentinel

    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    master, _, database = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("the master's name is missing: redis+sentinel://host:port,host:port/MASTER/DB")
    addresses = [_address(host) for host in hosts.split(",")]
    limits = {**limits, "ssl": parts.scheme.startswith("rediss")}
    sentinel = Sentinel(addresses, sentinel_kwargs=limits, **limits)  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(master, db=int(database or 0), username=unquote(user) or None, password=unquote(password) or None)
    return client, None, sentinel.sentinels


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
    return host, int(port or DEFAULT_SENTINEL_PORT)
