"""A call that only asks what would happen to it: `x-postern-explain: 1`.

Here: who asks, the answer. Not here: the decision and its reasons (policy/), which are those of any other call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from proxy.call import NUSD_PER_USD, HeaderList, Outcome
from proxy.errors import BadRequest, PosternError, RequestNotShapeable
from proxy.pipeline.headers import own_headers
from proxy.pipeline.runtime import Runtime
from proxy.pipeline.state import CallState
from proxy.pipeline.upstream_request import upstream_request
from proxy.policy.budgets import Draw
from proxy.policy.explain import Account, Listener, Refusal, asks_another_first, explain, reasons, with_changes
from proxy.policy.plan import Group
from proxy.policy.routing import Decide, RouteDecision
from proxy.ports import ClientReply
from proxy.records import PlanRecord, ShadowRecord
from proxy.spending import Standing

EXPLAIN_HEADER = b"x-postern-explain"
_ANSWERS = {b"": False, b"0": False, b"false": False, b"1": True, b"true": True}


def asks_to_explain(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a call is only to be explained. Raises BadRequest where that isn't clear: to send it might be what wasn't wanted."""
    value = headers.get(EXPLAIN_HEADER)
    if value is None:
        return False
    asks = _ANSWERS.get(value.strip().lower())
    if asks is None:
        raise BadRequest("The field x-postern-explain is neither 1 nor 0. With 1, the answer is what would happen to this call.")
    return asks


async def explain_call(
    runtime: Runtime, call: CallState, reply: ClientReply, route: Callable[[Decide], None], admit: Callable[[], Awaitable[None]]
) -> None:
    """Route and admit the call as any other, and answer with the decision as JSON instead of acting on it. Raises ClientGone."""
    listener, refusal = Listener(runtime.router.decide), None
    changes: list[str] = []
    try:
        route(listener.decide)
        await admit()
        changes = _changes(runtime, call)
    except PosternError as error:
        refusal = Refusal(error.status, error.code, error.message, error.param)
    decision = call.decision
    if decision is not None and call.request.upgrade:  # a tunnel asks the first target alone (tunnel.py)
        decision = _without_failover(decision)
    told = explain(runtime.config.routes, listener, decision, refusal, call.may_be_copied)
    told = msgspec.structs.replace(with_changes(told, changes), budgets=_accounts(call))
    body = msgspec.json.encode(told)
    headers: HeaderList = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if not runtime.transparent:
        headers += own_headers(call, None)
    call.billable = False
    await reply.start(200, "", headers)
    call.status = 200
    await reply.write(body)
    await reply.finish()
    call.outcome, call.response_bytes = Outcome.SUCCEEDED, len(body)


def _accounts(call: CallState) -> tuple[Account, ...]:
    return () if call.reservation is None else tuple(_account(draw, standing) for draw, standing in call.reservation.standings())


def _account(draw: Draw, standing: Standing) -> Account:
    """A unit of USD is told in USD."""
    whole = NUSD_PER_USD if draw.unit == "usd" else 1
    limit, spent, held, asks = (amount / whole for amount in (draw.line.limit, standing.spent, standing.held, draw.line.amount))
    return Account(draw.rule.name, draw.unit, draw.scope, limit, spent, held, asks, draw.rule.is_shadow)


def _without_failover(decision: RouteDecision) -> RouteDecision:
    shadow = None if decision.shadow is None else _without_failover(decision.shadow)
    return msgspec.structs.replace(decision, failover=None, shadow=shadow)


def _changes(runtime: Runtime, call: CallState) -> list[str]:
    """What rules change in the request for each step. Raises RequestNotShapeable where the first one couldn't be asked."""
    changes: list[str] = []
    for step in call.decision.plan.steps if call.decision is not None else ():
        try:
            changes.append(upstream_request(call, runtime.request_rules, step).changes)
        except RequestNotShapeable as error:
            if not changes:
                raise
            changes.append(error.message)
    return changes


def plan_record(decision: RouteDecision) -> PlanRecord | None:
    """The plan for the ledger; None where nothing was chosen, so that a plain call costs nothing."""
    plan, group = decision.plan, decision.group
    tells_more = plan.dropped or decision.shadow is not None or decision.experiment is not None
    if group is None or (len(plan.steps) == 1 and not tells_more):
        return None
    return _whole_plan(decision, group)


def shadow_record(decision: RouteDecision, requested_model: str | None) -> ShadowRecord | None:
    """What a route in shadow would have done, for spans, metrics and the ledger."""
    shadow = decision.shadow
    if shadow is None or shadow.group is None:
        return None
    differs = asks_another_first(shadow.plan, decision.plan)
    return ShadowRecord(shadow.route, shadow.told(requested_model), _whole_plan(shadow, shadow.group), differs)


def _whole_plan(decision: RouteDecision, group: Group) -> PlanRecord:
    plan = decision.plan
    steps = [(step.target, step.model, why) for step, why in zip(plan.steps, reasons(decision), strict=True)]
    return PlanRecord(group.strategy, steps, [(drop.target, drop.model, drop.why) for drop in plan.dropped], plan.last_resort)
