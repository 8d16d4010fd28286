"""The floor to compare with: a bare aiohttp reverse proxy, server and client, and nothing else.

python bare_proxy.py --port 8100 --upstream http://127.0.0.1:19000 [--uvloop]
"""

from __future__ import annotations

import argparse
import asyncio
import gc

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict

HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "trailers",
    "transfer-encoding", "upgrade", "host", "content-length",
}  # fmt: skip
OWN = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


def forwarded(headers, also=()):
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP and name.lower() not in also)


def handler(session, base):
    async def handle(request):
        body = await request.read()
        async with session.request(
            request.method, base + request.path_qs, data=body, headers=forwarded(request.headers), allow_redirects=False
        ) as upstream:
            if not upstream.headers.get("content-type", "").startswith("text/event-stream"):
                return web.Response(status=upstream.status, headers=forwarded(upstream.headers, ("date",)), body=await upstream.read())
            reply = web.StreamResponse(status=upstream.status, headers=forwarded(upstream.headers, ("date",)))
            await reply.prepare(request)
            async for chunk in upstream.content.iter_any():
                await reply.write(chunk)
            await reply.write_eof()
            return reply

    return handle


async def main(port, base):
    session = ClientSession(
        connector=TCPConnector(limit=0, ttl_dns_cache=300),
        timeout=ClientTimeout(total=None),
        auto_decompress=False,
        cookie_jar=DummyCookieJar(),
        skip_auto_headers=OWN,
    )
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{tail:.*}", handler(session, base))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--upstream", default="http://127.0.0.1:19000")
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    if options.uvloop:
        import uvloop

        uvloop.run(main(options.port, options.upstream))
    else:
        asyncio.run(main(options.port, options.upstream))
