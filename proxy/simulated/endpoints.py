"""The simulated provider's HTTP endpoints: read the request, compose, answer.

Here: one coroutine for each endpoint. Not here: the dialects' fields, pace and faults, sockets, routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from aiohttp import web
from aiohttp.web_request import FileField

from proxy.simulated.chat import ChatReply, ChatRequest, StreamOptions, chat_body, chat_error_event, chat_events, chat_wish
from proxy.simulated.completions import CompletionRequest, completion_body, completion_events, completion_wish
from proxy.simulated.composing import Answer, Wish, compose, counts_of
from proxy.simulated.counting import Counts
from proxy.simulated.embeddings import EmbeddingRequest, ModerationRequest, embeddings_body, moderation_body
from proxy.simulated.events import Event, new_id, unix_now_s
from proxy.simulated.exchange import Exchange, open_exchange
from proxy.simulated.media import (
    AUDIO_TYPES,
    SpeechRequest,
    file_object,
    media_error_event,
    speech_chunks,
    speech_events,
    transcription_body,
    transcription_events,
)
from proxy.simulated.messages import MessagesReply, MessagesRequest, messages_body, messages_error_event, messages_events, messages_wish
from proxy.simulated.mistakes import JsonObject, Mistake, decode_body
from proxy.simulated.responses import (
    ResponsesReply,
    ResponsesRequest,
    queued_body,
    responses_body,
    responses_error_event,
    responses_events,
    responses_reply,
    responses_wish,
)
from proxy.simulated.state import MAX_KEPT_FILE_BYTES, STATE, StoredFile

MODELS = ("gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "text-embedding-3-large", "gpt-4o-mini-tts", "gpt-4o-mini-transcribe")
MODELS_CREATED_S = 1_700_000_000


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    body = decode_body(await request.read(), ChatRequest)
    exchange = await open_exchange(request, body.model)
    reply = _chat_reply(exchange, chat_wish(body, exchange.model), "chatcmpl-", body.stream_options)
    return await _answer_chat(exchange, reply, bool(body.stream), chat_body, chat_events)


async def completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions."""
    body = decode_body(await request.read(), CompletionRequest)
    exchange = await open_exchange(request, body.model)
    reply = _chat_reply(exchange, completion_wish(body, exchange.model), "cmpl-", body.stream_options)
    return await _answer_chat(exchange, reply, bool(body.stream), completion_body, completion_events)


