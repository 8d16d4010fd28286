"""The simulated provider as a server: routes, accounting of how requests end, start and close.

Here: the application. Not here: endpoints (endpoints.py, sockets.py). Imported only if a target's provider is `simulated`.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.simulated import endpoints, sockets
from proxy.simulated.events import new_id
from proxy.simulated.exchange import BrokenOff, FaultAnswer, envelope_of, json_response
from proxy.simulated.mistakes import Mistake, mistake_body
from proxy.simulated.state import STATE, State

MAX_BODY_BYTES = 256 << 20
SHUTDOWN_S = 0.1
CONTROL_PREFIX = "/_sim/"

ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/v1/chat/completions", endpoints.chat_completions),
    ("POST", "/v1/completions", endpoints.completions),
    ("POST", "/v1/responses", endpoints.create_response),
    ("GET", "/v1/responses", sockets.responses_socket),
    ("GET", "/v1/responses/{id}", endpoints.get_response),
    ("DELETE", "/v1/responses/{id}", endpoints.delete_response),
    ("POST", "/v1/messages", endpoints.messages),
    ("POST", "/v1/embeddings", endpoints.embeddings),
    ("POST", "/v1/moderations", endpoints.moderations),
    ("GET", "/v1/models", endpoints.list_models),
    ("GET", "/v1/models/{id:.+}", endpoints.get_model),
    ("POST", "/v1/audio/speech", endpoints.speech),
    ("POST", "/v1/audio/transcriptions", endpoints.transcriptions),
    ("POST", "/v1/files", endpoints.upload_file),
    ("GET", "/v1/files/{id}", endpoints.get_file),
    ("GET", "/v1/files/{id}/content", endpoints.get_file_content),
    ("GET", "/v1/realtime", sockets.realtime),
    ("GET", "/_sim/stats", endpoints.read_stats),
    ("GET", "/_sim/reset", endpoints.reset),
    ("POST", "/_sim/reset", endpoints.reset),
    ("*", "/{path:.*}", endpoints.unknown_path),
]


class SimulatedServer:
    """A running simulated provider."""

    def __init__(self, runner: web.AppRunner, base_url: str) -> None:
        self._runner = runner
        self.base_url = base_url
        """Such as http://127.0.0.1:9000/v1. Anthropic's client wants it without /v1."""

    async def close(self) -> None:
        """Stop listening, and end what is still running."""
        await self._runner.cleanup()


async def start_simulated(host: str = "127.0.0.1", port: int = 0) -> SimulatedServer:
    """Start a simulated provider in this event loop; port 0 takes a free one. Raises OSError if the address can't be had."""
    runner = web.AppRunner(make_app(), handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    bound_host, bound_port = runner.addresses[0][:2]
    shown_host = f"[{bound_host}]" if ":" in bound_host else bound_host
    return SimulatedServer(runner, f"http://{shown_host}:{bound_port}/v1")


def make_app() -> web.Application:
    """The application with a memory of its own."""
    app = web.Application(middlewares=[_account], client_max_size=MAX_BODY_BYTES)
    app[STATE] = State()
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    return app


@web.middleware
async def _account(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request and how it ended; turn mistakes and faults into answers."""
    if request.path.startswith(CONTROL_PREFIX):
        return await handler(request)
    stats = request.app[STATE].stats
    stats.requests += 1
    stats.by_path[_path_label(request)] += 1
    try:
        response = await _answer(request, handler)
    except (asyncio.CancelledError, ConnectionError):
        stats.aborted += 1
        raise
    except BrokenOff:
        stats.broken_off += 1
        return web.Response()  # can't be sent any more: aiohttp sees the closed connection and ends its loop in silence
    stats.completed += 1
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FaultAnswer as fault:
        return fault.response
    except web.HTTPRequestEntityTooLarge:
        mistake = Mistake("Request body too large.", status=413)
    except RecursionError:
        mistake = Mistake("The JSON body of your request is nested too deeply.")
    except Mistake as error:
        mistake = error
    envelope, request_id = envelope_of(request), new_id("req_")
    body = mistake_body(envelope, mistake, request_id)
    return json_response(body, mistake.status, {"request-id": request_id, "x-request-id": request_id})


def _path_label(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "unknown" if resource is None or request.match_info.handler is endpoints.unknown_path else resource.canonical
