"""How the simulated provider is asked where no client's library stands between.

Here: shorthands. Not here: the server and the clients (conftest.py).
"""

from __future__ import annotations

from typing import Any

import aiohttp

HELLO: Any = [{"role": "user", "content": "Hello, who are you?"}]
FAST = {"x-sim": "lat=0,d=0"}
PATIENCE_S = 5.0


async def raw_stream(http: aiohttp.ClientSession, directives: str = "n=3", path: str = "v1/chat/completions", **more: Any) -> bytes:
    body = {"model": f"sim/gpt-4o-mini@{directives}", "messages": HELLO, "max_tokens": 100, "stream": True} | more
    async with http.post(path, json=body) as reply:
        return await reply.read()
