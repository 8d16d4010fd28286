"""The admin listener: is it alive, is it ready, how is it doing; and the pages that the observer makes.

Here: /livez, /readyz, /status, /budgets, who may see what. Not here: what they report (app.py gives it), what stands
on the observer's pages.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from proxy.pages import ASKED_HEADERS, Page

OPEN_PATHS = frozenset(("/livez", "/readyz"))
"""Answered without a token: a kubelet has none, and they tell nothing."""

OBSERVER_PATHS = frozenset(("/metrics",))
"""Answered by the observer."""

KNOWN_PATHS = "/livez, /readyz, /status, /metrics, /budgets"
MAX_BODY_BYTES = 64 << 10

FetchPage = Callable[[str, Mapping[str, str]], Awaitable[Page]]


class Budgets(Protocol):
    """What operators may ask about budgets. Raises OSError where their store can't be reached."""

    async def rows(self) -> Sequence[msgspec.Struct]:
        """How they stand."""
        ...

    async def set_spent(self, body: bytes) -> Sequence[msgspec.Struct]:
        """Set what is spent, and tell how it stands then. Raises ValueError where the body makes no sense."""
        ...


class AdminServer:
    """Answers on the admin listener. `status`: the report of /status; `ready`: why not, or ""; `fetch`: a page of the observer."""

    def __init__(
        self, token: str, status: Callable[[], dict[str, object]], ready: Callable[[], str], fetch: FetchPage, budgets: Budgets
    ) -> None:
        self._token = token.encode()
        self._status = status
        self._ready = ready
        self._fetch = fetch
        self._budgets = budgets
        self.server = web.Server(self._respond, access_log=None)

    async def _respond(self, request: BaseRequest) -> web.Response:
        path = request.path
        sets = request.method == "POST" and path == "/budgets"
        if request.method not in ("GET", "HEAD") and not sets:
            return _json(405, {"error": "Only GET is answered here, and POST of /budgets."})
        if path not in OPEN_PATHS and not self._allowed(request):
            return _json(401, {"error": "Send the admin token: `Authorization: Bearer …` (admin.token in the configuration)."})
        if path in OBSERVER_PATHS:
            return await self._observers(request)
        if path == "/livez":
            return _json(200, {"status": "alive"})
        if path == "/readyz":
            reason = self._ready()
            return _json(503, {"status": "not ready", "reason": reason}) if reason else _json(200, {"status": "ready"})
        if path == "/budgets":
            return await self._told_budgets(request, sets)
        if path == "/status":
            return _json(200, self._status())
        return _json(404, {"error": f"There is no {path[:200]} here. Known: {KNOWN_PATHS}."})

    async def _told_budgets(self, request: BaseRequest, sets: bool) -> web.Response:
        """A page in another tab can send a POST here, but not one that says it is JSON: that needs leave, which nobody gives."""
        if sets and request.content_type != "application/json":
            return _json(415, {"error": "Send JSON, with `Content-Type: application/json`."})
        if sets and (request.content_length or 0) > MAX_BODY_BYTES:
            return _json(413, {"error": "The body is too large."})
        try:
            rows = await (self._budgets.set_spent(await request.content.read(MAX_BODY_BYTES)) if sets else self._budgets.rows())
        except ValueError as error:  # msgspec's errors are ValueErrors too
            return _json(400, {"error": str(error)})
        except OSError as error:
            return _json(503, {"error": f"The store of budgets can't be reached: {error}"})
        return _json(200, rows)

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


def _json(status: int, value: dict[str, object] | Sequence[msgspec.Struct]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.format(msgspec.json.encode(value)) + b"\n", content_type="application/json")
