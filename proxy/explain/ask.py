"""A question to the gate: one call played on its own path with `x-postern-explain: 1`, and what is assumed about its targets.

Here: arguments as values, the gate with ports that lead nowhere. Not here: the ports (ports.py), the answer as text (text.py), the
decision (policy/) and its answer (pipeline/explain.py), which are those of `postern serve`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import cycle

import msgspec

from proxy.call import HeaderList
from proxy.config.load import LoadedConfig
from proxy.config.scalars import parse_percentage
from proxy.data.price_data import read_prices
from proxy.explain.assumed_store import AssumedStore
from proxy.explain.ports import Collected, GivenBody, MachineClock, NoDialer, NoRecorder, NoTunnel, NoUpstream
from proxy.pipeline.explain import EXPLAIN_HEADER
from proxy.pipeline.handle_call import handle_call
from proxy.pipeline.request import ClientRequest
from proxy.pipeline.runtime import Gate, Runtime
from proxy.policy.breaker import NS_PER_S, BreakerState
from proxy.policy.price_match import ShippedPrices
from proxy.policy.pricing import PriceBook

DRAW_DIGITS = 4  # of a draw that nobody gave: few enough to be typed again
ASSUMED_KEY = b"assumed"
OFFLINE_URL = "http://127.0.0.1"  # stands for the simulated provider, which isn't started


class Misused(Exception):
    """An argument that makes no sense; its text says which, and how it is written."""


class Assumption(msgspec.Struct, frozen=True):
    """A target's breaker is taken to be in a state."""

    target: str
    state: BreakerState


class AssumedKey(msgspec.Struct, frozen=True):
    """The call shows a virtual key, which nobody has in clear."""

    name: str


class AssumedBudget(msgspec.Struct, frozen=True):
    """Of a budget, in every scope, a share of its limit is taken to be spent."""

    name: str
    share: float


class Question(msgspec.Struct, frozen=True):
    """The call that is asked about."""

    method: str
    path: str
    headers: HeaderList
    body: bytes
    assumptions: tuple[Assumption | AssumedKey | AssumedBudget, ...] = ()
    draws: tuple[float, ...] = ()  # used in turn, again and again; empty: by chance


class Answer(msgspec.Struct, frozen=True):
    """What the gate answered: 200 and an explanation, or the error that the call gets before it is routed."""

    status: int
    body: bytes


def parse_assumption(text: str) -> Assumption | AssumedKey | AssumedBudget:
    """An assumption as it is written, e.g. `breaker:claude=open`, `key:web` or `budget:day=85%`. Raises Misused."""
    kind, _, rest = text.partition(":")
    if kind == "key" and rest:
        return AssumedKey(rest)
    target, _, state = rest.rpartition("=")
    if kind == "budget" and target and (share := parse_percentage(state)) is not None:
        return AssumedBudget(target, share)
    if kind != "breaker" or not target or state not in list(BreakerState):
        raise Misused(f"--assume {text}: write breaker:TARGET=open, half_open or closed, budget:NAME=85%, or key:NAME")
    return Assumption(target, BreakerState(state))


def parse_draws(text: str) -> tuple[float, ...]:
    """Draws as they are written, e.g. `0.42` or `0.1,0.9`. Raises Misused."""
    try:
        draws = [float(one) for one in text.split(",")]
    except ValueError:
        draws = [math.nan]
    if not all(0 <= one < 1 for one in draws):
        raise Misused(f"--draw {text}: write numbers from 0 up to 1, which is left out, with commas between")
    return tuple(draws)


