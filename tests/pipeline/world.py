"""One gate with everything around it: plays calls, and checks after each what must hold after every call (invariants.py).

Here: what a client sends, what came of it, and the world in between. Not here: the ports (fakes.py), shorthands for scripts (scripts.py).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Self

import msgspec
import pytest

from proxy.call import HeaderList, Outcome, Target
from proxy.config.load import load_config
from proxy.data.price_data import read_prices
from proxy.pipeline.handle_call import handle_call
from proxy.pipeline.request import ClientRequest
from proxy.pipeline.runtime import Gate, Runtime
from proxy.policy.explain import Explanation
from proxy.policy.price_match import ShippedPrices
from proxy.policy.pricing import PriceBook
from proxy.records import CallRecord
from proxy.wire.dialects.table import dialect
from tests.fake_time import FakeClock, FakeTimeLoop
from tests.pipeline.counted_books import CountedBooks, check_nothing_is_held
from tests.pipeline.fakes import (
    ClientLeaves,
    FakeClientReply,
    FakeDialer,
    FakeRecorder,
    FakeRequestBody,
    FakeUpstream,
    NoTunnel,
    Reply,
    Sent,
    Shutdown,
    Silence,
    Step,
    Wait,
    until_closed,
)
from tests.pipeline.invariants import check_invariants


@dataclass(frozen=True)
class Request:
    """What the client sends."""

    method: str = "POST"
    target: str = "/v1/chat/completions"
    headers: HeaderList = field(default_factory=list)
    steps: Sequence[Step] = ()
    declared_bytes: int | None = -1  # -1: what the steps add up to; None: chunked
    writes_until_gone: int | None = None
    edge_fault: Exception | None = None


@dataclass
class PlayedBeside:
    """What came of one of several calls at once."""

    client: FakeClientReply
    record: CallRecord
    raised: BaseException | None  # what left handle_call

    @property
    def error(self) -> dict[str, object]:
        """What the client was told instead of a reply, which must be in OpenAI's envelope."""
        error: dict[str, object] = json.loads(self.client.body)["error"]
        assert [*error] == ["message", "type", "param", "code"]
        return error

    @property
    def explanation(self) -> Explanation:
        """What was told to a client that asked for the decision."""
        assert (self.client.status, self.client.events[-1]) == (200, "finish"), self.client.body
        return msgspec.json.decode(self.client.body, type=Explanation)

    @property
    def asked(self) -> list[str]:
        """The targets of the call's attempts."""
        return [attempt.target for attempt in self.record.attempts]

    @property
    def attempts(self) -> list[tuple[str, Outcome, str | None]]:
        """By attempt: its target, what became of it, and why it was made."""
        return [(attempt.target, attempt.outcome, attempt.cause) for attempt in self.record.attempts]

    @property
    def cost_nusd(self) -> int | None:
        """What is recorded of all attempts; None where no attempt's cost is known."""
        costs = [attempt.cost.total_nusd for attempt in self.record.attempts if attempt.cost is not None]
        return sum(costs) if costs else None


@dataclass
class Played(PlayedBeside):
    """What came of a call that was alone."""

    sent: list[Sent]
    body: FakeRequestBody
    copies: list[CallRecord]  # of what mirrors were sent


@cache
def shipped_prices() -> ShippedPrices:
    """The prices of the package, read once."""
    return ShippedPrices(read_prices())


