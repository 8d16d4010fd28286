"""Usage that no provider told, counted off the path: what was sent, and what was received of the reply.

Here: which attempts are counted, their usage and cost, the thread that does it. Not here: tokenizing (encodings.py), prices.
Counting is an estimate and says so (usage source `tokenizer`): hidden prompts, pictures and reasoning that wasn't shown aren't in it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

import msgspec

from proxy.call import Outcome, Target, Usage, UsageSource
from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.encodings import PER_FUNCTION_TOKENS, TokenCounter, encoding_of
from proxy.observer.prompt_text import read_prompt
from proxy.observer_settings import ObserverSettings, PricedTarget
from proxy.policy.pricing import PriceBook
from proxy.records import AttemptRecord, CallRecord, Uncounted, facts_as_sent
from proxy.wire.reply_text import text_of_body, text_of_events

COUNTED_OPERATIONS = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
"""Operations whose input and output are text. The others are left unknown."""

MAX_WAITING = 1_000  # records
MAX_WAITING_BYTES = 32 << 20

_UNBILLED = frozenset({Outcome.REJECTED, Outcome.THROTTLED})
_NOT_SENT = "connect"  # ConnectFailed.error_type: the upstream never saw the request
_EMBEDDINGS = "embeddings"

_log = logging.getLogger(__name__)


def needs_count(record: CallRecord) -> bool:
    """Whether an attempt of the call waits for its tokens to be counted."""
    return record.billable and any(attempt.uncounted is not None for attempt in record.attempts)


class UsageCounter:
    """Fills in usage and cost of attempts that came without. For one thread."""

    def __init__(self, settings: ObserverSettings, load_prices: Callable[[], PriceBook], totals: Counters) -> None:
        self._targets = settings.targets
        self._load_prices = load_prices
        self._prices: PriceBook | None = None
        self._tokens = TokenCounter()
        self._counters = totals

    def fill(self, record: CallRecord) -> None:
        """Count every attempt that waits for it. One that can't be counted stays as it is: its usage and the call's cost are unknown."""
        for attempt in record.attempts:
            if attempt.uncounted is not None:
                self._fill_attempt(record, attempt, attempt.uncounted)

    def _fill_attempt(self, record: CallRecord, attempt: AttemptRecord, raw: Uncounted) -> None:
        if attempt.outcome in _UNBILLED or attempt.error_type == _NOT_SENT:
            attempt.uncounted = None
            return
        usage = self._count(record.operation, attempt, raw)
        if usage is None:
            self._counters.add(counters.UNCOUNTABLE)
            return
        self._counters.add(counters.TOKENIZER_COUNTS)
        if attempt.usage is not None:  # Anthropic told the input before the message was cut: only the output is ours to count
            usage = msgspec.structs.replace(attempt.usage, output_tokens=usage.output_tokens, source=UsageSource.TOKENIZER)
        attempt.usage = usage
        attempt.uncounted = None
        self._price(record, attempt, usage)

    def _count(self, operation: str, attempt: AttemptRecord, raw: Uncounted) -> Usage | None:
        prompt = read_prompt(raw.request_body) if operation in COUNTED_OPERATIONS else None
        if prompt is None:
            return None
        tokens = self._tokens.count(attempt.model, prompt.texts) + prompt.known_tokens
        tokens += prompt.functions * PER_FUNCTION_TOKENS[encoding_of(attempt.model)]
        if not prompt.whole and raw.request_body:
            tokens = round(tokens * raw.request_bytes / len(raw.request_body))
        output = None if operation == _EMBEDDINGS else self._count_reply(attempt, raw)
        return Usage(input_tokens=tokens, output_tokens=output, source=UsageSource.TOKENIZER)

    def _count_reply(self, attempt: AttemptRecord, raw: Uncounted) -> int:
        text = raw.reply_text + (text_of_events if raw.reply_is_stream else text_of_body)(raw.reply)
        tokens = self._tokens.count(attempt.model, [text])
        if not raw.reply_is_stream and len(raw.reply) < raw.reply_bytes and raw.reply:
            return round(tokens * raw.reply_bytes / len(raw.reply))
        return tokens

    def _price(self, record: CallRecord, attempt: AttemptRecord, usage: Usage) -> None:
        attempt.unpriced = True
        if self._prices is None:
            self._prices = self._load_prices()
        declared = self._targets.get(attempt.target, PricedTarget(attempt.provider))
        asked = facts_as_sent(record, attempt)
        tier = attempt.service_tier or (asked.service_tier if asked is not None else None)
        attempt.cost = self._prices.cost(
            Target(attempt.target, declared.provider, "", price=declared.price),
            attempt.model or None,
            attempt.response_model,
            usage,
            attempt.start_ns / 1e9,
            (attempt.end_ns - attempt.start_ns) / 1e9,
            tier,
        )
        attempt.unpriced = attempt.cost is None


class CountingThread:
    """Counts records one after another, beside everything else; each is handed on with its number when it is done."""

    def __init__(self, fill: Callable[[CallRecord], None], finish: Callable[[int, CallRecord], None], totals: Counters) -> None:
        self._fill = fill
        self._finish = finish
        self._counters = totals
        self._waiting: deque[tuple[int, CallRecord]] = deque()
        self._waiting_bytes = 0
        self._current: tuple[int, CallRecord] | None = None
        self._changed = Condition()
        self._closing = False
        self._thread: Thread | None = None  # started, and tiktoken imported, when the first record comes

    def offer(self, sequence: int, record: CallRecord) -> None:
        """Queue a record; when too much waits, it is handed on uncounted at once."""
        size = _raw_bytes(record)
        with self._changed:
            has_room = len(self._waiting) < MAX_WAITING and self._waiting_bytes + size <= MAX_WAITING_BYTES
            if has_room:
                self._waiting.append((sequence, record))
                self._waiting_bytes += size
                self._changed.notify()
        if not has_room:
            self._counters.add(counters.DROPPED_COUNTS_QUEUE_FULL)
            self._finish(sequence, record)
        elif self._thread is None:
            self._thread = Thread(target=self._run, name="tokenizer", daemon=True)
            self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Count what is left, within `timeout_s`; what isn't counted by then is handed on uncounted."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
            if self._current is not None:
                left.insert(0, self._current)
                self._current = None
        for sequence, record in left:
            self._counters.add(counters.DROPPED_COUNTS_SHUTDOWN)
            self._finish(sequence, record)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._fill(item[1])
            except BaseException:  # tiktoken's panics aren't Exceptions
                self._counters.add(counters.UNCOUNTABLE)
                _log.exception("counting tokens failed")
            with self._changed:
                is_mine, self._current = self._current is not None, None
            if is_mine:  # close() takes over what takes too long
                self._finish(*item)

    def _next(self) -> tuple[int, CallRecord] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if not self._waiting:
                return None
            self._current = self._waiting.popleft()
            self._waiting_bytes -= _raw_bytes(self._current[1])
            return self._current


def _raw_bytes(record: CallRecord) -> int:
    parts = [attempt.uncounted for attempt in record.attempts if attempt.uncounted is not None]
    return sum(len(part.request_body) + len(part.reply) + len(part.reply_text) for part in parts)
