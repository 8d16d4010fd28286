"""Attempts: what is sent to a target, and what is done when it answers or doesn't.

Here: the attempts of a call in their order, what one of them is. Not here: whether another follows (failover.py), how the reply flows
(relay.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from proxy.call import Outcome
from proxy.errors import ClientGone, PosternError, UpstreamError, UpstreamTimeout
from proxy.pipeline.failover import Failover, fault_of, in_the_end
from proxy.pipeline.headers import upstream_headers
from proxy.pipeline.idle_guard import IdleGuard
from proxy.pipeline.relay import After, Relay
from proxy.pipeline.runtime import Endpoint, Gate, Runtime
from proxy.pipeline.state import AttemptState, CallState
from proxy.pipeline.upstream_request import UpstreamRequest, upstream_request
from proxy.ports import ClientReply, UpstreamReply
from proxy.wire.urls import join, without_query_key


async def run_attempts(gate: Gate, runtime: Runtime, call: CallState, reply: ClientReply) -> None:
    """Ask the plan's targets, one after the other, until a reply is passed on. Raises what the client is to be told otherwise."""
    failover = Failover(gate, runtime, call)
    while await _ask(gate, runtime, call, reply, failover):
        if failover.wait_s:
            began_ns = gate.clock.monotonic_ns()
            try:
                await asyncio.sleep(failover.wait_s)
            finally:
                call.waited_ns += gate.clock.monotonic_ns() - began_ns


async def _ask(gate: Gate, runtime: Runtime, call: CallState, reply: ClientReply, failover: Failover) -> bool:
    """Ask the current target; once more without `include_usage` where it refuses that. True: another attempt is to follow."""
    step = failover.step
    endpoint = runtime.endpoints[step.target]
    memory_key = f"{step.target}/{step.model or call.model}"
    request = upstream_request(call, runtime.request_rules, step)
    asking = None if memory_key in gate.refuses_include_usage else request.asking_for_usage(call.api.kind, endpoint.target.provider)
    failover.begin_turn()
    after = await _attempt(gate, runtime, call, reply, failover, request, asking)
    if after is After.AGAIN_WITHOUT_USAGE:
        gate.refuses_include_usage.add(memory_key)
        after = await _attempt(gate, runtime, call, reply, failover, request, None)
    return after is After.ONWARD


def _as_sent(call: CallState, body: bytes | None) -> bytes | None:
    """The client's own bytes, content coding and all, where no rule edited them."""
    return call.body if body is call.plain else body


async def _attempt(
    gate: Gate, runtime: Runtime, call: CallState, reply: ClientReply, failover: Failover, request: UpstreamRequest, asking: bytes | None
) -> After:
    """One attempt, to its end; `asking` is the request's body with the question for usage, where it is put."""
    step = failover.step
    endpoint = runtime.endpoints[step.target]
    attempt = begin_attempt(gate, call, endpoint, step.model)
    attempt.body = _as_sent(call, request.body if asking is None else asking)
    attempt.fields, attempt.changes = request.fields, request.changes
    injected = asking is not None
    waited_ns = call.waited_ns
    failover.begin(attempt)
    guard = IdleGuard(endpoint.target.timeouts, attempt.start_ns, _canceller())
    gate.watch.add(guard)
    try:
        upstream_reply = await _open(gate, runtime, call, attempt, guard, injected)
        relay = Relay(gate, runtime, call, attempt, guard, upstream_reply, reply, injected, failover)
        try:
            return await relay.run()
        finally:
            relay.close()
    except UpstreamError as error:
        attempt.fail(Outcome.FAILED, error.error_type, error.message, fault_of(error, attempt))
        if failover.leaves(attempt, []):
            return After.ONWARD
        raise in_the_end(call, error) from error
    except PosternError as error:  # the client's upload broke while it was passed on
        attempt.fail(Outcome.REJECTED, error.code, error.message)
        raise
    except (asyncio.CancelledError, ClientGone):
        attempt.outcome = _outcome_of_leaving(gate, attempt, guard)
        raise
    finally:
        gate.watch.discard(guard)
        attempt.end_ns = gate.clock.monotonic_ns()
        if call.status is None:  # nothing of it was passed on: all of it was waiting
            call.waited_ns = waited_ns + attempt.end_ns - attempt.start_ns
        failover.end(attempt)


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


def begin_attempt(gate: Gate, call: CallState, endpoint: Endpoint, model: str | None) -> AttemptState:
    """A new attempt of the call, with its own span id; `model` is the target's name for it, where it has one of its own."""
    number = len(call.attempts) + 1
    attempt = AttemptState(number, f"{gate.random_bits(64) or 1:016x}", endpoint, model or call.model or "", gate.clock.monotonic_ns())
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
            call.is_upload_begun = True
            guard.last_ns = gate.clock.monotonic_ns()
            yield piece
    except PosternError as error:
        call.body_error = error
        raise