class World:
    """A gate with everything around it. Plays calls one after another, on one fake clock."""

    def __init__(self, config: str, environment: Mapping[str, str] | None = None) -> None:
        self.clock = FakeClock()
        self._runner = asyncio.Runner(loop_factory=lambda: FakeTimeLoop(self.clock))
        self.upstream = FakeUpstream(self)
        self.recorder = FakeRecorder()
        self.late_uploads: list[asyncio.Future[None]] = []
        bits = random.Random(7).getrandbits
        self.store = CountedBooks()
        self.gate = Gate(runtime(config, environment), self.upstream, FakeDialer(), self.recorder, self.clock, bits, self.store)
        self._beside: set[asyncio.Task[PlayedBeside]] = set()
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def call(self, request: Request, *replies: Reply | Step) -> Played:
        """Play one call; `replies` are one per attempt, or what happens instead of one."""
        return self._runner.run(self._call(request, replies))

    def together(
        self, requests: Sequence[Request], reply: Callable[[], Reply | Step], leaving: tuple[int, float] | None = None
    ) -> list[PlayedBeside]:
        """Play calls that all begin now; each attempt gets the next `reply`. `leaving`: whose client leaves, and after how many seconds."""
        self.upstream.script, self.upstream.default = [], reply
        self.upstream.started = lambda: False
        try:
            return self._runner.run(self._all(requests, leaving))
        finally:
            self.upstream.default = None

    def reload(self, config: str) -> None:
        """Put another configuration in force."""
        self.gate.use(runtime(config))

    def pass_time(self, seconds: float) -> None:
        """Let time go by between calls."""
        self.clock.advance(seconds)

    async def _call(self, request: Request, replies: Sequence[Reply | Step]) -> Played:
        self.upstream.script, self.upstream.sent = list(replies), []
        before, calls = len(self.recorder.records), self.gate.calls
        declared = request.declared_bytes
        if declared == -1:
            declared = sum(len(step) for step in request.steps if isinstance(step, bytes))
        body = FakeRequestBody(self, request.steps, declared)
        client = FakeClientReply(request.writes_until_gone)
        client.fails_with = request.edge_fault
        self.upstream.started = lambda: bool(client.events)
        raised = await self._run(self._client_request(request, body), client)
        await self.gate.mirrors.drained()
        records = [record for record in self.recorder.records[before:] if record.mirror_of is None]
        copies = [record for record in self.recorder.records[before:] if record.mirror_of is not None]
        assert len(records) == 1, f"{len(records)} records of one call"
        assert self.gate.calls == calls + len(self.recorder.records) - before, "settle didn't run exactly once"
        assert not self.upstream.script, f"replies that no attempt asked for; raised: {raised!r}, told: {client.body[:300]!r}"
        further = sum(attempt.cause == "continuation" for attempt in records[0].attempts)
        assert len(self.upstream.late) == further, "an attempt after the reply had started"
        self.upstream.late.clear()
        played = Played(client, records[0], raised, self.upstream.sent, body, copies)
        used = [(sent.target, sent.reply.ends if sent.reply else None) for sent in played.sent]
        check_invariants(self.gate, client, records[0], used, was_stopped=raised is not None or client.is_gone)
        check_nothing_is_held(self.store, self.gate.budget_watch.background)
        return played

    async def _all(self, requests: Sequence[Request], leaving: tuple[int, float] | None) -> list[PlayedBeside]:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._one_of_several(request)) for request in requests]
        if leaving is not None:
            loop.call_later(leaving[1], tasks[leaving[0]].cancel)
        self._beside.update(tasks)
        await asyncio.wait(tasks)
        self._beside.clear()
        check_nothing_is_held(self.store, self.gate.budget_watch.background)
        return [task.result() for task in tasks]

    async def _one_of_several(self, request: Request) -> PlayedBeside:
        declared = sum(len(step) for step in request.steps if isinstance(step, bytes))
        client, raised = FakeClientReply(request.writes_until_gone), None
        try:
            await handle_call(self.gate, self._client_request(request, FakeRequestBody(self, request.steps, declared)), client, NoTunnel())
        except (asyncio.CancelledError, Exception) as error:
            raised = error
        return PlayedBeside(client, self.recorder.records[-1], raised)

    def _client_request(self, request: Request, body: FakeRequestBody) -> ClientRequest:
        unix_ns, now_ns = self.clock.time_ns(), self.clock.monotonic_ns()
        where = ("1.1", "http", "127.0.0.1", 4000, "127.0.0.1")
        return ClientRequest(request.method, request.target, request.headers, *where, body, unix_ns, now_ns)

    async def _run(self, request: ClientRequest, client: FakeClientReply) -> BaseException | None:
        self._task = asyncio.get_running_loop().create_task(handle_call(self.gate, request, client, NoTunnel()))
        await asyncio.wait([self._task])
        await asyncio.gather(*self.late_uploads)
        self.late_uploads.clear()
        return asyncio.CancelledError() if self._task.cancelled() else self._task.exception()

    async def play(self, step: Step, closed: asyncio.Event, target: Target | None) -> None:
        """What a step does, other than to deliver bytes. Raises what it stands for."""
        match step:
            case Exception():
                raise step
            case Wait(seconds):
                await until_closed(closed, target, seconds)
            case Silence():
                await until_closed(closed, target, None)
            case ClientLeaves() | Shutdown():
                self.gate.stopping = isinstance(step, Shutdown)
                self._playing().cancel()
                await asyncio.Event().wait()
            case bytes():
                raise AssertionError("bytes are delivered by whoever plays them")

    def _playing(self) -> asyncio.Task[None] | asyncio.Task[PlayedBeside]:
        """The call in which a step is played."""
        current = asyncio.current_task()
        task = next((one for one in self._beside if one is current), self._task)
        assert task is not None
        return task


def world_under(config: str) -> Callable[[], Iterator[World]]:
    """A fixture: a world under this configuration, for one test."""

    @pytest.fixture
    def world() -> Iterator[World]:
        with World(config) as created:
            yield created

    return world


def runtime(config: str, environment: Mapping[str, str] | None = None) -> Runtime:
    """A configuration as it would be in force; the YAML is `config` itself, no file is read."""
    loaded = load_config("postern.yaml", {}, lambda _: config, lambda provider: dialect(provider).default_base_url)
    prices = PriceBook(shipped_prices(), loaded.config.prices.overrides)
    return Runtime(loaded.config, loaded.targets, prices, variables=environment)
