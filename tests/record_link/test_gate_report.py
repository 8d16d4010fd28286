"""The gate's report of itself: the newest or none, beside the records and never among them."""

from __future__ import annotations

import socket

import pytest

from proxy.record_link.link import AGAIN_S, RecordLink
from proxy.records import GateReport
from tests.call_records import call_record
from tests.fake_time import in_fake_time, pass_time
from tests.record_link.far_end import SETTINGS, FarEnd


def connected(link: RecordLink, send_buffer: int | None = None) -> FarEnd:
    ours, theirs = socket.socketpair()
    if send_buffer is not None:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    link.connect(ours, SETTINGS)
    return FarEnd(theirs)


@pytest.fixture
def link() -> RecordLink:
    return RecordLink(lambda: None)


@in_fake_time
async def test_report_reaches_the_observer(link: RecordLink) -> None:
    far = connected(link)
    link.report(GateReport(2, {"queue_full": 1}))
    await pass_time(AGAIN_S)
    assert far.reports() == [GateReport(2, {"queue_full": 1})]


@in_fake_time
async def test_report_that_says_nothing_new_is_not_sent(link: RecordLink) -> None:
    far = connected(link)
    for _ in range(3):
        link.report(GateReport(2))
        await pass_time(1)
    assert far.reports() == [GateReport(2)]


@in_fake_time
async def test_only_the_newest_report_waits_for_an_observer(link: RecordLink) -> None:
    for number in range(100):
        link.report(GateReport(number))
    far = connected(link)
    assert far.reports() == [GateReport(99)]
    assert link.queued == 0


@in_fake_time
async def test_next_observer_is_told_what_the_last_one_knew(link: RecordLink) -> None:
    first = connected(link)
    link.report(GateReport(2))
    await pass_time(AGAIN_S)
    assert first.reports() == [GateReport(2)]
    link.disconnect()
    assert connected(link).reports() == [GateReport(2)]


@in_fake_time
async def test_observer_that_reads_slowly_gets_only_the_newest_report(link: RecordLink) -> None:
    far = connected(link, send_buffer=4096)
    for number in range(200):
        link.record(call_record(error_message="x" * 1000))
        link.report(GateReport(number))
        await pass_time(AGAIN_S)
    for _ in range(200):
        far.read()
        await pass_time(AGAIN_S)
    reports = far.reports()
    assert reports[-1] == GateReport(199)
    assert len(reports) < 100
    assert len(far.records()) == 200


@in_fake_time
async def test_report_is_never_acknowledged(link: RecordLink) -> None:
    far = connected(link)
    link.record(call_record(call_id="1"))
    link.report(GateReport(1))
    link.record(call_record(call_id="2"))
    await pass_time(AGAIN_S)
    far.acknowledge(1)
    await pass_time(AGAIN_S)
    assert (link.queued, link.acknowledged) == (1, 1)
