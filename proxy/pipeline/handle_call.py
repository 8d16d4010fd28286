"""The path of one call, top to bottom: the only place where its order exists (docs/life-of-a-call.md).

Here: handle_call and its first steps. Not here: how an attempt goes (attempts.py), how bytes flow (relay.py), what it cost (settle.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from urllib.parse import parse_qs

import msgspec

from proxy.call import Outcome
from proxy.errors import AllTargetsFailed, BodyTooLarge, ClientGone, InvalidField, InvalidJson, NoRoute, PosternError, UnknownPrice
from proxy.pipeline.attempts import run_attempts
from proxy.pipeline.explain import asks_to_explain, explain_call
from proxy.pipeline.identify import check_allowed, identify, read_labels
from proxy.pipeline.known import Knowledge, may_be_paid
from proxy.pipeline.mirror import mirror_call
from proxy.pipeline.refuse import send_error
from proxy.pipeline.request import ClientRequest
from proxy.pipeline.reserve import admit, know_budgets
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.settle import settle
from proxy.pipeline.state import CallState
from proxy.pipeline.tunnel import run_tunnel
from proxy.policy.plan import NO_PRICE, Dropped
from proxy.policy.routing import Decide, PlanFacts, RouteDecision
from proxy.ports import ClientReply, ClientTunnel
from proxy.wire.content_coding import decoder_for, is_identity
from proxy.wire.endpoints import endpoint_of, model_in_path
from proxy.wire.headers import parse_traceparent
from proxy.wire.json_text import clean
from proxy.wire.request import read_request
from proxy.wire.urls import origin_form

MAX_TAGS = 16
MULTIPART = b"multipart/"
ENDED_FROM_OUTSIDE = (Outcome.SUCCEEDED, Outcome.INTERRUPTED, Outcome.ABANDONED)
"""What becomes of an attempt during which the client leaves, or the drain is over."""


async def handle_call(gate: Gate, request: ClientRequest, reply: ClientReply, tunnel: ClientTunnel) -> None:
    """One client request from its head to its record; settle runs exactly once, whatever happens."""
    runtime = gate.runtime
    call = accept(gate, runtime, request)
    gate.in_flight += 1
    try:
        identify(gate, runtime, call)
        try:
            await understand(call, runtime)
        finally:
            read_labels(runtime, call)
        await know_budgets(gate, runtime, call)
        if asks_to_explain(call.headers):
            await explain_call(
                runtime, call, reply, partial(route, gate, call, runtime), partial(admit, gate, runtime, call, may_wait=False)
            )
            return
        route(gate, call, runtime, runtime.router.decide)
        await admit(gate, runtime, call)
        if request.upgrade:
            await run_tunnel(gate, runtime, call, reply, tunnel)
        else:
            mirror_call(gate, runtime, call)
            await run_attempts(gate, runtime, call, reply)
    except PosternError as error:
        await send_error(call, reply, error, runtime)
    except ClientGone:
        call.outcome = _outcome_of_leaving(gate, call)
    except asyncio.CancelledError:
        call.outcome = _outcome_of_leaving(gate, call)
        raise
    except Exception as error:
        call.error_type, call.error_message = "internal_error", type(error).__name__
        raise
    finally:
        gate.in_flight -= 1
        settle(gate, runtime, call)


def _outcome_of_leaving(gate: Gate, call: CallState) -> Outcome:
    """Of a call that was ended from outside: as its last attempt, if that was under way; before or between attempts the client has left."""
    last = call.decisive.outcome if call.decisive else Outcome.ABANDONED
    return last if last in ENDED_FROM_OUTSIDE or gate.stopping else Outcome.ABANDONED


def accept(gate: Gate, runtime: Runtime, request: ClientRequest) -> CallState:
    """Ids, the caller's trace context where it sent one, and whether the call is sampled."""
    bits = gate.random_bits
    call_id = f"{request.started_unix_ns // 1_000_000:012x}{bits(80):020x}"  # sorts by time
    call = CallState(request, call_id, "", f"{bits(64) or 1:016x}")
    call.path = clean(request.target.partition("?")[0])
    call.api = endpoint_of(request.method, call.path)
    parent = parse_traceparent(call.headers.get(b"traceparent", b"")) if runtime.reads_context else None
    if parent:
        call.trace_id, call.parent_span_id, parent_sampled = parent
        call.trace_state = call.headers.get(b"tracestate", b"").decode("latin-1") or None
        call.sampled = runtime.samples(call.trace_id, parent_sampled)
    else:
        call.trace_id = f"{bits(128) or 1:032x}"
        call.sampled = runtime.samples(call.trace_id, None)
    tags = call.headers.get(b"x-postern-tags")
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
    content_type = call.headers.get(b"content-type", b"").lower()
    if not call.api.json_body or content_type.startswith(MULTIPART):
        return
    call.body = call.plain = await request.body.read(runtime.max_body_bytes)
    call.request_bytes = len(call.body)
    coding = call.headers.get(b"content-encoding", b"")
    if not is_identity(coding):
        decoder = decoder_for(coding)
        if decoder is None:
            return
        call.plain = decoder.feed(call.body)
    if not content_type or b"json" in content_type:
        call.fields = read_request(call.plain, call.api.kind)
    elif call.plain.lstrip().startswith(b"{"):  # many servers take it for JSON, whatever it is said to be, as curl's form is
        with contextlib.suppress(InvalidJson, InvalidField):
            call.fields = read_request(call.plain, call.api.kind)


