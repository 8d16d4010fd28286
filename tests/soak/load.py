"""A mixed load as apps make it: plain calls, streams, clients that leave, errors, broken streams, unknown models, many names.

Open loop: calls start at the asked rate whatever became of those before. `Tally` says how they went, by kind.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import aiohttp

Body = dict[str, Any]

USERS, TEAMS, FEATURES, UNKNOWN_MODELS = 10_000, 500, 300, 2_000
MAX_RUNNING = 400  # beyond, a start is left out and counted
CALL_TIMEOUT_S = 30.0
LEAVE_AFTER_S = 0.05
TEXTS = ("Tell me about the small gate.", "Summarise: " + "a gate beside a gate, " * 40, "Ada Lovelace <ada@example.org> asks: why?")


class Planned(NamedTuple):
    """One call to make."""

    path: str
    body: Body | bytes
    sim: str = ""  # directives of the simulated provider
    leaves: str = ""  # "early": before the reply; "midway": after its first bytes


def chat(chance: random.Random, **more: Any) -> Body:
    content = f"{chance.choice(TEXTS)} ({chance.randrange(10**9)})"
    return {
        "model": "sim/gpt-4o-mini",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}],
        "user": f"user-{chance.randrange(USERS)}",
        "metadata": {"feature": f"feature-{chance.randrange(FEATURES)}"},
        **more,
    }


def stream(chance: random.Random, sim: str = "n=24", leaves: str = "") -> Planned:
    return Planned("/v1/chat/completions", chat(chance, stream=True), sim, leaves)


def plain(chance: random.Random, sim: str = "n=12", leaves: str = "", **more: Any) -> Planned:
    return Planned("/v1/chat/completions", chat(chance, **more), sim, leaves)


def embeddings(chance: random.Random) -> Planned:
    return Planned("/v1/embeddings", {"model": "sim/text-embedding-3-small", "input": [chance.choice(TEXTS), str(chance.random())]})


def response(chance: random.Random) -> Planned:
    return Planned("/v1/responses", {"model": "sim/gpt-4o-mini", "input": chance.choice(TEXTS), "stream": chance.random() < 0.5})


def message(chance: random.Random) -> Planned:
    messages = [{"role": "user", "content": chance.choice(TEXTS)}]
    return Planned("/v1/messages", {"model": "sim/claude-sonnet-4-5", "max_tokens": 64, "messages": messages})


KINDS: tuple[tuple[str, int, Callable[[random.Random], Planned]], ...] = (
    ("plain", 28, plain),
    ("stream", 26, stream),
    ("stream, client leaves", 9, lambda chance: stream(chance, "n=200,d=10", "midway")),
    ("plain, client leaves", 3, lambda chance: plain(chance, "lat=2000", "early")),
    ("error status", 8, lambda chance: plain(chance, f"status={chance.choice((400, 401, 429, 500, 503))}")),
    ("broken stream", 4, lambda chance: stream(chance, f"n=30,after=8,fault={chance.choice(('cut', 'sseerror', 'nodone', 'error200'))}")),
    ("reset", 2, lambda chance: plain(chance, "fault=reset")),
    ("no route", 3, lambda chance: plain(chance, model=f"nobody/{chance.randrange(UNKNOWN_MODELS)}")),
    ("no price", 3, lambda chance: plain(chance, model=f"sim/unheard-of-{chance.randrange(UNKNOWN_MODELS)}")),
    ("embeddings", 7, embeddings),
    ("response", 4, response),
    ("message", 2, message),
    ("no JSON", 1, lambda chance: Planned("/v1/chat/completions", b'{"model": "sim/gpt-4o-mini", ' + chance.randbytes(64))),
    ("unknown path", 1, lambda chance: Planned(f"/v1/things/{chance.randrange(10**9)}/%0a%22", {"model": "sim/gpt-4o-mini"})),
)  # fmt: skip
"""Name, weight, and how such a call is made."""


class Tally:
    """How the calls went: by kind, and what became of them."""

    def __init__(self) -> None:
        self.by_kind: Counter[str] = Counter()
        self.by_result: Counter[str] = Counter()
        self.left_out = 0

    @property
    def started(self) -> int:
        return sum(self.by_kind.values())


class Load:
    """Makes calls through a base URL until it is told to stop."""

    def __init__(self, url: str, rate: float, seed: int) -> None:
        self.tally = Tally()
        self._url = url
        self._gap_s = 1 / rate
        self._chance = random.Random(seed)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Start calls at the rate for so long, then wait for those that still run."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        due = loop.time()
        async with aiohttp.ClientSession(
            self._url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(CALL_TIMEOUT_S)
        ) as session:
            while due < end:
                await asyncio.sleep(max(0.0, due - loop.time()))
                self._start(session)
                due += self._gap_s
            if self._running:
                await asyncio.wait(self._running)

    def _start(self, session: aiohttp.ClientSession) -> None:
        if len(self._running) >= MAX_RUNNING:
            self.tally.left_out += 1
            return
        name, _, make = self._chance.choices(KINDS, [weight for _, weight, _ in KINDS])[0]
        self.tally.by_kind[name] += 1
        task = asyncio.create_task(self._call(session, make(self._chance), f"team-{self._chance.randrange(TEAMS)}"))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _call(self, session: aiohttp.ClientSession, planned: Planned, team: str) -> None:
        headers = {"x-team": team, "authorization": "Bearer soak", "content-type": "application/json"}
        if planned.sim:
            headers["x-sim"] = planned.sim
        what: dict[str, Any] = {"data": planned.body} if isinstance(planned.body, bytes) else {"json": planned.body}
        try:
            async with asyncio.timeout(LEAVE_AFTER_S if planned.leaves == "early" else None):
                async with session.post(planned.path, headers=headers, **what) as reply:
                    async for _ in reply.content.iter_any():
                        if planned.leaves == "midway":
                            reply.close()
                            break
            self.tally.by_result["left midway" if planned.leaves == "midway" else str(reply.status)] += 1
        except TimeoutError:
            self.tally.by_result["left early" if planned.leaves == "early" else "timeout"] += 1
        except aiohttp.ClientError as error:
            self.tally.by_result[type(error).__name__] += 1
