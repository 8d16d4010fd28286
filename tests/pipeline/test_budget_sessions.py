"""Budgets of WebSocket sessions: each response in one is charged when it is done, and a budget that is used up ends the session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import msgspec

from proxy.call import HeaderList, Outcome, Target
from proxy.pipeline.handle_call import handle_call
from proxy.records import CallRecord
from tests.pipeline.counted_books import check_nothing_is_held
from tests.pipeline.fakes import FakeClientReply, FakeRequestBody
from tests.pipeline.scripts import CONFIG
from tests.pipeline.spending_scripts import DAY_TOKENS, DAY_USD, USD, budget
from tests.pipeline.world import Request, World

SWITCHED: HeaderList = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
RESPONSE_NUSD = 20 * 2_000 + 10 * 8_000
RESPONSE_TOKENS = 30


def done(number: int) -> bytes:
    """A frame in which a response is done: 20 tokens of input, 10 of output."""
    usage = {"input_tokens": 20, "output_tokens": 10, "total_tokens": RESPONSE_TOKENS}
    text = json.dumps({"type": "response.done", "response": {"id": f"r{number}", "status": "completed", "usage": usage}}).encode()
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text


class Tunnel:
    """Port: ClientTunnel. A client that only listens."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.closed = asyncio.Event()

    def open(self, status: int, reason: str, headers: HeaderList) -> None:
        assert status == 101

    async def read(self) -> bytes:
        await self.closed.wait()
        return b""

    async def write(self, data: bytes) -> None:
        self.received.append(data)

    def close(self) -> None:
        self.closed.set()


class Provider:
    """Port: UpstreamTunnel and TunnelDialer. Says its frames one after the other, and hangs up."""

    def __init__(self, frames: Sequence[bytes], status: int = 101) -> None:
        self.status, self.reason, self.headers = status, "", SWITCHED
        self.frames = list(frames)

    async def dial(self, target: Target, url: str, headers: HeaderList) -> Provider:
        return self

    async def read(self) -> bytes:
        return self.frames.pop(0) if self.frames else b""

    async def write(self, data: bytes) -> None:
        raise AssertionError("the client says nothing here")

    async def read_refusal(self, limit: int) -> bytes:
        return b'{"error": {"message": "no"}}'

    def close(self) -> None:
        pass


class Sessions(World):
    """A gate whose clients open WebSockets."""

    def session(
        self, frames: Sequence[bytes], status: int = 101, path: str = "/v1/realtime?model=gpt-realtime"
    ) -> tuple[Tunnel, FakeClientReply]:
        """Play one session to its end."""
        return self._runner.run(self._session(Provider(frames, status), path))

    async def _session(self, provider: Provider, path: str) -> tuple[Tunnel, FakeClientReply]:
        self.gate.dialer = provider
        tunnel, reply = Tunnel(), FakeClientReply()
        asked = self._client_request(Request("GET", path, [(b"Upgrade", b"websocket")]), FakeRequestBody(self, (), 0))
        await handle_call(self.gate, msgspec.structs.replace(asked, upgrade=True), reply, tunnel)
        check_nothing_is_held(self.store, self.gate.budget_watch.background)
        return tunnel, reply

    def records(self) -> list[CallRecord]:
        """What was recorded, session and responses."""
        return self.recorder.records


def test_each_response_in_a_session_is_charged_and_the_session_counts_as_one_request() -> None:
    with Sessions(CONFIG + budget("{usd: 1, tokens: 1000, requests: 2}")) as world:
        tunnel, _ = world.session([done(1), done(2), done(3)])
        assert world.store.spent(DAY_USD) == 3 * RESPONSE_NUSD
        assert world.store.spent(DAY_TOKENS) == 3 * RESPONSE_TOKENS
        assert world.store.spent("day:requests:all") == 1
        costs = [one.attempts[0].cost.total_nusd for one in world.records() if one.attempts[0].cost is not None]
        assert costs == [RESPONSE_NUSD] * 3
    assert len(tunnel.received) == 3


def test_a_session_ends_when_a_response_has_used_the_budget_up() -> None:
    with Sessions(CONFIG + budget(f"{{usd: {1.5 * RESPONSE_NUSD / USD}}}")) as world:
        tunnel, _ = world.session([done(1), done(2), done(3), done(4)])
        assert world.store.spent(DAY_USD) == 2 * RESPONSE_NUSD
        session = world.records()[-1]
        assert (session.outcome, session.error_type) == (Outcome.INTERRUPTED, "budget_exceeded")
        _, refused = world.session([done(5)])
    assert tunnel.received == [done(1), done(2)], "what used it up is the client's all the same"
    assert tunnel.closed.is_set()
    assert refused.status == 429


def test_a_budget_of_tokens_ends_a_session_too() -> None:
    with Sessions(CONFIG + budget(f"{{tokens: {2 * RESPONSE_TOKENS}}}")) as world:
        tunnel, _ = world.session([done(1), done(2), done(3)])
    assert len(tunnel.received) == 2


def test_a_rule_in_shadow_ends_no_session() -> None:
    with Sessions(CONFIG + budget("{tokens: 1}", "mode: shadow")) as world:
        tunnel, _ = world.session([done(1), done(2), done(3)])
        assert world.store.spent(DAY_TOKENS) == 3 * RESPONSE_TOKENS
    assert len(tunnel.received) == 3


def test_a_session_that_is_refused_upstream_is_settled_with_nothing() -> None:
    with Sessions(CONFIG + budget("{usd: 1, requests: 5}") + "limits: [{name: pace, concurrency: 1}]\n") as world:
        for _ in range(2):
            _, reply = world.session([], status=403)
            assert reply.status == 403
        assert world.store.spent(DAY_USD) == 0
        assert world.store.spent("day:requests:all") == 2


def test_a_response_in_a_session_warns_of_a_threshold_at_once() -> None:
    with Sessions(CONFIG + budget("{tokens: 100}", "warn_at: [50%]")) as world:
        world.session([done(1), done(2), done(3)])
        told = [[(warning.budget, warning.share) for warning in record.warnings] for record in world.records()]
    assert told == [[], [("day", 0.5)], [], []], "not only when the session is over"
