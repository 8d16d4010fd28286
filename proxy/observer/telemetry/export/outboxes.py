"""The outboxes of spans and log records, with the spool they share.

Here: which of them there are, ending them together. Not here: how one works (outbox.py), what is put in.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from threading import Lock
from time import monotonic

from proxy.observer.counters import Counters
from proxy.observer.progress import Progress
from proxy.observer.telemetry.export.outbox import Outbox, Sender
from proxy.observer.telemetry.export.senders import build_sender
from proxy.observer.telemetry.export.spool import Spool, open_spool
from proxy.observer.telemetry.plan import Environment, ExportPlan, SignalPlan
from proxy.observer.telemetry.spans.otlp_bytes import Encoded, Json, logs_request, resource_bytes, scope_bytes, traces_request
from proxy.observer_settings import ObserverSettings

SCOPE = "postern"

_REQUESTS = {"traces": traces_request, "logs": logs_request}


class Outboxes:
    """One outbox for each signal that is planned, made when the first item comes, or at once if the spool holds some."""

    def __init__(
        self,
        plan: ExportPlan,
        settings: ObserverSettings,
        environment: Environment,
        resource: Mapping[str, Json],
        progress: Progress,
        totals: Counters,
    ) -> None:
        """Raises OSError if a TLS file can't be read."""
        self._resource = resource_bytes(resource)
        self._scope = scope_bytes(SCOPE, settings.service_version)
        self._limits = plan.batch
        self._progress = progress
        self._counters = totals
        self._chance = random.SystemRandom().random
        self._plans: dict[str, SignalPlan] = {planned.signal: planned for planned in (plan.traces, plan.logs) if planned is not None}
        self._senders: dict[str, Sender] = {
            signal: build_sender(planned, environment, settings.service_version) for signal, planned in self._plans.items()
        }
        leaves = any(planned.exporter == "otlp" for planned in self._plans.values())
        self._spool = open_spool(settings.state_dir, settings.spool_bytes, totals) if leaves else None
        self._outboxes: dict[str, Outbox] = {}
        self._lock = Lock()
        for signal in self._plans:
            if self._spool is not None and self._spool.has(signal):
                self._outbox(signal)

    def sends(self, signal: str) -> bool:
        """Whether the signal leaves at all."""
        return signal in self._plans

    def put(self, signal: str, encoded: Encoded, sequence: int) -> None:
        """Queue all that a record is told as in a signal; nothing stays nothing. Any thread may."""
        if encoded.count and signal in self._plans:
            self._outbox(signal).put(encoded.data, encoded.count, sequence)

    def begin_close(self, timeout_s: float) -> None:
        """Start sending what is left."""
        for outbox in self._outboxes.values():
            outbox.begin_close(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Send what is left, within `timeout_s`; what isn't sent by then stays in the spool, or is counted as lost."""
        deadline = monotonic() + timeout_s
        self.begin_close(timeout_s)
        for outbox in self._outboxes.values():
            outbox.close(max(0.0, deadline - monotonic()))
        if self._spool is not None:
            self._spool.close()

    def _outbox(self, signal: str) -> Outbox:
        with self._lock:
            if signal not in self._outboxes:
                self._outboxes[signal] = self._new_outbox(signal)
            return self._outboxes[signal]

    def _new_outbox(self, signal: str) -> Outbox:
        spool: Spool | None = self._spool if self._plans[signal].exporter == "otlp" else None
        wrap = partial(_REQUESTS[signal], self._resource, self._scope)
        return Outbox(signal, self._senders[signal], wrap, self._limits, spool, self._progress, self._counters, self._chance)
