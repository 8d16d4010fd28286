"""What an attempt spent, for the budgets that hold something for it.

Here: the provider's usage where there is one, else an estimate from what was sent and received. Not here: who holds what (reserve.py), the
exact count for the ledger, which is the observer's: it has tiktoken, and a reservation can't wait for it.
"""

from __future__ import annotations

import msgspec

from proxy.call import Cost, Outcome, Usage, UsageSource
from proxy.pipeline.runtime import Runtime
from proxy.pipeline.settle import is_half_told, may_be_billed, unix_ns
from proxy.pipeline.state import AttemptState, CallState
from proxy.policy.bounds import likely_tokens
from proxy.policy.budgets import Bound
from proxy.policy.estimates import expected_tokens
from proxy.wire.prompt import read_prompt
from proxy.wire.reply_text import text_of_body


class Spent(msgspec.Struct, frozen=True, gc=False):
    """What an attempt spent. None: nobody can tell, so that all that is held for it counts; where there is no price, that is nothing."""

    cost_nusd: int | None = 0
    tokens: int | None = 0
    is_estimate: bool = False  # which may be more than was possible: see `at_most`

    def at_most(self, bound: Bound) -> Spent:
        """An estimate, and no more than the bound."""
        return Spent(_lesser(self.cost_nusd, bound.cost_nusd), _lesser(self.tokens, bound.tokens))


NOTHING = Spent()


def spent_by(runtime: Runtime, call: CallState, attempt: AttemptState) -> Spent:
    """What the attempt spent, once it is over and priced."""
    usage, cost = attempt.usage, attempt.cost
    if usage is not None and not is_half_told(call, attempt):
        return Spent(_total(cost), _tokens(usage))
    if not attempt.sent or not may_be_billed(attempt) or _is_read(call, attempt):
        return Spent(_total(cost) or 0, _tokens(usage) if usage is not None else 0)
    if attempt.outcome is Outcome.SUCCEEDED and (attempt.facts is None or not attempt.facts.ended):
        return Spent(_total(cost), None)  # it came whole and can't be read
    likely = _likely(call, attempt, usage)
    if cost is None or usage is not None:  # else it goes by time or by the request
        cost = _cost(runtime, call, attempt, likely)
    return Spent(_total(cost), _tokens(likely), is_estimate=True)


def _total(cost: Cost | None) -> int | None:
    return None if cost is None else cost.total_nusd


def _tokens(usage: Usage) -> int:
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)


def _lesser(amount: int | None, most: int | None) -> int | None:
    return amount if amount is None or most is None else min(amount, most)


def _is_read(call: CallState, attempt: AttemptState) -> bool:
    """Whether the call only asks for what was generated before, or what is generated is billed by a later call."""
    return not call.billable or (attempt.facts is not None and attempt.facts.background_pending)


def _likely(call: CallState, attempt: AttemptState, told: Usage | None) -> Usage:
    """What the provider didn't tell: input by its characters, output by those that were received."""
    prompt = read_prompt(call.plain) if call.plain is not None else None
    told_input = told.input_tokens if told is not None else None
    expected = expected_tokens(prompt.text_chars, prompt.token_ids) if prompt is not None else 0
    return Usage(expected if told_input is None else told_input, _received_tokens(attempt), source=UsageSource.BOUND)


def _received_tokens(attempt: AttemptState) -> int:
    if attempt.reader is not None:
        size = attempt.reader.text_size()
        return likely_tokens(size.ascii_chars, size.other_chars)
    text = text_of_body(attempt.capture)
    ascii_chars = len(text.encode("ascii", "ignore"))
    return likely_tokens(ascii_chars, len(text) - ascii_chars)


def _cost(runtime: Runtime, call: CallState, attempt: AttemptState, usage: Usage) -> Cost | None:
    facts = attempt.facts
    return runtime.prices.cost(
        attempt.endpoint.target,
        attempt.model or None,
        facts.response_model if facts else None,
        usage,
        unix_ns(call, attempt.start_ns) / 1e9,
        (attempt.end_ns - attempt.start_ns) / 1e9,
        facts.service_tier if facts else None,
    )
