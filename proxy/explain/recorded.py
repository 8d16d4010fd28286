"""Calls as the ledger tells them, from the ledger itself or from the lines of `postern calls --json`.

Here: what a row tells of a call, and reading rows. Not here: playing them again (replay.py).
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from proxy.call import LABELS, NUSD_PER_USD, Outcome, Usage
from proxy.explain.ask import Misused
from proxy.observer.ledger.read import read_calls
from proxy.observer.ledger.rows import MAX_INTEGER, row_json
from proxy.observer.ledger.store import LEDGER_NAME
from proxy.policy.plan import BREAKER_OPEN
from proxy.records import MIRROR_OF

LEDGER = "ledger"
"""What stands for the ledger of the configuration, where a file may be named."""
MAX_USD = 1e6  # of one call: up to there a float is exact to the nano-USD
MAX_MS = 1e12
SQLITE_MAGIC = b"SQLite format 3\0"
BROKE = frozenset({Outcome.FAILED, Outcome.THROTTLED})
"""Outcomes of a call that got no reply from the last target it asked."""


class RecordedPlace(msgspec.Struct, frozen=True):
    """A target that a recorded decision names."""

    target: str
    why: str = ""


class RecordedPlan(msgspec.Struct, frozen=True):
    """A recorded decision about a call that had a choice."""

    steps: tuple[RecordedPlace, ...] = ()
    dropped: tuple[RecordedPlace, ...] = ()


class RecordedCall(msgspec.Struct, frozen=True):
    """One line of `postern calls --json`, as far as it can be played again. None = the ledger doesn't know."""

    call_id: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    method: str
    path: str
    stream: bool
    outcome: Outcome
    attempts: int
    target: str | None = None  # of the last attempt, as is the model
    model: str | None = None
    requested_model: str | None = None
    error: str | None = None
    input_tokens: int | None = None  # summed over attempts, as are the other tokens and the cost
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Annotated[float, msgspec.Meta(ge=0, le=MAX_USD)] | None = None
    duration_ms: Annotated[float, msgspec.Meta(ge=0, le=MAX_MS)] = 0.0
    tenant: str | None = None
    user: str | None = None
    app: str | None = None
    task: str | None = None
    workflow: str | None = None
    step: str | None = None
    key: str | None = None
    decision: RecordedPlan | str | None = None

    @property
    def is_copy(self) -> bool:
        """Whether it was a copy that a mirror was sent: no client called."""
        return isinstance(self.decision, str) and self.decision.startswith(MIRROR_OF)

    @property
    def cost_nusd(self) -> int | None:
        """What it cost."""
        return None if self.cost_usd is None else round(self.cost_usd * NUSD_PER_USD)

    @property
    def time_ns(self) -> int:
        """The Unix time of its start, to the millisecond."""
        return round(self.time.timestamp() * 1000) * 1_000_000

    @property
    def labels(self) -> dict[str, str]:
        """The labels it had."""
        return {name: value for name in LABELS if (value := getattr(self, name)) is not None}

    @property
    def usage(self) -> Usage | None:
        """Its tokens, where any were counted."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return Usage(self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens, None, self.reasoning_tokens)

    @property
    def broke(self) -> bool:
        """Whether the last target it asked gave no reply."""
        return self.attempts > 0 and self.outcome in BROKE

    @property
    def left(self) -> tuple[str, ...]:
        """The targets it asked before the last one, as the order of its plan tells."""
        if self.attempts < 2 or not isinstance(self.decision, RecordedPlan):
            return ()
        asked = [step.target for step in self.decision.steps]
        return tuple(asked[: asked.index(self.target)]) if self.target in asked else ()

    @property
    def out_of_service(self) -> frozenset[str]:
        """Targets that weren't asked because of an open breaker."""
        dropped = self.decision.dropped if isinstance(self.decision, RecordedPlan) else ()
        return frozenset(place.target for place in dropped if place.why == BREAKER_OPEN)


_decode = msgspec.json.Decoder(RecordedCall).decode


def read_recorded(source: str, state_dir: str, limit: int | None) -> list[RecordedCall]:
    """The last `limit` calls, or all of them, oldest first; without copies that mirrors were sent.

    `source` is LEDGER, for the one under `state_dir`, or a file: a ledger, or JSON lines. Raises Misused where a line is none of these,
    OSError, sqlite3.Error.
    """
    path = Path(state_dir) / LEDGER_NAME if source == LEDGER else Path(source)
    with path.open("rb") as file:
        if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
            file.seek(0)
            return _from_lines(file, source, limit)
    calls = [_decode(row_json(row)) for row in read_calls(path, None, limit or MAX_INTEGER)]
    return [call for call in calls if not call.is_copy]


def _from_lines(lines: Iterable[bytes], source: str, limit: int | None) -> list[RecordedCall]:
    calls: deque[RecordedCall] = deque(maxlen=limit)
    for number, line in enumerate(lines, 1):
        if line.strip():
            call = _from_line(line, f"--from {source}, line {number}")
            if not call.is_copy:
                calls.append(call)
    return list(calls)


def _from_line(line: bytes, where: str) -> RecordedCall:
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Misused(f"{where}: not a line of `postern calls --json`: {error}") from None


UNREADABLE = (OSError, sqlite3.Error)
"""What reading may raise, beside Misused."""
