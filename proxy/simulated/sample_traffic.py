"""Traffic for a first look: a dozen calls of every kind, for `postern demo`.

Here: the calls as data, and sending them through any base URL. Not here: the server; faults are asked for with `x-sim` headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import aiohttp

from proxy.simulated.mistakes import JsonObject

MODEL = "sim/gpt-4o-mini"
CALL_TIMEOUT_S = 30.0
LEAVE_AFTER_BYTES = 600  # about two chunks

_WEATHER: JsonObject = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}}},
    },
}
_CAPTION_SCHEMA: JsonObject = {
    "name": "caption",
    "schema": {"type": "object", "properties": {"title": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}}},
}


class SampleCall(NamedTuple):
    """One call of the sample traffic; the path goes behind a base URL that ends in /v1."""

    method: str
    path: str
    body: JsonObject | None
    headers: dict[str, str]
    about: str
    leaves_early: bool = False


def _chat(about: str, text: str, more: JsonObject | None = None, sim: str = "", *, leaves_early: bool = False) -> SampleCall:
    body: JsonObject = {"model": MODEL, "messages": [{"role": "user", "content": text}], **(more or {})}
    return SampleCall("POST", "/chat/completions", body, {"x-sim": sim} if sim else {}, about, leaves_early)


SAMPLE_CALLS: list[SampleCall] = [
    SampleCall("GET", "/models", None, {}, "list of models"),
    _chat("chat", "Say hello to the small gate."),
    _chat("chat, two choices, short", "Two names for a sidecar, please.", {"n": 2, "max_tokens": 12}),
    _chat("chat, streamed", "Tell me a story about a gate.", {"stream": True}, "n=40"),
    _chat("chat, streamed, with usage", "And another one.", {"stream": True, "stream_options": {"include_usage": True}}, "n=24"),
    _chat("chat, slow", "Think about it first.", {"reasoning_effort": "high"}, "lat=400,d=10"),
    _chat("tool call, streamed", "Use get_weather for Berlin.", {"tools": [_WEATHER], "stream": True}),
    _chat("structured output", "A caption, please.", {"response_format": {"type": "json_schema", "json_schema": _CAPTION_SCHEMA}}),
    SampleCall("POST", "/responses", {"model": MODEL, "input": "Say hello."}, {}, "response"),
    SampleCall("POST", "/responses", {"model": MODEL, "input": "Say it slowly.", "stream": True}, {}, "response, streamed"),
    SampleCall("POST", "/embeddings", {"model": "sim/text-embedding-3-small", "input": ["a gate", "a door"]}, {}, "embeddings"),
    _chat("rate limited (429)", "Too fast.", sim="status=429,retry_after=2"),
    _chat("provider error (500)", "Unlucky.", sim="status=500"),
    _chat("stream cut in the middle", "This will break.", {"stream": True}, "n=30,fault=cut,after=10"),
    _chat("stream, client leaves", "I can't wait.", {"stream": True}, "n=200,d=20", leaves_early=True),
]


async def send_sample_traffic(base_url: str, report: Callable[[str], None]) -> None:
    """Send every sample call, one after another, and report a line for each.

    `base_url` ends in /v1. A call that fails is reported and doesn't stop the others.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)) as session:
        for call in SAMPLE_CALLS:
            result = await _send(session, base_url.rstrip("/"), call)
            report(f"{call.method:4} {call.path:18} {call.about:28} {result}")


async def _send(session: aiohttp.ClientSession, base_url: str, call: SampleCall) -> str:
    try:
        async with session.request(call.method, base_url + call.path, json=call.body, headers=call.headers) as reply:
            if call.leaves_early:
                await reply.content.readexactly(LEAVE_AFTER_BYTES)
                reply.close()
                return f"{reply.status}, left after {LEAVE_AFTER_BYTES} bytes"
            return await _read_to_end(reply)
    except (aiohttp.ClientError, asyncio.IncompleteReadError, TimeoutError) as error:
        return f"no reply: {type(error).__name__}: {error}"


async def _read_to_end(reply: aiohttp.ClientResponse) -> str:
    size_bytes = 0
    try:
        async for data in reply.content.iter_any():
            size_bytes += len(data)
    except aiohttp.ClientPayloadError:
        return f"{reply.status}, broke off after {size_bytes} bytes"
    return f"{reply.status}, {size_bytes} bytes"
