"""One attempt while it lives: it begins, is answered, its reply is passed on or let go, and it ends.

Here: the only place where attempts begin and end, whatever they are made for. Not here: which ones are made (attempts.py, hedge.py,
mirror.py), how a reply is read and passed on (arrival.py, relay.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from proxy.call import HeaderList, Outcome
from proxy.errors import ClientGone, PosternError, UpstreamError, UpstreamTimeout, without_frames
from proxy.pipeline.arrival import Arrival, Form, fault_of
from proxy.pipeline.headers import upstream_headers
from proxy.pipeline.idle_guard import IdleGuard
from proxy.pipeline.relay import Relay
from proxy.pipeline.runtime import Endpoint, Gate, Runtime
from proxy.pipeline.settle import price_attempt
from proxy.pipeline.state import AttemptState, CallState
from proxy.pipeline.upstream_request import UpstreamRequest, upstream_request
from proxy.policy.breaker import BreakerState
from proxy.policy.faults import REACTIONS
from proxy.policy.order import Candidate
from proxy.ports import ClientReply, UpstreamReply
from proxy.records import AttemptCause
from proxy.wire.continuation import ToldStream
from proxy.wire.credentials import without_query_key
from proxy.wire.retry_after import remaining_share, retry_after_s
from proxy.wire.urls import join


class Turn(NamedTuple):
    """A target that is to be asked now."""

    step: Candidate
    credential: int  # its position among the target's
    cause: AttemptCause | None = None  # None: it is the plan's
    goes_on_from: str | None = None  # the text that a continuation stands behind


async def ask(gate: Gate, runtime: Runtime, call: CallState, turn: Turn, is_held: bool) -> LiveAttempt:
    """An attempt that was answered, or has failed; a target that refuses our `include_usage` is asked once more without it.

    `is_held`: another attempt may follow, so the reply is read as far as its first content. The caller ends the attempt. Raises
    RequestNotShapeable, and what broke the client's own upload.
    """
    step = turn.step
    memory_key = f"{step.target}/{step.model or call.model}"
    endpoint = runtime.endpoints[step.target]
    request = upstream_request(call, runtime.request_rules, step)
    if turn.goes_on_from is not None:
        request = request.going_on(turn.goes_on_from, endpoint.dialect)
    provider = endpoint.target.provider
    asking = None if memory_key in gate.refuses_include_usage else request.asking_for_usage(call.api.kind, provider)
    live = LiveAttempt(gate, runtime, call, turn, request, asking)
    await live.answer(is_held)
    if live.refuses_usage:
        gate.refuses_include_usage.add(memory_key)
        live.attempt.fail(Outcome.REJECTED, "include_usage_refused", "The target refuses stream_options.include_usage.")
        if call.reservation is not None:
            call.reservation.repeat(live.attempt)
        live.end()
        live = LiveAttempt(gate, runtime, call, turn, request, None)
        await live.answer(is_held)
    return live


class LiveAttempt:
    """One try of one target. It begins when it is made; `answer` comes next, then `pass_on` or nothing, then `end`, whatever happens."""

    __slots__ = (
        "_arrival", "_call", "_credentials", "_gate", "_guard", "_has_ended", "_injected", "_runtime", "_stands_by", "_state",
        "_ticket", "arrived_ns", "attempt", "error",
    )  # fmt: skip

    def __init__(self, gate: Gate, runtime: Runtime, call: CallState, turn: Turn, request: UpstreamRequest, asking: bytes | None) -> None:
        """`asking` is the request's body with the question for usage, where it is put."""
        target = turn.step.target
        endpoint = runtime.endpoints[target]
        attempt = self.attempt = new_attempt(gate, call, endpoint, turn.step.model)
        attempt.credential, attempt.cause = turn.credential, turn.cause
        attempt.seam_chars = None if turn.goes_on_from is None else len(turn.goes_on_from)
        attempt.body = _as_sent(call, request.body if asking is None else asking)
        attempt.fields, attempt.changes = request.fields, request.changes
        self._gate = gate
        self._runtime = runtime
        self._call = call
        self._injected = asking is not None
        self._arrival: Arrival | None = None  # its reply, once the head has come
        self._state = runtime.states[target]
        self._credentials = runtime.credentials[target]
        if call.reservation is not None:
            call.reservation.begin(attempt)
        self._ticket: int | None = self._state.begin(attempt.start_ns)  # None: the target's state was told how it went
        self._guard = IdleGuard(endpoint.target.timeouts, attempt.start_ns, _canceller())
        self.error: UpstreamError | None = None  # why there is no reply to pass on
        self._stands_by = False
        self._has_ended = False
        self.arrived_ns = 0  # when there was one, or it was clear that there is none
        gate.watch.add(self._guard)

    @property
    def headers(self) -> HeaderList:
        """The reply's; none where none came, or it broke."""
        return self._arrival.upstream.headers if self._arrival is not None and self.error is None else []

    @property
    def is_stream(self) -> bool:
        """Whether the reply is a stream of events that can be read."""
        return self._arrival is not None and self._arrival.form is Form.EVENTS and not self._arrival.is_unreadable

    @property
    def refuses_usage(self) -> bool:
        """Whether it was our own `include_usage` that the target refused."""
        return self._injected and self._arrival is not None and self._arrival.refuses_usage()

    @property
    def asked_s(self) -> float | None:
        """How long the target asked to be left alone."""
        headers = self.headers
        return retry_after_s(headers, self._gate.clock.time_ns() / 1e9) if headers else None

    async def answer(self, is_held: bool) -> None:
        """Send the request and wait for what can be passed on; where nothing can be, `error` or the attempt's fault says why.

        Raises what broke the client's own upload; the attempt has ended then, as it has when it is cancelled.
        """
        call, attempt, clock = self._call, self.attempt, self._gate.clock
        waited_ns = call.waited_ns
        try:
            upstream_reply = await self._open()
            arrival = self._arrival = Arrival(self._gate, call, attempt, self._guard, upstream_reply, self._injected, is_held)
            if self._runtime.uses_headroom:
                self._state.told_headroom(remaining_share(upstream_reply.headers), arrival.head_ns)
            await arrival.arrive()
            self.arrived_ns = arrival.arrived_ns
        except UpstreamError as error:
            self.error, self.arrived_ns = without_frames(error), clock.monotonic_ns()
            attempt.fail(Outcome.FAILED, error.error_type, error.message, fault_of(error, attempt))
        except BaseException as error:
            self._note_leaving(error)
            self.arrived_ns = clock.monotonic_ns()
            self.end()
            raise
        finally:
            call.waited_ns = waited_ns + self.arrived_ns - attempt.start_ns

    async def pass_on(self, reply: ClientReply, told: ToldStream | None = None) -> bool:
        """Pass the reply on to the client, whatever it is. Raises ClientGone.

        False: it is a stream that broke, and can be gone on with from what was `told`; `error` says why it broke.
        """
        arrival = self._arrival
        assert arrival is not None, "there is no reply"
        self._call.answered_by = self.attempt
        if self._stands_by and not arrival.is_closed:
            self._guard.last_ns = self._gate.clock.monotonic_ns()
            self._gate.watch.add(self._guard)
        try:
            self.error = await Relay(self._gate, self._runtime, self._call, arrival, reply, told).pass_on()
        except BaseException as error:
            self._note_leaving(error)
            raise
        return self.error is None

    def take_error(self) -> UpstreamError:
        """Why there is no reply, to be raised: the attempt lets go of it, for raised it will know the frames that know the attempt."""
        error, self.error = self.error, None
        assert error is not None, "there is a reply"
        return error

    def stand_by(self) -> None:
        """The attempt has failed, and another one is waited for: its reply may still be passed on, but nobody watches it meanwhile."""
        self._stands_by = True
        self.report()
        self._gate.watch.discard(self._guard)
        if self._arrival is not None and self._arrival.form is Form.WHOLE:
            self._arrival.close()

    def abandon(self) -> None:
        """Let the reply go: another attempt was faster. What of it was generated by now may be billed."""
        attempt = self.attempt
        if attempt.fault is not None:
            attempt.end_ns = self.arrived_ns
        else:
            attempt.outcome = Outcome.ABANDONED
            attempt.reader = self._arrival.probe if self._arrival is not None else None
        self.end()

    def report(self) -> None:
        """Tell the target's state how the attempt went; a second time is none."""
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            return
        attempt, state, now_ns = self.attempt, self._state, self._gate.clock.monotonic_ns()
        if attempt.fault is not None:
            self._credentials.failed(attempt.credential, attempt.fault, self.asked_s, now_ns)
        stood = state.breaker.state
        if attempt.outcome is Outcome.SUCCEEDED:
            total_s = (now_ns - attempt.start_ns) / 1e9
            first_byte_s = (attempt.first_chunk_ns - attempt.start_ns) / 1e9 if attempt.first_chunk_ns else total_s
            state.succeeded(ticket, now_ns, first_byte_s, total_s)
        elif attempt.fault is not None and REACTIONS[attempt.fault].trips:
            state.failed(ticket, now_ns)
        else:
            state.released(ticket)
        if state.breaker.state is not stood:
            self._note_breaker(stood, now_ns)

    def _note_breaker(self, stood: BreakerState, now_ns: int) -> None:
        """This attempt opened its target's breaker, or closed it again."""
        breaker = self._state.breaker
        self.attempt.opened_breaker = stood is BreakerState.CLOSED
        if breaker.state is BreakerState.CLOSED:
            self.attempt.recovery_ns = now_ns - breaker.opened_ns

    def end(self) -> None:
        """The attempt is over; a second time is none."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._arrival is not None:
            self._arrival.close()
        self._gate.watch.discard(self._guard)
        attempt = self.attempt
        attempt.end_ns = attempt.end_ns or self._gate.clock.monotonic_ns()
        self.report()
        if attempt is self._call.answered_by:
            return  # its reply may still be looked at
        price_attempt(self._runtime, self._call, attempt, self._gate.clock)  # what was let go may have been billed all the same
        if self._call.reservation is not None:
            self._call.reservation.settle_attempt(attempt)

    def _note_leaving(self, error: BaseException) -> None:
        """What became of an attempt that was ended from outside. Clients often leave right after the end mark, and have all of it."""
        attempt, reader = self.attempt, self.attempt.reader
        if isinstance(error, asyncio.CancelledError | ClientGone):
            if reader is not None and not self._guard.is_sending and reader.ended and reader.error is None:
                attempt.outcome = Outcome.SUCCEEDED
            else:
                attempt.outcome = Outcome.INTERRUPTED if self._gate.stopping else Outcome.ABANDONED
        elif isinstance(error, PosternError):  # the client's upload broke while it was passed on
            attempt.fail(Outcome.REJECTED, error.code, error.message)

    async def _open(self) -> UpstreamReply:
        """Send the request, wait for the reply's head. Raises UpstreamError, and what broke the client's own upload."""
        call, attempt = self._call, self.attempt
        endpoint = attempt.endpoint
        target = endpoint.target
        url = join(endpoint.base, call.target_path)
        if not target.passthrough:
            url = without_query_key(url)
        headers = upstream_headers(call, attempt, self._injected or attempt.output_limit is not None)
        body: bytes | AsyncIterator[bytes] | None = attempt.body
        declared = call.request.body.declared_bytes
        if body is None and declared != 0:
            body = self._upload()
            if declared is not None:
                headers.append((b"content-length", b"%d" % declared))
        attempt.sent = True
        try:
            upstream_reply = await self._gate.upstream.open(target, call.request.method, url, headers, body)
        except asyncio.CancelledError:
            if self._guard.expired and _take_back_cancel():
                raise UpstreamTimeout(f"Target '{target.name}' failed: {self._guard.expired}.", param=target.name) from None
            raise
        except UpstreamError as error:
            attempt.sent = error.sent
            if call.body_error is not None:
                raise call.body_error from error
            raise
        attempt.status = upstream_reply.status
        return upstream_reply

    async def _upload(self) -> AsyncIterator[bytes]:
        """The client's upload in pieces, none of it kept. It takes as long as the client takes: each piece winds the guard up again."""
        call = self._call
        try:
            async for piece in call.request.body.stream(self._runtime.max_body_bytes):
                call.request_bytes += len(piece)
                call.is_upload_begun = True
                self._guard.last_ns = self._gate.clock.monotonic_ns()
                yield piece
        except PosternError as error:
            call.body_error = error
            raise


def new_attempt(gate: Gate, call: CallState, endpoint: Endpoint, model: str | None) -> AttemptState:
    """A new attempt of the call, with its own span id; `model` is the target's name for it, where it has one of its own."""
    number = len(call.attempts) + 1
    attempt = AttemptState(number, f"{gate.random_bits(64) or 1:016x}", endpoint, model or call.model or "", gate.clock.monotonic_ns())
    call.attempts.append(attempt)
    return attempt


def _as_sent(call: CallState, body: bytes | None) -> bytes | None:
    """The client's own bytes, content coding and all, where no rule edited them."""
    return call.body if body is call.plain else body


def _canceller() -> Callable[[], object]:
    task = asyncio.current_task()
    assert task is not None
    return task.cancel


def _take_back_cancel() -> bool:
    """Undo the guard's cancellation; False if somebody else (the client's leaving) cancelled too."""
    task = asyncio.current_task()
    return task is not None and task.uncancel() == 0
