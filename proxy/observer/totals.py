"""What a call used and cost in all: the sum over its attempts, which the ledger and the SERVER span both tell.

Here: pure sums in which unknown stays unknown. Not here: rows, spans, prices.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from proxy.call import UsageSource
from proxy.records import AttemptRecord, CallRecord

_LEAST_CERTAIN_FIRST = (UsageSource.BOUND, UsageSource.TOKENIZER, UsageSource.PROVIDER)


class CallTotals(NamedTuple):
    """Sums over attempts; None = unknown, never 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_source: UsageSource | None = None  # the least certain of the attempts' sources
    cost_nusd: int | None = None


NOTHING = CallTotals()


def call_totals(record: CallRecord) -> CallTotals:
    """The call's tokens and cost. A read whose usage isn't billed (GET /v1/responses/{id}) has none."""
    if not record.billable:
        return NOTHING
    usages = [attempt.usage for attempt in record.attempts if attempt.usage is not None]
    if not usages:
        return NOTHING._replace(cost_nusd=_cost(record.attempts))
    sources = {usage.source for usage in usages}
    return CallTotals(
        input_tokens=_sum(usage.input_tokens for usage in usages),
        output_tokens=_sum(usage.output_tokens for usage in usages),
        cache_read_tokens=_sum(usage.cache_read_tokens for usage in usages),
        cache_write_tokens=_sum(usage.cache_write_tokens for usage in usages),
        reasoning_tokens=_sum(usage.reasoning_tokens for usage in usages),
        usage_source=next(source for source in _LEAST_CERTAIN_FIRST if source in sources),
        cost_nusd=_cost(record.attempts),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _cost(attempts: list[AttemptRecord]) -> int | None:
    """The sum of known costs, in nano-USD; a sum with an unknown part (used, but without a price) is itself unknown."""
    if any(attempt.unpriced or attempt.uncounted is not None for attempt in attempts):
        return None
    return _sum(attempt.cost.total_nusd for attempt in attempts if attempt.cost is not None)
