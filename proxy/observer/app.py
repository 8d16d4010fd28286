"""The observer: the second process, which does everything that happens after a call. Records in, spans, metrics and ledger rows out.

Here: reading the gate's socket, sharing records out to the threads, ending in time. Not here: what any of them does.
Threads: this one reads and computes spans, metrics and rows; one writes the ledger; two serve each outbox of telemetry; one exports
metrics; one makes pages for the admin listener; one counts tokens once it is needed. No queue between them is unbounded, and none makes
the reader wait.
A record is acknowledged when its row is in the ledger and its telemetry delivered or in the spool, or counted as lost. What the gate
resends after a crash of the observer stays one row of the ledger; the spans of one batch may be exported twice, with the same ids.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import Protocol

import msgspec

from proxy.data.price_data import read_prices
from proxy.observer import counters
from proxy.observer.call_log import StdoutLog, standard_output
from proxy.observer.counters import Counters
from proxy.observer.ledger.rows import sql_row
from proxy.observer.ledger.store import LEDGER_NAME
from proxy.observer.ledger.writer import LedgerWriter
from proxy.observer.logs import set_up_logging
from proxy.observer.pages import start_pages
from proxy.observer.progress import Party, Progress
from proxy.observer.telemetry.plan import Environment, is_disabled, plan_export
from proxy.observer.tokenizer import CountingThread, UsageCounter, needs_count
from proxy.observer_settings import ObserverSettings, decode_settings
from proxy.pages import Page, PageRequest, text_page
from proxy.policy.price_match import ShippedPrices
from proxy.policy.pricing import PriceBook
from proxy.records import CallRecord, FrameReader, GateReport, ObserverReport, decode_frame, encode_report

READ_BYTES = 256 << 10
PAUSE_S = 0.01  # between two reads: a reader that waits is woken by each record, which costs the gate more than handing it over
PLENTY_BYTES = 64 << 10  # as much at once: more is likely to be waiting
NICENESS = 5  # the observer never competes with traffic
CLOSE_S = 4.0  # the gate gives up on the observer after 5 s
COUNTING_CLOSE_S = 1.0  # of CLOSE_S, before the ledger and the exporters get the rest
CALL_LOG_CLOSE_S = 0.3

DISABLED = "OTEL_SDK_DISABLED is true: nothing is measured."
NO_TELEMETRY = "Telemetry couldn't be set up; the observer's log says why."

EXIT_OK = 0
EXIT_BAD_SETTINGS = 2

_log = logging.getLogger(__name__)


class RecordSink(Protocol):
    """What takes records beside the ledger."""

    def observe(self, record: CallRecord, sequence: int) -> None:
        """Take record number `sequence`, and hold it as long as it has to be."""
        ...

    def take_report(self, report: GateReport) -> None:
        """Take what the gate says of itself."""
        ...

    def metrics_page(self, accept: str) -> tuple[str, bytes]:
        """The content type and the body of /metrics."""
        ...

    def close(self, timeout_s: float) -> None:
        """Send what is left, within `timeout_s`."""
        ...


class ReportLink:
    """The way back to the gate. A gate that doesn't read can't hold anybody up: reports are cumulative, so one may be left out."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unsent = b""
        self._last: ObserverReport | None = None
        self._lock = Lock()

    def send(self, report: ObserverReport) -> None:
        """Send the report if it says something new and there is room for it."""
        with self._lock:
            self._push()
            if self._unsent or report == self._last:
                return
            self._last = report
            self._unsent = encode_report(report)
            self._push()

    def _push(self) -> None:
        if not self._unsent:
            return
        try:
            sent = self._connection.send(self._unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:  # the gate is gone
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]


