"""One signal on its way to the collector: a thread that sends, and one that moves to disk what isn't sent in time.

Here: the threads, trying again, counting, saying so in the log. Not here: order and bounds (backlog.py), the wire (otlp_http.py…).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from threading import Thread
from time import monotonic, time_ns
from typing import Protocol, assert_never

from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.progress import Progress
from proxy.observer.telemetry.export.backlog import Backlog, Batch
from proxy.observer.telemetry.export.backoff import wait_s
from proxy.observer.telemetry.export.send_result import Delivered, Refused, Retry, SendResult
from proxy.observer.telemetry.export.spool import Spool
from proxy.observer.telemetry.plan import BatchLimits

ABANDON_S = 0.3  # of the time to close: to write what is left to disk
MAX_REASONS = 20  # refusals that are told apart in the log

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """What brings a request to a collector."""

    timeout_s: float

    def send(self, request: bytes, timeout_s: float) -> SendResult:
        """Send it once."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Outbox:
    """Takes data from any thread without ever waiting."""

    def __init__(
        self,
        signal: str,
        sender: Sender,
        wrap: Callable[[bytes], bytes],
        limits: BatchLimits,
        spool: Spool | None,
        progress: Progress,
        totals: Counters,
        chance: Callable[[], float],
    ) -> None:
        self._signal = signal
        self._sender = sender
        self._counters = totals
        self._chance = chance
        self._backlog = Backlog(signal, wrap, limits, spool, progress, totals)
        self._close_at_s = inf  # monotonic
        self._failures = 0  # tries in a row after which the batch was kept
        self._try_again_s = -inf
        self._reasons: set[str] = set()  # of refusals that were logged
        self._threads = [
            Thread(target=target, name=f"{signal}-{name}", daemon=True)
            for name, target in (("send", self._deliver), ("spool", self._watch))
        ]
        for thread in self._threads:
            thread.start()

    def put(self, data: bytes, items: int, sequence: int | None) -> None:
        """Queue the data of a record, which is held until the data is delivered, on disk, or counted as lost."""
        self._backlog.put(data, items, sequence, monotonic())

    def begin_close(self, timeout_s: float) -> None:
        """Start sending what is left; `close` has to end it within `timeout_s`."""
        with self._backlog.changed:
            self._close_at_s = min(self._close_at_s, monotonic() + timeout_s)
            self._backlog.changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Send what is left, within `timeout_s`; what isn't sent by then goes to disk, or is counted as lost."""
        self.begin_close(timeout_s)
        end_s = monotonic() + timeout_s
        sending, watching = self._threads
        sending.join(max(0.0, timeout_s - ABANDON_S))
        # On a thread, because a disk can hang too.
        abandoning = Thread(target=self._backlog.abandon, args=(monotonic(),), daemon=True)
        abandoning.start()
        abandoning.join(max(0.1, end_s - monotonic()))
        self._sender.close()
        watching.join(max(0.0, end_s - monotonic()))

    @property
    def _is_closing(self) -> bool:
        return self._close_at_s < inf

    # -- sending ------------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        while (batch := self._next()) is not None:
            self._conclude(batch, self._send(batch))
            if self._is_closing and self._failures:
                return

    def _next(self) -> Batch | None:
        """The next batch, when it is due; None at the end."""
        while True:
            with self._backlog.changed:
                while not self._is_closing and (due_s := self._due_in()) > 0:
                    self._backlog.changed.wait(None if due_s == inf else due_s)
            batch = self._backlog.take(monotonic(), whole=self._is_closing)
            if batch is not None or self._is_closing:
                return batch

    def _due_in(self) -> float:
        now_s = monotonic()
        return max(self._backlog.due_in(now_s), self._try_again_s - now_s)

    def _send(self, batch: Batch) -> SendResult:
        left_s = self._close_at_s - monotonic()
        try:
            return self._sender.send(batch.request, max(0.1, min(self._sender.timeout_s, left_s)))
        except Exception as error:  # a fault of ours: this batch is lost to it, those behind aren't
            _log.exception("sending %s failed", self._items)
            return Refused(type(error).__name__)

    def _conclude(self, batch: Batch, result: SendResult) -> None:
        match result:
            case Delivered():
                self._succeed(batch, result)
            case Retry():
                self._fail(batch, result)
            case Refused(reason):
                self._counters.add(counters.EXPORT_FAILURES)
                self._backlog.refused(batch)
                self._tell_refusal(f"{batch.items} {self._items} were refused and are lost", reason)
                self._recover()
            case _:
                assert_never(result)

    def _succeed(self, batch: Batch, result: Delivered) -> None:
        is_counted = self._backlog.delivered(batch)
        rejected = min(result.rejected, batch.items)
        if is_counted:
            self._counters.add(counters.EXPORTED[self._signal], batch.items - rejected)
            self._counters.set(counters.LAST_EXPORT_S, time_ns() // 1_000_000_000)
        if rejected and is_counted:
            self._counters.drop(self._signal, counters.REJECTED, rejected)
        if rejected or result.message:
            self._tell_refusal(f"the collector took a batch without {rejected} {self._items}", result.message)
        self._recover()

    def _fail(self, batch: Batch, result: Retry) -> None:
        self._counters.add(counters.EXPORT_FAILURES)
        self._counters.add(counters.EXPORT_RETRIES)
        if not self._failures:
            _log.warning("%s can't be exported (%s): is the collector there? They are kept until it is", self._items, result.reason)
        self._failures += 1
        self._try_again_s = monotonic() + wait_s(self._failures, result.after_s, self._chance())
        self._backlog.keep(batch)

    def _recover(self) -> None:
        if self._failures:
            _log.warning("%s are exported again", self._items)
        self._failures = 0
        self._try_again_s = -inf

    @property
    def _items(self) -> str:
        return counters.ITEMS_OF_SIGNAL[self._signal].replace("_", " ")

    def _tell_refusal(self, what: str, reason: str) -> None:
        """Say it once for each reason."""
        if reason not in self._reasons and len(self._reasons) < MAX_REASONS:
            self._reasons.add(reason)
            _log.error("%s: %s", what, reason)

    # -- spooling -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            with self._backlog.changed:
                while not self._is_closing and (due_s := self._backlog.spool_in(monotonic())) > 0:
                    self._backlog.changed.wait(None if due_s == inf else due_s)
            if self._is_closing:
                return
            self._backlog.spool(monotonic())
