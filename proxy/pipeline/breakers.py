"""How the breakers of a gate stand: for its reports, and as a line of its log when one opens or closes.

Here: telling, once a second and never on the path of a call. Not here: when they change (policy/breaker.py).
"""

from __future__ import annotations

import logging

from proxy.pipeline.runtime import Gate
from proxy.policy.breaker import BreakerState

log = logging.getLogger("postern")


def breaker_states(gate: Gate) -> dict[str, str]:
    """By target: closed, open or half_open."""
    return {name: state.breaker.state.value for name, state in gate.states.items()}


class BreakerLog:
    """Remembers whose breaker was told to be open."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def tell(self, gate: Gate) -> None:
        """Say which breakers opened or closed since the last time."""
        now_open = {name for name, state in gate.states.items() if state.breaker.state is not BreakerState.CLOSED}
        for name in sorted(now_open - self._open):
            log.warning("target '%s' keeps failing: its breaker is open, calls go elsewhere", name)
        for name in sorted(self._open - now_open):
            if name in gate.states:
                away_s = (gate.clock.monotonic_ns() - gate.states[name].breaker.opened_ns) / 1e9
                log.info("target '%s' is back after %.0f s: its breaker is closed", name, away_s)
        self._open = now_open