async def create_response(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses."""
    body = decode_body(await request.read(), ResponsesRequest)
    exchange = await open_exchange(request, body.model)
    reply = make_response(exchange, body)
    if body.stream:
        return await exchange.answer_events(responses_events(reply), responses_error_event)
    if body.background:
        return await exchange.answer_json(queued_body(reply))
    return await exchange.answer_json(responses_body(reply), reply.answer.piece_count)


def make_response(exchange: Exchange, body: ResponsesRequest) -> ResponsesReply:
    """Compose a response and store it, unless `store` is false. Raises Mistake."""
    earlier_tokens = 0
    if body.previous_response_id is not None:
        earlier = exchange.state.responses.get(body.previous_response_id)
        if earlier is None:
            raise Mistake(
                f"Previous response with id '{body.previous_response_id}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        earlier_tokens = earlier.counts.total
    answers, counts = compose_counted(exchange, responses_wish(body, exchange.model, earlier_tokens))
    reply = responses_reply(body, exchange.model, answers[0], counts, unix_now_s())
    if body.store is not False:
        exchange.state.responses.put(reply.id, reply)
    return reply


async def get_response(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses/{id}: the stored response, or its events again from `starting_after` on."""
    exchange = await open_exchange(request)
    reply = _stored_response(exchange)
    if request.query.get("stream") != "true":
        return await exchange.answer_json(responses_body(reply))
    after = request.query.get("starting_after", "-1")
    if not after.removeprefix("-").isdecimal():
        raise Mistake("Invalid 'starting_after': expected an integer.", param="starting_after", code="invalid_type")
    events = (event for number, event in enumerate(responses_events(reply)) if number > int(after))
    return await exchange.answer_events(events, responses_error_event)


async def delete_response(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/responses/{id}."""
    exchange = await open_exchange(request)
    reply = _stored_response(exchange)
    exchange.state.responses.drop(reply.id)
    return await exchange.answer_json({"id": reply.id, "object": "response", "deleted": True})


async def messages(request: web.Request) -> web.StreamResponse:
    """POST /v1/messages, in Anthropic's shape."""
    body = decode_body(await request.read(), MessagesRequest)
    exchange = await open_exchange(request, body.model)
    answers, counts = compose_counted(exchange, messages_wish(body, exchange.model))
    reply = MessagesReply(new_id("msg_"), exchange.model, answers[0], counts)
    if body.stream:
        return await exchange.answer_events(messages_events(reply), messages_error_event)
    return await exchange.answer_json(messages_body(reply), answers[0].piece_count)


async def embeddings(request: web.Request) -> web.StreamResponse:
    """POST /v1/embeddings."""
    body = decode_body(await request.read(), EmbeddingRequest)
    exchange = await open_exchange(request, body.model)
    return await exchange.answer_json(embeddings_body(body, exchange.model))


async def moderations(request: web.Request) -> web.StreamResponse:
    """POST /v1/moderations."""
    body = decode_body(await request.read(), ModerationRequest)
    exchange = await open_exchange(request, body.model)
    return await exchange.answer_json(moderation_body(body, exchange.model, new_id("modr-")))


async def list_models(request: web.Request) -> web.StreamResponse:
    """GET /v1/models."""
    exchange = await open_exchange(request)
    return await exchange.answer_json({"object": "list", "data": [_model(name) for name in MODELS]})


async def get_model(request: web.Request) -> web.StreamResponse:
    """GET /v1/models/{id}: every name is a model here."""
    exchange = await open_exchange(request, request.match_info["id"])
    return await exchange.answer_json(_model(exchange.model))


async def speech(request: web.Request) -> web.StreamResponse:
    """POST /v1/audio/speech: silence in chunks, or as events."""
    body = decode_body(await request.read(), SpeechRequest)
    exchange = await open_exchange(request, body.model)
    chunks = speech_chunks(body, exchange.directives.n, exchange.directives.size)
    if body.stream_format == "sse":
        return await exchange.answer_events(speech_events(body, chunks), media_error_event)
    return await exchange.answer_bytes(chunks, AUDIO_TYPES[body.response_format])


async def transcriptions(request: web.Request) -> web.StreamResponse:
    """POST /v1/audio/transcriptions."""
    form = await _read_form(request)
    upload, prompt = _file_of(form), form.get("prompt", "")
    exchange = await open_exchange(request, _text_field(form, "model"))
    content = upload.file.read()
    prompt = prompt if isinstance(prompt, str) else ""
    wish = Wish(model=exchange.model, prompt=f"{upload.filename} {len(content)} {prompt}", prompt_tokens=0)
    answer = compose(wish, exchange.directives)[0]
    if form.get("stream") == "true":
        return await exchange.answer_events(transcription_events(answer, exchange.model, len(content), prompt), media_error_event)
    return await exchange.answer_json(transcription_body(answer, exchange.model, len(content), prompt), answer.piece_count)


async def upload_file(request: web.Request) -> web.StreamResponse:
    """POST /v1/files."""
    form = await _read_form(request)
    upload, purpose = _file_of(form), _text_field(form, "purpose")
    exchange = await open_exchange(request)
    content = upload.file.read()
    description = file_object(new_id("file-"), upload.filename, purpose, len(content), unix_now_s())
    kept = content if len(content) <= MAX_KEPT_FILE_BYTES else None
    exchange.state.files.put(str(description["id"]), StoredFile(description, kept))
    return await exchange.answer_json(description)


async def get_file(request: web.Request) -> web.StreamResponse:
    """GET /v1/files/{id}."""
    exchange = await open_exchange(request)
    return await exchange.answer_json(_stored_file(exchange).description)


async def get_file_content(request: web.Request) -> web.StreamResponse:
    """GET /v1/files/{id}/content: what was uploaded, if it was small enough to be kept."""
    exchange = await open_exchange(request)
    content = _stored_file(exchange).content
    if content is None:
        raise Mistake(f"The simulated provider keeps no content over {MAX_KEPT_FILE_BYTES} bytes.", status=404, param="id")
    return await exchange.answer_bytes([content], "application/octet-stream")


async def unknown_path(request: web.Request) -> web.StreamResponse:
    """Everything else."""
    raise Mistake(f"Invalid URL ({request.method} {request.path})", status=404)


async def read_stats(request: web.Request) -> web.StreamResponse:
    """GET /_sim/stats: the counters."""
    stats = msgspec.to_builtins(request.app[STATE].stats)
    return web.Response(body=msgspec.json.encode(stats), content_type="application/json")


async def reset(request: web.Request) -> web.StreamResponse:
    """GET or POST /_sim/reset: as new."""
    request.app[STATE].reset()
    return await read_stats(request)


def compose_counted(exchange: Exchange, wish: Wish) -> tuple[tuple[Answer, ...], Counts]:
    """The answers to a wish and their usage, with the prompt's cached tokens."""
    answers = compose(wish, exchange.directives)
    return answers, counts_of(wish, answers, exchange.state.prompts.cached_tokens(wish.model, wish.prompt))


def _chat_reply(exchange: Exchange, wish: Wish, prefix: str, options: StreamOptions | None) -> ChatReply:
    answers, counts = compose_counted(exchange, wish)
    return ChatReply(new_id(prefix), exchange.model, unix_now_s(), answers, counts, options or StreamOptions())


async def _answer_chat(
    exchange: Exchange,
    reply: ChatReply,
    stream: bool,
    to_body: Callable[[ChatReply], JsonObject],
    to_events: Callable[[ChatReply], Iterator[Event]],
) -> web.StreamResponse:
    if stream:
        return await exchange.answer_events(to_events(reply), chat_error_event)
    return await exchange.answer_json(to_body(reply), max(answer.piece_count for answer in reply.answers))


def _model(name: str) -> JsonObject:
    return {"id": name, "object": "model", "created": MODELS_CREATED_S, "owned_by": "simulated"}


def _stored_response(exchange: Exchange) -> ResponsesReply:
    wanted = exchange.request.match_info["id"]
    reply = exchange.state.responses.get(wanted)
    if reply is None:
        raise Mistake(f"Response with id '{wanted}' not found.", status=404, param="id")
    return reply


def _stored_file(exchange: Exchange) -> StoredFile:
    wanted = exchange.request.match_info["id"]
    file = exchange.state.files.get(wanted)
    if file is None:
        raise Mistake(f"No such File object: {wanted}", status=404, param="id")
    return file


Form = dict[str, str | FileField]


async def _read_form(request: web.Request) -> Form:
    if request.content_type != "multipart/form-data":
        raise Mistake(f"Invalid Content-Type header ({request.content_type}), expected multipart/form-data.")
    try:
        fields = await request.post()
    except ValueError as error:
        raise Mistake(f"Could not parse multipart form: {error}") from error
    return {name: value for name, value in fields.items() if isinstance(value, str | FileField)}


def _file_of(form: Form) -> FileField:
    upload = form.get("file")
    if not isinstance(upload, FileField):
        raise Mistake("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    return upload


def _text_field(form: Form, name: str) -> str:
    value = form.get(name)
    if not isinstance(value, str):
        raise Mistake(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    return value
