"""Attempts: what is sent to a target, and what is done when it answers or doesn't.

Here: one attempt, and the second one that leaves out what the target refused. Not here: how the reply flows (relay.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from proxy.call import Outcome
from proxy.errors import ClientGone, PosternError, UpstreamError, UpstreamTimeout
from proxy.pipeline.headers import upstream_headers
from proxy.pipeline.idle_guard import IdleGuard
from proxy.pipeline.relay import Relay
from proxy.pipeline.runtime import Endpoint, Gate, Runtime
from proxy.pipeline.state import AttemptState, CallState
from proxy.ports import ClientReply, UpstreamReply
from proxy.wire.include_usage import asks_for_usage, inject
from proxy.wire.splice import set_field
from proxy.wire.urls import join, without_query_key

MAX_REFUSAL_BYTES = 64 << 10


async def run_attempts(gate: Gate, runtime: Runtime, call: CallState, reply: ClientReply) -> None:
    """Try the decision's target; once more without `include_usage` where the target refuses that."""
    assert call.decision is not None
    endpoint = runtime.endpoints[call.decision.target]
    memory_key = f"{endpoint.target.name}/{call.decision.model or call.model}"
    body = _renamed(call)
    injected = None
    if body is not None and call.fields is not None and asks_for_usage(call.api.kind, call.fields, endpoint.target.provider):
        injected = None if memory_key in gate.refuses_include_usage else inject(body, call.fields)
    asked = _as_sent(call, body if injected is None else injected)
    refusal = await _attempt(gate, runtime, call, reply, endpoint, asked, injected is not None)
    if refusal:
        gate.refuses_include_usage.add(memory_key)
        await _attempt(gate, runtime, call, reply, endpoint, _as_sent(call, body), False)


def _renamed(call: CallState) -> bytes | None:
    """The request's body without content coding, with the target's model name where the route gives one."""
    assert call.decision is not None
    model = call.decision.model
    if call.plain is None or call.fields is None or model is None or model == call.fields.model:
        return call.plain
    return set_field(call.plain, "model", msgspec.json.encode(model))


def _as_sent(call: CallState, body: bytes | None) -> bytes | None:
    """The client's own bytes, content coding and all, where no rule edited them."""
    return call.body if body is call.plain else body


async def _attempt(
    gate: Gate, runtime: Runtime, call: CallState, reply: ClientReply, endpoint: Endpoint, body: bytes | None, injected: bool
) -> bool:
    """One attempt, to its end. True if it was refused for the `include_usage` we put in, and nothing has reached the client."""
    attempt = begin_attempt(gate, call, endpoint)
    attempt.body = body
    guard = IdleGuard(endpoint.target.timeouts, attempt.start_ns, _canceller())
    gate.watch.add(guard)
    try:
        upstream_reply = await _open(gate, runtime, call, attempt, guard, injected)
        relay = Relay(gate, runtime, call, attempt, guard, upstream_reply, reply, injected)
        try:
            return await relay.run()
        finally:
            relay.close()
    except UpstreamError as error:
        attempt.fail(Outcome.FAILED, error.error_type, error.message)
        raise
    except PosternError as error:  # the client's upload broke while it was passed on
        attempt.fail(Outcome.REJECTED, error.code, error.message)
        raise
    except (asyncio.CancelledError, ClientGone):
        attempt.outcome = _outcome_of_leaving(gate, attempt, guard)
        raise
    finally:
        gate.watch.discard(guard)
        attempt.end_ns = gate.clock.monotonic_ns()


def _outcome_of_leaving(gate: Gate, attempt: AttemptState, guard: IdleGuard) -> Outcome:
    """What became of an attempt whose call was cancelled. Clients often leave right after the end mark, and have all of it."""
    reader = attempt.reader
    if reader is not None and not guard.is_sending and reader.ended and reader.error is None:
        return Outcome.SUCCEEDED
    return Outcome.INTERRUPTED if gate.stopping else Outcome.ABANDONED


def _canceller() -> Callable[[], object]:
    task = asyncio.current_task()
    assert task is not None
    return task.cancel


def begin_attempt(gate: Gate, call: CallState, endpoint: Endpoint) -> AttemptState:
    """A new attempt of the call, with its own span id."""
    assert call.decision is not None
    model = call.decision.model or call.model or ""
    number = len(call.attempts) + 1
    attempt = AttemptState(number, f"{gate.random_bits(64) or 1:016x}", endpoint, model, gate.clock.monotonic_ns())
    call.attempts.append(attempt)
    return attempt


async def _open(gate: Gate, runtime: Runtime, call: CallState, attempt: AttemptState, guard: IdleGuard, injected: bool) -> UpstreamReply:
    """Send the request, wait for the reply's head. Raises UpstreamError, and what broke the client's own upload."""
    endpoint = attempt.endpoint
    target = endpoint.target
    url = join(endpoint.base, call.target_path)
    if not target.passthrough:
        url = without_query_key(url)
    headers = upstream_headers(call, attempt, injected)
    body: bytes | AsyncIterator[bytes] | None = attempt.body
    declared = call.request.body.declared_bytes
    if body is None and declared != 0:
        body = _passed_on(gate, runtime, call, guard)
        if declared is not None:
            headers.append((b"content-length", b"%d" % declared))
    attempt.sent = True
    try:
        upstream_reply = await gate.upstream.open(target, call.request.method, url, headers, body)
    except asyncio.CancelledError:
        if guard.expired and _take_back_cancel():
            raise UpstreamTimeout(f"Target '{target.name}' failed: {guard.expired}.", param=target.name) from None
        raise
    except UpstreamError as error:
        attempt.sent = error.sent
        if call.body_error is not None:
            raise call.body_error from error
        raise
    finally:
        call.waited_ns += gate.clock.monotonic_ns() - attempt.start_ns
    attempt.status = upstream_reply.status
    return upstream_reply


def _take_back_cancel() -> bool:
    """Undo the guard's cancellation; False if somebody else (the client's leaving) cancelled too."""
    task = asyncio.current_task()
    return task is not None and task.uncancel() == 0


async def _passed_on(gate: Gate, runtime: Runtime, call: CallState, guard: IdleGuard) -> AsyncIterator[bytes]:
    """The client's upload in pieces, none of it kept. It takes as long as the client takes: each piece winds the guard up again."""
    try:
        async for piece in call.request.body.stream(runtime.max_body_bytes):
            call.request_bytes += len(piece)
            guard.last_ns = gate.clock.monotonic_ns()
            yield piece
    except PosternError as error:
        call.body_error = error
        raise
