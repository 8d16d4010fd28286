"""What rules about requests cost a call, in microseconds of one core, the best of several rounds: `python -m tests.bench.shape_requests`.

Only the step from a request to what one target is sent (pipeline/upstream_request.py); `make bench` has whole calls.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from time import process_time
from timeit import repeat

from proxy.pipeline.request import ClientRequest
from proxy.pipeline.request_rules import RequestRules
from proxy.pipeline.state import CallState
from proxy.pipeline.upstream_request import upstream_request
from proxy.policy.order import Candidate
from proxy.policy.plan import Plan
from proxy.policy.routing import RouteDecision
from proxy.wire.endpoints import endpoint_of
from proxy.wire.request import read_request
from proxy.wire.shape import Clamp, Drop, Edit, Set, combined
from tests.pipeline.fakes import FakeRequestBody
from tests.pipeline.world import World

CALLS = 5_000
ROUNDS = 7
STEP = Candidate("openai", None)
RULES: dict[str, list[Edit]] = {
    "no rule": [],
    "one that changes nothing": [Clamp("max_completion_tokens", 9000)],
    "one that changes something": [Drop("logit_bias")],
    "three that change something": [Set("temperature", b"0"), Clamp("max_completion_tokens", 800), Drop("logit_bias")],
}


def body(prompt_chars: int) -> bytes:
    """A chat request of seven members."""
    return json.dumps(
        {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "x" * prompt_chars}],
            "temperature": 0.7,
            "max_completion_tokens": 2000,
            "logit_bias": {"50256": -100},
            "stream": True,
            "top_p": 1,
        }
    ).encode()


def call(world: World, data: bytes) -> CallState:
    """A call whose request was read and routed."""
    request = ClientRequest(
        "POST", "/v1/chat/completions", [], "1.1", "http", "127.0.0.1", 4000, "127.0.0.1", FakeRequestBody(world, [], 0), 0, 0
    )
    state = CallState(request, "call-1", "", "")
    state.api = endpoint_of(request.method, request.target)
    state.body = state.plain = data
    state.fields = read_request(data, state.api.kind)
    state.decision = RouteDecision("all", Plan((STEP,)))
    return state


def us_a_call(work: Callable[[], object]) -> float:
    return min(repeat(work, timer=process_time, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def main() -> None:
    """Print a line for each set of rules and each length of the prompt."""
    with World("targets: {openai: {provider: openai}}") as world:
        for prompt_chars in (100, 10_000):
            state = call(world, body(prompt_chars))
            for words, edits in RULES.items():
                rules: RequestRules = {("all", "openai"): combined(edits)} if edits else {}
                cost_us = us_a_call(partial(upstream_request, state, rules, STEP))
                sys.stdout.write(f"{prompt_chars} characters, {words}: {cost_us:.1f} us a call\n")


if __name__ == "__main__":
    main()
