"""What the gate tells the observer about a call that is over, and how it is framed on the socketpair.

Here: the CallRecord and its parts, length-prefixed msgpack framing. Not here: sockets, spans, SQL.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from proxy.call import Cost, Outcome, Usage

CHUNK_GAP_BOUNDARIES_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Upper bounds of AttemptRecord.chunk_gaps, which has one count more: wire.md A3's boundaries of a duration."""

AttemptCause = Literal["hedge", "continuation"]
"""What an attempt was made for, if not to ask the next one of the plan: beside one that was slow, or to go on where a stream had broken."""

MIRROR_OF = "mirror of "
"""How the decision of a copied call begins; the id of the client's call comes next."""

FRAME_HEADER_BYTES = 4
MAX_FRAME_BYTES = 32 << 20


class RequestFacts(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a request asked for, as far as telemetry tells it. Absent fields are None. Source: wire.md A1."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    choice_count: int | None = None
    stop_sequences: list[str] | None = None
    reasoning_level: str | None = None
    output_type: str | None = None  # text | json | image | speech
    encoding_formats: list[str] | None = None
    dimensions: int | None = None
    conversation_id: str | None = None
    previous_response_id: str | None = None
    service_tier: str | None = None


class Uncounted(msgspec.Struct, gc=False, array_like=True):
    """The raw material of an attempt whose provider told no usage, for the observer to count with tiktoken."""

    request_body: bytes  # JSON as sent upstream; may be cut at the gate's cap
    request_bytes: int  # its whole length
    reply: bytes  # reply received: SSE or JSON bytes, content coding already removed; may be cut
    reply_bytes: int
    reply_is_stream: bool
    reply_text: str = ""  # output text already extracted from a part of the reply that was let go


class Content(msgspec.Struct, gc=False, array_like=True):
    """What was said in a call, where a rule asks for it: redacted and cut by the gate. JSON texts in the shapes of wire.md A4."""

    to: list[str]  # span | event | ledger
    input_messages: str | None = None  # JSON array of {role, parts, name?}
    output_messages: str | None = None  # JSON array of {role, parts, finish_reason}
    system_instructions: str | None = None  # JSON array of parts
    tool_definitions: str | None = None  # JSON array, as the client sent it


class AttemptRecord(msgspec.Struct, gc=False, array_like=True):
    """One try of one target."""

    number: int  # 1, 2, …
    span_id: str  # 16 hex digits
    target: str
    provider: str
    model: str  # as sent upstream; "" if the call named none
    server_address: str
    server_port: int
    start_ns: int  # Unix time
    end_ns: int
    outcome: Outcome
    status: int | None = None  # None: no reply head came
    first_chunk_ns: int | None = None  # Unix time of the first content (stream) or body byte
    error_type: str | None = None  # low cardinality: a provider's code, or our own class
    error_message: str | None = None  # at most 1 KiB
    response_id: str | None = None
    response_model: str | None = None
    finish_reasons: list[str] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None  # None: unknown, never 0
    unpriced: bool = False  # usage is known and no price is: counted
    uncounted: Uncounted | None = None
    url: str | None = None  # what was asked for, without its query and credentials
    last_chunk_ns: int | None = None  # Unix time of the last piece of a stream's content
    chunk_gaps: list[int] | None = None  # how many chunks came how long after the one before, by CHUNK_GAP_BOUNDARIES_S
    changes: str | None = None  # what rules changed in the request, e.g. "set temperature; drop logit_bias"
    asked: RequestFacts | None = None  # what the request said after that; None: as the call's facts
    cause: AttemptCause | None = None
    seam_chars: int | None = None  # of a continuation: how much text the client had when it was asked
    opened_breaker: bool = False  # its failure opened its target's breaker
    recovery_ns: int | None = None  # its success closed the breaker, this long after it had opened
    cut_by: str | None = None  # the budget that ended its stream: what was held for it was used up


class PlanRecord(msgspec.Struct, gc=False, array_like=True):
    """Whom a call was to ask, first to last, where there was a choice. Each entry: target, model sent in place of the client's, why."""

    strategy: str
    steps: list[tuple[str, str | None, str]]
    dropped: list[tuple[str, str | None, str]]
    last_resort: bool = False


class ShadowRecord(msgspec.Struct, gc=False, array_like=True):
    """What a route of mode shadow would have done with a call."""

    route: str
    decision: str  # compact, as CallRecord.decision
    plan: PlanRecord
    differs: bool  # it would have asked another target first, or for another model


class BudgetWarning(msgspec.Struct, gc=False, array_like=True):
    """A call took a budget to a share of its limit that `warn_at` names."""

    budget: str
    scope: str  # e.g. tenant=acme
    unit: str  # usd | tokens | requests
    share: float  # 0.8 is 80 %


class CallRecord(msgspec.Struct, gc=False, array_like=True):
    """One client request and all that happened for it. Written exactly once, by settle."""

    call_id: str
    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits: the SERVER span
    parent_span_id: str | None
    trace_state: str | None
    sampled: bool
    start_ns: int  # Unix time
    end_ns: int
    method: str
    path: str  # without query
    http_route: str  # template of low cardinality, e.g. /v1/responses/{id}
    operation: str  # gen_ai.operation.name, or a name of wire.md A2's custom ones; "" if none fits
    api_type: str  # openai.api.type: chat_completions | responses | ""
    scheme: str
    server_address: str
    server_port: int
    client_address: str
    protocol_version: str  # 1.0 | 1.1
    user_agent: str | None
    outcome: Outcome
    status: int | None  # what the client was sent; None: nothing was
    error_type: str | None = None
    error_message: str | None = None
    route: str | None = None
    requested_model: str | None = None
    stream: bool = False
    billable: bool = True  # False: a read such as GET /v1/models or GET /v1/responses/{id}, whose usage is not billed
    first_chunk_ns: int | None = None
    overhead_ns: int = 0  # the gate's own share of the duration
    request_bytes: int = 0
    response_bytes: int = 0
    attempts: list[AttemptRecord] = []
    facts: RequestFacts | None = None
    labels: dict[str, str] = {}  # tenant, user, app, task, workflow, step
    tags: dict[str, str] = {}
    attributes: dict[str, str] = {}  # of `telemetry.attributes`, by name
    decision: str | None = None  # compact: what was decided and by which rule
    rule: str | None = None  # the rule that refused the call
    overhead_before_ns: int = 0  # the part of overhead_ns before an upstream was asked
    cache: str | None = None  # hit | miss | bypass; None: no rule of the cache applies
    cache_age_s: float | None = None
    saved_nusd: int | None = None  # what a hit of the cache avoided
    budget_left_nusd: int | None = None  # of the tightest budget that applies
    content: Content | None = None
    plan: PlanRecord | None = None  # None: there was one target, and nothing to choose
    shadow: ShadowRecord | None = None
    experiment: str | None = None  # its name, where the route has one
    arm: str | None = None  # and the arm that the call is in
    answered_by: int | None = None  # the attempt whose reply was passed on, where that isn't the last; by its number
    mirror_of: str | None = None  # the id of the client's call that this one is a copy of: nobody waited for it
    warnings: list[BudgetWarning] = []
    shadow_refusals: list[str] = []  # budgets and limits that had too little left and let the call through: in shadow, or `allow`


def decisive_attempt(record: CallRecord) -> AttemptRecord | None:
    """The attempt that says how the call went: the one whose reply was passed on, else the last."""
    if not record.attempts:
        return None
    return record.attempts[-1 if record.answered_by is None else record.answered_by - 1]


Further = Literal["retry", "failover", "hedge", "continuation"]


def further_of(before: AttemptRecord, attempt: AttemptRecord) -> Further:
    """What an attempt is to the one before it."""
    if attempt.cause == "continuation":
        return "continuation"
    if attempt.target == before.target:
        return "retry"
    return attempt.cause or "failover"


def facts_as_sent(record: CallRecord, attempt: AttemptRecord) -> RequestFacts | None:
    """What an attempt asked its target for."""
    return record.facts if attempt.asked is None else attempt.asked


class GateReport(msgspec.Struct, gc=False):
    """How the gate is doing at a moment: what no record of a call tells. A map in msgpack, where a CallRecord is an array."""

    in_flight: int = 0
    dropped: dict[str, int] = {}  # records that never reached the observer, by cause, since start
    breakers: dict[str, str] = {}  # by target: closed | open | half_open
    budgets: dict[str, float] = {}  # by rule: used / limit of the scope that is fullest
    unmirrored: dict[str, int] = {}  # copies of calls that weren't sent, by cause, since start
    forecasts: dict[str, float] = {}  # by rule: what it will have come to at the end of its window, the same way


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CallRecord)
_gate_report_decoder = msgspec.msgpack.Decoder(GateReport)
_SMALL_MAP = range(0x80, 0x90)  # how msgpack begins a map of at most 15 members, and nothing else


