from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from proxy.observer.counters import Counters
from proxy.observer.progress import Party, Progress
from proxy.observer.telemetry.export.backlog import DISK_RETRY_S, SETTLE_LOOK_S, SETTLE_S, SPOOL_AFTER_S, Backlog, Batch
from proxy.observer.telemetry.export.spool import Spool
from proxy.observer.telemetry.plan import BatchLimits

LIMITS = BatchLimits(delay_s=1.0, queue_spans=100, batch_spans=10)
MIB = 1 << 20


class Rig:
    """A backlog of spans on a clock in the test's hands; every item is one letter."""

    def __init__(self, spool_root: Path | None) -> None:
        self.totals = Counters()
        self.progress = Progress(lambda _: None)
        self.spool = None if spool_root is None else Spool(spool_root, MIB, self.totals)
        self.backlog = Backlog("traces", lambda data: b"<" + data + b">", LIMITS, self.spool, self.progress, self.totals)
        self.now_s = 0.0

    def put(self, data: bytes, *, is_written: bool = True) -> None:
        """A record with a span for each letter; `is_written`: the ledger has it already."""
        sequence = self.progress.begin()
        if not is_written:
            self.progress.hold(sequence, Party.LEDGER)
        self.backlog.put(data, len(data), sequence, self.now_s)
        self.progress.release([sequence], Party.READER)

    def take(self) -> Batch:
        batch = self.backlog.take(self.now_s)
        assert batch is not None
        return batch

    @property
    def due_in(self) -> float:
        return self.backlog.due_in(self.now_s)

    @property
    def spool_in(self) -> float:
        return self.backlog.spool_in(self.now_s)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "spool")


@pytest.fixture
def diskless() -> Rig:
    return Rig(None)


def test_batch_is_due_after_the_delay_or_when_it_is_full(rig: Rig) -> None:
    assert (rig.due_in, rig.spool_in) == (inf, inf)
    rig.put(b"abc")
    assert rig.due_in == 1.0
    rig.put(b"defghij")
    assert rig.due_in == 0.0


def test_records_of_a_batch_are_held_until_it_is_delivered(rig: Rig) -> None:
    rig.put(b"a")
    rig.put(b"b")
    batch = rig.take()
    assert (batch.request, batch.items, rig.progress.acknowledged) == (b"<ab>", 2, 0)
    assert rig.backlog.delivered(batch)
    assert rig.progress.acknowledged == 2


def test_batches_are_no_larger_than_the_limit_and_cut_no_record(rig: Rig) -> None:
    for data in (b"aaaaaa", b"bbbbbb", b"c" * 15, b"d"):
        rig.put(data)
    requests = []
    while (batch := rig.backlog.take(rig.now_s)) is not None:
        requests.append(batch.request)
        rig.backlog.delivered(batch)
    assert requests == [b"<aaaaaa>", b"<bbbbbb>", b"<" + b"c" * 15 + b">", b"<d>"]


def test_batch_waits_for_the_ledger_but_not_for_long(rig: Rig) -> None:
    rig.put(b"a", is_written=False)
    rig.now_s = LIMITS.delay_s
    rig.put(b"0123456789", is_written=False)
    rig.now_s = 1.1
    assert rig.due_in == 0.0  # `a` had its time
    assert rig.take().request == b"<a>"
    rig.backlog.delivered(rig.take())
    assert (rig.due_in, rig.backlog.take(rig.now_s)) == (SETTLE_LOOK_S, None)
    rig.now_s += SETTLE_S
    assert rig.take().request == b"<0123456789>"


def test_slow_batch_goes_to_disk_and_is_not_sent_again_if_it_arrives(rig: Rig) -> None:
    rig.put(b"a")
    rig.now_s = 1.0
    batch = rig.take()
    assert rig.spool_in == SPOOL_AFTER_S
    rig.now_s = 2.0
    rig.backlog.spool(rig.now_s)
    assert (rig.progress.acknowledged, rig.totals.get("spool_items")) == (1, 1)
    assert rig.backlog.delivered(batch)
    assert rig.totals.get("spool_items") == 0
    assert rig.backlog.take(rig.now_s) is None


