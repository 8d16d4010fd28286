"""How the observer is doing, as numbers: reported to the gate after every batch, and as a metric.

Here: the names and a set of counters that every thread may add to. Not here: what they are counted for.
"""

from __future__ import annotations

from threading import Lock

RECORDS = "records"
DECODE_ERRORS = "decode_errors"
TELEMETRY_ERRORS = "telemetry_errors"  # a record that couldn't be made into spans or metrics
UNKEPT_CALLS = "unkept_calls"  # sampled, and not told as spans because of telemetry.keep: not a loss
EXPORTED_SPANS = "exported_spans"
EXPORTED_LOG_RECORDS = "exported_log_records"
EXPORTED_METRICS = "exported_metrics"  # batches of metrics, not data points
EXPORT_FAILURES = "export_failures"  # tries to export a batch, of any signal
EXPORT_RETRIES = "export_retries"  # those of them after which the batch was kept, to be tried again
LAST_EXPORT_S = "last_export_s"  # Unix time of the last batch of spans or log records that was delivered
SPOOL_BYTES = "spool_bytes"  # now
SPOOL_ITEMS = "spool_items"  # spans and log records in it, now
SPOOL_FAILED = "spool_failed"  # times the disk wouldn't: what should have been written stays in memory
SPOOL_CORRUPT_PLACES = "spool_corrupt_places"  # damaged or torn places passed; what was whole behind a torn end is resent by the gate
LEDGER_ROWS = "ledger_rows"
LEDGER_FAILURES = "ledger_failures"  # writes that failed and were tried again, and files moved aside
TOKENIZER_COUNTS = "tokenizer_counts"  # attempts counted
UNCOUNTABLE = "uncountable"  # attempts that hold no text to count
LOG_LINES = "log_lines"  # of the call log, written to standard output
UNPRICED = "unpriced"  # attempts with usage and without a price

DROPPED_ROWS_QUEUE_FULL = "dropped_rows_queue_full"
DROPPED_ROWS_SHUTDOWN = "dropped_rows_shutdown"
DROPPED_ROWS_INVALID = "dropped_rows_invalid"
DROPPED_COUNTS_QUEUE_FULL = "dropped_counts_queue_full"
DROPPED_COUNTS_SHUTDOWN = "dropped_counts_shutdown"
DROPPED_LOG_LINES_QUEUE_FULL = "dropped_log_lines_queue_full"
DROPPED_LOG_LINES_WRITE_FAILED = "dropped_log_lines_write_failed"
DROPPED_LOG_LINES_SHUTDOWN = "dropped_log_lines_shutdown"

ITEMS_OF_SIGNAL = {"traces": "spans", "logs": "log_records"}
"""What is counted of a signal that leaves through an outbox."""

EXPORTED = {"traces": EXPORTED_SPANS, "logs": EXPORTED_LOG_RECORDS, "metrics": EXPORTED_METRICS}
"""By signal, what was delivered of it."""

QUEUE_FULL = "queue_full"  # more than fits in memory, and not on disk either
EXPORT_REFUSED = "export_refused"  # the collector will never take the batch
REJECTED = "rejected"  # the collector took the batch without them
SPOOL_FULL = "spool_full"
SPOOL_CORRUPT = "spool_corrupt"
SHUTDOWN = "shutdown"
EXPORT_DROP_CAUSES = (QUEUE_FULL, EXPORT_REFUSED, REJECTED, SPOOL_FULL, SPOOL_CORRUPT, SHUTDOWN)

DROP_CAUSES = {f"dropped_{items}_{cause}": f"{items}_{cause}" for items in ITEMS_OF_SIGNAL.values() for cause in EXPORT_DROP_CAUSES} | {
    DROPPED_ROWS_QUEUE_FULL: "rows_queue_full",
    DROPPED_ROWS_SHUTDOWN: "rows_shutdown",
    DROPPED_ROWS_INVALID: "rows_invalid",
    DROPPED_COUNTS_QUEUE_FULL: "counts_queue_full",
    DROPPED_COUNTS_SHUTDOWN: "counts_shutdown",
    DROPPED_LOG_LINES_QUEUE_FULL: "log_lines_queue_full",
    DROPPED_LOG_LINES_WRITE_FAILED: "log_lines_write_failed",
    DROPPED_LOG_LINES_SHUTDOWN: "log_lines_shutdown",
    DECODE_ERRORS: "undecodable",
}
"""Counters that say something was lost: the causes of the metric postern.observer.dropped."""


class Counters:
    """Named totals since start, and a few numbers of now, safe to change from any thread."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._lock = Lock()

    def add(self, name: str, amount: int = 1) -> None:
        """Count `amount` more under `name`."""
        with self._lock:
            self._totals[name] = self._totals.get(name, 0) + amount

    def set(self, name: str, value: int) -> None:
        """What `name` is now."""
        with self._lock:
            self._totals[name] = value

    def get(self, name: str) -> int:
        """The total so far; 0 if nothing was counted."""
        return self._totals.get(name, 0)

    def drop(self, signal: str, cause: str, amount: int) -> None:
        """Count items of a signal that will never be exported, by cause and in all (dropped_spans, dropped_log_records…)."""
        items = ITEMS_OF_SIGNAL[signal]
        self.add(f"dropped_{items}_{cause}", amount)
        self.add(f"dropped_{items}", amount)

    def totals(self) -> dict[str, int]:
        """All totals at this moment, a copy."""
        with self._lock:
            return dict(self._totals)
