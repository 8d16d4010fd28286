"""What a sidecar remembers of a shared account, so that a Redis that forgot it can be told again.

Here: which of what it heard it tells then. Not here: what is decided by (period_share.py), how an account is made again from what several
sidecars tell (lua/sync.lua).

An account that was lost has another incarnation, and is made of what all sidecars tell of one before it: of the same one, or what one of
them spent would count twice or not at all. So each goes on telling of the old one until the new one has been whole for long enough that
everybody has heard of it; and whether it had been, when it was lost in turn, is told by when the next one began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

SETTLE_MS = 500
"""For so long nothing is granted of an account that Redis forgot: whoever knows of it has spoken by then (HEARTBEAT_S in sync.py)."""
HEARD_MS = SETTLE_MS + 250
"""After so long everybody has heard what all have told (IDLE_S in sync.py)."""

Amounts = dict[int, int]
"""What this sidecar has spent, by the period's `start_ms`."""


class Known(msgspec.Struct, frozen=True):
    """An account as Redis told of it."""

    version: int = 0
    spent: int = 0
    others_held: int = 0


class AccountMemory:
    """Of one account. `known` is of `incarnation`; `seen` may be a later one."""

    def __init__(self) -> None:
        self.seen = self.incarnation = ""
        self.known = Known()
        self._told: Amounts = {}  # to the incarnation seen
        self._settled: tuple[Known, Amounts] | None = None  # the incarnation seen, whole, and what had been told to it
        self._acknowledged: Amounts = {}  # by `incarnation`
        self._before: Amounts = {}  # by those before it

    def begin_anew(self, seen: str) -> None:
        """Redis has forgotten the account; it has a new incarnation."""
        if self._settled is not None and _began_ms(seen) - _began_ms(self.seen) >= HEARD_MS:
            self._remember(*self._settled)
        self.seen, self._told, self._settled = seen, {}, None

    def take(self, seen: str, version: int, told: Mapping[int, int]) -> bool:
        """Take an answer to a report of what was spent so far. True: Redis went back to an earlier state of the account."""
        went_back = seen == self.incarnation and version < self.known.version
        self.seen = seen
        self._told |= told
        return went_back

    def keep(self, known: Known, settled_in_ms: int) -> None:
        """Remember how the account stands. `settled_in_ms`: see lua/sync.lua."""
        if settled_in_ms > 0:
            if self.seen == self.incarnation:  # it went back: what is remembered is better, but for the version
                self.known = msgspec.structs.replace(self.known, version=known.version)
            return
        self._settled = (known, dict(self._told))
        if self.seen == self.incarnation or not settled_in_ms or -settled_in_ms >= HEARD_MS - SETTLE_MS:
            self._remember(*self._settled)

    def _remember(self, known: Known, told: Amounts) -> None:
        if self.seen != self.incarnation:
            self._before = dict(self._acknowledged)
        self.incarnation, self.known = self.seen, known
        self._acknowledged |= told

    def told(self, start_ms: int) -> tuple[int, int]:
        """Of what was spent in a period: how much is part of what is known, how much was so before the incarnation that is remembered."""
        return self._acknowledged.get(start_ms, 0), self._before.get(start_ms, 0)

    def forget(self, is_over: Callable[[int], bool]) -> None:
        """Forget periods."""
        for amounts in (self._told, self._acknowledged, self._before):
            for start_ms in [start_ms for start_ms in amounts if is_over(start_ms)]:
                del amounts[start_ms]


def _began_ms(incarnation: str) -> int:
    return int(incarnation.partition(".")[0])
