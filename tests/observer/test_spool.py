from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.observer.counters import Counters
from proxy.observer.telemetry.export.segment import HEADER, Segment
from proxy.observer.telemetry.export.spool import Spool
from proxy.observer.telemetry.export.spool_folder import ClaimedFolder

MIB = 1 << 20
REQUESTS = [bytes([number]) * (10 + number) for number in range(6)]


@pytest.fixture
def totals() -> Counters:
    return Counters()


def drain(spool: Spool, signal: str = "traces") -> list[bytes]:
    """Deliver everything; what it was."""
    found = []
    while (stored := spool.head(signal)) is not None:
        found.append(stored.frame.request)
        assert spool.advance(signal, stored)
    return found


def segment_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.otlp"))


def test_requests_come_back_in_order_and_leave_nothing_behind(tmp_path: Path, totals: Counters) -> None:
    spool = Spool(tmp_path / "spool", MIB, totals)
    for request in REQUESTS:
        spool.append("traces", request, 2)
    assert totals.get("spool_items") == 12
    assert drain(spool) == REQUESTS
    assert segment_files(tmp_path) == []
    assert (totals.get("spool_items"), totals.get("spool_bytes")) == (0, 0)


def test_signals_have_queues_of_their_own(tmp_path: Path, totals: Counters) -> None:
    spool = Spool(tmp_path / "spool", MIB, totals)
    spool.append("logs", b"log", 1)
    assert not spool.has("traces")
    assert spool.head("traces") is None
    assert drain(spool, "logs") == [b"log"]


def test_a_new_process_goes_on_where_the_last_one_was(tmp_path: Path, totals: Counters) -> None:
    first = Spool(tmp_path / "spool", MIB, totals)
    for request in REQUESTS:
        first.append("traces", request, 1)
    for _ in range(2):
        stored = first.head("traces")
        assert stored is not None
        first.advance("traces", stored)
    first.close()
    assert drain(Spool(tmp_path / "spool", MIB, totals)) == REQUESTS[2:]


def test_what_was_not_delivered_stays_the_first(tmp_path: Path, totals: Counters) -> None:
    spool = Spool(tmp_path / "spool", MIB, totals)
    spool.append("traces", b"a", 1)
    assert spool.head("traces") == spool.head("traces")


def test_oldest_segment_of_any_signal_makes_room(tmp_path: Path, totals: Counters) -> None:
    request = bytes(60 << 10)
    spool = Spool(tmp_path / "spool", 256 << 10, totals)
    spool.append("logs", request, 5)
    for number in range(6):
        spool.append("traces", bytes([number]) + request, 3)
    assert totals.get("dropped_log_records_spool_full") == 5
    assert totals.get("dropped_spans_spool_full") == 6
    assert [found[0] for found in drain(spool)] == [2, 3, 4, 5]
    assert totals.get("dropped_spans") == 6


def test_request_given_up_while_it_is_sent_is_counted_once(tmp_path: Path, totals: Counters) -> None:
    request = bytes(60 << 10)
    spool = Spool(tmp_path / "spool", 128 << 10, totals)
    spool.append("traces", request, 1)
    under_way = spool.head("traces")
    assert under_way is not None
    for _ in range(2):
        spool.append("traces", request, 1)
    assert not spool.advance("traces", under_way)
    assert totals.get("dropped_spans_spool_full") == 1


def test_request_larger_than_the_spool_is_an_error_and_costs_nothing_else(tmp_path: Path, totals: Counters) -> None:
    spool = Spool(tmp_path / "spool", 1000, totals)
    spool.append("traces", b"small", 1)
    with pytest.raises(OSError, match="larger than the whole spool"):
        spool.append("traces", bytes(1000), 1)
    assert drain(spool) == [b"small"]


def test_disk_that_fills_in_the_middle_of_a_request_leaves_no_trace(
    tmp_path: Path, totals: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", MIB, totals)
    spool.append("traces", b"before", 1)
    whole = os.pwrite
    room = [5]

    def short(file: int, data: bytes, offset: int) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "no space left")
        return whole(file, data[: room.pop()], offset)

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(OSError, match="no space left"):
        spool.append("traces", b"lost", 1)
    monkeypatch.undo()
    spool.append("traces", b"after", 1)
    spool.close()
    assert drain(Spool(tmp_path / "spool", MIB, totals)) == [b"before", b"after"]
    assert totals.get("spool_corrupt_places") == 0


