"""The end of a call: usage becomes cost, and everything becomes one record.

Here: pricing an attempt, building the CallRecord. Not here: reading usage off the wire (wire/), prices (policy/), spans (observer/).
"""

from __future__ import annotations

from proxy.call import Outcome, Usage
from proxy.pipeline.content import record_content
from proxy.pipeline.explain import plan_record, shadow_record
from proxy.pipeline.redact import credentials_of, masked, without_credentials
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.state import MAX_ERROR_CHARS, AttemptState, CallState
from proxy.policy.faults import Fault
from proxy.policy.recording import attribute_values
from proxy.ports import Clock
from proxy.records import MIRROR_OF, AttemptRecord, CallRecord, Uncounted
from proxy.wire.urls import join

COUNTABLE_KINDS = frozenset(("chat", "completions", "responses", "embeddings", "messages"))
COUNTABLE_OUTCOMES = (Outcome.SUCCEEDED, Outcome.INTERRUPTED, Outcome.ABANDONED)
UNHEARD_FAULTS = (Fault.TIMEOUT, Fault.TRUNCATED)
FIRST_ERROR_STATUS = 400
MAX_UNCOUNTED_BYTES = 1 << 20
NO_USAGE = Usage()


def may_be_billed(attempt: AttemptState) -> bool:
    """Whether the provider may have generated something: what was too slow, or broke off, it may have generated for nobody."""
    if attempt.fault in UNHEARD_FAULTS:
        return attempt.status is None or attempt.status < FIRST_ERROR_STATUS
    return attempt.outcome in COUNTABLE_OUTCOMES


def price_attempt(runtime: Runtime, call: CallState, attempt: AttemptState, clock: Clock) -> None:
    """Set the attempt's usage and cost from what its reply said. Unknown stays None."""
    if not call.billable or attempt.usage is not None or attempt.cost is not None:
        return
    facts, target = attempt.facts, attempt.endpoint.target
    usage = attempt.usage = facts.usage if facts else None
    is_paid_without_usage = target.price is not None and target.price.per_million is None  # by time or by request
    if usage is None and not (is_paid_without_usage and attempt.sent and may_be_billed(attempt)):
        return
    now_ns = attempt.end_ns or clock.monotonic_ns()
    attempt.cost = runtime.prices.cost(
        target,
        attempt.model or None,
        facts.response_model if facts else None,
        usage or NO_USAGE,
        unix_ns(call, attempt.start_ns) / 1e9,
        (now_ns - attempt.start_ns) / 1e9,
        facts.service_tier if facts else None,
    )
    attempt.unpriced = attempt.cost is None


def settle(gate: Gate, runtime: Runtime, call: CallState) -> None:
    """Price what isn't priced yet, settle what is held, and hand the record on. Runs exactly once per call."""
    gate.calls += 1
    for attempt in call.attempts:
        if attempt.facts is None and attempt.reader is not None:
            attempt.facts = attempt.reader.result()
        _bill_background(gate, call, attempt)
        price_attempt(runtime, call, attempt, gate.clock)
    if call.reservation is not None:
        call.reservation.end()
    last = call.decisive
    if last is not None and call.error_type is None:
        if call.outcome is not Outcome.ABANDONED:
            call.outcome = last.outcome
        call.error_type, call.error_message = last.error_type, last.error_message
    gate.recorder.record(_record(gate, runtime, call))
    call.reservation = None  # each knows the other: only the garbage collector would free them, and all that they hold


def _bill_background(gate: Gate, call: CallState, attempt: AttemptState) -> None:
    """A background Response tells its usage to a later GET: that one bills it, once."""
    facts = attempt.facts
    if facts is None or not facts.response_id:
        return
    if facts.background_pending:
        if call.billable:
            gate.unbilled_responses.add(facts.response_id)
    elif not call.billable and facts.usage is not None and call.api.kind == "responses":
        call.billable = gate.unbilled_responses.discard(facts.response_id)


def unix_ns(call: CallState, monotonic_ns: int) -> int:
    """A monotonic time of this call as Unix time; the clock is read once per call, so it can't jump inside one."""
    return call.request.started_unix_ns + monotonic_ns - call.request.started_ns


