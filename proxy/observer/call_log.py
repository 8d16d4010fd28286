"""The call log: every call as one JSON object on one line, for whoever collects the standard output of containers.

Here: the line, and the thread that writes lines to a file descriptor. Not here: the line as an OTLP log record (telemetry/), messages
of the program itself (logs.py). Fields have the names of `postern calls --json`; what isn't there is unknown.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections import deque
from threading import Condition, Thread
from typing import Literal

import msgspec

from proxy.call import Outcome
from proxy.observer import counters
from proxy.observer.counters import Counters
from proxy.observer.ledger.rows import COLUMNS, Row, row_json, sql_row
from proxy.records import AttemptRecord, CallRecord

Level = Literal["info", "warning", "error"]

LEVELS: dict[Outcome, Level] = {
    Outcome.SUCCEEDED: "info",
    Outcome.REJECTED: "warning",
    Outcome.THROTTLED: "warning",
    Outcome.ABANDONED: "warning",
    Outcome.FAILED: "error",
    Outcome.INTERRUPTED: "error",
}

MAX_LINE_BYTES = (16 << 10) - 1  # with its newline what Docker and containerd still take as one
MAX_TEXT_CHARS = 512
MAX_TEXT_CHARS_IF_SCARCE = 64  # where a line would be too long all the same
MAX_PAIRS = 32  # tags, custom attributes
MAX_ATTEMPTS = 16

QUEUE_LINES = 10_000
BATCH_BYTES = 64 << 10  # what a pipe holds
BATCH_WAIT_S = 0.05
RETRY_S = 0.1

_UNFIT = dict.fromkeys([*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000)], "\ufffd")
"""What ends a line for some readers, steers a terminal, or can't be UTF-8. JSON escapes the rest of that kind by itself."""

_log = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------------------------------- the line


class _Clipper:
    """Makes texts fit for a line, and remembers whether one of them had to be cut."""

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self.has_cut = False

    def text(self, text: str) -> str:
        if len(text) > self._max_chars:
            self.has_cut = True
            text = text[: self._max_chars - 1] + "…"
        return text if text.isascii() and "\x7f" not in text else text.translate(_UNFIT)

    def pairs(self, pairs: dict[str, str]) -> dict[str, str]:
        self.has_cut = self.has_cut or len(pairs) > MAX_PAIRS
        return {self.text(name): self.text(value) for name, value in list(pairs.items())[:MAX_PAIRS]}


def log_line(record: CallRecord) -> bytes:
    """The call as one JSON object in UTF-8, without a newline, at most MAX_LINE_BYTES long; `clipped` says that something was cut.

    `time` is the call's start; `attempts` is their number, and `attempt_list` tells them where there was more than one.
    """
    line = _line(record, MAX_TEXT_CHARS)
    if len(line) <= MAX_LINE_BYTES:
        return line
    bare = msgspec.structs.replace(record, tags={}, attributes={})
    return _line(bare, MAX_TEXT_CHARS_IF_SCARCE, with_attempts=False, is_cut=True)


def _line(record: CallRecord, max_chars: int, *, with_attempts: bool = True, is_cut: bool = False) -> bytes:
    clipper = _Clipper(max_chars)
    row = _row_fields(record, clipper)
    fields: dict[str, object] = {
        "time": row.pop("time"),
        "level": LEVELS[record.outcome],
        "message": f"{clipper.text(record.method)} {clipper.text(record.path)} {record.status or record.outcome.value}",
        "trace_id": row.pop("trace_id"),
        "span_id": clipper.text(record.span_id),
        **row,
    }
    if record.attributes:
        fields["attributes"] = clipper.pairs(record.attributes)
    if with_attempts and len(record.attempts) > 1:
        fields["attempt_list"] = [_attempt_fields(attempt, clipper) for attempt in record.attempts[:MAX_ATTEMPTS]]
    if is_cut or clipper.has_cut:
        fields["clipped"] = True
    return msgspec.json.encode(fields)


def _row_fields(record: CallRecord, clipper: _Clipper) -> dict[str, msgspec.Raw]:
    """The fields that the ledger tells of the call, never its content."""
    told = msgspec.structs.replace(record, content=None, tags=clipper.pairs(record.tags))
    row: dict[str, object] = dict(zip(COLUMNS, sql_row(told), strict=False))  # the content's column is behind them
    fit = {name: clipper.text(value) if isinstance(value, str) and name != "tags" else value for name, value in row.items()}
    return msgspec.json.decode(row_json(msgspec.convert({"rowid": 0, **fit}, Row)), type=dict[str, msgspec.Raw])


