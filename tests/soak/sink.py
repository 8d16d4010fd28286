"""An OTLP/HTTP receiver that keeps nothing: it takes every POST and counts, so that a soak's own memory stays flat.

`python -m tests.soak.sink` prints its port on a line of its own; GET /stats tells requests and bytes by path.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

MAX_BODY_BYTES = 64 << 20


class Sink:
    """What came, counted."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.size_bytes: Counter[str] = Counter()

    async def take(self, request: web.Request) -> web.Response:
        async for piece in request.content.iter_any():
            self.size_bytes[request.path] += len(piece)
        self.requests[request.path] += 1
        return web.Response(content_type="application/x-protobuf")

    async def stats(self, _request: web.Request) -> web.Response:
        return web.json_response({path: {"requests": count, "bytes": self.size_bytes[path]} for path, count in self.requests.items()})


async def serve() -> None:
    sink = Sink()
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/stats", sink.stats)
    app.router.add_post("/{path:.*}", sink.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
