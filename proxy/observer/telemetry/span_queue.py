"""Spans on their way out: a bounded queue and the thread that exports from it in batches.

Here: gathering, exporting, counting what was lost. Not here: building spans or exporters.
In place of the SDK's BatchSpanProcessor, whose shutdown takes 30 s beside a dead collector and which counts nothing.
"""

from __future__ import annotations

import logging
from collections import deque
from threading import Condition, Thread

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.telemetry.plan import BatchLimits

_log = logging.getLogger(__name__)


ABORT_S = 0.2  # for the batch under way to fail, once its exporter is shut down


class SpanQueue:
    """Takes spans from any thread without ever waiting; when full, the oldest go."""

    def __init__(self, exporter: SpanExporter, limits: BatchLimits, totals: Counters) -> None:
        self._exporter = exporter
        self._limits = limits
        self._counters = totals
        self._spans: deque[ReadableSpan] = deque()
        self._changed = Condition()
        self._closing = False
        self._failing = False
        self._thread = Thread(target=self._run, name="span-export", daemon=True)
        self._thread.start()

    def put(self, spans: list[ReadableSpan]) -> None:
        """Queue spans for export."""
        with self._changed:
            self._spans.extend(spans)
            dropped = len(self._spans) - self._limits.queue_spans
            for _ in range(dropped):
                self._spans.popleft()
            if len(self._spans) >= self._limits.batch_spans:
                self._changed.notify()
        if dropped > 0:
            self._counters.drop_spans(counters.DROPPED_SPANS_QUEUE_FULL, dropped)

    def begin_close(self) -> None:
        """Start exporting what is left."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Wait for what is left to be exported, at most `timeout_s`; what isn't by then is counted as lost."""
        self.begin_close()
        self._thread.join(timeout_s)
        self._exporter.shutdown()
        self._thread.join(ABORT_S)
        with self._changed:
            if self._spans:
                self._counters.drop_spans(counters.DROPPED_SPANS_SHUTDOWN, len(self._spans))
                self._spans.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_due, self._limits.delay_s)
                batch = [self._spans.popleft() for _ in range(min(len(self._spans), self._limits.batch_spans))]
                closing = self._closing
            if batch:
                self._export(batch)
            elif closing:
                return

    def _is_due(self) -> bool:
        return self._closing or len(self._spans) >= self._limits.batch_spans

    def _export(self, batch: list[ReadableSpan]) -> None:
        try:
            succeeded = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:
            _log.exception("exporting spans failed")
            succeeded = False
        if succeeded:
            self._counters.add(counters.EXPORTED_SPANS, len(batch))
        else:
            self._counters.add(counters.EXPORT_FAILURES)
            self._counters.drop_spans(counters.DROPPED_SPANS_EXPORT_FAILED, len(batch))
        self._tell(succeeded)

    def _tell(self, succeeded: bool) -> None:
        if succeeded and self._failing:
            _log.warning("spans are exported again")
        elif not succeeded and not self._failing:
            _log.warning("spans can't be exported: is the collector there? They are dropped and counted until it is")
        self._failing = not succeeded
