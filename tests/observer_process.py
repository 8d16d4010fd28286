"""A real observer process with the gate's end of its socketpair in a test's hands."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from proxy.observer_settings import ObserverSettings, encode_settings
from proxy.records import CallRecord, FrameReader, ObserverReport, encode_record

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 15.0


class ObserverProcess:
    """Started with settings, in an environment without any OTEL_ variable but those given; use it in a `with`."""

    def __init__(self, settings: ObserverSettings, environment: Mapping[str, str] | None = None) -> None:
        self.gate, other = socket.socketpair()
        self.gate.settimeout(WAIT_S)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy.observer", "--fd", str(other.fileno())],
            pass_fds=[other.fileno()],
            cwd=ROOT,
            env={**inherited, **(environment or {})},
        )
        other.close()
        self._frames = FrameReader()
        self.reports: list[ObserverReport] = []
        self.gate.sendall(encode_settings(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.gate.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def send(self, *records: CallRecord) -> None:
        """Send records as the gate does."""
        self.gate.sendall(b"".join(encode_record(record) for record in records))

    def wait_acknowledged(self, count: int) -> ObserverReport:
        """The first report that acknowledges at least `count` records."""
        while not self.reports or self.reports[-1].acknowledged < count:
            data = self.gate.recv(65536)
            assert data, "the observer is gone"
            self._take(data)
        return self.reports[-1]

    def wait_for(self, is_there: Callable[[dict[str, int]], object]) -> ObserverReport:
        """The first report whose counters are so."""
        while not self.reports or not is_there(self.reports[-1].counters):
            data = self.gate.recv(65536)
            assert data, f"the observer is gone; it said {self.reports[-1:]}"
            self._take(data)
        return self.reports[-1]

    def kill(self) -> int:
        """kill -9; how many records were acknowledged until then."""
        self.process.kill()
        self.process.wait(WAIT_S)
        with contextlib.suppress(ConnectionResetError):
            while data := self.gate.recv(65536):
                self._take(data)
        return self.reports[-1].acknowledged if self.reports else 0

    def finish(self) -> ObserverReport:
        """Close the gate's side and wait for the end; the last report. The exit code has to be 0."""
        self.gate.shutdown(socket.SHUT_WR)
        while data := self.gate.recv(65536):
            self._take(data)
        assert self.process.wait(WAIT_S) == 0
        return self.reports[-1]

    def _take(self, data: bytes) -> None:
        self.reports.extend(msgspec.msgpack.decode(payload, type=ObserverReport) for payload in self._frames.feed(data))
