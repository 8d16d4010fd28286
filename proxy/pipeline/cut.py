"""A stream that is let in although less is held for it than it may use: when that is used up, the stream is ended.

Here: how much output what is held is enough for, and the moment when it has come. Not here: what is held (policy/refusals.py,
reserve.py), the events that end a stream (wire/length_end.py), sending them (relay.py).
A token is at least one byte of text: a stream is ended when it has brought as many bytes as it may have tokens, and what a model
doesn't show (hidden reasoning) isn't seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from proxy.policy.bounds import likely_tokens
from proxy.policy.budgets import Bound, Draw
from proxy.spending import Unit
from proxy.wire.length_end import LENGTH_END_KINDS, LengthEnd
from proxy.wire.request import RequestFields
from proxy.wire.stream_reader import StreamReader

if TYPE_CHECKING:
    from proxy.pipeline.arrival import Arrival
    from proxy.pipeline.state import AttemptState


class OutputLimit(msgspec.Struct, frozen=True, gc=False):
    """How much output what is held for an attempt is enough for, where that is less than it may have."""

    tokens: int  # at least 1
    rule: str  # the budget that has too little left


class StreamCut:
    """One attempt's stream. `take` each chunk before it is passed on, ask `is_reached` once the reader has it, then `end` the attempt."""

    def __init__(self, limit: OutputLimit, kind: str, choice_count: int) -> None:
        self.limit = limit
        self._left = limit.tokens  # when this was last looked at
        self._unseen = 0  # bytes that came since then: there is no more text than these in them
        self._is_used_up = False
        self._end = LengthEnd(kind, choice_count)

    def take(self, chunk: bytes) -> bytes:
        """What is passed on of a chunk: all of it, or when what is held is used up, the rest of the event that was begun."""
        end = self._end.first_event_end(chunk) if self._is_used_up and not self._end.is_over else -1
        if end < 0:
            self._feed(chunk)
            return chunk
        self._feed(chunk[:end])
        if not self._end.is_over:
            return chunk[:end]
        self._feed(chunk[end:])
        return chunk

    def is_reached(self, reader: StreamReader) -> bool:
        """Whether the stream is to be ended here, after a whole event; not where its provider is about to end it itself."""
        if not self._is_used_up:
            if self._unseen < self._left:
                return False
            self._left = self.limit.tokens - reader.text_size().utf8_bytes
            self._unseen = self._end.unfinished_bytes
            self._is_used_up = self._left <= 0
        return self._is_used_up and not self._end.unfinished_bytes and not self._end.is_over

    def end(self, attempt: AttemptState, arrival: Arrival, reader: StreamReader, feed: Callable[[bytes], None]) -> bytes:
        """End the attempt: nothing more is generated. What the client is still to be sent; `feed` takes the same for those who count."""
        attempt.cut_by = self.limit.rule
        arrival.close()
        size = reader.text_size()
        feed(self._end.events(0))  # a count of our own isn't the provider's
        return self._end.events(likely_tokens(size.ascii_chars, size.other_chars))

    def _feed(self, chunk: bytes) -> None:
        self._end.feed(chunk)
        self._unseen += len(chunk)


def stream_cut(limit: OutputLimit | None, kind: str, choice_count: int) -> StreamCut | None:
    """What watches a stream; None where all that it may use is held."""
    return None if limit is None else StreamCut(limit, kind, choice_count)


def can_be_cut(kind: str, fields: RequestFields | None) -> bool:
    """Whether the reply is a stream that can be ended properly, and whose model stops when nobody reads on."""
    return fields is not None and fields.stream and not fields.background and kind in LENGTH_END_KINDS


def output_limit(asked: Sequence[Draw], held: Sequence[Draw], whole: Bound, least: Bound) -> OutputLimit | None:
    """How much output draws that were made smaller are enough for; None if that isn't a token.

    `whole` is the bound of the attempt, `least` that of its input alone. A cost grows with the output at most as fast as from one to the
    other: dearer tiers make it bend upwards.
    """
    pairs = [(draw, cut) for draw, cut in zip(asked, held, strict=True) if cut.line.amount < draw.line.amount]
    limits = [OutputLimit(_output_tokens(cut.unit, cut.line.amount, whole, least), cut.rule.name) for _, cut in pairs]
    tightest = min(limits, key=lambda limit: limit.tokens, default=None)
    return tightest if tightest is not None and tightest.tokens > 0 else None


def _output_tokens(unit: Unit, held: int, whole: Bound, least: Bound) -> int:
    if whole.tokens is None or least.tokens is None:
        return 0
    if unit == "tokens":
        return held - least.tokens
    if whole.cost_nusd is None or least.cost_nusd is None or whole.cost_nusd <= least.cost_nusd:
        return 0
    most_nusd = whole.cost_nusd - least.cost_nusd + 1  # of the output: both bounds are rounded up
    return (whole.tokens - least.tokens) * (held - least.cost_nusd) // most_nusd
