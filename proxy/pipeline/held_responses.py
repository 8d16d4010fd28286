"""What is held for Responses that are generated in the background, until a read tells what they used.

Here: remembering it from one call to another. Not here: which call holds it and which settles it (reserve.py).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

from proxy.policy.budgets import Draw
from proxy.spending import Hold

MAX_REMEMBERED = 10_000
"""Responses; of the one that was begun first, nobody will be told any more what it used."""
MAX_AGE_NS = 24 * 3600 * 10**9
"""What wasn't read for so long won't be: it counts with all that was held for it."""
AT_A_TIME = 8
"""Responses that one call gives up."""

Held = list[tuple[Draw, Hold]]


class _Kept(NamedTuple):
    since_ns: int
    held: Held  # nothing, once it was given up


class HeldResponses:
    """One gate's Responses that are under way, by their ids, in the order in which they were begun."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._limit = limit
        self._given_up = 0

    def keep(self, response_id: str, held: Held, now_ns: int) -> Held:
        """Remember what is held for a Response. Returns what was held for the one that is forgotten for it."""
        forgotten = self.take(response_id) or []
        self._kept[response_id] = _Kept(now_ns, held)
        if len(self._kept) > self._limit:
            forgotten = forgotten + (self.take(next(iter(self._kept))) or [])
        return forgotten

    def take(self, response_id: str) -> Held | None:
        """What is held for a Response; nothing where it was given up, None if nobody knows it, and a second time."""
        kept = self._kept.pop(response_id, None)
        if kept is None:
            return None
        self._given_up -= not kept.held
        return kept.held

    def give_up_old(self, now_ns: int) -> Held:
        """What is held for Responses that are too old to be read. They stay known, so that one that is read all the same isn't charged."""
        if len(self) == 0:
            return []
        given_up: Held = []
        for response_id, kept in list(islice(self._kept.items(), self._given_up, self._given_up + AT_A_TIME)):
            if now_ns - kept.since_ns < MAX_AGE_NS:
                break
            given_up += kept.held
            self._kept[response_id] = _Kept(kept.since_ns, [])
            self._given_up += 1
        return given_up

    def __len__(self) -> int:
        return len(self._kept) - self._given_up
