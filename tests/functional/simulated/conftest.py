"""The simulated provider, really running, and whoever asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import anthropic
import openai
import pytest_asyncio

from proxy.simulated.server import SimulatedServer, start_simulated
from tests.functional.simulated.asking import FAST, PATIENCE_S


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SimulatedServer]:
    running = await start_simulated()
    yield running
    await running.close()


@pytest_asyncio.fixture
async def client(server: SimulatedServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=server.base_url, api_key="none", max_retries=0, timeout=PATIENCE_S, default_headers=FAST
    ) as made:
        yield made


@pytest_asyncio.fixture
async def claude(server: SimulatedServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    origin = server.base_url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=origin, api_key="none", max_retries=0, timeout=PATIENCE_S, default_headers=FAST) as made:
        yield made


@pytest_asyncio.fixture
async def http(server: SimulatedServer) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(server.base_url.removesuffix("v1"), timeout=timeout, headers=FAST) as made:
        yield made
