"""One request on its way to its reply: pace and faults are carried out here, for JSON, streams, binary replies and WebSockets.

Here: latency, pacing, breaking connections, reply headers. Not here: what the reply says (the dialects), routes (server.py).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from aiohttp import web

from proxy.simulated.directives import Directives, read_directives, split_model
from proxy.simulated.events import Event, Frame, Stage, new_id, sse_frame
from proxy.simulated.mistakes import STREAM_ERROR, Envelope, JsonObject, anthropic_error, error_body, openai_error
from proxy.simulated.state import STATE

BREAKS_FRAMES = {"cut", "cutreset", "midstall", "sseerror", "nodone"}
BREAKS_CONNECTION = {"cut", "cutreset", "midstall"}
ERROR_IN_200 = {"error200", "sseerror"}

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: close() sends RST instead of FIN

Send = Callable[[list[bytes]], Awaitable[None]]
"""Sends frames, together where that is possible."""
ErrorEvent = Callable[[int], Event]
"""The error event of a dialect, given how many events came before it."""


class FaultAnswer(Exception):
    """The request gets a simulated error status."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


class BrokenOff(Exception):
    """A fault broke the connection: nothing more can be sent."""


class Exchange:
    """A request, the directives that apply to it, and the ways to answer."""

    def __init__(self, request: web.Request, model: str, directives: Directives) -> None:
        self.request = request
        self.state = request.app[STATE]
        self.model = model
        self.directives = directives
        self.envelope = envelope_of(request)
        self.request_id = new_id("req_")

    async def answer_json(self, body: object, chunk_count: int = 1) -> web.StreamResponse:
        """Answer with JSON, after the time that a stream of `chunk_count` chunks would take. Raises BrokenOff."""
        await self._pace(chunk_count - 1)
        fault = self.directives.fault
        data = msgspec.json.encode(self._error_in_200() if fault in ERROR_IN_200 else body)
        if fault == "badjson":
            data = data[: len(data) // 2]
        if fault in BREAKS_CONNECTION:
            await self._answer_half(data)
        return web.Response(body=data, content_type="application/json", headers=self.headers())

    async def answer_events(self, events: Iterable[Event], error_event: ErrorEvent) -> web.StreamResponse:
        """Answer with server-sent events. Raises BrokenOff."""
        if self.directives.fault == "error200":
            return await self.answer_json({})
        return await self._answer_frames(
            "text/event-stream; charset=utf-8", map(sse_frame, events), lambda sent: sse_frame(error_event(sent)).data
        )

    async def answer_bytes(self, chunks: Iterable[bytes], content_type: str) -> web.StreamResponse:
        """Answer with a binary body in chunks. Raises BrokenOff."""
        if self.directives.fault in ERROR_IN_200:
            return await self.answer_json({})
        return await self._answer_frames(content_type, (Frame(Stage.CONTENT, chunk) for chunk in chunks), lambda sent: b"")

    async def send_frames(self, frames: Iterable[Frame], send: Send, error_data: Callable[[int], bytes]) -> None:
        """Send frames at the asked pace until all are sent or a fault ends it. Raises BrokenOff if the fault breaks the connection."""
        content = 0
        spoiled = False
        held: list[bytes] = []  # with burst=1: until the end
        for sent, frame in enumerate(frames):
            if self._fault_is_due(frame.stage, content):
                await send(held)
                await self._end_by_fault(send, error_data(sent))
                return
            if frame.stage is Stage.CONTENT:
                content += 1
                if content > 1:
                    await self._pace()
            data = frame.data
            if not spoiled and self._is_to_spoil(frame.stage, content):
                data, spoiled = _spoil(data), True
            if self.directives.burst:
                held.append(data)
            else:
                await send([data])
        await send(held)

    def headers(self) -> dict[str, str]:
        """The headers that a provider adds to every reply. Source: wire.md C5."""
        if self.envelope is Envelope.ANTHROPIC:
            return {"request-id": self.request_id}
        return {
            "x-request-id": self.request_id,
            "openai-organization": "simulated",
            "openai-processing-ms": str(round(self.directives.lat)),
            "openai-version": "2020-10-01",
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms",
            "x-ratelimit-limit-tokens": "2000000",
            "x-ratelimit-remaining-tokens": "1999000",
            "x-ratelimit-reset-tokens": "30ms",
        }

    async def begin(self) -> None:
        """Wait until the first byte is due, then carry out what comes instead of a reply. Raises FaultAnswer and BrokenOff."""
        await asyncio.sleep(self.directives.lat / 1000)
        fault = self.directives.fault
        if fault in ("reset", "close"):
            self._break_off(reset=fault == "reset")
        if fault == "stall":
            await self._stall()
        if self.directives.status is not None:
            raise FaultAnswer(self._status_answer(self.directives.status))

    def _status_answer(self, status: int) -> web.Response:
        headers = self.headers()
        retry_after = self.directives.retry_after
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        if status == 429 and self.envelope is Envelope.OPENAI:
            headers |= {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{retry_after or 0}s"}
        return json_response(error_body(self.envelope, status, self.request_id), status, headers)

    async def _answer_frames(self, content_type: str, frames: Iterable[Frame], error_data: Callable[[int], bytes]) -> web.StreamResponse:
        self.state.stats.streams += 1
        response = web.StreamResponse(headers=self.headers() | {"content-type": content_type, "cache-control": "no-cache"})
        response.enable_chunked_encoding()
        await response.prepare(self.request)

        async def send(frames_data: list[bytes]) -> None:
            await response.write(b"".join(frames_data))

        await self.send_frames(frames, send, error_data)
        await response.write_eof()
        return response

    async def _answer_half(self, data: bytes) -> None:
        """Announce all of it, send half, break."""
        response = web.StreamResponse(headers=self.headers() | {"content-type": "application/json"})
        response.content_length = len(data)
        await response.prepare(self.request)
        await response.write(data[: len(data) // 2])
        await self._break_by_fault()

    def _error_in_200(self) -> JsonObject:
        if self.envelope is Envelope.ANTHROPIC:
            return anthropic_error(500, STREAM_ERROR.message, self.request_id)
        return openai_error(STREAM_ERROR)

    def _fault_is_due(self, stage: Stage, content: int) -> bool:
        """A reply with less content than `after` fails at its end: a fault that was asked for always happens."""
        return self.directives.fault in BREAKS_FRAMES and (content >= self.directives.after or stage is Stage.CLOSING)

    def _is_to_spoil(self, stage: Stage, content: int) -> bool:
        return self.directives.fault == "badjson" and (content >= max(1, self.directives.after) or stage is Stage.CLOSING)

    async def _end_by_fault(self, send: Send, error_data: bytes) -> None:
        if self.directives.fault == "sseerror":
            await send([error_data])
        elif self.directives.fault in BREAKS_CONNECTION:
            await self._break_by_fault()

    async def _break_by_fault(self) -> None:
        if self.directives.fault == "midstall":
            await self._stall()
        self._break_off(reset=self.directives.fault == "cutreset")

    async def _stall(self) -> None:
        """Nothing for a while, or until the client leaves; then the connection closes."""
        if self.directives.stall == 0:
            await asyncio.Event().wait()
        await asyncio.sleep(self.directives.stall / 1000)
        self._break_off(reset=False)

    def _break_off(self, *, reset: bool) -> None:
        transport = self.request.transport
        if transport is not None and reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            transport.abort()
        elif transport is not None:
            transport.close()
        raise BrokenOff

    async def _pace(self, chunks: int = 1) -> None:
        """Wait as long as `chunks` chunks take. Also without a pause the loop gets its turn, so that a client that left is noticed."""
        await asyncio.sleep(0 if self.directives.burst else max(0, chunks) * self.directives.d / 1000)


async def open_exchange(request: web.Request, requested_model: str = "") -> Exchange:
    """Read the directives, and let the reply's time begin. Raises Mistake, FaultAnswer, BrokenOff."""
    model, suffix = split_model(requested_model)
    directives = read_directives(request.headers.items(), suffix)
    if not request.app[STATE].use_fault(directives):
        directives = msgspec.structs.replace(directives, fault=None, status=None)
    exchange = Exchange(request, model, directives)
    await exchange.begin()
    return exchange


def envelope_of(request: web.Request) -> Envelope:
    """Whose error shape the path uses."""
    return Envelope.ANTHROPIC if request.path.startswith("/v1/messages") else Envelope.OPENAI


def json_response(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON reply without pace or faults."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers)


def _spoil(data: bytes) -> bytes:
    """Half of a frame: JSON that never ends."""
    end = b"\n\n" if data.endswith(b"\n\n") else b""
    return data[: len(data) // 2] + end
