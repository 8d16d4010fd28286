"""The simulated provider's WebSockets: /v1/realtime, and /v1/responses upgraded.

Here: reading client events and sending replies at their pace. Not here: the events' fields.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import msgspec
from aiohttp import WSMsgType, web

from proxy.simulated.endpoints import compose_counted, make_response
from proxy.simulated.events import Event, Stage, message_frame
from proxy.simulated.exchange import ErrorEvent, Exchange, FaultAnswer, open_exchange
from proxy.simulated.mistakes import Envelope, JsonObject, Mistake, decode_body, error_body, mistake_body
from proxy.simulated.realtime import Conversation, client_error_event, realtime_error_event, realtime_events, session_event
from proxy.simulated.responses import ResponsesRequest, responses_error_event, responses_events

SUBPROTOCOLS = ("realtime", "openai-beta.realtime-v1")


async def realtime(request: web.Request) -> web.StreamResponse:
    """GET /v1/realtime?model=…, upgraded."""
    model = request.query.get("model")
    if not model:
        raise Mistake("you must provide a model parameter", param="model", code="missing_required_parameter")
    _refuse_plain_http(request)
    exchange = await open_exchange(request, model)
    socket = await _accept(request)
    conversation = Conversation(exchange.model)
    await _send(socket, session_event("session.created", {"session": conversation.session}))
    async for event in _client_events(socket):
        await _answer_client_event(exchange, socket, conversation, event)
    return socket


async def responses_socket(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses, upgraded: every `response.create` is answered with the events of a streamed response."""
    _refuse_plain_http(request)
    socket = await _accept(request)
    async for event in _client_events(socket):
        try:
            await _answer_response_create(request, socket, event)
        except Mistake as mistake:
            body = mistake_body(Envelope.OPENAI, mistake, "")
            await _send(socket, Event(Stage.CLOSING, {"type": "error", "status": mistake.status, **body}))
        except FaultAnswer as fault:
            body = error_body(Envelope.OPENAI, fault.response.status, "")
            await _send(socket, Event(Stage.CLOSING, {"type": "error", "status": fault.response.status, **body}))
    return socket


async def _answer_response_create(request: web.Request, socket: web.WebSocketResponse, event: JsonObject) -> None:
    if event.get("type") != "response.create":
        raise Mistake(f"Unknown event type: {event.get('type')!r}.", param="type")
    body = decode_body(msgspec.json.encode(event), ResponsesRequest)
    exchange = await open_exchange(request, body.model)
    await _send_paced(exchange, socket, responses_events(make_response(exchange, body)), responses_error_event)


async def _answer_client_event(exchange: Exchange, socket: web.WebSocketResponse, conversation: Conversation, event: JsonObject) -> None:
    match event.get("type"):
        case "session.update":
            conversation.update(event.get("session"))
            await _send(socket, session_event("session.updated", {"session": conversation.session}))
        case "conversation.item.create":
            item = conversation.add(event.get("item"))
            await _send(socket, session_event("conversation.item.added", {"item": item}))
            await _send(socket, session_event("conversation.item.done", {"item": item}))
        case "response.create":
            answers, counts = compose_counted(exchange, conversation.wish(event.get("response")))
            conversation.add({"type": "message", "role": "assistant", "content": answers[0].text})
            await _send_paced(exchange, socket, realtime_events(answers[0], counts), realtime_error_event)
        case kind:
            await _send(socket, client_error_event("invalid_request_error", f"Unknown event type: {kind!r}."))


def _refuse_plain_http(request: web.Request) -> None:
    if request.headers.get("upgrade", "").lower() != "websocket":
        raise Mistake("This endpoint wants a WebSocket: send Upgrade: websocket.", status=426)


async def _accept(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=SUBPROTOCOLS)
    await socket.prepare(request)
    return socket


async def _client_events(socket: web.WebSocketResponse) -> AsyncIterator[JsonObject]:
    """What the client sends, as JSON objects; it is told about anything else."""
    async for message in socket:
        try:
            if message.type is not WSMsgType.TEXT:
                raise Mistake("Only text messages are understood.")
            yield decode_body(message.data.encode(), JsonObject)
        except Mistake as mistake:
            await _send(socket, client_error_event("invalid_request_error", mistake.message))


async def _send(socket: web.WebSocketResponse, event: Event) -> None:
    await socket.send_str(message_frame(event).data.decode())


async def _send_paced(exchange: Exchange, socket: web.WebSocketResponse, events: Iterable[Event], error_event: ErrorEvent) -> None:
    async def send(frames_data: list[bytes]) -> None:
        for data in frames_data:
            await socket.send_str(data.decode())

    await exchange.send_frames(map(message_frame, events), send, lambda sent: message_frame(error_event(sent)).data)
