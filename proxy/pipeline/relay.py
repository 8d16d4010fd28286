"""Pumping a reply from the upstream to the client, reading usage on a copy.

Here: streams, replies short enough to be read whole before their head goes out, and everything else.
Not here: what bytes mean (wire/), cost (settle.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from enum import Enum

from proxy.call import Cost, HeaderList, Outcome
from proxy.errors import UpstreamClosed, UpstreamError, UpstreamGarbage, UpstreamTimeout
from proxy.pipeline.capture import Capture, Kept
from proxy.pipeline.content import is_recorded
from proxy.pipeline.failover import Failover, fault_of
from proxy.pipeline.headers import own_headers
from proxy.pipeline.idle_guard import IdleGuard
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.settle import price_attempt
from proxy.pipeline.startup import read_start
from proxy.pipeline.state import AttemptState, CallState
from proxy.policy.faults import ErrorReply, Fault, classify_reply
from proxy.ports import ClientReply, UpstreamReply
from proxy.records import CHUNK_GAP_BOUNDARIES_S
from proxy.wire.content_coding import Decoder, decoder_for, is_identity
from proxy.wire.error_bodies import ErrorFacts
from proxy.wire.error_event import error_event
from proxy.wire.headers import forward_reply_headers
from proxy.wire.http1 import has_body, header
from proxy.wire.include_usage import UsageChunkFilter
from proxy.wire.reply import read_reply
from proxy.wire.retry_after import remaining_share
from proxy.wire.stream_reader import StreamReader

WHOLE_BYTES = 256 << 10
"""A JSON reply up to this size is read whole before its head goes out, so that the head can say what it cost."""
UNARY_KINDS = frozenset(("chat", "completions", "responses", "embeddings", "messages", "moderations"))
EDITED = (b"content-length", b"content-encoding")
GAP_BOUNDARIES_NS = [round(boundary_s * 1e9) for boundary_s in CHUNK_GAP_BOUNDARIES_S]


class After(Enum):
    """What follows an attempt."""

    NOTHING = 0  # its reply was passed on
    AGAIN_WITHOUT_USAGE = 1  # nothing was sent on, for the target refused our `include_usage`
    ONWARD = 2  # nothing was sent on: another attempt follows


class Relay:
    """One reply on its way. `run` is called once; `close` always."""

    def __init__(
        self,
        gate: Gate,
        runtime: Runtime,
        call: CallState,
        attempt: AttemptState,
        guard: IdleGuard,
        upstream: UpstreamReply,
        reply: ClientReply,
        injected: bool,
        failover: Failover,
    ) -> None:
        self._gate = gate
        self._failover = failover
        self._runtime = runtime
        self._call = call
        self._attempt = attempt
        self._upstream = upstream
        self._reply = reply
        self._injected = injected
        self._head_ns = gate.clock.monotonic_ns()
        self._held = b""  # of a stream, read before its head goes out
        self._is_edited = False  # content coding undone, our own usage chunk taken out
        self._whole = False  # the reply was read to its end
        coding = header(upstream.headers, b"content-encoding")
        self._decoder: Decoder | None = None if is_identity(coding) else decoder_for(coding)
        self._unreadable = self._decoder is None and not is_identity(coding)
        self._guard = guard
        guard.head_arrived(self._head_ns, upstream.close)

    async def run(self) -> After:
        """Relay the reply, or leave it. Raises UpstreamError, and only while nothing was sent on."""
        if self._runtime.uses_headroom:
            self._failover.state.told_headroom(remaining_share(self._upstream.headers), self._head_ns)
        media_type = header(self._upstream.headers, b"content-type").lower()
        if self._upstream.status >= 400:
            return await self._run_whole()
        if media_type.startswith(b"text/event-stream"):
            return await self._run_stream()
        if self._call.api.kind in UNARY_KINDS and b"json" in media_type and self._is_short(media_type):
            return await self._run_whole()
        await self._run_through(Capture() if b"json" in media_type and not self._unreadable else None, b"")
        return After.NOTHING

    def close(self) -> None:
        """Give the connection back, or drop it: a client that left must not keep the upstream generating."""
        if self._whole:
            self._upstream.release()
        else:
            self._upstream.close()

    def _is_short(self, media_type: bytes) -> bool:
        asked = self._call.fields
        if asked is not None and asked.stream and not (self._failover.is_possible and media_type.startswith(b"application/json")):
            return False  # it may be a stream of JSON; plain JSON where events were asked for is likely an error
        length = header(self._upstream.headers, b"content-length")
        return not length or int(length) <= WHOLE_BYTES

    # -- replies read whole ------------------------------------------------------------------------------------------

    async def _run_whole(self) -> After:
        pieces: list[bytes] = []
        size = 0
        announced = int(header(self._upstream.headers, b"content-length") or -1)
        while size <= WHOLE_BYTES and size != announced:
            piece = await self._read()
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        self._whole = self._whole or size == announced
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not self._whole:  # longer than is worth reading first
            if self._upstream.status >= 400:
                self._classify(b"" if self._unreadable else body, b"")
                if self._leaves():
                    return After.ONWARD
            await self._run_through(None if self._unreadable else Capture(), body)
            return After.NOTHING
        self._call.waited_ns += self._gate.clock.monotonic_ns() - self._head_ns
        plain = self._decoder.feed(body) if self._decoder else (b"" if self._unreadable else body)
        if self._injected and self._upstream.status in (400, 422) and b"stream_options" in plain:
            self._attempt.fail(Outcome.REJECTED, "include_usage_refused", "The target refuses stream_options.include_usage.")
            return After.AGAIN_WITHOUT_USAGE
        self._classify(plain, b"")
        self._check_readable()
        if self._leaves():
            return After.ONWARD
        if self._upstream.status < 400:
            self._mark_first_chunk()
        price_attempt(self._runtime, self._call, self._attempt, self._gate.clock)
        framed = header(self._upstream.headers, b"content-length") or not has_body(self._call.request.method, self._upstream.status)
        await self._start(extra=None if framed else [(b"content-length", b"%d" % size)])
        await self._reply.write(body)
        await self._reply.finish()
        self._call.response_bytes += size
        return After.NOTHING

    def _leaves(self) -> bool:
        """Whether the attempt failed and another one follows it. It may have been billed all the same."""
        if not self._failover.leaves(self._attempt, self._upstream.headers):
            return False
        price_attempt(self._runtime, self._call, self._attempt, self._gate.clock)
        return True

    def _check_readable(self) -> None:
        """A reply that should be JSON and isn't is a fault where another target may do better; else it is the client's to judge."""
        facts, attempt = self._attempt.facts, self._attempt
        if attempt.outcome is not Outcome.SUCCEEDED or facts is None or facts.ended or self._unreadable:
            return
        if self._failover.is_possible and self._call.api.billable:
            attempt.fail(Outcome.FAILED, UpstreamGarbage.error_type, "The reply is not JSON.", Fault.SERVER_ERROR)

    def _classify(self, head: bytes, tail: bytes) -> None:
        status = self._upstream.status
        facts = self._attempt.facts = read_reply(self._call.api.kind, status, head, tail)
        self._attempt.capture = head
        outcome = outcome_of(status)
        if outcome is Outcome.SUCCEEDED and facts.error is not None and self._call.api.billable:
            outcome = Outcome.FAILED  # an error inside a 200; to read a Response that failed is no failure
        if outcome is Outcome.SUCCEEDED:
            self._attempt.outcome = outcome
        else:
            error = facts.error
            code = (error.code or error.type) if error else None
            self._attempt.fail(outcome, code or str(status), error.message if error else None, _fault(status, error))

    # -- everything else that isn't a stream of events ---------------------------------------------------------------

    async def _run_through(self, capture: Capture | None, first: bytes) -> None:
        piece = first or await self._read()  # before its head goes out: until then another target may answer
        self._call.waited_ns += self._gate.clock.monotonic_ns() - self._head_ns
        await self._start()
        self._mark_first_chunk()
        try:
            while piece:
                await self._write(piece)
                self._call.response_bytes += len(piece)
                if capture is not None:
                    capture.feed(self._decoder.feed(piece) if self._decoder else piece)
                piece = await self._read()
        except UpstreamError as error:
            self._interrupt(error)
            return
        await self._reply.finish()
        if capture is not None:
            self._classify(*capture.head_and_tail())
        else:
            self._attempt.outcome = outcome_of(self._upstream.status)

    # -- streams of events -------------------------------------------------------------------------------------------

    async def _hold(self) -> bool:
        """Read on until the stream shows content, fails or ends. True: it failed, and another attempt follows. Raises UpstreamError."""
        attempt = self._attempt
        probe = StreamReader(self._call.api.kind, self._choice_count())
        decoder = decoder_for(header(self._upstream.headers, b"content-encoding")) if self._decoder else None
        self._held = await read_start(self._read, probe, decoder)
        self._call.waited_ns += self._gate.clock.monotonic_ns() - self._head_ns
        if probe.error is not None:
            attempt.facts = probe.result()
            self._fail_by(Outcome.FAILED, probe.error)
            return self._leaves()
        if self._whole and not probe.result().ended:
            name = attempt.endpoint.target.name
            raise UpstreamClosed(f"Target '{name}' failed: its stream ended before its first content.", param=name)
        return False

    async def _run_stream(self) -> After:
        if self._failover.is_possible and not self._unreadable and await self._hold():
            return After.ONWARD
        await self._pump_stream()
        return After.NOTHING

    async def _pump_stream(self) -> None:
        attempt, call, reply = self._attempt, self._call, self._reply
        reader = attempt.reader = StreamReader(call.api.kind, self._choice_count())
        edit = UsageChunkFilter(attempt.endpoint.dialect) if self._injected and not self._unreadable else None
        self._is_edited = edit is not None
        decoder = self._decoder
        await self._start(drop=EDITED if edit else ())
        if not self._held and not self._upstream.has_data:
            reply.flush()
        first = True
        read, write = self._upstream.read_chunk, reply.write
        feed: Callable[[bytes], None] = reader.feed
        guard, now_ns = self._guard, self._gate.clock.monotonic_ns
        gaps: list[int] = []
        last_ns = 0
        if is_recorded(self._runtime, call):
            attempt.kept = Kept()
            feed = _both(reader.feed, attempt.kept.feed)
        try:
            chunk = self._held or await read()
            while chunk:
                plain = decoder.feed(chunk) if decoder else chunk
                out = edit.feed(plain) if edit else chunk
                try:
                    if out:
                        guard.is_sending = True
                        await write(out)
                        guard.is_sending = False
                        call.response_bytes += len(out)
                    elif first:
                        reply.flush()  # the head doesn't wait for an event that is held back
                finally:
                    feed(plain)  # what nobody is left to take was generated all the same
                chunk_ns = guard.last_ns = now_ns()
                if not first:
                    gaps[bisect_left(GAP_BOUNDARIES_NS, chunk_ns - last_ns)] += 1
                    attempt.last_chunk_ns = chunk_ns
                elif reader.first_content:
                    first = False
                    attempt.first_chunk_ns = attempt.last_chunk_ns = call.first_chunk_ns = chunk_ns
                    gaps = attempt.chunk_gaps = [0] * (len(GAP_BOUNDARIES_NS) + 1)
                last_ns = chunk_ns
                chunk = await read()
        except UpstreamError as error:
            await self._send_rest(edit)
            await self._break_off(reader, self._cause(error))
            return
        self._whole = True
        await self._send_rest(edit)
        await self._end_stream(reader)

    async def _send_rest(self, edit: UsageChunkFilter | None) -> None:
        rest = edit.flush() if edit else b""
        if rest:
            await self._reply.write(rest)
            self._call.response_bytes += len(rest)

    async def _end_stream(self, reader: StreamReader) -> None:
        facts = self._attempt.facts = reader.result()
        if facts.error is not None:
            self._fail_by(Outcome.INTERRUPTED if reader.first_content else Outcome.FAILED, facts.error)
        elif not facts.ended and not self._coded():
            name = self._attempt.endpoint.target.name
            await self._break_off(
                reader, UpstreamClosed(f"Target '{name}' ended its stream without an end marker: the reply is cut.", param=name)
            )
            return
        else:
            self._attempt.outcome = Outcome.SUCCEEDED
        await self._reply.finish()

    def _fail_by(self, outcome: Outcome, error: ErrorFacts) -> None:
        self._attempt.fail(outcome, error.code or error.type or "stream_error", error.message, _fault(200, error))

    async def _break_off(self, reader: StreamReader, error: UpstreamError) -> None:
        """The stream is cut: say so in band, for clients that read events, and break the connection, for those that don't."""
        facts = self._attempt.facts = reader.result()
        if facts.ended:  # all of it had arrived before the connection broke
            self._attempt.outcome = Outcome.SUCCEEDED
            await self._reply.finish()
            return
        if not self._coded():
            await self._reply.write(error_event(self._call.api.kind, error.message, error.type, error.code))
        self._interrupt(error)

    # -- shared steps ------------------------------------------------------------------------------------------------

    async def _read(self) -> bytes:
        """The next bytes; b"" at the end. Raises UpstreamError."""
        try:
            chunk = await self._upstream.read_chunk()
        except UpstreamError as error:
            raise self._cause(error) from error
        self._guard.last_ns = self._gate.clock.monotonic_ns()
        if not chunk:
            self._whole = True
        return chunk

    async def _write(self, data: bytes) -> None:
        """Pass bytes on; the time a slow client takes isn't the upstream's silence."""
        self._guard.is_sending = True
        await self._reply.write(data)
        self._guard.is_sending = False
        self._guard.last_ns = self._gate.clock.monotonic_ns()

    def _cause(self, error: UpstreamError) -> UpstreamError:
        """The error itself, or the time-out if it was the guard that closed the connection."""
        if not self._guard.expired:
            return error
        name = self._attempt.endpoint.target.name
        return UpstreamTimeout(f"Target '{name}' failed: {self._guard.expired}.", param=name)

    async def _start(self, drop: tuple[bytes, ...] = (), extra: HeaderList | None = None) -> None:
        call, attempt = self._call, self._attempt
        headers = forward_reply_headers(self._upstream.headers)
        if drop:
            headers = [field for field in headers if field[0].lower() not in drop]
        call.overhead_ns = self._gate.clock.monotonic_ns() - call.request.started_ns - call.waited_ns
        if not self._runtime.transparent:
            headers += own_headers(call, attempt, _cost_so_far(call) if attempt.cost else None, call.overhead_ns)
        if extra:
            headers += extra
        await self._reply.start(self._upstream.status, self._upstream.reason, headers)
        call.status = self._upstream.status

    def _choice_count(self) -> int:
        fields = self._attempt.fields
        return (fields.facts.choice_count if fields else None) or 1

    def _coded(self) -> bool:
        """Whether the bytes on their way are in a content coding: no event of ours can be put among them."""
        return (self._decoder is not None and not self._is_edited) or self._unreadable

    def _mark_first_chunk(self) -> None:
        self._attempt.first_chunk_ns = self._call.first_chunk_ns = self._gate.clock.monotonic_ns()

    def _interrupt(self, error: UpstreamError) -> None:
        self._attempt.fail(Outcome.INTERRUPTED, error.error_type, error.message, fault_of(error, self._attempt))
        self._reply.abort()


def _cost_so_far(call: CallState) -> Cost:
    """What the attempts cost, as far as that is known."""
    return Cost(sum(attempt.cost.total_nusd for attempt in call.attempts if attempt.cost is not None))


def _both(first: Callable[[bytes], None], second: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        first(data)
        second(data)

    return feed


def _fault(status: int, error: ErrorFacts | None) -> Fault | None:
    return classify_reply(ErrorReply(status, error.code, error.type, error.message) if error else ErrorReply(status))


def outcome_of(status: int) -> Outcome:
    """The class of a reply by its status alone."""
    if status < 400:
        return Outcome.SUCCEEDED
    if status in (429, 529):
        return Outcome.THROTTLED
    return Outcome.REJECTED if status < 500 and status != 408 else Outcome.FAILED