def test_what_is_on_disk_goes_first_and_what_comes_meanwhile_follows_it(rig: Rig) -> None:
    rig.put(b"a")
    rig.backlog.keep(rig.take())
    rig.put(b"b")
    rig.backlog.spool(rig.now_s)
    rig.put(b"c")
    requests = []
    while (batch := rig.backlog.take(rig.now_s)) is not None:
        requests.append(batch.request)
        rig.backlog.delivered(batch)
    assert requests == [b"<a>", b"<b>", b"<c>"]
    assert rig.progress.acknowledged == 3


def test_while_the_collector_is_away_full_batches_go_straight_to_disk(rig: Rig) -> None:
    rig.put(b"a")
    rig.backlog.keep(rig.take())
    rig.backlog.spool(rig.now_s)
    rig.put(b"b")
    assert rig.spool_in == LIMITS.delay_s
    rig.put(b"0123456789")
    assert rig.spool_in <= 0


def test_half_a_queue_goes_to_disk_at_once(rig: Rig) -> None:
    for _ in range(5):
        rig.put(b"0123456789", is_written=False)
    assert rig.spool_in <= 0
    rig.backlog.spool(rig.now_s)
    assert rig.totals.get("spool_items") == 50


@pytest.mark.parametrize("ending", ["delivered", "refused"])
def test_batch_is_counted_as_lost_only_if_it_is_refused(rig: Rig, ending: str) -> None:
    rig.put(b"abc")
    conclude: Callable[[Batch], object] = getattr(rig.backlog, ending)
    conclude(rig.take())
    assert rig.totals.get("dropped_spans_export_refused") == (3 if ending == "refused" else 0)
    assert rig.progress.acknowledged == 1


def test_without_a_disk_records_are_let_go_and_their_data_stays(diskless: Rig) -> None:
    diskless.put(b"a")
    diskless.backlog.keep(diskless.take())
    diskless.put(b"b")
    diskless.now_s = LIMITS.delay_s
    assert diskless.spool_in <= 0
    diskless.backlog.spool(diskless.now_s)
    assert diskless.progress.acknowledged == 2
    assert diskless.spool_in == DISK_RETRY_S
    assert [diskless.take().request, diskless.backlog.delivered(diskless.take()), diskless.take().request] == [b"<a>", True, b"<b>"]


def test_disk_that_fails_is_counted_and_tried_again_later(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    rig = Rig(tmp_path / "spool")
    rig.put(b"a")
    rig.put(b"b")
    rig.now_s = 2.0
    rig.backlog.spool(rig.now_s)
    assert (rig.totals.get("spool_failed"), rig.progress.acknowledged, rig.spool_in) == (2, 2, DISK_RETRY_S)
    (tmp_path / "spool").unlink()
    rig.now_s += DISK_RETRY_S
    rig.backlog.spool(rig.now_s)
    assert rig.take().request == b"<ab>"


def test_full_queue_drops_the_oldest_and_counts_them(diskless: Rig) -> None:
    for letter in range(12):
        diskless.put(bytes([65 + letter]) * 10)
    assert diskless.totals.get("dropped_spans_queue_full") == 20
    assert diskless.progress.acknowledged == 2
    assert diskless.take().request == b"<" + b"C" * 10 + b">"


def test_the_end_spools_what_is_left(rig: Rig) -> None:
    rig.put(b"a")
    under_way = rig.take()
    rig.put(b"b", is_written=False)
    rig.backlog.abandon(rig.now_s)
    assert rig.totals.get("spool_items") == 2
    assert not rig.backlog.delivered(under_way)  # it will be sent again: who counted it would count it twice
    assert rig.totals.get("dropped_spans") == 0


def test_the_end_counts_what_no_disk_takes(diskless: Rig) -> None:
    diskless.put(b"abc")
    under_way = diskless.take()
    diskless.put(b"de")
    diskless.backlog.abandon(diskless.now_s)
    assert diskless.totals.get("dropped_spans_shutdown") == 5
    assert not diskless.backlog.delivered(under_way)
    assert diskless.progress.acknowledged == 2
