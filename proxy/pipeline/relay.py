"""Passing a reply on to the client, reading usage on a copy.

Here: streams, replies that were read whole before their head goes out, and everything else.
Not here: reading what comes before (arrival.py), what bytes mean (wire/), cost (settle.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Protocol

from proxy.call import Cost, HeaderList, Outcome
from proxy.errors import UpstreamClosed, UpstreamError, without_frames
from proxy.pipeline.arrival import Arrival, Form, fault_of, outcome_of
from proxy.pipeline.capture import Capture, Kept
from proxy.pipeline.content import is_recorded
from proxy.pipeline.cut import StreamCut, stream_cut
from proxy.pipeline.headers import own_headers
from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.settle import price_attempt
from proxy.pipeline.state import AttemptState, CallState
from proxy.ports import ClientReply
from proxy.records import CHUNK_GAP_BOUNDARIES_S
from proxy.wire.continuation import ToldStream
from proxy.wire.error_event import error_event
from proxy.wire.headers import forward_reply_headers
from proxy.wire.http1 import has_body
from proxy.wire.include_usage import UsageChunkFilter
from proxy.wire.reply import ReplyFacts
from proxy.wire.stream_reader import StreamReader

EDITED = (b"content-length", b"content-encoding")
GAP_BOUNDARIES_NS = [round(boundary_s * 1e9) for boundary_s in CHUNK_GAP_BOUNDARIES_S]


class Relay:
    """One reply on its way to the client. `pass_on` is called once."""

    __slots__ = (
        "_arrival", "_attempt", "_call", "_cut", "_decoder", "_edit", "_gate", "_guard", "_is_flushed", "_left_by", "_reply",
        "_runtime", "_told", "_upstream",
    )  # fmt: skip

    def __init__(
        self, gate: Gate, runtime: Runtime, call: CallState, arrival: Arrival, reply: ClientReply, told: ToldStream | None
    ) -> None:
        self._gate = gate
        self._runtime = runtime
        self._call = call
        self._arrival = arrival
        self._attempt = arrival.attempt
        self._upstream = arrival.upstream
        self._decoder = arrival.decoder
        self._guard = arrival.guard
        self._reply = reply
        self._told = None if arrival.is_unreadable else told  # what the client was told of the stream, where it may be gone on with
        self._is_flushed = False
        self._edit: EventEdit | None = None  # content coding is undone then
        self._cut: StreamCut | None = None  # as it is here
        self._left_by: UpstreamError | None = None  # what broke the stream, where it is left to be gone on with

    async def pass_on(self) -> UpstreamError | None:
        """Pass the whole reply on; where it breaks, so does the client's, unless it may be gone on with. Then: why. Raises ClientGone."""
        match self._arrival.form:
            case Form.EVENTS:
                await self._pass_events()
            case Form.WHOLE:
                await self._pass_whole()
            case Form.PIECES:
                await self._pass_pieces(self._arrival.capture)
        return self._left_by

    # -- replies read whole ------------------------------------------------------------------------------------------

    async def _pass_whole(self) -> None:
        status, body = self._upstream.status, self._arrival.first
        if status < 400:
            self._mark_first_chunk()
        price_attempt(self._runtime, self._call, self._attempt, self._gate.clock)
        if self._call.reservation is not None:
            self._call.reservation.settle_attempt(self._attempt)  # nothing more will be spent, however slowly the client reads
        framed = self._arrival.headers.get(b"content-length") or not has_body(self._call.request.method, status)
        await self._start(extra=None if framed else [(b"content-length", b"%d" % len(body))])
        await self._reply.write(body)
        await self._reply.finish()
        self._call.response_bytes += len(body)

    # -- everything else that isn't a stream of events ---------------------------------------------------------------

    async def _pass_pieces(self, capture: Capture | None) -> None:
        piece = self._arrival.first
        await self._start()
        self._mark_first_chunk()
        try:
            while piece:
                await self._write(piece)
                self._call.response_bytes += len(piece)
                if capture is not None:
                    capture.feed(self._decoder.feed(piece) if self._decoder else piece)
                piece = await self._arrival.read()
        except UpstreamError as error:
            self._interrupt(error)
            return
        await self._reply.finish()
        if capture is not None:
            self._arrival.classify(*capture.head_and_tail())
        else:
            self._attempt.outcome = outcome_of(self._upstream.status)

    # -- streams of events -------------------------------------------------------------------------------------------

    async def _pass_events(self) -> None:
        attempt, call, reply, arrival = self._attempt, self._call, self._reply, self._arrival
        reader = attempt.reader = StreamReader(call.api.kind, arrival.choice_count())
        edit = self._edit = self._event_edit()
        cut = self._cut = None if arrival.is_unreadable else stream_cut(attempt.output_limit, call.api.kind, arrival.choice_count())
        decoder = self._decoder
        if call.status is None:
            await self._start(drop=EDITED if edit or cut else ())
            if not arrival.first and not self._upstream.has_data:
                self._flush()
        first = True
        read, write = self._upstream.read_chunk, reply.write
        feed: Callable[[bytes], None] = reader.feed
        guard, now_ns = self._guard, self._gate.clock.monotonic_ns
        gaps: list[int] = []
        last_ns = 0
        if is_recorded(self._runtime, call):
            attempt.kept = self._kept_so_far() or Kept()
            feed = _both(reader.feed, attempt.kept.feed)
        try:
            chunk = arrival.first or await read()
            while chunk:
                plain = decoder.feed(chunk) if decoder else chunk
                if cut is not None:
                    plain = chunk = cut.take(plain)
                out = edit.feed(plain) if edit else chunk
                try:
                    if out:
                        guard.is_sending = True
                        await write(out)
                        guard.is_sending = False
                        call.response_bytes += len(out)
                    elif first:
                        self._flush()  # the head doesn't wait for an event that is held back
                finally:
                    feed(plain)  # what nobody is left to take was generated all the same
                chunk_ns = guard.last_ns = now_ns()
                if not first:
                    gaps[bisect_left(GAP_BOUNDARIES_NS, chunk_ns - last_ns)] += 1
                    attempt.last_chunk_ns = chunk_ns
                elif reader.first_content:
                    first = False
                    attempt.first_chunk_ns = attempt.last_chunk_ns = chunk_ns
                    call.first_chunk_ns = call.first_chunk_ns or chunk_ns
                    gaps = attempt.chunk_gaps = [0] * (len(GAP_BOUNDARIES_NS) + 1)
                last_ns = chunk_ns
                if cut is not None and cut.is_reached(reader):
                    await self._send(cut.end(attempt, arrival, reader, feed))
                    break
                chunk = await read()
        except UpstreamError as error:
            await self._break_off(reader, self._arrival.cause(error))
            return
        arrival.is_whole = attempt.cut_by is None
        await self._end_stream(reader)

    def _kept_so_far(self) -> Kept | None:
        """What was kept of the stream's earlier parts."""
        parts = [attempt.kept for attempt in self._call.attempts if attempt.kept is not None]
        if not parts:
            return None
        parts[-1].feed(b"\n\n")  # what comes is an event of its own
        return parts[-1]

    def _flush(self) -> None:
        """Send the head, unless it has gone out."""
        if not self._is_flushed and not self._call.response_bytes:
            self._is_flushed = True
            self._reply.flush()

    def _event_edit(self) -> EventEdit | None:
        """What is done to the stream's events on their way; None: nothing."""
        arrival = self._arrival
        usage = UsageChunkFilter(self._attempt.endpoint.dialect) if arrival.injected and not arrival.is_unreadable else None
        if self._told is None:
            return usage
        part = self._told.next_part()
        return part if usage is None else _Both(usage, part)

    async def _send_rest(self) -> None:
        rest = self._edit.flush() if self._edit else b""
        if rest:
            await self._write(rest)
            self._call.response_bytes += len(rest)

    async def _send(self, events: bytes) -> None:
        """Whole events of ours, as if the provider had sent them."""
        out = self._edit.feed(events) if self._edit else events
        await self._write(out)
        self._call.response_bytes += len(out)

    async def _end_stream(self, reader: StreamReader) -> None:
        facts = self._attempt.facts = reader.result()
        name = self._attempt.endpoint.target.name
        if facts.error is None and not facts.ended and not self._coded():
            await self._break_off(
                reader, UpstreamClosed(f"Target '{name}' ended its stream without an end marker: the reply is cut.", param=name)
            )
            return
        if facts.error is not None and self._told is not None and self._told.can_go_on:
            self._leave(self._told, facts, UpstreamClosed(f"Target '{name}' told an error in its stream.", param=name))
            return
        await self._send_rest()
        if facts.error is not None:
            self._arrival.fail_by(Outcome.INTERRUPTED if reader.first_content else Outcome.FAILED, facts.error)
        else:
            self._attempt.outcome = Outcome.SUCCEEDED
        await self._reply.finish()

    async def _break_off(self, reader: StreamReader, error: UpstreamError) -> None:
        """The stream is cut: say so in band, for clients that read events, and break the connection, for those that don't."""
        facts = self._attempt.facts = reader.result()
        if not facts.ended and self._told is not None and self._told.can_go_on:
            self._leave(self._told, facts, error)
            return
        await self._send_rest()
        if facts.ended:  # all of it had arrived before the connection broke
            self._attempt.outcome = Outcome.SUCCEEDED
            await self._reply.finish()
            return
        if not self._coded():
            await self._reply.write(error_event(self._call.api.kind, error.message, error.type, error.code))
        self._interrupt(error)

    def _leave(self, told: ToldStream, facts: ReplyFacts, error: UpstreamError) -> None:
        """The stream is cut, and another attempt may go on with it."""
        told.break_off()
        self._left_by = without_frames(error)
        if facts.error is not None:
            self._arrival.fail_by(Outcome.INTERRUPTED, facts.error)
        else:
            self._attempt.fail(Outcome.INTERRUPTED, error.error_type, error.message, fault_of(error, self._attempt))

    # -- shared steps ------------------------------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        """Pass bytes on; the time a slow client takes isn't the upstream's silence."""
        self._guard.is_sending = True
        await self._reply.write(data)
        self._guard.is_sending = False
        self._guard.last_ns = self._gate.clock.monotonic_ns()

    async def _start(self, drop: tuple[bytes, ...] = (), extra: HeaderList | None = None) -> None:
        call, attempt = self._call, self._attempt
        headers = forward_reply_headers(self._upstream.headers)
        if drop:
            headers = [field for field in headers if field[0].lower() not in drop]
        call.overhead_ns = self._gate.clock.monotonic_ns() - call.began_ns - call.waited_ns
        if not self._runtime.transparent:
            headers += own_headers(call, attempt, _cost_so_far(call, attempt), call.overhead_ns)
        if extra:
            headers += extra
        await self._reply.start(self._upstream.status, self._upstream.reason, headers)
        call.status = self._upstream.status

    def _coded(self) -> bool:
        """Whether the bytes on their way are in a content coding: no event of ours can be put among them."""
        return (self._decoder is not None and self._edit is None and self._cut is None) or self._arrival.is_unreadable

    def _mark_first_chunk(self) -> None:
        self._attempt.first_chunk_ns = self._call.first_chunk_ns = self._gate.clock.monotonic_ns()

    def _interrupt(self, error: UpstreamError) -> None:
        self._attempt.fail(Outcome.INTERRUPTED, error.error_type, error.message, fault_of(error, self._attempt))
        self._reply.abort()


class EventEdit(Protocol):
    """Edits a stream, event by event. `feed` what came, then `flush` at its end."""

    def feed(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


class _Both:
    """One edit after the other."""

    def __init__(self, first: EventEdit, second: EventEdit) -> None:
        self._first = first
        self._second = second

    def feed(self, data: bytes) -> bytes:
        return self._second.feed(self._first.feed(data))

    def flush(self) -> bytes:
        return self._second.feed(self._first.flush()) + self._second.flush()


def _cost_so_far(call: CallState, answering: AttemptState) -> Cost | None:
    """What the attempts cost, as far as is known; None before the reply's own usage is, and where a hedge's loser may have cost more."""
    if answering.cost is None or len(call.attempts) == 1:
        return answering.cost
    others = [attempt for attempt in call.attempts if attempt is not answering]
    if any(attempt.outcome is Outcome.ABANDONED and attempt.cost is None for attempt in others):
        return None
    return Cost(answering.cost.total_nusd + sum(attempt.cost.total_nusd for attempt in others if attempt.cost is not None))


def _both(first: Callable[[bytes], None], second: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        first(data)
        second(data)

    return feed
