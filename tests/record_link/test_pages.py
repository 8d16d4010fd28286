"""Pages of the observer: whoever asks gets an answer in time, whatever the observer does."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Iterator

import pytest

from proxy.observer.pages import MIN_GZIP_BYTES, answer, compressed, start_pages
from proxy.pages import MAX_BODY_BYTES, Page, PageRequest, decode_page_request, encode_page_reply, text_page
from proxy.record_link.pages import AWAY, BUSY, MAX_UNANSWERED, TIMEOUT_S, PageLink
from proxy.records import FrameReader
from tests.fake_time import in_fake_time

HEADERS = {"accept": "text/plain"}


def shout(request: PageRequest) -> Page:
    return text_page(200, f"{request.path} {request.headers}")


def fail(_request: PageRequest) -> Page:
    raise ValueError("no page today")


def huge(_request: PageRequest) -> Page:
    return Page(200, "text/plain", bytes(MAX_BODY_BYTES + 1))


def large(_request: PageRequest) -> Page:
    return Page(200, "text/plain", b"x" * (8 << 20))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


async def served(ends: tuple[socket.socket, socket.socket]) -> PageLink:
    """A link whose far end is the observer's thread."""
    start_pages(ends[1], {"/metrics": shout, "/fail": fail, "/huge": huge, "/large": large})
    link = PageLink()
    link.connect(ends[0])
    return link


def questions(end: socket.socket) -> list[PageRequest]:
    return [decode_page_request(payload) for payload in FrameReader().feed(end.recv(1 << 16))]


# -- the observer answers


async def test_page_comes_with_what_was_asked(ends: tuple[socket.socket, socket.socket]) -> None:
    link = await served(ends)
    assert await link.fetch("/metrics", HEADERS) == text_page(200, f"/metrics {HEADERS}")
    link.disconnect()


async def test_pages_asked_for_together_reach_who_asked(ends: tuple[socket.socket, socket.socket]) -> None:
    link = await served(ends)
    pages = await asyncio.gather(*(link.fetch("/metrics", {"accept": str(number)}) for number in range(MAX_UNANSWERED)))
    assert [page.body for page in pages] == [text_page(200, f"/metrics {{'accept': '{n}'}}").body for n in range(MAX_UNANSWERED)]
    link.disconnect()


async def test_large_page_comes_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    link = await served(ends)
    assert len((await link.fetch("/large", {})).body) == 8 << 20
    link.disconnect()


@pytest.mark.parametrize(("path", "status"), [("/other", 404), ("/fail", 500), ("/huge", 500)])
async def test_page_that_cannot_be_made_says_why(ends: tuple[socket.socket, socket.socket], path: str, status: int) -> None:
    link = await served(ends)
    page = await link.fetch(path, {})
    assert page.status == status
    assert await link.fetch("/metrics", {}) == text_page(200, "/metrics {}"), "the next question is answered all the same"
    link.disconnect()


def test_failure_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    page = answer(PageRequest(1, "/fail"), {"/fail": fail})
    assert b"no page today" not in page.body
    assert "no page today" in caplog.text


# -- the observer doesn't


async def test_without_an_observer_the_answer_is_503_at_once() -> None:
    assert await PageLink().fetch("/metrics", {}) == text_page(503, AWAY)


@in_fake_time
async def test_observer_that_hangs_costs_its_asker_five_seconds(ends: tuple[socket.socket, socket.socket]) -> None:
    link = PageLink()
    link.connect(ends[0])
    began = asyncio.get_running_loop().time()
    assert (await link.fetch("/metrics", {})).status == 503
    assert asyncio.get_running_loop().time() - began == pytest.approx(TIMEOUT_S, abs=0.1)
    link.disconnect()


@in_fake_time
async def test_observer_that_hangs_is_not_asked_without_end(ends: tuple[socket.socket, socket.socket]) -> None:
    link = PageLink()
    link.connect(ends[0])
    pages = await asyncio.gather(*(link.fetch("/metrics", {}) for _ in range(MAX_UNANSWERED * 2)))
    assert len(questions(ends[1])) == MAX_UNANSWERED
    assert [page for page in pages if page == text_page(503, BUSY)] == [text_page(503, BUSY)] * MAX_UNANSWERED
    link.disconnect()


@in_fake_time
async def test_answer_that_comes_too_late_is_nobodys(ends: tuple[socket.socket, socket.socket]) -> None:
    link = PageLink()
    link.connect(ends[0])
    await link.fetch("/metrics", {})
    (late,) = questions(ends[1])
    asked = asyncio.ensure_future(link.fetch("/metrics", {}))
    await asyncio.sleep(0)
    (current,) = questions(ends[1])
    ends[1].send(encode_page_reply(late.number, text_page(200, "late")) + encode_page_reply(current.number, text_page(200, "current")))
    assert await asked == text_page(200, "current")
    link.disconnect()


async def test_observer_that_dies_leaves_nobody_waiting(ends: tuple[socket.socket, socket.socket]) -> None:
    link = PageLink()
    link.connect(ends[0])
    asked = asyncio.ensure_future(link.fetch("/metrics", {}))
    await asyncio.sleep(0)
    ends[1].close()
    assert await asked == text_page(503, AWAY)
    assert await link.fetch("/metrics", {}) == text_page(503, AWAY)


async def test_answer_that_is_none_ends_the_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    link = PageLink()
    link.connect(ends[0])
    asked = asyncio.ensure_future(link.fetch("/metrics", {}))
    await asyncio.sleep(0)
    ends[1].send((3).to_bytes(4, "big") + b"\xc1\xc1\xc1")
    assert await asked == text_page(503, AWAY)


async def test_next_observer_answers(ends: tuple[socket.socket, socket.socket]) -> None:
    link = PageLink()
    dead, theirs = socket.socketpair()
    link.connect(dead)
    theirs.close()
    start_pages(ends[1], {"/metrics": shout})
    link.connect(ends[0])
    assert (await link.fetch("/metrics", {})).status == 200
    link.disconnect()


@pytest.mark.parametrize("accepted", ["gzip", "deflate, GZIP", "br;q=1.0, gzip;q=0.8, *;q=0.1", "*"])
def test_a_large_page_is_compressed_for_who_takes_that(accepted: str) -> None:
    page = Page(200, "text/plain", b"postern_calls_total 1\n" * 1000)
    told = compressed(page, PageRequest(1, "/metrics", {"accept-encoding": accepted}))
    assert told.content_encoding == "gzip"
    assert len(told.body) < len(page.body)
    assert gzip.decompress(told.body) == page.body


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip; q=0.0, br", "xgzip"])
def test_a_page_is_not_compressed_for_who_does_not_ask(accepted: str) -> None:
    page = Page(200, "text/plain", b"x" * 100_000)
    assert compressed(page, PageRequest(1, "/metrics", {"accept-encoding": accepted})) is page


def test_a_small_page_is_not_compressed() -> None:
    page = Page(200, "text/plain", b"x" * (MIN_GZIP_BYTES - 1))
    assert compressed(page, PageRequest(1, "/metrics", {"accept-encoding": "gzip"})) is page
