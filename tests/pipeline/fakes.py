"""The outside world of the pipeline, as ports that play scripts: what the upstream and the client do.

No sockets, no files, a fake clock. A script is a sequence of steps: bytes arrive, `Wait` lets time pass, an exception is raised, the
client leaves.

Here: steps and ports. Not here: what plays a call on them (world.py), the scripts (test_*.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from proxy.call import HeaderList, Target
from proxy.errors import BodyTooLarge, ClientGone, ConnectFailed, PosternError, UpstreamClosed, UpstreamError
from proxy.ports import UpstreamReply, UpstreamTunnel
from proxy.records import CallRecord, decode_record, encode_record


class Wait(msgspec.Struct, frozen=True):
    """Time passes."""

    seconds: float


class ClientLeaves(msgspec.Struct, frozen=True):
    """The client's connection is gone now: the server cancels the call, as the real one does."""


class Shutdown(msgspec.Struct, frozen=True):
    """The drain is over: the gate cuts what still runs."""


class Silence(msgspec.Struct, frozen=True):
    """Nothing ever comes, until somebody closes the connection."""


Step = bytes | Wait | ClientLeaves | Shutdown | Silence | Exception
LEAVES, SHUTDOWN, SILENCE = ClientLeaves(), Shutdown(), Silence()


class Stage(Protocol):
    """Where a call is played."""

    late_uploads: list[asyncio.Future[None]]  # that go on after the reply's head came

    async def play(self, step: Step, closed: asyncio.Event, target: Target | None) -> None:
        """What a step does, other than to deliver bytes. Raises what it stands for."""
        ...


@dataclass(frozen=True)
class Reply:
    """What the upstream answers to one attempt."""

    status: int = 200
    headers: HeaderList = field(default_factory=list)
    steps: Sequence[Step] = ()
    before_head: Sequence[Step] = ()
    has_data: bool = True
    reason: str = ""
    before_upload_ends: bool = False  # the head comes when the first piece of an upload was taken


@dataclass
class Sent:
    """One request as it went upstream."""

    target: Target
    method: str
    url: str
    headers: HeaderList
    body: bytes = b""
    pieces: int = 0  # of a body that was passed on as it came; 0: it went as a whole
    reply: FakeUpstreamReply | None = None

    def values(self, name: str) -> list[bytes]:
        """The values of a header field, by its lower-case name."""
        return [value for key, value in self.headers if key.decode().lower() == name]


class FakeUpstreamReply:
    """Port: UpstreamReply. Plays a Reply's steps."""

    def __init__(self, stage: Stage, script: Reply, target: Target) -> None:
        self.status, self.reason, self.headers = script.status, script.reason, list(script.headers)
        self.has_data = script.has_data
        self.ends: list[str] = []  # of release and close, in order
        self._stage = stage
        self._steps = list(script.steps)
        self._target = target
        self._closed = asyncio.Event()

    async def read_chunk(self) -> bytes:
        assert "release" not in self.ends, "read after release"
        while self._steps:
            if self._closed.is_set():
                raise broken(self._target)
            step = self._steps.pop(0)
            if isinstance(step, bytes):
                return step
            await self._stage.play(step, self._closed, self._target)
        return b""

    def release(self) -> None:
        self.ends.append("release")

    def close(self) -> None:
        self.ends.append("close")
        self._closed.set()