def _record(gate: Gate, runtime: Runtime, call: CallState) -> CallRecord:
    request, fields = call.request, call.fields
    now_ns = gate.clock.monotonic_ns()
    experiment = call.decision.experiment if call.decision is not None else None
    overhead_ns = call.overhead_ns or now_ns - call.began_ns - call.waited_ns
    return CallRecord(
        call_id=call.call_id,
        trace_id=call.trace_id,
        span_id=call.span_id,
        parent_span_id=call.parent_span_id,
        trace_state=call.trace_state,
        sampled=call.sampled,
        start_ns=unix_ns(call, call.began_ns),
        end_ns=unix_ns(call, now_ns),
        method=request.method,
        path=call.path,
        http_route=call.api.route,
        operation=call.api.operation,
        api_type=call.api.api_type,
        scheme=request.scheme,
        server_address=request.server_address,
        server_port=request.server_port,
        client_address=request.client_address,
        protocol_version=request.protocol_version,
        user_agent=call.user_agent(),
        outcome=call.outcome,
        status=call.status,
        error_type=call.error_type,
        error_message=_told(call, call.error_message),
        route=call.decision.route if call.decision else None,
        requested_model=call.model,
        stream=fields.stream if fields else False,
        billable=call.billable,
        first_chunk_ns=unix_ns(call, call.first_chunk_ns) if call.first_chunk_ns else None,
        overhead_ns=overhead_ns,
        request_bytes=call.request_bytes,
        response_bytes=call.response_bytes,
        attempts=[_attempt_record(call, attempt) for attempt in call.attempts],
        facts=fields.facts if fields else None,
        labels=call.labels,
        tags=_without_credentials(call, call.tags),
        attributes=_without_credentials(call, _attributes(runtime, call)) if runtime.attributes else {},
        decision=_decision(call),
        rule=call.rule,
        overhead_before_ns=min(overhead_ns, call.attempts[0].start_ns - call.began_ns) if call.attempts else overhead_ns,
        budget_left_nusd=call.reservation.remaining_nusd() if call.reservation is not None else None,
        content=record_content(runtime, call) if runtime.captures else None,
        plan=plan_record(call.decision) if call.decision is not None else None,
        shadow=shadow_record(call.decision, call.model) if call.decision is not None else None,
        experiment=experiment.name if experiment else None,
        arm=experiment.arm if experiment else None,
        answered_by=_answered_by(call),
        mirror_of=call.mirror_of,
        warnings=call.warnings,
        shadow_refusals=call.shadow_refusals,
    )


def _decision(call: CallState) -> str | None:
    if call.decision is None:
        return None
    told = call.decision.told(call.model)
    return told if call.mirror_of is None else f"{MIRROR_OF}{call.mirror_of}: {told}"


def _answered_by(call: CallState) -> int | None:
    return None if call.answered_by is None or call.answered_by is call.attempts[-1] else call.answered_by.number


def _attributes(runtime: Runtime, call: CallState) -> dict[str, str]:
    return attribute_values(runtime.attributes, call.headers, call.fields.metadata if call.fields else {})


def _without_credentials(call: CallState, values: dict[str, str]) -> dict[str, str]:
    """What a client said of its call, with each credential masked."""
    secrets = credentials_of(call) if values else []
    return {name: masked(value, secrets) for name, value in values.items()}


def _told(call: CallState, message: str | None) -> str | None:
    return without_credentials(call, message)[:MAX_ERROR_CHARS] if message else None


def _attempt_record(call: CallState, attempt: AttemptState) -> AttemptRecord:
    facts, endpoint = attempt.facts, attempt.endpoint
    return AttemptRecord(
        number=attempt.number,
        span_id=attempt.span_id,
        target=endpoint.target.name,
        provider=endpoint.target.provider,
        model=attempt.model,
        server_address=endpoint.base.host,
        server_port=endpoint.base.port,
        start_ns=unix_ns(call, attempt.start_ns),
        end_ns=unix_ns(call, attempt.end_ns),
        outcome=attempt.outcome,
        status=attempt.status,
        first_chunk_ns=unix_ns(call, attempt.first_chunk_ns) if attempt.first_chunk_ns else None,
        error_type=attempt.error_type,
        error_message=_told(call, attempt.error_message),
        response_id=facts.response_id if facts else None,
        response_model=facts.response_model if facts else None,
        finish_reasons=facts.finish_reasons if facts else None,
        service_tier=facts.service_tier if facts else None,
        system_fingerprint=facts.system_fingerprint if facts else None,
        usage=attempt.usage,
        cost=attempt.cost,
        unpriced=attempt.unpriced,
        uncounted=_uncounted(call, attempt),
        url=None if call.api.operation else join(endpoint.base, call.path),
        last_chunk_ns=unix_ns(call, attempt.last_chunk_ns) if attempt.last_chunk_ns else None,
        chunk_gaps=attempt.chunk_gaps,
        changes=attempt.changes or None,
        asked=attempt.fields.facts if attempt.changes and attempt.fields else None,
        cause=attempt.cause,
        seam_chars=attempt.seam_chars,
        opened_breaker=attempt.opened_breaker,
        recovery_ns=attempt.recovery_ns,
        cut_by=attempt.cut_by,
    )


def is_half_told(call: CallState, attempt: AttemptState) -> bool:
    """Anthropic tells input first and output last: of a message that was cut in between, its usage has only the former."""
    facts = attempt.facts
    has_end = facts is not None and facts.ended and attempt.cut_by is None
    return call.api.kind == "messages" and attempt.reader is not None and facts is not None and not has_end


def _uncounted(call: CallState, attempt: AttemptState) -> Uncounted | None:
    """What the observer needs to count tokens itself; None where the provider counted, or nothing was generated."""
    facts = attempt.facts
    is_told = attempt.usage is not None and not is_half_told(call, attempt)
    if attempt.body is None or not attempt.sent or not call.billable or is_told:
        return None
    if attempt.outcome is Outcome.SUCCEEDED and (facts is None or not facts.ended):
        return None  # it came whole and can't be read: its output is unknown, not none
    if call.api.kind not in COUNTABLE_KINDS or not may_be_billed(attempt) or (facts is not None and facts.background_pending):
        return None
    text, reply = attempt.reader.uncounted() if attempt.reader is not None else ("", attempt.capture)
    body = (attempt.body if attempt.body is not call.body else call.plain) or b""
    return Uncounted(body[:MAX_UNCOUNTED_BYTES], len(body), reply[:MAX_UNCOUNTED_BYTES], len(reply), attempt.reader is not None, text)
