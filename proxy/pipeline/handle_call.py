"""The path of one call, top to bottom: the only place where its order exists (docs/life-of-a-call.md).

Here: handle_call and its first steps. Not here: how an attempt goes (attempts.py), how bytes flow (relay.py), what it cost (settle.py).
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

from proxy.call import Outcome
from proxy.errors import BodyTooLarge, ClientGone, NoRoute, PosternError, UnknownPrice
from proxy.pipeline.attempts import run_attempts
from proxy.pipeline.refuse import send_error
from proxy.pipeline.request import ClientRequest
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.settle import settle
from proxy.pipeline.state import CallState
from proxy.pipeline.tunnel import run_tunnel
from proxy.policy.routing import RouteFacts
from proxy.ports import ClientReply, ClientTunnel
from proxy.wire.content_coding import decoder_for, is_identity
from proxy.wire.endpoints import endpoint_of, model_in_path
from proxy.wire.headers import parse_traceparent
from proxy.wire.http1 import header
from proxy.wire.json_text import clean
from proxy.wire.request import read_request
from proxy.wire.urls import origin_form

MAX_TAGS = 16


async def handle_call(gate: Gate, request: ClientRequest, reply: ClientReply, tunnel: ClientTunnel) -> None:
    """One client request from its head to its record; settle runs exactly once, whatever happens."""
    runtime = gate.runtime
    call = accept(gate, runtime, request)
    gate.in_flight += 1
    try:
        await understand(call, runtime)
        route(call, runtime)
        if request.upgrade:
            await run_tunnel(gate, runtime, call, reply, tunnel)
        else:
            await run_attempts(gate, runtime, call, reply)
    except PosternError as error:
        await send_error(call, reply, error, runtime)
    except ClientGone:
        call.outcome = call.attempts[-1].outcome if call.attempts else Outcome.ABANDONED
    except asyncio.CancelledError:
        call.outcome = call.attempts[-1].outcome if call.attempts else Outcome.ABANDONED
        raise
    except Exception as error:
        call.error_type, call.error_message = "internal_error", type(error).__name__
        raise
    finally:
        gate.in_flight -= 1
        settle(gate, runtime, call)


def accept(gate: Gate, runtime: Runtime, request: ClientRequest) -> CallState:
    """Ids, the caller's trace context where it sent one, and whether the call is sampled."""
    bits = gate.random_bits
    call_id = f"{request.started_unix_ns // 1_000_000:012x}{bits(80):020x}"  # sorts by time
    call = CallState(request, call_id, "", f"{bits(64) or 1:016x}")
    call.path = clean(request.target.partition("?")[0])
    call.api = endpoint_of(request.method, call.path)
    parent = parse_traceparent(header(request.headers, b"traceparent")) if runtime.reads_context else None
    if parent:
        call.trace_id, call.parent_span_id, parent_sampled = parent
        call.trace_state = header(request.headers, b"tracestate").decode("latin-1") or None
        call.sampled = runtime.samples(call.trace_id, parent_sampled)
    else:
        call.trace_id = f"{bits(128) or 1:032x}"
        call.sampled = runtime.samples(call.trace_id, None)
    tags = header(request.headers, b"x-postern-tags")
    if tags:
        pairs = (pair.partition("=") for pair in tags.decode("utf-8", "replace").split(",")[:MAX_TAGS])
        call.tags = {key.strip(): value.strip() for key, _, value in pairs if key.strip()}
    return call


async def understand(call: CallState, runtime: Runtime) -> None:
    """Read the request as far as a rule must: the JSON body of a call that names a model, and nothing else."""
    request = call.request
    call.target_path = origin_form(request.target)
    call.path = call.target_path.partition("?")[0]
    call.api = endpoint_of(request.method, call.path)
    call.billable = call.api.billable
    if (request.body.declared_bytes or 0) > runtime.max_body_bytes:
        raise BodyTooLarge(runtime.max_body_bytes)
    if not call.api.json_body or not _is_json(header(request.headers, b"content-type")):
        return
    call.body = call.plain = await request.body.read(runtime.max_body_bytes)
    call.request_bytes = len(call.body)
    coding = header(request.headers, b"content-encoding")
    if is_identity(coding):
        call.fields = read_request(call.body, call.api.kind)
    elif decoder := decoder_for(coding):
        call.plain = decoder.feed(call.body)
        call.fields = read_request(call.plain, call.api.kind)


def _is_json(content_type: bytes) -> bool:
    return not content_type or b"json" in content_type.lower()


def route(call: CallState, runtime: Runtime) -> None:
    """The first route that matches. Raises NoRoute, UnknownPrice."""
    request, fields = call.request, call.fields
    model = call.model = (
        (fields.model if fields else None) or model_in_path(call.path) or (_model_in_query(call) if request.upgrade else None)
    )
    facts = RouteFacts(request.method, call.path, model, request.headers, fields.stream if fields else False)
    decision = call.decision = runtime.router.decide(facts)
    if decision is None:
        what = f"model '{model}'" if model else f"{request.method} {call.path}"
        raise NoRoute(
            f"No route of Postern's configuration matches {what[:200]}. Add one under `routes:`, or ask for a model that has one."
        )
    if runtime.refuse_unpriced and call.api.billable and model:
        target = runtime.endpoints[decision.target].target
        if not runtime.prices.known(target, decision.model or model):
            raise UnknownPrice(
                f"Model '{model[:200]}' has no known price at target '{target.name}', and `prices.on_unknown` is `refuse`. "
                "Give it a price under `prices.overrides`.",
                param=decision.route,
            )


def _model_in_query(call: CallState) -> str | None:
    """A Realtime handshake has no body: its model stands in the query."""
    values = parse_qs(call.target_path.partition("?")[2]).get("model")
    return values[0] if values else None
