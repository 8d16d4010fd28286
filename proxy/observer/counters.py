"""How the observer is doing, as numbers: reported to the gate after every batch, and as a metric.

Here: the names and a set of counters that every thread may add to. Not here: what they are counted for.
"""

from __future__ import annotations

from threading import Lock

RECORDS = "records"
DECODE_ERRORS = "decode_errors"
TELEMETRY_ERRORS = "telemetry_errors"  # a record that couldn't be made into spans or metrics
EXPORTED_SPANS = "exported_spans"
EXPORTED_METRICS = "exported_metrics"  # batches of metrics, not data points
EXPORT_FAILURES = "export_failures"  # batches, of spans or metrics
DROPPED_SPANS = "dropped_spans"  # all causes together
LEDGER_ROWS = "ledger_rows"
LEDGER_FAILURES = "ledger_failures"  # writes that failed and were tried again, and files moved aside
TOKENIZER_COUNTS = "tokenizer_counts"  # attempts counted
UNCOUNTABLE = "uncountable"  # attempts that hold no text to count
UNPRICED = "unpriced"  # attempts with usage and without a price

DROPPED_SPANS_QUEUE_FULL = "dropped_spans_queue_full"
DROPPED_SPANS_EXPORT_FAILED = "dropped_spans_export_failed"
DROPPED_SPANS_SHUTDOWN = "dropped_spans_shutdown"
DROPPED_ROWS_QUEUE_FULL = "dropped_rows_queue_full"
DROPPED_ROWS_SHUTDOWN = "dropped_rows_shutdown"
DROPPED_ROWS_INVALID = "dropped_rows_invalid"
DROPPED_COUNTS_QUEUE_FULL = "dropped_counts_queue_full"
DROPPED_COUNTS_SHUTDOWN = "dropped_counts_shutdown"

DROP_CAUSES = {
    DROPPED_SPANS_QUEUE_FULL: "spans_queue_full",
    DROPPED_SPANS_EXPORT_FAILED: "spans_export_failed",
    DROPPED_SPANS_SHUTDOWN: "spans_shutdown",
    DROPPED_ROWS_QUEUE_FULL: "rows_queue_full",
    DROPPED_ROWS_SHUTDOWN: "rows_shutdown",
    DROPPED_ROWS_INVALID: "rows_invalid",
    DROPPED_COUNTS_QUEUE_FULL: "counts_queue_full",
    DROPPED_COUNTS_SHUTDOWN: "counts_shutdown",
    DECODE_ERRORS: "undecodable",
}
"""Counters that say something was lost: the causes of the metric postern.observer.dropped."""


class Counters:
    """Named totals since start, safe to add to from any thread."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._lock = Lock()

    def add(self, name: str, amount: int = 1) -> None:
        """Count `amount` more under `name`."""
        with self._lock:
            self._totals[name] = self._totals.get(name, 0) + amount

    def get(self, name: str) -> int:
        """The total so far; 0 if nothing was counted."""
        return self._totals.get(name, 0)

    def drop_spans(self, cause: str, amount: int) -> None:
        """Count spans that will never be exported, by cause and in all."""
        self.add(cause, amount)
        self.add(DROPPED_SPANS, amount)

    def totals(self) -> dict[str, int]:
        """All totals at this moment, a copy."""
        with self._lock:
            return dict(self._totals)
