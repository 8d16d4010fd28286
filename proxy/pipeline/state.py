"""One call while it lives: what was learnt so far, on the way to its record.

Here: mutable state of a call and its attempts. Not here: I/O, decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from proxy.call import Cost, Outcome, Usage
from proxy.pipeline.capture import Kept
from proxy.pipeline.cut import OutputLimit
from proxy.pipeline.request import ClientRequest
from proxy.pipeline.runtime import Endpoint
from proxy.policy.budgets import Draw
from proxy.policy.conditions import RouteFacts
from proxy.policy.faults import Fault
from proxy.policy.keys import VirtualKey
from proxy.policy.routing import RouteDecision
from proxy.records import AttemptCause, BudgetWarning
from proxy.spending import Hold
from proxy.wire.endpoints import Endpoint as ApiEndpoint
from proxy.wire.http1 import first_values
from proxy.wire.reply import ReplyFacts
from proxy.wire.request import RequestFields
from proxy.wire.stream_reader import StreamReader

if TYPE_CHECKING:
    from proxy.pipeline.reserve import Reservation

MAX_ERROR_CHARS = 1024
MAX_KEPT_ERROR_CHARS = 8 * MAX_ERROR_CHARS  # cut to the former only after credentials were masked: a cut key isn't recognised
MAX_USER_AGENT_CHARS = 256


Booking = tuple[Draw, Hold]
"""What is held of a budget or limit, and the rule that asks for it."""


class AttemptState(msgspec.Struct, eq=False):
    """One try of one target."""

    number: int
    span_id: str
    endpoint: Endpoint
    model: str
    start_ns: int  # monotonic
    credential: int = 0  # the position of the one it is made with, among its target's
    cause: AttemptCause | None = None  # what it is made for, if that isn't to ask the next one of the plan
    end_ns: int = 0
    first_chunk_ns: int = 0
    last_chunk_ns: int = 0
    chunk_gaps: list[int] | None = None  # of a stream's content: see AttemptRecord
    outcome: Outcome = Outcome.FAILED
    fault: Fault | None = None  # of what went wrong, if the target had to do with it
    status: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    facts: ReplyFacts | None = None
    reader: StreamReader | None = None
    capture: bytes = b""  # reply body of a call that is not a stream, as far as it was kept
    kept: Kept | None = None  # a stream's events, where their content is recorded
    body: bytes | None = None  # the JSON sent upstream
    fields: RequestFields | None = None  # what it says
    changes: str = ""  # what rules changed in it, in words
    sent: bool = False  # whether the upstream may have seen the request
    usage: Usage | None = None
    cost: Cost | None = None
    unpriced: bool = False  # there is usage and no price
    seam_chars: int | None = None  # of a continuation: how much text the client had when it was asked
    opened_breaker: bool = False  # its failure did
    recovery_ns: int | None = None  # its success closed the breaker, this long after it had opened
    bookings: list[Booking] = []  # what is held for it
    output_limit: OutputLimit | None = None  # how much output that is enough for, where it may have more
    cut_by: str | None = None  # the budget that ended its stream

    def __repr__(self) -> str:
        return f"AttemptState({self.number}, {self.endpoint!r}, {self.model!r})"  # never what is sent, nor what comes back

    def fail(self, outcome: Outcome, error_type: str, message: str | None, fault: Fault | None = None) -> None:
        """How the attempt ended, unless it went well; `fault` if the target had to do with it."""
        self.outcome = outcome
        self.fault = fault
        self.error_type = error_type
        self.error_message = message[:MAX_KEPT_ERROR_CHARS] if message else None


class CallState(msgspec.Struct, eq=False):
    """One client request and all that happens for it."""

    request: ClientRequest
    call_id: str
    trace_id: str
    span_id: str
    headers: dict[bytes, bytes] = {}  # of the client, by name in lower case: the first value of each
    began_ns: int = 0  # monotonic
    parent_span_id: str | None = None
    trace_state: str | None = None
    sampled: bool = True
    path: str = ""
    target_path: str = ""  # path and query, in origin form
    api: ApiEndpoint = None  # type: ignore[assignment]  # set by accept, before anything can fail
    fields: RequestFields | None = None
    model: str | None = None  # what the client asked for, in its body, its path, or a handshake's query
    body: bytes | None = None  # as the client sent it
    plain: bytes | None = None  # the body without its content coding, where that can be undone
    is_upload_begun: bool = False  # a part of the client's upload was passed on: it can't be sent a second time
    body_error: Exception | None = None  # what broke the client's upload while it was passed on
    request_bytes: int = 0
    response_bytes: int = 0
    decision: RouteDecision | None = None
    attempts: list[AttemptState] = []
    answered_by: AttemptState | None = None  # whose reply was passed on; with a hedge it needn't be the last one that was made
    mirror_of: str | None = None  # the id of the call that this one copies
    status: int | None = None
    outcome: Outcome = Outcome.FAILED
    error_type: str | None = None
    error_message: str | None = None
    rule: str | None = None  # the rule that refused the call
    first_chunk_ns: int = 0
    billable: bool = True
    overhead_ns: int = 0  # our own share until the reply's head went out
    waited_ns: int = 0  # spent waiting for the upstream before its reply's head
    tags: dict[str, str] = {}
    facts: RouteFacts | None = None  # what rules ask about the call
    reservation: Reservation | None = None  # None: it is under no budget and no limit
    warnings: list[BudgetWarning] = []
    shadow_refusals: list[str] = []  # rules in shadow that would have refused it
    labels: dict[str, str] = {}  # see call.LABELS
    key: VirtualKey | None = None

    def __repr__(self) -> str:
        return f"CallState({self.call_id!r}, {self.request!r})"  # never the headers, nor the body

    def __post_init__(self) -> None:
        self.headers = first_values(self.request.headers)
        self.began_ns = self.request.started_ns

    def below(self, random_bits: Callable[[int], int]) -> CallState:
        """A call that this one brings about: of the same request and trace, below its span, with ids of its own."""
        call = CallState(self.request, f"{self.call_id[:12]}{random_bits(80):020x}", self.trace_id, f"{random_bits(64) or 1:016x}")
        call.parent_span_id, call.sampled, call.trace_state = self.span_id, self.sampled, self.trace_state
        call.path, call.api, call.decision, call.tags, call.model = self.path, self.api, self.decision, self.tags, self.model
        call.facts, call.labels, call.key = self.facts, self.labels, self.key
        return call

    @property
    def decisive(self) -> AttemptState | None:
        """The attempt that says how the call went: the one whose reply was passed on, else the last."""
        return self.answered_by or (self.attempts[-1] if self.attempts else None)

    @property
    def may_be_copied(self) -> bool:
        """Whether it can be sent to two targets at once: its body is known, and it does nothing but generate."""
        api, fields = self.api, self.fields
        return self.body is not None and api.billable and api.operation != "" and fields is not None and not fields.background

    def user_agent(self) -> str | None:
        """What the client calls itself."""
        value = self.headers.get(b"user-agent")
        return value.decode("utf-8", "replace")[:MAX_USER_AGENT_CHARS] if value else None
