"""The admin listener: is it alive, is it ready, how is it doing; and the pages that the observer makes.

Here: /livez, /readyz, /status, who may see what. Not here: what they report (app.py gives it), what stands on the observer's pages.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from proxy.pages import ASKED_HEADERS, Page

OPEN_PATHS = frozenset(("/livez", "/readyz"))
"""Answered without a token: a kubelet has none, and they tell nothing."""

OBSERVER_PATHS = frozenset(("/metrics",))
"""Answered by the observer."""

KNOWN_PATHS = "/livez, /readyz, /status, /metrics"

FetchPage = Callable[[str, Mapping[str, str]], Awaitable[Page]]


class AdminServer:
    """Answers on the admin listener. `status`: the report of /status; `ready`: why not, or ""; `fetch`: a page of the observer."""

    def __init__(self, token: str, status: Callable[[], dict[str, object]], ready: Callable[[], str], fetch: FetchPage) -> None:
        self._token = token.encode()
        self._status = status
        self._ready = ready
        self._fetch = fetch
        self.server = web.Server(self._respond, access_log=None)

    async def _respond(self, request: BaseRequest) -> web.Response:
        path = request.path
        if request.method not in ("GET", "HEAD"):
            return _json(405, {"error": "Only GET is answered here."})
        if path not in OPEN_PATHS and not self._allowed(request):
            return _json(401, {"error": "Send the admin token: `Authorization: Bearer …` (admin.token in the configuration)."})
        if path in OBSERVER_PATHS:
            return await self._observers(request)
        if path == "/livez":
            return _json(200, {"status": "alive"})
        if path == "/readyz":
            reason = self._ready()
            return _json(503, {"status": "not ready", "reason": reason}) if reason else _json(200, {"status": "ready"})
        if path == "/status":
            return _json(200, self._status())
        return _json(404, {"error": f"There is no {path[:200]} here. Known: {KNOWN_PATHS}."})

    async def _observers(self, request: BaseRequest) -> web.Response:
        """A page of the observer, asked with the headers it may depend on."""
        headers = {name: ", ".join(request.headers.getall(name, [])) for name in ASKED_HEADERS}
        page = await self._fetch(request.path, headers)
        told = {"Content-Type": page.content_type, "Vary": "Accept, Accept-Encoding"}
        if page.content_encoding:
            told["Content-Encoding"] = page.content_encoding
        return web.Response(status=page.status, body=page.body, headers=told)

    def _allowed(self, request: BaseRequest) -> bool:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "surrogateescape")
        return not self._token or hmac.compare_digest(sent, self._token)


def _json(status: int, value: dict[str, object]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.format(msgspec.json.encode(value)) + b"\n", content_type="application/json")