def framed(payload: bytes) -> bytes:
    """A payload as one frame: 4 bytes of big-endian length before it."""
    return len(payload).to_bytes(FRAME_HEADER_BYTES, "big") + payload


def encode_record(record: CallRecord) -> bytes:
    """The record as one frame: 4 bytes of big-endian length, then msgpack."""
    return framed(_encoder.encode(record))


def decode_record(payload: bytes | memoryview) -> CallRecord:
    """The record in a frame's payload. Raises msgspec.DecodeError."""
    return _decoder.decode(payload)


def encode_gate_report(report: GateReport) -> bytes:
    """The report as one frame, among those of records."""
    return framed(_encoder.encode(report))


def decode_frame(payload: bytes | memoryview) -> CallRecord | GateReport:
    """What the gate sent in a frame. Raises msgspec.DecodeError."""
    if payload and payload[0] in _SMALL_MAP:
        return _gate_report_decoder.decode(payload)
    return decode_record(payload)


class ObserverReport(msgspec.Struct, gc=False):
    """What the observer tells the gate, as a frame of msgpack: how far it got, and how it is doing."""

    acknowledged: int  # records of this connection that are safe in the ledger (or counted as lost)
    counters: dict[str, int] = {}  # exported_spans, export_failures, ledger_rows, ledger_failures, dropped_<cause>, …