def route(gate: Gate, call: CallState, runtime: Runtime, decide: Decide) -> None:
    """The first route that matches, and the plan it makes.

    Raises ModelNotAllowed, RouteNotAllowed, NoRoute, AllTargetsFailed, UnknownPrice.
    """
    request, fields = call.request, call.fields
    model = call.model = (
        (fields.model if fields else None) or model_in_path(call.path) or (_model_in_query(call) if request.upgrade else None)
    )
    knowledge = Knowledge(gate, runtime, call)
    plan_facts = PlanFacts(knowledge.known, gate.chance, knowledge.needs, knowledge.sticky_key)
    facts = call.facts = knowledge.route_facts()
    decision = call.decision = decide(facts, plan_facts)
    if call.key is not None:
        check_allowed(call, call.key)
    if decision is None:
        what = f"model '{model}'" if model else f"{request.method} {call.path}"
        raise NoRoute(
            f"No route of Postern's configuration matches {what[:200]}. Add one under `routes:`, or ask for a model that has one."
        )
    if not decision.plan.steps:
        told = "; ".join(f"{drop.target}: {drop.why}" for drop in decision.plan.dropped)
        raise AllTargetsFailed(f"No target of route '{decision.route}' can take this call ({told}).", param=decision.route, status=503)
    if runtime.refuse_unpriced and call.api.billable and model:
        call.decision = _priced(runtime, call, decision)
        if not call.decision.plan.steps:
            raise UnknownPrice(
                f"Model '{model[:200]}' has no known price at target '{decision.plan.steps[0].target}', and `prices.on_unknown` is "
                "`refuse`. Give it a price under `prices.overrides`.",
                param=decision.route,
            )


def _priced(runtime: Runtime, call: CallState, decision: RouteDecision) -> RouteDecision:
    """The decision, and that of a route in shadow, without the steps whose price isn't known."""
    plan = decision.plan
    if decision.shadow is not None:
        decision = msgspec.structs.replace(decision, shadow=_priced(runtime, call, decision.shadow))
    steps = tuple(step for step in plan.steps if may_be_paid(runtime, call, step))
    if len(steps) == len(plan.steps):
        return decision
    unpriced = tuple(Dropped(step.target, step.model, NO_PRICE) for step in plan.steps if step not in steps)
    return msgspec.structs.replace(decision, plan=msgspec.structs.replace(plan, steps=steps, dropped=plan.dropped + unpriced))


def _model_in_query(call: CallState) -> str | None:
    """A Realtime handshake has no body: its model stands in the query."""
    values = parse_qs(call.target_path.partition("?")[2]).get("model")
    return values[0] if values else None
