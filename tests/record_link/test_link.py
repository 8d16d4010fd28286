"""The gate's end of the wire: nothing is lost without being counted, whatever the observer does."""

from __future__ import annotations

import socket

import pytest

from proxy.record_link import link as link_module
from proxy.record_link.link import RecordLink
from proxy.records import MAX_FRAME_BYTES, encode_record
from tests.call_records import call_record
from tests.fake_time import in_fake_time, pass_time
from tests.record_link.far_end import SETTINGS, FarEnd


class Rig:
    """A link, and the observers it had."""

    def __init__(self) -> None:
        self.losses = 0
        self.link = RecordLink(self._lost)
        self._number = 0

    def _lost(self) -> None:
        self.losses += 1

    def connect(self, send_buffer: int | None = None) -> FarEnd:
        ours, theirs = socket.socketpair()
        if send_buffer is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.link.connect(ours, SETTINGS)
        return FarEnd(theirs)

    def record(self, count: int, message: str = "") -> None:
        for _ in range(count):
            self._number += 1
            self.link.record(call_record(call_id=str(self._number), error_message=message))


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def read_slowly(far: FarEnd, count: int, limit: int = 1 << 30) -> list[str]:
    """The call ids read until `count` records are there, at most `limit` bytes at a time; gives up after a while."""
    for _ in range(200):
        if len(far.read(limit)) >= count:
            break
        await pass_time(0.02)
    return far.read()


def ids(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


# --------------------------------------------------------------------------------------------------------------- queue


def test_without_an_observer_records_wait(rig: Rig) -> None:
    rig.record(3)
    assert (rig.link.queued, rig.link.recorded, rig.link.dropped) == (3, 3, {})


def test_a_queue_full_of_records_drops_the_newest_and_counts_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_QUEUED_RECORDS", 2)
    rig.record(5)
    assert (rig.link.queued, rig.link.recorded, rig.link.dropped) == (2, 5, {"queue_full": 3})


def test_a_queue_full_of_bytes_drops_what_does_not_fit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_QUEUED_BYTES", 2 * len(encode_record(call_record(call_id="1", error_message=""))))
    rig.record(2)
    rig.record(1)
    assert (rig.link.queued, rig.link.dropped) == (2, {"queue_full": 1})
    assert rig.link.drop_oldest("poison")
    rig.record(1, message="x" * 1000)
    rig.record(1)
    assert (rig.link.queued, rig.link.dropped) == (2, {"queue_full": 2, "poison": 1})


def test_a_record_that_cannot_be_encoded_is_counted_and_not_raised(rig: Rig) -> None:
    rig.link.record(call_record(path="\ud800"))
    assert (rig.link.queued, rig.link.dropped) == (0, {"unencodable": 1})


def test_there_is_nothing_to_drop_in_an_empty_queue(rig: Rig) -> None:
    assert not rig.link.drop_oldest("poison")
    assert rig.link.dropped == {}


# ------------------------------------------------------------------------------------------------------------- sending


@in_fake_time
async def test_an_observer_gets_its_settings_and_then_every_record_in_order(rig: Rig) -> None:
    rig.record(2)
    far = rig.connect()
    rig.record(3)
    await pass_time(1)
    assert far.read() == ids(1, 5)
    assert rig.link.queued == 5


@in_fake_time
async def test_an_acknowledged_record_is_let_go(rig: Rig) -> None:
    far = rig.connect()
    rig.record(5)
    await pass_time(1)
    far.acknowledge(2, ledger_rows=2)
    await pass_time(1)
    assert (rig.link.queued, rig.link.acknowledged, rig.link.observer_counters) == (3, 2, {"ledger_rows": 2})
    far.acknowledge(5)
    await pass_time(1)
    assert (rig.link.queued, rig.link.acknowledged) == (0, 5)


@in_fake_time
async def test_room_that_acknowledgements_make_is_used_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_QUEUED_BYTES", 3 * len(encode_record(call_record(call_id="1", error_message=""))))
    far = rig.connect()
    for round_ in range(1, 4):
        rig.record(3)
        await pass_time(1)
        far.acknowledge(3 * round_)
        await pass_time(1)
    assert (far.read(), rig.link.dropped) == (ids(1, 9), {})


@in_fake_time
async def test_a_slow_observer_gets_large_records_whole_and_in_order(rig: Rig) -> None:
    far = rig.connect(send_buffer=4096)
    rig.record(6, message="x" * 50_000)
    assert await read_slowly(far, 6, limit=5_000) == ids(1, 6)
    assert {record.error_message for record in far.records()} == {"x" * 50_000}


@in_fake_time
async def test_records_go_on_being_sent_behind_a_full_socket(rig: Rig) -> None:
    far = rig.connect(send_buffer=4096)
    rig.record(3, message="x" * 50_000)
    await pass_time(1)
    rig.record(2)
    assert await read_slowly(far, 5) == ids(1, 5)


# ----------------------------------------------------------------------------------------------------- a lost observer


@in_fake_time
async def test_the_next_observer_gets_what_was_not_acknowledged(rig: Rig) -> None:
    first = rig.connect()
    rig.record(4)
    await pass_time(1)
    first.acknowledge(1)
    await pass_time(1)
    first.die()
    await pass_time(1)
    rig.record(1)
    second = rig.connect()
    await pass_time(1)
    assert (rig.losses, second.read()) == (1, ids(2, 5))
    second.acknowledge(4)
    await pass_time(1)
    assert (rig.link.queued, rig.link.acknowledged) == (0, 5)


@in_fake_time
async def test_a_record_cut_by_the_observers_death_is_sent_again_from_its_beginning(rig: Rig) -> None:
    first = rig.connect(send_buffer=4096)
    rig.record(2, message="x" * 50_000)
    await pass_time(1)
    first.read(limit=1_000)
    first.die()
    await pass_time(1)
    second = rig.connect()
    await pass_time(1)
    assert second.read() == ids(1, 2)


@in_fake_time
async def test_a_dead_socket_is_reported_once(rig: Rig) -> None:
    far = rig.connect()
    far.die()
    rig.record(3)
    await pass_time(1)
    assert (rig.losses, rig.link.queued) == (1, 3)


# --------------------------------------------------------------------------------------------------------------- garbage


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00\x00\x03abc",
        b"\x00\x00\x00\x00",
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x",
        b"\x00\x00\x00\x01\x80",
    ],
)
@in_fake_time
async def test_an_observer_that_talks_garbage_is_replaced_and_no_record_is_lost(rig: Rig, garbage: bytes) -> None:
    far = rig.connect()
    rig.record(2)
    await pass_time(1)
    far.socket.send(garbage)
    await pass_time(1)
    assert (rig.losses, rig.link.queued, rig.link.dropped) == (1, 2, {})
    assert far.read() == ids(1, 2)


