"""A reply until it is worth passing on: nothing of it has gone out yet, so that another target may still answer in its place.

Here: how far each form of reply is read before that, and what it says by then. Not here: passing it on (relay.py), what follows from a
fault (failover.py), what bytes mean (wire/).
"""

from __future__ import annotations

from enum import Enum

from proxy.call import Outcome
from proxy.errors import ConnectFailed, UpstreamClosed, UpstreamError, UpstreamGarbage, UpstreamTimeout
from proxy.pipeline.capture import Capture
from proxy.pipeline.idle_guard import IdleGuard
from proxy.pipeline.runtime import Gate
from proxy.pipeline.startup import read_start
from proxy.pipeline.state import AttemptState, CallState
from proxy.policy.faults import ErrorReply, Fault, classify_reply
from proxy.ports import UpstreamReply
from proxy.wire.content_coding import Decoder, decoder_for, is_identity
from proxy.wire.error_bodies import ErrorFacts
from proxy.wire.http1 import first_values
from proxy.wire.reply import read_reply
from proxy.wire.stream_reader import StreamReader

WHOLE_BYTES = 256 << 10
"""A JSON reply up to this size is read whole before its head goes out, so that the head can say what it cost."""
UNARY_KINDS = frozenset(("chat", "completions", "responses", "embeddings", "messages", "moderations"))


class Form(Enum):
    """How a reply is passed on."""

    WHOLE = 0  # in one write, with its head
    EVENTS = 1  # a stream of events, as it comes
    PIECES = 2  # anything else, as it comes


