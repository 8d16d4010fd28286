"""What a hedge does for the slowest calls, while every 25th stalls at its first target: `python -m tests.bench.stalled_target`.

The real program before two scripted providers; without a hedge such a call waits for `first_byte_s` and fails over.
"""

from __future__ import annotations

import asyncio
import statistics
import sys

from tests.functional.test_failover import load
from tests.functional.test_hedging import FIRST_BYTE_S, GOOD, ground

CALLS, CLIENTS, STALLS_EVERY = 1_000, 4, 25
ROUTES = {
    "no hedge": "to: [first, second]",
    "hedge after 100 ms": "to: [first, second], hedge: {after: 100ms, max_ratio: 10%}",
    "hedge after p95": "to: [first, second], hedge: {after: p95, max_ratio: 10%}",
}


def measured(route: str) -> str:
    """One row's figures: p50, p95, p99 and the longest in ms, how often the second target was asked."""
    with ground(route) as built:
        asyncio.run(load(built.gate.port, CALLS // 2, clients=CLIENTS))
        asked = len(built.second.exchanges)
        built.first.script_in_turn(*[[GOOD]] * (STALLS_EVERY - 1), ["stall"])
        took_s = [one.took_s for one in asyncio.run(load(built.gate.port, CALLS, clients=CLIENTS))]
        asked = len(built.second.exchanges) - asked
    cuts = statistics.quantiles(took_s, n=100)
    figures = (cuts[49], cuts[94], cuts[98], max(took_s))
    return " | ".join([*(f"{1e3 * figure:.1f}" for figure in figures), str(asked)])


def main() -> int:
    """Print a table."""
    sys.stdout.write(
        f"first_byte_s: {FIRST_BYTE_S}\n| route | p50 ms | p95 ms | p99 ms | longest ms | second asked |\n|---|---|---|---|---|---|\n"
    )
    for name, route in ROUTES.items():
        sys.stdout.write(f"| {name} | {measured(route)} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
