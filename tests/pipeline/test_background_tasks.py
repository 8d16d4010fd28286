from __future__ import annotations

import asyncio
import logging

import pytest

from proxy.pipeline.background import Background
from tests.fake_time import in_fake_time, pass_time


@in_fake_time
async def test_there_is_room_for_as_many_as_there_may_be() -> None:
    background, over = Background(2), asyncio.Event()

    async def work() -> None:
        await over.wait()

    for has_room in (True, True, False):
        assert background.has_room is has_room
        if has_room:
            background.start(work())
    over.set()
    await background.drained()
    assert background.has_room


@in_fake_time
async def test_what_still_runs_at_the_end_is_cut_and_ends_in_good_order() -> None:
    background, ended = Background(2), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append(True)

    background.start(work())
    await pass_time(1)
    await background.stop()
    assert ended == [True]


def test_a_fault_of_ours_is_told_in_the_log_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    @in_fake_time
    async def play() -> None:
        background = Background(1)

        async def work() -> None:
            raise RuntimeError("oops")

        background.start(work())
        await background.drained()
        assert background.has_room

    with caplog.at_level(logging.ERROR, "postern"):
        play()
    assert "fault of Postern's own" in caplog.text
