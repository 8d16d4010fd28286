"""Sending metrics at intervals, and a last time at the end.

Here: the thread. Not here: what is read (reader.py), how it travels (metric_exporters.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData

EXPORT_TIMEOUT_S = 30.0
LAST_EXPORT_SHARE = 0.8  # of the time to close; what isn't out by then is broken off

_log = logging.getLogger(__name__)


class MetricExport:
    """A thread that reads and sends. A collector that doesn't answer holds up nobody but this thread."""

    def __init__(self, read: Callable[[], MetricsData], exporter: MetricExporter, interval_s: float) -> None:
        self._read = read
        self._exporter = exporter
        self._interval_s = interval_s
        self._closing = Event()
        self._thread = Thread(target=self._run, name="metric-export", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self._export()
        self._export()

    def _export(self) -> None:
        try:
            self._exporter.export(self._read(), timeout_millis=EXPORT_TIMEOUT_S * 1000)
        except Exception:
            _log.exception("metrics can't be exported")

    def close(self, timeout_s: float) -> None:
        """Send what there is a last time, within `timeout_s`."""
        deadline = monotonic() + timeout_s
        self._closing.set()
        self._thread.join(timeout_s * LAST_EXPORT_SHARE)
        try:
            self._exporter.shutdown(timeout_millis=max(0.0, deadline - monotonic()) * 1000)
        except Exception:
            _log.exception("ending the export of metrics failed")
        self._thread.join(max(0.0, deadline - monotonic()))