def _attempt_fields(attempt: AttemptRecord, clipper: _Clipper) -> dict[str, object]:
    fields: dict[str, object] = {"target": clipper.text(attempt.target), "outcome": attempt.outcome.value}
    if attempt.status is not None:
        fields["status"] = attempt.status
    if attempt.error_type is not None:
        fields["error"] = clipper.text(attempt.error_type)
    fields["duration_ms"] = round(max(0, attempt.end_ns - attempt.start_ns) / 1e6, 3)
    return fields


# ----------------------------------------------------------------------------------------------------------- the writer


class StdoutLog:
    """Writes the lines of calls on a thread of its own: whoever reads them, or doesn't, holds nobody up.

    What can't be written is counted, by cause. A batch is one write of whole lines; a reader that shares the pipe with another writer gets
    those of more than PIPE_BUF bytes in one piece only as far as its system goes.
    """

    def __init__(self, totals: Counters, descriptor: int | None, queue_lines: int = QUEUE_LINES) -> None:
        """`descriptor` None: there is no standard output, and every line is lost."""
        self._counters = totals
        self._descriptor = descriptor
        self._queue_lines = queue_lines
        self._lines: deque[bytes] = deque()
        self._changed = Condition()
        self._closing = False
        self._writing_lines = 0  # taken from the queue, not yet written
        self._torn = False  # the last write ended inside a line
        self._failing = False
        self._thread = Thread(target=self._run, name="call-log", daemon=True)
        self._thread.start()

    def observe(self, record: CallRecord) -> None:
        """Queue the call's line; when the queue is full, the oldest line goes."""
        line = log_line(record) + b"\n"
        with self._changed:
            self._lines.append(line)
            if len(self._lines) > self._queue_lines:
                self._lines.popleft()
                self._counters.add(counters.DROPPED_LOG_LINES_QUEUE_FULL)
            if len(self._lines) == 1:
                self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what is left, within `timeout_s`; what isn't written by then is counted as lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            lost = len(self._lines) + self._writing_lines
            self._lines.clear()
            self._writing_lines = 0
        if lost:
            self._counters.add(counters.DROPPED_LOG_LINES_SHUTDOWN, lost)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                self._changed.wait_for(lambda: self._closing, BATCH_WAIT_S)  # let lines gather
                batch = self._take_batch()
            if not batch:
                return
            written = self._write(b"".join(batch))
            with self._changed:
                settled_lines, self._writing_lines = self._writing_lines, 0  # none, if `close` has given them up
            if settled_lines:
                self._counters.add(counters.LOG_LINES if written else counters.DROPPED_LOG_LINES_WRITE_FAILED, settled_lines)

    def _take_batch(self) -> list[bytes]:
        """Lines from the front of the queue that fit into one write, at least one."""
        batch: list[bytes] = []
        left_bytes = BATCH_BYTES
        while self._lines and (not batch or len(self._lines[0]) <= left_bytes):
            batch.append(self._lines.popleft())
            left_bytes -= len(batch[-1])
        self._writing_lines = len(batch)
        return batch

    def _write(self, data: bytes) -> bool:
        """Write it whole, however long the reader takes; False if that failed."""
        if self._descriptor is None:
            self._tell("there is none")
            return False
        if self._torn:
            data = b"\n" + data
        left = memoryview(data)
        try:
            while left:
                left = left[self._write_some(self._descriptor, left) :]
        except OSError as error:
            self._torn = self._torn or len(left) < len(data)
            self._tell(os.strerror(error.errno) if error.errno else str(error))
            return False
        self._torn = self._failing = False
        return True

    def _write_some(self, descriptor: int, data: memoryview) -> int:
        """Bytes written. Whoever shares the open file may have made it non-blocking: then 0 after a while."""
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            select.select([], [descriptor], [], RETRY_S)
            return 0

    def _tell(self, problem: str) -> None:
        if not self._failing:
            self._failing = True
            _log.error("the call log can't be written to standard output: %s", problem)


def standard_output() -> int | None:
    """The descriptor of standard output; None if the process was started without one: its number may belong to another file."""
    return None if sys.stdout is None else sys.stdout.fileno()
