"""One call while it lives: what was learnt so far, on the way to its record.

Here: mutable state of a call and its attempts. Not here: I/O, decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
from proxy.wire.http1 import header
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


class AttemptState:
    """One try of one target."""

    __slots__ = (
        "body", "bookings", "capture", "cause", "changes", "chunk_gaps", "cost", "credential", "cut_by", "end_ns", "endpoint",
        "error_message", "error_type", "facts", "fault", "fields", "first_chunk_ns", "kept", "last_chunk_ns", "model", "number",
        "opened_breaker", "outcome", "output_limit", "reader", "recovery_ns", "seam_chars", "sent", "span_id", "start_ns", "status",
        "unpriced", "usage",
    )  # fmt: skip

    def __init__(self, number: int, span_id: str, endpoint: Endpoint, model: str, start_ns: int) -> None:
        self.number = number
        self.span_id = span_id
        self.endpoint = endpoint
        self.model = model
        self.credential = 0  # the position of the one it is made with, among its target's
        self.cause: AttemptCause | None = None  # what it is made for, if that isn't to ask the next one of the plan
        self.start_ns = start_ns  # monotonic
        self.end_ns = 0
        self.first_chunk_ns = 0
        self.last_chunk_ns = 0
        self.chunk_gaps: list[int] | None = None  # of a stream's content: see AttemptRecord
        self.outcome = Outcome.FAILED
        self.fault: Fault | None = None  # of what went wrong, if the target had to do with it
        self.status: int | None = None
        self.error_type: str | None = None
        self.error_message: str | None = None
        self.facts: ReplyFacts | None = None
        self.reader: StreamReader | None = None
        self.capture: bytes = b""  # reply body of a call that is not a stream, as far as it was kept
        self.kept: Kept | None = None  # a stream's events, where their content is recorded
        self.body: bytes | None = None  # the JSON sent upstream
        self.fields: RequestFields | None = None  # what it says
        self.changes = ""  # what rules changed in it, in words
        self.sent = False  # whether the upstream may have seen the request
        self.usage: Usage | None = None
        self.cost: Cost | None = None
        self.unpriced = False  # there is usage and no price
        self.seam_chars: int | None = None  # of a continuation: how much text the client had when it was asked
        self.opened_breaker = False  # its failure did
        self.recovery_ns: int | None = None  # its success closed the breaker, this long after it had opened
        self.bookings: list[Booking] = []  # what is held for it
        self.output_limit: OutputLimit | None = None  # how much output that is enough for, where it may have more
        self.cut_by: str | None = None  # the budget that ended its stream

    def fail(self, outcome: Outcome, error_type: str, message: str | None, fault: Fault | None = None) -> None:
        """How the attempt ended, unless it went well; `fault` if the target had to do with it."""
        self.outcome = outcome
        self.fault = fault
        self.error_type = error_type
        self.error_message = message[:MAX_KEPT_ERROR_CHARS] if message else None


class CallState:
    """One client request and all that happens for it."""

    __slots__ = (
        "answered_by", "api", "attempts", "began_ns", "billable", "body", "body_error", "call_id", "decision", "error_message",
        "error_type", "facts", "fields", "first_chunk_ns", "is_upload_begun", "key", "labels", "mirror_of", "model", "outcome",
        "overhead_ns", "parent_span_id", "path", "plain", "request", "request_bytes", "reservation", "response_bytes", "rule", "sampled",
        "shadow_refusals", "span_id", "status", "tags", "target_path", "trace_id", "trace_state", "waited_ns", "warnings",
    )  # fmt: skip

    def __init__(self, request: ClientRequest, call_id: str, trace_id: str, span_id: str) -> None:
        self.request = request
        self.began_ns = request.started_ns  # monotonic
        self.call_id = call_id
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_span_id: str | None = None
        self.trace_state: str | None = None
        self.sampled = True
        self.path = ""
        self.target_path = ""  # path and query, in origin form
        self.api: ApiEndpoint = None  # type: ignore[assignment]  # set by accept, before anything can fail
        self.fields: RequestFields | None = None
        self.model: str | None = None  # what the client asked for, in its body, its path, or a handshake's query
        self.body: bytes | None = None  # as the client sent it
        self.plain: bytes | None = None  # the body without its content coding, where that can be undone
        self.is_upload_begun = False  # a part of the client's upload was passed on: it can't be sent a second time
        self.body_error: Exception | None = None  # what broke the client's upload while it was passed on
        self.request_bytes = 0
        self.response_bytes = 0
        self.decision: RouteDecision | None = None
        self.attempts: list[AttemptState] = []
        self.answered_by: AttemptState | None = None  # whose reply was passed on; with a hedge it needn't be the last one that was made
        self.mirror_of: str | None = None  # the id of the call that this one copies
        self.status: int | None = None
        self.outcome = Outcome.FAILED
        self.error_type: str | None = None
        self.error_message: str | None = None
        self.rule: str | None = None  # the rule that refused the call
        self.first_chunk_ns = 0
        self.billable = True
        self.overhead_ns = 0  # our own share until the reply's head went out
        self.waited_ns = 0  # spent waiting for the upstream before its reply's head
        self.tags: dict[str, str] = {}
        self.facts: RouteFacts | None = None  # what rules ask about the call
        self.reservation: Reservation | None = None  # None: it is under no budget and no limit
        self.warnings: list[BudgetWarning] = []
        self.shadow_refusals: list[str] = []  # rules in shadow that would have refused it
        self.labels: dict[str, str] = {}  # see call.LABELS
        self.key: VirtualKey | None = None

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
        value = header(self.request.headers, b"user-agent")
        return value.decode("utf-8", "replace")[:MAX_USER_AGENT_CHARS] if value else None
