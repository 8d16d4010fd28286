"""Which records are dealt with, by everybody who has to: the reader, the ledger, and each outbox of telemetry.

Here: who still holds a record. Not here: telling the gate (app.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntFlag
from threading import Lock


class Party(IntFlag):
    """Who may hold a record; each holds it once."""

    READER = 1  # until it has handed the record on to all others
    LEDGER = 2
    TRACES = 4
    LOGS = 8


_BEFORE_TELEMETRY = Party.READER | Party.LEDGER


class Progress:
    """Acknowledges "the first n records", although counting tokens and several parties put some out of order.

    Whoever takes a record holds it, and releases it once it is safe or counted as lost. Safe for any thread. `on_progress(n)` is called
    without a lock, by the thread that released the last hold.
    """

    def __init__(self, on_progress: Callable[[int], None]) -> None:
        self._on_progress = on_progress
        self._holds: dict[int, int] = {}  # by record: the parties that hold it
        self._begun = 0
        self._lock = Lock()
        self.acknowledged = 0
        """How many records, from the first on, nobody holds any more."""
        self.settled = 0
        """How many records, from the first on, neither the reader nor the ledger holds any more."""

    def begin(self) -> int:
        """The number of a new record (0, 1, …), held by the reader."""
        with self._lock:
            sequence = self._begun
            self._begun += 1
            self._holds[sequence] = Party.READER.value
            return sequence

    def hold(self, sequence: int, party: Party) -> None:
        """The party holds the record too. Only somebody who holds it already may hand it on."""
        with self._lock:
            self._holds[sequence] |= party.value

    def release(self, sequences: Iterable[int], party: Party) -> None:
        """The party holds none of these records any more."""
        with self._lock:
            before = self.acknowledged
            others = ~party.value
            for sequence in sequences:
                self._holds[sequence] &= others
            self._advance()
            acknowledged = self.acknowledged
        if acknowledged != before:
            self._on_progress(acknowledged)

    def _advance(self) -> None:
        holds = self._holds
        while self.settled < self._begun and not holds[self.settled] & _BEFORE_TELEMETRY.value:
            self.settled += 1
        while self.acknowledged < self._begun and not holds[self.acknowledged]:
            del holds[self.acknowledged]
            self.acknowledged += 1