def parse_field(text: str) -> tuple[bytes, bytes]:
    """A header field as it is written, `name: value`. Raises Misused."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Misused("--header: write 'NAME: VALUE'")  # what was written may be a key
    return name.strip().encode("utf-8", "surrogateescape"), value.strip().encode("utf-8", "surrogateescape")


def ask(loaded: LoadedConfig, question: Question, environment: Mapping[str, str]) -> Answer:
    """The gate's answer, in this environment. Raises Misused where an assumption names no target, or no key."""
    for one in question.assumptions:
        if isinstance(one, AssumedKey):
            loaded, question = _with_key(loaded, question, one.name)
    gate = OfflineGate(offline_runtime(loaded, environment), question.draws)
    for one in question.assumptions:
        if isinstance(one, Assumption):
            _assume(gate, one)
        elif isinstance(one, AssumedBudget):
            gate.assume_spent(one)
    reply = Collected()
    asyncio.run(handle_call(gate, _request(question), reply, NoTunnel()))
    return Answer(reply.status, bytes(reply.body))


class OfflineGate(Gate):
    """A gate that reaches nobody, and whose draws may be given."""

    def __init__(self, runtime: Runtime, draws: tuple[float, ...]) -> None:
        chance = random.SystemRandom()
        self.assumed = AssumedStore(runtime.spending)
        super().__init__(runtime, NoUpstream(), NoDialer(), NoRecorder(), MachineClock(), chance.getrandbits, self.assumed)
        self._by_chance = chance
        self.draw_from(draws)

    def assume_spent(self, one: AssumedBudget) -> None:
        """Take a share of a budget for spent. Raises Misused where no budget has that name."""
        if not any(rule.kind == "budget" and rule.name == one.name for rule in self.runtime.spending.rules):
            raise Misused(f"--assume budget:{one.name}: no budget is named '{one.name}'")
        self.assumed.shares[one.name] = one.share

    def draw_from(self, draws: Iterable[float]) -> None:
        """What chance gives from now on, over again when it is used up."""
        self._given = cycle(draws)

    def chance(self) -> float:
        """The next draw that was given, else one of few digits."""
        return next(self._given, self._by_chance.randrange(10**DRAW_DIGITS) / 10**DRAW_DIGITS)


def offline_runtime(loaded: LoadedConfig, environment: Mapping[str, str]) -> Runtime:
    """The configuration compiled, for a gate that reaches nobody."""
    targets = {name: msgspec.structs.replace(target, base_url=target.base_url or OFFLINE_URL) for name, target in loaded.targets.items()}
    prices = PriceBook(ShippedPrices(read_prices()), loaded.config.prices.overrides)
    return Runtime(loaded.config, targets, prices, variables=environment)


def _with_key(loaded: LoadedConfig, question: Question, name: str) -> tuple[LoadedConfig, Question]:
    """A configuration whose key of this name is one that the question shows. Raises Misused."""
    keys = list(loaded.config.keys)
    index = next((index for index, key in enumerate(keys) if key.name == name), None)
    if index is None:
        elsewhere = " in the file, and Redis isn't asked: show a running Postern the key" if loaded.config.store.keys else ""
        raise Misused(f"--assume key:{name}: no key is named '{name}'{elsewhere}")
    keys[index] = msgspec.structs.replace(keys[index], sha256=sha256(ASSUMED_KEY).hexdigest())
    config = msgspec.structs.replace(loaded.config, keys=keys)
    shown = (b"authorization", b"Bearer " + ASSUMED_KEY)
    return msgspec.structs.replace(loaded, config=config), msgspec.structs.replace(question, headers=[*question.headers, shown])


def _assume(gate: Gate, one: Assumption) -> None:
    state = gate.states.get(one.target)
    if state is None:
        raise Misused(f"--assume breaker:{one.target}={one.state}: no target is named '{one.target}'")
    state.breaker.state = one.state
    state.breaker.closes_ns = gate.clock.monotonic_ns() + int(state.breaker.limits.open_s * NS_PER_S)


def _request(question: Question) -> ClientRequest:
    headers = [field for field in question.headers if field[0].lower() != EXPLAIN_HEADER]
    if question.body and not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append((b"content-type", b"application/json"))
    headers.append((EXPLAIN_HEADER, b"1"))
    where = ("1.1", "http", "127.0.0.1", 0, "127.0.0.1")
    body = GivenBody(question.body)
    return ClientRequest(question.method.upper(), question.path, headers, *where, body, time.time_ns(), time.monotonic_ns())
