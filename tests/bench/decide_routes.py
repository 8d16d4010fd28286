"""What routing costs a call, in microseconds of one core, the best of several rounds: `python -m tests.bench.decide_routes`.

Only the step from a request that was read to its plan (handle_call.route), as it runs in the gate; `make bench` has whole calls.
"""

from __future__ import annotations

import json
import random
import sys
from time import process_time
from timeit import Timer

from proxy.call import HeaderList
from proxy.pipeline.handle_call import route
from proxy.pipeline.request import ClientRequest
from proxy.pipeline.runtime import Gate
from proxy.pipeline.state import CallState
from proxy.stores.books import Books
from proxy.wire.endpoints import endpoint_of
from proxy.wire.request import read_request
from tests.fake_time import FakeClock
from tests.pipeline.fakes import FakeDialer, FakeRecorder, FakeRequestBody, FakeUpstream
from tests.pipeline.world import World, runtime

CALLS = 2_000
ROUNDS = 15
PATH = "/v1/chat/completions"
TARGETS = "targets: {a: {provider: openai}, b: {provider: openai}, c: {provider: openai}}\n"
WEIGHTED = "strategy: weighted, to: [{target: a, weight: 70}, {target: b, weight: 20}, {target: c, weight: 10}]"
RULES = f"""{TARGETS}routes:
  - {{name: one, match: {{model: "gpt-*", path: "/v1/chat/*", header: {{x-team: ads}}}}, to: [b]}}
  - {{name: two, match: {{model: "gpt-*", path: "/v1/chat/*", stream: false, metadata: {{feature: captions}}}}, to: [b]}}
  - {{name: three, match: {{model: "gpt-*", path: "/v1/chat/*", method: POST, header: {{x-team: search}}}}, {WEIGHTED}}}
"""
READS_PROMPT = f"""{TARGETS}routes:
  - {{name: one, match: {{model: "gpt-*", images: true}}, to: [b]}}
  - {{name: two, match: {{model: "gpt-*", tools: false, input_tokens: {{over: 8000}}, response_format: text}}, to: [b]}}
  - {{name: three, match: {{max_tokens: {{under: 4000}}, time: {{before: "23:59", time_zone: Europe/Berlin}}}}, {WEIGHTED}}}
"""
CONFIGURATIONS = {
    "pass-through": "targets: {a: {provider: openai}}\n",
    "three matching rules, weighted": RULES,
    "rules that read the prompt": READS_PROMPT,
    "cheapest of three": TARGETS + "routes: [{name: all, strategy: cheapest, to: [a, {target: b, model: gpt-5-nano}, c]}]\n",
}
HEADERS: HeaderList = [
    (b"Host", b"127.0.0.1:4000"), (b"Accept", b"application/json"), (b"Content-Type", b"application/json"),
    (b"User-Agent", b"OpenAI/Python 2.1.0"), (b"X-Stainless-Lang", b"python"), (b"X-Stainless-Package-Version", b"2.1.0"),
    (b"X-Stainless-OS", b"Linux"), (b"X-Stainless-Arch", b"x64"), (b"X-Stainless-Runtime", b"CPython"),
    (b"X-Stainless-Runtime-Version", b"3.11.9"), (b"Authorization", b"Bearer sk-0"), (b"X-Stainless-Async", b"false"),
    (b"x-team", b"search"), (b"x-stainless-retry-count", b"0"), (b"Content-Length", b"6500"),
]  # fmt: skip
"""Those of the openai client."""


def body() -> bytes:
    """A chat of ten turns and 6 kB, as a client's dump of it."""
    turns = [
        {"role": ("user", "assistant")[turn % 2], "content": f"turn {turn}: " + "what a person says in one go. " * 20} for turn in range(10)
    ]
    return json.dumps({"model": "gpt-4o-mini", "messages": turns, "metadata": {"feature": "search"}, "max_tokens": 256}).encode()


def timed_us(config: str) -> float:
    """The least CPU time of one decision."""
    world = World(config)
    gate = Gate(runtime(config), FakeUpstream(world), FakeDialer(), FakeRecorder(), FakeClock(), random.Random(7).getrandbits, Books())
    asked = body()
    fields = read_request(asked, "chat")
    where = ("1.1", "http", "127.0.0.1", 4000, "127.0.0.1")
    request = ClientRequest("POST", PATH, HEADERS, *where, FakeRequestBody(world, (), 0), world.clock.time_ns(), 0)

    def one() -> None:
        call = CallState(request, "0" * 32, "", "0" * 16)
        call.path, call.api = PATH, endpoint_of("POST", PATH)
        call.fields, call.body, call.plain = fields, asked, asked
        route(gate, call, gate.runtime, gate.runtime.router.decide)

    return min(Timer(one, timer=process_time).repeat(ROUNDS, CALLS)) / CALLS * 1e6


def main() -> None:
    """Print a line for each configuration, the first to compare the others with."""
    plain_us = 0.0
    for name, config in CONFIGURATIONS.items():
        taken_us = timed_us(config)
        plain_us = plain_us or taken_us
        sys.stdout.write(f"{name}: {taken_us:.1f} us a call, {taken_us - plain_us:+.1f}\n")


if __name__ == "__main__":
    main()