def test_torn_end_is_passed_and_counted(tmp_path: Path, totals: Counters) -> None:
    first = Spool(tmp_path / "spool", MIB, totals)
    for request in REQUESTS:
        first.append("traces", request, 1)
    first.close()
    (file,) = segment_files(tmp_path)
    os.truncate(file, file.stat().st_size - 3)
    again = Spool(tmp_path / "spool", MIB, totals)
    again.append("traces", b"new", 1)
    assert drain(again) == [*REQUESTS[:-1], b"new"]
    assert totals.get("spool_corrupt_places") == 1
    assert totals.get("dropped_spans") == 0  # it was never acknowledged: the gate sends it again


def test_damaged_request_is_passed_and_counted(tmp_path: Path, totals: Counters) -> None:
    spool = Spool(tmp_path / "spool", MIB, totals)
    for request in REQUESTS:
        spool.append("traces", request, 7)
    (file,) = segment_files(tmp_path)
    with file.open("r+b") as damaged:
        damaged.seek(HEADER.size + 1)
        damaged.write(b"\xff")
    assert drain(spool) == REQUESTS[1:]
    assert (totals.get("spool_corrupt_places"), totals.get("dropped_spans_spool_corrupt")) == (1, 7)
    assert segment_files(tmp_path) == []


@settings(max_examples=300, deadline=None)
@given(
    damage=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.integers(0, 200),
    tail=st.binary(max_size=40),
)
def test_no_damage_raises_or_yields_a_request_that_was_not_written(damage: list[tuple[int, int]], cut: int | None, tail: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment"
        written = Segment(path)
        for request in REQUESTS:
            written.append(request, 1)
        written.close()
        content = bytearray(path.read_bytes())
        for place, value in damage:
            content[place % len(content)] = value
        path.write_bytes(bytes(content[:cut]) + tail)
        found = []
        segment = Segment(path)
        while (frame := segment.next_frame()[0]) is not None:
            found.append(frame.request)
            segment.mark_delivered(frame)
        assert segment.is_done
        segment.close()
        assert [request for request in REQUESTS if request in found] == found


def test_second_observer_takes_a_folder_of_its_own_and_the_next_one_adopts_it(tmp_path: Path, totals: Counters) -> None:
    one, other = (Spool(tmp_path / "spool", MIB, totals) for _ in range(2))
    one.append("traces", b"one", 1)
    other.append("traces", b"other", 1)
    assert {file.parent.parent.name for file in segment_files(tmp_path)} == {"spool", "spool.1"}
    one.close()
    other.close()
    heir = Spool(tmp_path / "spool", MIB, totals)
    assert drain(heir) == [b"one", b"other"]


def test_folder_of_a_living_observer_is_not_adopted(tmp_path: Path, totals: Counters) -> None:
    living = Spool(tmp_path / "spool", MIB, totals)
    living.append("traces", b"mine", 1)
    assert not Spool(tmp_path / "spool", MIB, totals).has("traces")
    assert drain(living) == [b"mine"]


def test_folder_that_cannot_be_used_is_counted_and_tried_again(tmp_path: Path, totals: Counters) -> None:
    (tmp_path / "spool").write_text("in the way")
    spool = Spool(tmp_path / "spool", MIB, totals)
    assert totals.get("spool_failed") == 1
    with pytest.raises(FileExistsError):
        spool.append("traces", b"x", 1)
    (tmp_path / "spool").unlink()
    spool.append("traces", b"x", 1)
    assert drain(spool) == [b"x"]


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    folder = ClaimedFolder(tmp_path / "spool")
    stranger = tmp_path / "spool" / "traces" / "notes.otlp"
    stranger.write_text("mine")
    assert folder.segment_numbers("traces") == []
    folder.close()
    assert stranger.read_text() == "mine"
