"""The stores that the contract is held against."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from proxy.stores.books import Books
from proxy.stores.embedded import EmbeddedStore
from proxy.stores.opening import OwnedStore
from tests.redis_servers import redis_cluster, redis_sentinels, shared_redis
from tests.stores.support import SystemClock, redis_store

__all__ = ["redis_cluster", "redis_sentinels", "shared_redis"]

SERVERS = {"redis": "shared_redis", "cluster": "redis_cluster", "sentinel": "redis_sentinels"}

Open = Callable[[], Awaitable[OwnedStore]]


@pytest.fixture(params=["memory", "embedded", *SERVERS])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def store(kind: str, request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[OwnedStore | Books]:
    if kind == "memory":
        yield Books()
    elif kind == "embedded":
        embedded = EmbeddedStore(tmp_path / "state", SystemClock())
        await embedded.start()
        yield embedded
        await embedded.close()
    else:
        server = request.getfixturevalue(SERVERS[kind])
        async with AsyncExitStack() as stack:  # a busy machine's first connection may take its time: timeouts are other tests' matter
            yield await stack.enter_async_context(redis_store(server.url, prefix=f"test-{secrets.token_hex(4)}", timeout_ms=1000))
