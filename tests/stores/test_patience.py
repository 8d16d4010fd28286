"""A clock that goes on only while the event loop does."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from proxy.stores.patience import Patience
from tests.fake_time import FakeTimeLoop, in_fake_time


@in_fake_time
async def test_a_loop_that_is_free_waits_as_long_as_it_is_told() -> None:
    loop, patience = asyncio.get_running_loop(), Patience()
    began_s = loop.time()
    with pytest.raises(TimeoutError):
        async with patience.timeout(0.1):
            await asyncio.sleep(1.0)
    assert loop.time() - began_s == pytest.approx(0.1, abs=0.003)


@in_fake_time
async def test_a_loop_that_is_held_up_has_as_many_turns_as_one_that_is_not() -> None:
    """What has to be read, resumed and passed on after an answer came takes some turns of the loop, however long each lasts."""
    loop, patience, turns = asyncio.get_running_loop(), Patience(), 0
    assert isinstance(loop, FakeTimeLoop)
    with contextlib.suppress(TimeoutError):
        async with patience.timeout(0.05):
            while turns < 1000:
                loop.clock.advance(0.1)
                turns += 1
                await asyncio.sleep(0)
    assert 6 < turns < 1000
