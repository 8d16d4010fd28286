"""The breaker of a target: after too many failures it takes no calls for a while, then lets a few through to see.

Here: the states and when they change, time as an argument. Not here: which faults count (faults.py), what is told about it.
CLOSED: traffic flows. OPEN: none does, for `open_s`. HALF_OPEN: `probes` calls at a time; as many successes close it, one failure opens it.
It opens after `failures` failures in a row, or when within `window_s` there were as many and they were at least `ratio` of all.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from proxy.config.schema import BreakerConfig

NS_PER_S = 1_000_000_000
SLOTS = 10  # the window moves in steps of a tenth: it may be up to a tenth too long, and takes no more memory under load


class _Slot:
    """What happened within a tenth of the window."""

    __slots__ = ("failures", "index", "total")

    def __init__(self, index: int) -> None:
        self.index = index
        self.total = 0
        self.failures = 0


class BreakerState(StrEnum):
    """CLOSED = traffic flows."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """One target's breaker. Each attempt that was admitted ends in exactly one of `succeeded`, `failed`, `released`."""

    def __init__(self, limits: BreakerConfig) -> None:
        self._limits = limits
        self.state = BreakerState.CLOSED
        self.opened_ns = 0  # when it last left CLOSED: the time to recovery counts from here
        self.closes_ns = 0  # when OPEN ends
        self._in_a_row = 0
        self._slots: deque[_Slot] = deque(maxlen=SLOTS + 1)
        self._slot_ns = _slot_ns(limits)
        self._round = 0  # of probing: the late end of an earlier round's probe counts no more
        self._probing = 0  # attempts under way in HALF_OPEN
        self._probes_succeeded = 0

    @property
    def limits(self) -> BreakerConfig:
        """When it opens and closes. They may change while it runs: a window of another length begins empty."""
        return self._limits

    @limits.setter
    def limits(self, limits: BreakerConfig) -> None:
        self._limits = limits
        if self._slot_ns != _slot_ns(limits):
            self._slot_ns = _slot_ns(limits)
            self._slots.clear()

    def admits(self, now_ns: int) -> bool:
        """Whether an attempt may be made. Doesn't change anything: see `admit`."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN and now_ns < self.closes_ns:
            return False
        return self.state is BreakerState.OPEN or self._probing < self._limits.probes

    def admit(self, now_ns: int) -> int:
        """An attempt is about to be made. Returns its ticket, to be handed to `succeeded`, `failed` or `released`; 0 if it is no probe."""
        if self.state is BreakerState.CLOSED:
            return 0
        if self.state is BreakerState.OPEN and now_ns >= self.closes_ns:
            self.state = BreakerState.HALF_OPEN
            self._round += 1
            self._probing = self._probes_succeeded = 0
        self._probing += 1
        return self._round

    def succeeded(self, now_ns: int, ticket: int) -> None:
        """An attempt went well."""
        if self.state is BreakerState.CLOSED:
            self._in_a_row = 0
            self._count(now_ns, failed=False)
        elif self._is_probe(ticket):
            self._probing -= 1
            self._probes_succeeded += 1
            if self._probes_succeeded >= self._limits.probes:
                self._close()

    def failed(self, now_ns: int, ticket: int) -> None:
        """An attempt failed, with a fault that counts. One that was begun before the breaker opened changes nothing any more."""
        if self.state is BreakerState.CLOSED:
            self._in_a_row += 1
            self._count(now_ns, failed=True)
            if self._in_a_row >= self._limits.failures or self._is_ratio_reached():
                self._open(now_ns)
                self.opened_ns = now_ns
        elif self._is_probe(ticket):
            self._open(now_ns)

    def released(self, ticket: int) -> None:
        """An attempt said nothing about the target: the client left, or was at fault."""
        if self._is_probe(ticket):
            self._probing -= 1

    def _is_probe(self, ticket: int) -> bool:
        return self.state is BreakerState.HALF_OPEN and ticket == self._round

    def _count(self, now_ns: int, failed: bool) -> None:
        index = now_ns // self._slot_ns
        if not self._slots or self._slots[-1].index != index:
            self._slots.append(_Slot(index))
        self._slots[-1].total += 1
        self._slots[-1].failures += failed
        while self._slots[0].index < index - SLOTS:
            self._slots.popleft()

    def _is_ratio_reached(self) -> bool:
        failures = sum(slot.failures for slot in self._slots)
        return failures >= max(self._limits.failures, self._limits.ratio * sum(slot.total for slot in self._slots))

    def _open(self, now_ns: int) -> None:
        self.state = BreakerState.OPEN
        self.closes_ns = now_ns + int(self._limits.open_s * NS_PER_S)

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self._in_a_row = 0
        self._slots.clear()


def _slot_ns(limits: BreakerConfig) -> int:
    return max(1, int(limits.window_s * NS_PER_S / SLOTS))
