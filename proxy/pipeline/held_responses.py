"""What is held for Responses that are generated in the background, until a read tells what they used.

Here: remembering it from one call to another. Not here: which call holds it and which settles it (reserve.py).
"""

from __future__ import annotations

from collections import OrderedDict

from proxy.policy.budgets import Draw
from proxy.spending import Hold

MAX_REMEMBERED = 10_000
"""Responses; of the one that was begun first, nobody will be told any more what it used."""

Held = list[tuple[Draw, Hold]]


class HeldResponses:
    """One gate's Responses that are under way, by their ids."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._limit = limit

    def keep(self, response_id: str, held: Held) -> Held:
        """Remember what is held for a Response. Returns what was held for the one that is forgotten for it."""
        forgotten = self._held.pop(response_id, [])
        self._held[response_id] = held
        if len(self._held) > self._limit:
            forgotten = forgotten + self._held.popitem(last=False)[1]
        return forgotten

    def take(self, response_id: str) -> Held:
        """What is held for a Response; nothing if nobody knows it, and a second time."""
        return self._held.pop(response_id, [])

    def __len__(self) -> int:
        return len(self._held)
