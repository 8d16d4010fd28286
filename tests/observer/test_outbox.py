from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from proxy.observer.counters import Counters
from proxy.observer.progress import Party, Progress
from proxy.observer.telemetry.export.outbox import Outbox
from proxy.observer.telemetry.export.send_result import Delivered, Refused, Retry, SendResult
from proxy.observer.telemetry.export.spool import Spool
from proxy.observer.telemetry.plan import BatchLimits

WAIT_S = 10.0


class ScriptedSender:
    """Answers as the script says, then delivers; an exception in it is raised, None waits for the test."""

    timeout_s = 5.0

    def __init__(self, *script: SendResult | Exception | None) -> None:
        self._script = deque(script)
        self._changed = threading.Condition()
        self.sent: list[bytes] = []
        self.let_go = threading.Event()

    def send(self, request: bytes, timeout_s: float) -> SendResult:
        answer = self._script.popleft() if self._script else Delivered()
        with self._changed:
            self.sent.append(request)
            self._changed.notify_all()
        if answer is None:
            self.let_go.wait(WAIT_S)
            return Delivered()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait_sent(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.sent) >= count, WAIT_S)

    def close(self) -> None:
        """Nothing to let go of."""


class Rig:
    def __init__(self, root: Path, *script: SendResult | Exception | None) -> None:
        self.totals = Counters()
        self.progress = Progress(lambda _: None)
        self.sender = ScriptedSender(*script)
        self.spool = Spool(root / "spool", 1 << 20, self.totals)
        limits = BatchLimits(delay_s=0.001, queue_spans=100, batch_spans=1)
        self.outbox = Outbox("traces", self.sender, bytes, limits, self.spool, self.progress, self.totals, lambda: 0.0)

    def put(self, data: bytes) -> None:
        sequence = self.progress.begin()
        self.outbox.put(data, 1, sequence)
        self.progress.release([sequence], Party.READER)

    def close(self) -> None:
        self.outbox.close(2.0)
        self.spool.close()


@pytest.fixture
def rigs() -> Iterator[list[Rig]]:
    made: list[Rig] = []
    yield made
    for rig in made:
        rig.sender.let_go.set()
        rig.close()


def test_refused_batch_and_fault_of_ours_block_nobody(rigs: list[Rig], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(tmp_path, Refused("status 400"), Refused("status 400"), TypeError("ours"))
    rigs.append(rig)
    for letter in (b"a", b"b", b"c", b"d"):
        rig.put(letter)
    rig.sender.wait_sent(4)
    rig.close()
    assert rig.sender.sent == [b"a", b"b", b"c", b"d"]
    assert (rig.totals.get("dropped_spans_export_refused"), rig.totals.get("exported_spans")) == (3, 1)
    assert rig.progress.acknowledged == 4
    assert caplog.text.count("status 400") == 1  # said once for each reason


def test_batch_is_tried_again_until_it_is_taken_and_keeps_its_place(rigs: list[Rig], tmp_path: Path) -> None:
    rig = Rig(tmp_path, Retry("busy", 0.01), Retry("busy", 0.01))
    rigs.append(rig)
    rig.put(b"a")
    rig.put(b"b")
    rig.sender.wait_sent(4)
    assert rig.sender.sent == [b"a", b"a", b"a", b"b"]
    assert rig.totals.get("export_retries") == 2


def test_a_batch_that_arrives_after_the_end_is_not_counted_twice(rigs: list[Rig], tmp_path: Path) -> None:
    rig = Rig(tmp_path, None)
    rigs.append(rig)
    rig.put(b"a")
    rig.sender.wait_sent(1)
    began = monotonic()
    rig.outbox.close(0.5)
    assert monotonic() - began < 2
    assert (rig.totals.get("spool_items"), rig.totals.get("exported_spans"), rig.progress.acknowledged) == (1, 0, 1)


def test_the_end_tries_a_collector_that_is_away_once_more_and_no_longer(rigs: list[Rig], tmp_path: Path) -> None:
    rig = Rig(tmp_path, Retry("away", 60.0), Retry("away", 60.0))
    rigs.append(rig)
    rig.put(b"a")
    rig.sender.wait_sent(1)
    began = monotonic()
    rig.outbox.close(5.0)
    assert monotonic() - began < 3
    assert rig.sender.sent == [b"a", b"a"]
    assert rig.totals.get("spool_items") == 1
