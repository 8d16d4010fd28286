"""The admin listener: is it alive, is it ready, how is it doing.

Here: /livez, /readyz, /status. Not here: what they report (app.py gives it), pages of the observer.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

OPEN_PATHS = frozenset(("/livez", "/readyz"))
"""Answered without a token: a kubelet has none, and they tell nothing."""


class AdminServer:
    """Answers on the admin listener. `status` gives the report of /status, `ready` the reason why not, or ""."""

    def __init__(self, token: str, status: Callable[[], dict[str, object]], ready: Callable[[], str]) -> None:
        self._token = token.encode()
        self._status = status
        self._ready = ready
        self.server = web.Server(self._respond, access_log=None)

    async def _respond(self, request: BaseRequest) -> web.Response:
        path = request.path
        if request.method not in ("GET", "HEAD"):
            return _json(405, {"error": "Only GET is answered here."})
        if path not in OPEN_PATHS and not self._allowed(request):
            return _json(401, {"error": "Send the admin token: `Authorization: Bearer …` (admin.token in the configuration)."})
        if path == "/livez":
            return _json(200, {"status": "alive"})
        if path == "/readyz":
            reason = self._ready()
            return _json(503, {"status": "not ready", "reason": reason}) if reason else _json(200, {"status": "ready"})
        if path == "/status":
            return _json(200, self._status())
        return _json(404, {"error": f"There is no {path[:200]} here. Known: /livez, /readyz, /status."})

    def _allowed(self, request: BaseRequest) -> bool:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "surrogateescape")
        return not self._token or hmac.compare_digest(sent, self._token)


def _json(status: int, value: dict[str, object]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.format(msgspec.json.encode(value)) + b"\n", content_type="application/json")