def encode_report(report: ObserverReport) -> bytes:
    """The report as one frame."""
    return framed(_encoder.encode(report))


class FrameReader:
    """Cuts a byte stream into frame payloads. Feed it what arrived; it yields what is whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip_bytes = 0  # what is still to come of a frame too large to keep

    def feed(self, data: bytes) -> list[bytes]:
        """Payloads completed by `data`, oldest first. A frame over MAX_FRAME_BYTES is let go unread and yields b""."""
        buffer = self._buffer
        buffer += data[self._skip_bytes :]
        self._skip_bytes = max(0, self._skip_bytes - len(data))
        payloads: list[bytes] = []
        start, end = 0, len(buffer)
        while end - start >= FRAME_HEADER_BYTES:
            size = int.from_bytes(buffer[start : start + FRAME_HEADER_BYTES], "big")
            if size > MAX_FRAME_BYTES:
                payloads.append(b"")
                arrived = min(size, end - start - FRAME_HEADER_BYTES)
                self._skip_bytes = size - arrived
                start += FRAME_HEADER_BYTES + arrived
                continue
            if end - start < FRAME_HEADER_BYTES + size:
                break
            start += FRAME_HEADER_BYTES
            payloads.append(bytes(buffer[start : start + size]))
            start += size
        if start:
            del buffer[:start]
        return payloads