class Observer:
    """Shares records out. `take` is called by one thread."""

    def __init__(self, settings: ObserverSettings, environment: Environment, link: ReportLink) -> None:
        self._counters = Counters()
        self._link = link
        self._no_metrics = DISABLED if is_disabled(environment) else NO_TELEMETRY
        self._progress = Progress(self._report)
        self._sink = build_telemetry(settings, environment, self._progress, self._counters)
        self._call_log = StdoutLog(self._counters, standard_output()) if settings.call_log == "stdout" else None
        self._ledger = LedgerWriter(Path(settings.state_dir) / LEDGER_NAME, self._counters, self._progress, self._report_again)
        usage = UsageCounter(settings, lambda: PriceBook(ShippedPrices(read_prices()), settings.overrides), self._counters)
        self._counting = CountingThread(usage.fill, self._finish, self._counters)

    def take(self, payload: bytes) -> None:
        """Take one frame's payload. One that can't be read is counted, and acknowledged like a record; a report never is."""
        try:
            record = decode_frame(payload)
        except (msgspec.DecodeError, ValueError):
            record = None
        if isinstance(record, GateReport):
            if self._sink is not None:
                self._sink.take_report(record)
            return
        sequence = self._progress.begin()
        if record is None:
            self._counters.add(counters.DECODE_ERRORS)
            self._progress.release([sequence], Party.READER)
            return
        self._counters.add(counters.RECORDS)
        if needs_count(record):
            self._counting.offer(sequence, record)
        else:
            self._finish(sequence, record)

    def _finish(self, sequence: int, record: CallRecord) -> None:
        """Write a record that is complete. Called by the reader and by the counting thread."""
        self._ledger.put(sequence, sql_row(record))
        unpriced = sum(attempt.unpriced for attempt in record.attempts)
        if unpriced:
            self._counters.add(counters.UNPRICED, unpriced)
        try:
            if self._call_log is not None:
                self._call_log.observe(record)
            if self._sink is not None:
                self._sink.observe(record, sequence)
        except Exception:
            self._counters.add(counters.TELEMETRY_ERRORS)
            _log.exception("call %s can't be told as telemetry", record.call_id)
        self._progress.release([sequence], Party.READER)

    def metrics_page(self, request: PageRequest) -> Page:
        """The page of /metrics."""
        if self._sink is None:
            return text_page(404, self._no_metrics)
        return Page(200, *self._sink.metrics_page(request.headers.get("accept", "")))

    def _report(self, acknowledged: int) -> None:
        self._link.send(ObserverReport(acknowledged, self._counters.totals()))

    def _report_again(self) -> None:
        self._report(self._progress.acknowledged)

    def close(self, timeout_s: float) -> None:
        """Write and export what is left, within `timeout_s`."""
        deadline = monotonic() + timeout_s
        self._counting.close(min(COUNTING_CLOSE_S, timeout_s))
        self._ledger.close(max(0.1, (deadline - monotonic()) / 2))
        if self._call_log is not None:
            self._call_log.close(CALL_LOG_CLOSE_S)
        if self._sink is not None:
            self._sink.close(max(0.1, deadline - monotonic()))
        self._report_again()


def build_telemetry(settings: ObserverSettings, environment: Environment, progress: Progress, totals: Counters) -> RecordSink | None:
    """What tells calls as spans and metrics; None, and no SDK in memory, if that is switched off or can't be set up."""
    if is_disabled(environment):
        return None
    from proxy.observer.telemetry.pipeline import Telemetry

    try:
        return Telemetry(plan_export(settings, environment), settings, environment, progress, totals)
    except Exception:
        _log.exception("telemetry can't be exported; the ledger goes on without it")
        return None


def run(connection: socket.socket, pages: socket.socket | None, environment: Environment) -> int:
    """Observe until the gate closes its end. Returns the exit code."""
    frames = FrameReader()
    waiting = _first_payloads(connection, frames)
    if not waiting:
        return EXIT_OK
    try:
        settings = decode_settings(waiting[0])
    except msgspec.DecodeError as error:
        _log.error("the gate's settings can't be read: %s", error)
        return EXIT_BAD_SETTINGS
    observer = Observer(settings, environment, ReportLink(connection))
    if pages is not None:
        start_pages(pages, {"/metrics": observer.metrics_page})
    for payload in waiting[1:]:
        observer.take(payload)
    while data := _receive(connection):
        for payload in frames.feed(data):
            observer.take(payload)
        if len(data) < PLENTY_BYTES:
            sleep(PAUSE_S)
    observer.close(CLOSE_S)
    return EXIT_OK


def _first_payloads(connection: socket.socket, frames: FrameReader) -> list[bytes]:
    while data := _receive(connection):
        payloads = frames.feed(data)
        if payloads:
            return payloads
    return []


def _receive(connection: socket.socket) -> bytes:
    """The next bytes; b"" when the gate is gone, however it went."""
    try:
        return connection.recv(READ_BYTES)
    except OSError:
        return b""


def main(file_descriptor: int, pages_descriptor: int | None, environment: Environment) -> int:
    """The process: a low priority, deaf to signals (the gate decides, by closing the socket)."""
    set_up_logging()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with socket.socket(fileno=file_descriptor) as connection:
        pages = None if pages_descriptor is None else socket.socket(fileno=pages_descriptor)
        return run(connection, pages, environment)