class FakeUpstream:
    """Port: Upstream. Answers attempts with its script's replies, in order."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.started: Callable[[], bool] = lambda: False  # whether the client's reply has begun
        self.late: list[Sent] = []  # sent although it had
        self.script: list[Reply | Step] = []
        self.default: Callable[[], Reply | Step] | None = None  # answers what the script doesn't
        self.sent: list[Sent] = []
        self.copies: dict[str, Callable[[], Reply | Step]] = {}  # what targets answer to copies of calls
        self.copied: list[Sent] = []  # the requests of these

    async def open(
        self, target: Target, method: str, url: str, headers: HeaderList, body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamReply:
        sent = Sent(target, method, url, list(headers), body if isinstance(body, bytes) else b"")
        if target.name in self.copies:
            self.copied.append(sent)
            return await self._answer(sent, body, self.copies[target.name]())
        self.sent.append(sent)
        if self.started():
            self.late.append(sent)
        assert self.script or self.default, "an attempt that the script has no reply for"
        return await self._answer(sent, body, self.script.pop(0) if self.script or self.default is None else self.default())

    async def _answer(self, sent: Sent, body: bytes | AsyncIterator[bytes] | None, reply: Reply | Step) -> UpstreamReply:
        target = sent.target
        if isinstance(reply, ConnectFailed):
            raise reply  # before any of an upload was taken
        script = reply if isinstance(reply, Reply) else Reply(before_head=[reply])
        early = script.before_upload_ends
        if not isinstance(body, bytes) and body is not None:
            await self._take(sent, body, target, 1 if early else None)
        for step in script.before_head:
            assert not isinstance(step, bytes)
            await self._stage.play(step, asyncio.Event(), target)
        sent.reply = FakeUpstreamReply(self._stage, script, target)
        if early and not isinstance(body, bytes) and body is not None:
            self._stage.late_uploads.append(asyncio.ensure_future(self._take(sent, body, target, None)))
        return sent.reply

    @staticmethod
    async def _take(sent: Sent, body: AsyncIterator[bytes], target: Target, limit: int | None) -> None:
        """Take an upload; one that breaks shows as a broken connection, as with aiohttp."""
        try:
            async for piece in body:
                sent.body += piece
                sent.pieces += 1
                if sent.pieces == limit:
                    return
        except PosternError as error:
            raise UpstreamClosed(f"Target '{target.name}' failed.", param=target.name) from error


class FakeDialer:
    """Port: TunnelDialer, for scripts without tunnels."""

    async def dial(self, target: Target, url: str, headers: HeaderList) -> UpstreamTunnel:
        raise AssertionError("no script here opens a tunnel")


class FakeRequestBody:
    """Port: RequestBody. Plays steps."""

    def __init__(self, stage: Stage, steps: Sequence[Step], declared_bytes: int | None) -> None:
        self._stage = stage
        self._steps = steps
        self.declared_bytes = declared_bytes
        self.was_read_whole = False

    async def read(self, limit: int) -> bytes:
        self.was_read_whole = True
        return b"".join([piece async for piece in self.stream(limit)])

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        received = 0
        for step in self._steps:
            if not isinstance(step, bytes):
                await self._stage.play(step, asyncio.Event(), None)
                continue
            received += len(step)
            if received > limit:
                raise BodyTooLarge(limit)
            yield step


class FakeClientReply:
    """Port: ClientReply. Keeps what the client saw, and every use of the port that its contract forbids."""

    def __init__(self, writes_until_gone: int | None = None) -> None:
        self.status: int | None = None
        self.headers: HeaderList = []
        self.pieces: list[bytes] = []
        self.events: list[str] = []
        self.misuses: list[str] = []
        self._writes_until_gone = writes_until_gone
        self.fails_with: Exception | None = None  # raised by the next write: a fault of the edge itself

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def value(self, name: str) -> str | None:
        """A header field's value, by its lower-case name; None if it is absent."""
        return next((value.decode() for key, value in self.headers if key.decode().lower() == name), None)

    async def start(self, status: int, reason: str, headers: HeaderList) -> None:
        self._event("start", not self.events)
        self.status, self.headers = status, list(headers)

    def flush(self) -> None:
        self._event("flush", self.events == ["start"])
        self._raise_if_gone()

    async def write(self, data: bytes) -> None:
        self._event("write", self._is_open())
        self._raise_if_gone()
        if self.fails_with is not None:
            raise self.fails_with
        self.pieces.append(data)

    async def finish(self) -> None:
        self._event("finish", self._is_open())
        self._raise_if_gone()

    def abort(self) -> None:
        self._event("abort", self._is_open())

    @property
    def is_gone(self) -> bool:
        """Whether the client was found to have left."""
        return self._writes_until_gone is not None and len(self.pieces) >= self._writes_until_gone

    def _is_open(self) -> bool:
        return "start" in self.events and not {"finish", "abort"} & {*self.events}

    def _event(self, name: str, is_allowed: bool) -> None:
        if not is_allowed:
            self.misuses.append(f"{name} after {self.events}")
        self.events.append(name)

    def _raise_if_gone(self) -> None:
        if self.is_gone:
            raise ClientGone


class NoTunnel:
    """Port: ClientTunnel, for scripts without tunnels."""

    def open(self, status: int, reason: str, headers: HeaderList) -> None:
        raise AssertionError("no script here opens a tunnel")

    async def read(self) -> bytes:
        raise AssertionError("no script here opens a tunnel")

    async def write(self, data: bytes) -> None:
        raise AssertionError("no script here opens a tunnel")

    def close(self) -> None:
        raise AssertionError("no script here opens a tunnel")


class FakeRecorder:
    """Port: Recorder. Every record must survive the wire to the observer."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.records.append(decode_record(encode_record(record)[4:]))


async def until_closed(closed: asyncio.Event, target: Target | None, seconds: float | None) -> None:
    """Let time pass; a connection that somebody closes meanwhile breaks at once."""
    try:
        async with asyncio.timeout(seconds):
            await closed.wait()
    except TimeoutError:
        return
    raise broken(target)


def broken(target: Target | None = None) -> UpstreamError:
    """The upstream's connection broke."""
    return UpstreamClosed(f"Target '{target.name if target else 'openai'}' failed: its reply broke off.")
