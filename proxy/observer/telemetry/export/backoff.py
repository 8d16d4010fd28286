"""How long to wait before a collector is tried again.

Here: a pure rule. Not here: waiting, chance (both are arguments).
"""

from __future__ import annotations

FIRST_S = 0.5
LAST_S = 30.0
MAX_TOLD_S = 300.0  # a collector may say "in an hour": we look sooner


def wait_s(failures: int, told_s: float | None, chance: float) -> float:
    """Seconds to wait after `failures` (1, 2, …) tries in a row. What the collector said wins; else doubling, with full jitter."""
    if told_s is not None:
        return min(told_s, MAX_TOLD_S)
    ceiling_s = LAST_S if failures > 10 else min(LAST_S, FIRST_S * 2**failures)
    return FIRST_S + chance * (ceiling_s - FIRST_S)