@in_fake_time
async def test_more_acknowledged_than_sent_lets_only_go_what_was_sent(rig: Rig) -> None:
    far = rig.connect()
    rig.record(1)
    await pass_time(1)
    far.acknowledge(1_000_000)
    await pass_time(1)
    rig.record(1)
    await pass_time(1)
    far.acknowledge(2)
    far.acknowledge(-5)
    await pass_time(1)
    assert (rig.link.acknowledged, rig.link.queued) == (1, 1)


@in_fake_time
async def test_a_report_may_come_in_pieces(rig: Rig) -> None:
    far = rig.connect()
    rig.record(1)
    await pass_time(1)
    near, behind = socket.socketpair()
    FarEnd(near).acknowledge(1)
    report = behind.recv(1000)
    near.close()
    behind.close()
    for byte in report:
        far.socket.send(bytes([byte]))
        await pass_time(0.1)
    assert (rig.link.acknowledged, rig.losses) == (1, 0)


# ------------------------------------------------------------------------------------------------------------ finishing


@in_fake_time
async def test_finish_sends_what_is_left_and_then_ends(rig: Rig) -> None:
    far = rig.connect(send_buffer=4096)
    rig.record(3, message="x" * 50_000)
    rig.link.finish()
    rig.link.finish()
    assert await read_slowly(far, 3, limit=20_000) == ids(1, 3)
    await pass_time(1)
    far.read()
    assert far.at_end


@in_fake_time
async def test_a_finished_observer_still_acknowledges(rig: Rig) -> None:
    far = rig.connect()
    rig.record(2)
    rig.link.finish()
    far.acknowledge(2)
    await pass_time(1)
    assert (rig.link.queued, rig.losses) == (0, 0)


@in_fake_time
async def test_what_is_recorded_after_finish_waits_for_the_next_observer(rig: Rig) -> None:
    first = rig.connect()
    rig.record(1)
    rig.link.finish()
    rig.record(2)
    await pass_time(1)
    assert (first.read(), first.at_end) == (ids(1, 1), True)
    first.acknowledge(1)
    first.die()
    await pass_time(1)
    second = rig.connect()
    await pass_time(1)
    assert second.read() == ids(2, 3)


@in_fake_time
async def test_disconnecting_twice_does_no_harm(rig: Rig) -> None:
    rig.connect()
    rig.record(1)
    rig.link.disconnect()
    rig.link.disconnect()
    await pass_time(1)
    assert (rig.link.queued, rig.losses) == (1, 0)