class Arrival:
    """One attempt's reply, from its head on. `arrive` is called once; `close` always, the first time counts."""

    __slots__ = (
        "_call", "_gate", "_is_held", "arrived_ns", "attempt", "capture", "decoder", "first", "form", "guard", "head_ns",
        "headers", "injected", "is_closed", "is_unreadable", "is_whole", "probe", "upstream",
    )  # fmt: skip

    def __init__(
        self, gate: Gate, call: CallState, attempt: AttemptState, guard: IdleGuard, upstream: UpstreamReply, injected: bool, is_held: bool
    ) -> None:
        self._gate = gate
        self._call = call
        self._is_held = is_held  # another attempt may follow: a stream's first content is waited for
        self.attempt = attempt
        self.guard = guard
        self.upstream = upstream
        self.injected = injected  # the usage in it is asked for by us
        self.form = Form.PIECES
        self.first = b""  # what was read before its head goes out
        self.capture: Capture | None = None  # of a reply in pieces, what usage is read from
        self.probe: StreamReader | None = None  # of a stream that is held: what `first` says
        self.is_whole = False  # it was read to its end
        self.is_closed = False
        self.head_ns = self.arrived_ns = gate.clock.monotonic_ns()
        self.headers = first_values(upstream.headers)
        coding = self.headers.get(b"content-encoding", b"")
        self.decoder: Decoder | None = None if is_identity(coding) else decoder_for(coding)
        self.is_unreadable = self.decoder is None and not is_identity(coding)
        guard.head_arrived(self.head_ns, upstream.close)

    async def arrive(self) -> None:
        """Read the reply until it can be passed on, or shows that it is none. Raises UpstreamError."""
        media_type = self.headers.get(b"content-type", b"").lower()
        if self.upstream.status >= 400:
            await self._read_whole()
        elif media_type.startswith(b"text/event-stream"):
            self.form = Form.EVENTS
            if self._is_held and not self.is_unreadable:
                await self._hold()
        elif self._call.api.kind in UNARY_KINDS and b"json" in media_type and self._is_short(media_type):
            await self._read_whole()
        else:
            self.capture = Capture() if b"json" in media_type and not self.is_unreadable else None
            self.first = await self.read()
            self._mark_arrived()

    def close(self) -> None:
        """Give the connection back, or drop it: a client that left must not keep the upstream generating."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.is_whole:
            self.upstream.release()
        else:
            self.upstream.close()

    async def read(self) -> bytes:
        """The next bytes; b"" at the end. Raises UpstreamError."""
        try:
            chunk = await self.upstream.read_chunk()
        except UpstreamError as error:
            raise self.cause(error) from error
        self.guard.last_ns = self._gate.clock.monotonic_ns()
        if not chunk:
            self.is_whole = True
        return chunk

    def cause(self, error: UpstreamError) -> UpstreamError:
        """The error itself, or the time-out if it was the guard that closed the connection."""
        if not self.guard.expired:
            return error
        name = self.attempt.endpoint.target.name
        return UpstreamTimeout(f"Target '{name}' failed: {self.guard.expired}.", param=name)

    def classify(self, head: bytes, tail: bytes) -> None:
        """What a reply that is no stream says, from its first and last bytes."""
        attempt, status = self.attempt, self.upstream.status
        facts = attempt.facts = read_reply(self._call.api.kind, status, head, tail)
        attempt.capture = head
        outcome = outcome_of(status)
        if outcome is Outcome.SUCCEEDED and facts.error is not None and self._call.api.billable:
            outcome = Outcome.FAILED  # an error inside a 200; to read a Response that failed is no failure
        if outcome is Outcome.SUCCEEDED:
            attempt.outcome = outcome
        else:
            error = facts.error
            code = (error.code or error.type) if error else None
            attempt.fail(outcome, code or str(status), error.message if error else None, _fault(status, error))

    def fail_by(self, outcome: Outcome, error: ErrorFacts) -> None:
        """A stream told an error."""
        self.attempt.fail(outcome, error.code or error.type or "stream_error", error.message, _fault(200, error))

    def choice_count(self) -> int:
        """How many choices were asked for."""
        fields = self.attempt.fields
        return (fields.facts.choice_count if fields else None) or 1

    def refuses_usage(self) -> bool:
        """Whether it was our own `include_usage` that the target refused."""
        return (
            self.injected and self.form is Form.WHOLE and self.upstream.status in (400, 422) and b"stream_options" in self.attempt.capture
        )

    # -- replies read whole ------------------------------------------------------------------------------------------

    def _is_short(self, media_type: bytes) -> bool:
        asked = self._call.fields
        if asked is not None and asked.stream and not (self._is_held and media_type.startswith(b"application/json")):
            return False  # it may be a stream of JSON; plain JSON where events were asked for is likely an error
        length = self.headers.get(b"content-length")
        return not length or int(length) <= WHOLE_BYTES

    async def _read_whole(self) -> None:
        pieces: list[bytes] = []
        size = 0
        announced = int(self.headers.get(b"content-length") or -1)
        while size <= WHOLE_BYTES and size != announced:
            piece = await self.read()
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        self.is_whole = self.is_whole or size == announced
        self.first = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._mark_arrived()
        if self.is_whole:
            self.form = Form.WHOLE
            self.classify(self.decoder.feed(self.first) if self.decoder else (b"" if self.is_unreadable else self.first), b"")
            self._check_readable()
        else:  # longer than is worth reading first
            self.capture = None if self.is_unreadable else Capture()
            if self.upstream.status >= 400:
                self.classify(b"" if self.is_unreadable else self.first, b"")

    def _check_readable(self) -> None:
        """A reply that should be JSON and isn't is a fault where another target may do better; else it is the client's to judge."""
        facts, attempt = self.attempt.facts, self.attempt
        if attempt.outcome is not Outcome.SUCCEEDED or facts is None or facts.ended or self.is_unreadable:
            return
        if self._is_held and self._call.api.billable:
            attempt.fail(Outcome.FAILED, UpstreamGarbage.error_type, "The reply is not JSON.", Fault.SERVER_ERROR)

    # -- streams of events -------------------------------------------------------------------------------------------

    async def _hold(self) -> None:
        """Read on until the stream shows content, fails or ends. Raises UpstreamError."""
        attempt = self.attempt
        probe = self.probe = StreamReader(self._call.api.kind, self.choice_count())
        decoder = decoder_for(self.headers[b"content-encoding"]) if self.decoder else None
        self.first = await read_start(self.read, probe, decoder)
        self._mark_arrived()
        if probe.error is not None:
            attempt.facts = probe.result()
            self.fail_by(Outcome.FAILED, probe.error)
        elif self.is_whole and not probe.result().ended:
            name = attempt.endpoint.target.name
            raise UpstreamClosed(f"Target '{name}' failed: its stream ended before its first content.", param=name)

    def _mark_arrived(self) -> None:
        self.arrived_ns = self._gate.clock.monotonic_ns()


def _fault(status: int, error: ErrorFacts | None) -> Fault | None:
    return classify_reply(ErrorReply(status, error.code, error.type, error.message) if error else ErrorReply(status))


def outcome_of(status: int) -> Outcome:
    """The class of a reply by its status alone."""
    if status < 400:
        return Outcome.SUCCEEDED
    if status in (429, 529):
        return Outcome.THROTTLED
    return Outcome.REJECTED if status < 500 and status != 408 else Outcome.FAILED


def fault_of(error: UpstreamError, attempt: AttemptState) -> Fault:
    """The class of an upstream that could not be used."""
    match error:
        case ConnectFailed():
            return Fault.CONNECT
        case UpstreamTimeout():
            return Fault.TIMEOUT
        case UpstreamClosed():
            return Fault.SERVER_ERROR if attempt.status is None else Fault.TRUNCATED
        case _:
            return Fault.SERVER_ERROR
