"""WebSocket calls: an upgraded connection passes as raw bytes; the responses inside it are metered on a copy.

Here: the handshake, two pumps, one record per metered response. Not here: frames (wire/websocket.py).
"""

from __future__ import annotations

import asyncio

from proxy.call import HeaderList, Outcome
from proxy.errors import BudgetUsedUp, ClientGone, UpstreamError
from proxy.pipeline.arrival import outcome_of
from proxy.pipeline.headers import own_headers, upstream_headers
from proxy.pipeline.live_attempt import new_attempt
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.settle import price_attempt, settle
from proxy.pipeline.state import AttemptState, CallState
from proxy.policy.faults import ErrorReply, classify_reply
from proxy.ports import ClientReply, ClientTunnel, UpstreamTunnel
from proxy.wire.credentials import without_protocol_key, without_query_key
from proxy.wire.error_bodies import read_error
from proxy.wire.headers import forward_reply_headers
from proxy.wire.reply import read_reply
from proxy.wire.retry_after import retry_after_s
from proxy.wire.urls import join
from proxy.wire.websocket import FrameReader, negotiated_deflate

MAX_REFUSAL_BYTES = 1 << 20
USAGE_MARK = b'"usage"'


async def run_tunnel(gate: Gate, runtime: Runtime, call: CallState, reply: ClientReply, tunnel: ClientTunnel) -> None:
    """Pass an upgrade on.

    The session is one call without usage; each response in it that tells its usage is a call of its own, in the same trace.
    """
    assert call.decision is not None
    step = call.decision.plan.steps[0]
    endpoint = runtime.endpoints[step.target]
    attempt = new_attempt(gate, call, endpoint, step.model)
    attempt.credential = runtime.credentials[step.target].current(attempt.start_ns)
    attempt.sent = True
    if call.reservation is not None:
        call.reservation.begin(attempt)
    url = join(endpoint.base, call.target_path)
    headers = upstream_headers(call, attempt, False)
    if not endpoint.target.passthrough:
        url, headers = without_query_key(url), without_protocol_key(headers)
    headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    call.billable = False
    try:
        upstream = await gate.dialer.dial(endpoint.target, url, headers)
        call.waited_ns += gate.clock.monotonic_ns() - attempt.start_ns
        attempt.status = call.status = upstream.status
        try:
            if upstream.status == 101:
                await _pump(gate, runtime, call, attempt, upstream, tunnel)
            else:
                await _refused(gate, runtime, call, attempt, upstream, reply)
        finally:
            upstream.close()
    except UpstreamError as error:
        attempt.fail(Outcome.FAILED, error.error_type, error.message)
        raise
    except (asyncio.CancelledError, ClientGone):
        attempt.outcome = Outcome.ABANDONED if attempt.status != 101 else Outcome.SUCCEEDED
        raise
    finally:
        attempt.end_ns = gate.clock.monotonic_ns()


async def _refused(
    gate: Gate, runtime: Runtime, call: CallState, attempt: AttemptState, upstream: UpstreamTunnel, reply: ClientReply
) -> None:
    body = await upstream.read_refusal(MAX_REFUSAL_BYTES)
    error = read_error(body)
    fault = classify_reply(ErrorReply(upstream.status, error.code, error.type, error.message) if error else ErrorReply(upstream.status))
    if fault is not None:  # the next session is opened with the next credential: clients open one again by themselves
        asked_s = retry_after_s(upstream.headers, gate.clock.time_ns() / 1e9)
        runtime.credentials[attempt.endpoint.target.name].failed(attempt.credential, fault, asked_s, gate.clock.monotonic_ns())
    outcome = outcome_of(upstream.status) if upstream.status >= 400 else Outcome.FAILED  # a final answer that is neither yes nor no
    attempt.fail(outcome, (error.code or error.type if error else None) or str(upstream.status), error.message if error else "")
    headers = [field for field in forward_reply_headers(upstream.headers) if field[0].lower() != b"content-length"]
    headers.append((b"content-length", b"%d" % len(body)))
    if not runtime.transparent:
        headers += own_headers(call, attempt)
    await reply.start(upstream.status, upstream.reason, headers)
    await reply.write(body)
    await reply.finish()


async def _pump(
    gate: Gate, runtime: Runtime, call: CallState, attempt: AttemptState, upstream: UpstreamTunnel, tunnel: ClientTunnel
) -> None:
    """Bytes both ways until one side ends. The side that stays is told by the same end."""
    headers: HeaderList = list(upstream.headers)  # the handshake's own fields are the answer: all of them go on
    call.overhead_ns = gate.clock.monotonic_ns() - call.request.started_ns - call.waited_ns
    if not runtime.transparent:
        headers += own_headers(call, attempt, None, call.overhead_ns)
    tunnel.open(upstream.status, upstream.reason, headers)
    attempt.outcome = Outcome.SUCCEEDED
    to_upstream = asyncio.get_running_loop().create_task(_client_to_upstream(tunnel, upstream))
    try:
        await _upstream_to_client(gate, runtime, call, upstream, tunnel)
    except UpstreamError as error:
        attempt.fail(Outcome.INTERRUPTED, error.error_type, error.message)
    finally:
        to_upstream.cancel()
        tunnel.close()


async def _client_to_upstream(tunnel: ClientTunnel, upstream: UpstreamTunnel) -> None:
    try:
        while data := await tunnel.read():
            await upstream.write(data)
    except UpstreamError:
        pass  # the other pump sees the same end, and reports it
    upstream.close()


async def _upstream_to_client(gate: Gate, runtime: Runtime, call: CallState, upstream: UpstreamTunnel, tunnel: ClientTunnel) -> None:
    frames = FrameReader(*negotiated_deflate(upstream.headers))
    began_ns = gate.clock.monotonic_ns()
    while data := await upstream.read():
        await tunnel.write(data)
        call.response_bytes += len(data)
        for message in frames.feed(data):
            if USAGE_MARK in message:
                began_ns = _settle_response(gate, runtime, call, message, began_ns)
        if call.reservation is not None and call.reservation.is_used_up:
            raise BudgetUsedUp("The session's budget is used up by the responses in it.")


def _settle_response(gate: Gate, runtime: Runtime, session: CallState, message: bytes, began_ns: int) -> int:
    """A `response.done` or `response.completed`: one metered call inside the session. Returns when the next one begins at the earliest."""
    facts = read_reply("realtime", 200, message, b"")
    now_ns = gate.clock.monotonic_ns()
    if facts.usage is None:
        return began_ns
    call = session.below(gate.random_bits)
    call.began_ns, call.waited_ns = began_ns, now_ns - began_ns
    call.status, call.outcome, call.response_bytes = 200, Outcome.SUCCEEDED, len(message)
    attempt = new_attempt(gate, call, session.attempts[0].endpoint, session.attempts[0].model)
    attempt.model = facts.response_model or session.attempts[0].model
    attempt.start_ns, attempt.end_ns = began_ns, now_ns
    attempt.outcome, attempt.status, attempt.facts, attempt.sent = Outcome.SUCCEEDED, 200, facts, True
    price_attempt(runtime, call, attempt, gate.clock)
    if session.reservation is not None:
        session.reservation.charge(call, attempt)
    settle(gate, runtime, call)
    return now_ns
