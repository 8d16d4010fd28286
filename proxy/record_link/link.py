"""The gate's end of the socketpair: records go out, acknowledgements come back.

Here: a bounded queue that survives the observer, and the newest report beside it. Not here: starting the observer
(observer_process.py), what records mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from proxy.records import CallRecord, FrameReader, GateReport, ObserverReport, encode_gate_report, encode_record

MAX_QUEUED_RECORDS = 20_000
MAX_QUEUED_BYTES = 64 << 20
AGAIN_S = 0.01  # when an observer that is behind is tried again
READ_BYTES = 64 << 10
MAX_SEND_BYTES = 256 << 10

_decode_report = msgspec.msgpack.Decoder(ObserverReport).decode


class RecordLink:
    """Keeps every record until the observer has it safe. Port: Recorder. A full queue drops the newest, and counts it."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._queue: deque[bytes] = deque()  # frames that aren't acknowledged, oldest first
        self._queued_bytes = 0
        self._sent = 0  # how many of them were handed to the kernel
        self._partial = memoryview(b"")  # the rest of what the kernel took only a part of
        self._acknowledged = 0  # of this connection
        self._report = b""  # the newest, as a frame
        self._report_unsent = False
        self._socket: socket.socket | None = None
        self._frames = FrameReader()
        self._flushing: asyncio.Handle | None = None
        self._finishing = False  # no more will be sent to this observer
        self.dropped: dict[str, int] = {}  # by cause
        self.recorded = 0
        self.acknowledged = 0
        self.observer_counters: dict[str, int] = {}

    # -- port ---------------------------------------------------------------------------------------------------------

    def record(self, record: CallRecord) -> None:
        """Take a record. Never blocks, never raises."""
        self.recorded += 1
        try:
            frame = encode_record(record)
        except (msgspec.EncodeError, TypeError, ValueError, UnicodeEncodeError):
            self._drop("unencodable")
            return
        if len(self._queue) >= MAX_QUEUED_RECORDS or self._queued_bytes + len(frame) > MAX_QUEUED_BYTES:
            self._drop("queue_full")
            return
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._flush_soon()

    def report(self, report: GateReport) -> None:
        """Tell the observer how the gate is doing, if that changed. Never queued: it gets the newest, as soon as there is room."""
        frame = encode_gate_report(report)
        if frame == self._report:
            return
        self._report, self._report_unsent = frame, True
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Records of one turn of the loop leave in one system call: none waits here for a gate that is killed."""
        if self._flushing is None and not self._finishing and self._socket is not None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _drop(self, cause: str) -> None:
        self.dropped[cause] = self.dropped.get(cause, 0) + 1

    def drop_oldest(self, cause: str) -> bool:
        """Give the oldest record up, between two observers; False if there is none."""
        if not self._queue:
            return False
        self._queued_bytes -= len(self._queue.popleft())
        self._drop(cause)
        return True

    @property
    def queued(self) -> int:
        """Records that aren't known to be safe yet."""
        return len(self._queue)

    # -- connection ---------------------------------------------------------------------------------------------------

    def connect(self, end: socket.socket, settings: bytes) -> None:
        """Talk to a new observer: its settings first, then everything the last one didn't acknowledge."""
        end.setblocking(False)
        self._socket = end
        self._frames = FrameReader()
        self._finishing = False
        self._sent = self._acknowledged = 0
        self._partial = memoryview(settings)
        self._report_unsent = bool(self._report)
        asyncio.get_running_loop().add_reader(end.fileno(), self._on_readable)
        self._flush()

    def disconnect(self) -> None:
        """Forget the observer; the queue stays."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None

    def finish(self) -> None:
        """Send what is left and say that no more will come; what is recorded from now on waits for the next observer."""
        if not self._finishing:
            self._finishing = True
            self._flush()

    # -- writing ------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Hand the kernel what it takes.

        An observer that is behind is tried again in a moment: to be told of every free byte would cost the gate more than it brings.
        """
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        while self._socket is not None:
            data = self._partial or self._next_bytes()
            if not data:
                if self._finishing:
                    with contextlib.suppress(OSError):
                        self._socket.shutdown(socket.SHUT_WR)
                return
            try:
                written = self._socket.send(data)
            except (BlockingIOError, InterruptedError):
                written = 0
            except OSError:
                self._lost()
                return
            self._partial = data[written:]
            if self._partial:
                self._flushing = asyncio.get_running_loop().call_later(AGAIN_S, self._flush)
                return

    def _next_bytes(self) -> memoryview:
        """The next frames as one piece, the newest report behind them; records stay queued until they are acknowledged."""
        queue, first, size = self._queue, self._sent, 0
        while self._sent < len(queue) and size < MAX_SEND_BYTES:
            size += len(queue[self._sent])
            self._sent += 1
        report = self._report if self._report_unsent else b""
        self._report_unsent = False
        return memoryview(b"".join([*(queue[index] for index in range(first, self._sent)), report]))

    # -- reading ------------------------------------------------------------------------------------------------------

    def read_rest(self) -> None:
        """Take the last reports of an observer that has ended."""
        while self._socket is not None and self._on_readable():
            pass

    def _on_readable(self) -> bool:
        """Take what came; False if nothing did."""
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._lost()
            return False
        try:
            for payload in self._frames.feed(data):
                self._on_report(_decode_report(payload))
        except (ValueError, msgspec.DecodeError):
            self._lost()
        return True

    def _on_report(self, report: ObserverReport) -> None:
        self.observer_counters = report.counters
        done = min(report.acknowledged - self._acknowledged, self._sent)
        for _ in range(done):
            self._queued_bytes -= len(self._queue.popleft())
        self._sent -= max(done, 0)
        self._acknowledged = report.acknowledged
        self.acknowledged += max(done, 0)

    def _lost(self) -> None:
        self.disconnect()
        self._on_lost()
