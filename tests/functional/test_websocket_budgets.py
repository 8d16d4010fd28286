"""A real session on the real program: its responses are charged, and it ends when they have used the budget up."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.functional.gate import free_port, running_gate
from tests.functional.test_websockets import DONE, PATH, WAIT_S, Provider, config, connected

BUDGET = "budgets: [{name: day, window: {every: day}, limit: {tokens: 60}}]\n"
"""As much as two responses use."""


async def test_session_ends_when_its_responses_have_used_the_budget_up_and_the_next_one_is_refused() -> None:
    port = free_port()
    async with Provider().running(port) as provider:
        with running_gate(config(port) + BUDGET) as gate:
            async with connected(gate, provider) as (client, session):
                for _ in range(2):
                    await session.socket.send_json(DONE)
                    assert await client.receive_json(timeout=WAIT_S) == DONE
                heard = await client.receive(WAIT_S)
                assert heard.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR)
            rows = await asyncio.to_thread(gate.rows, 3)
            async with aiohttp.ClientSession() as again:
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await again.ws_connect(f"{gate.url}{PATH}")
    assert refused.value.status == 429
    assert sorted(row["outcome"] for row in rows) == ["interrupted", "succeeded", "succeeded"]
