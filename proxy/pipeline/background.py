"""What goes on beside the calls of clients: as many tasks as there is room for, ended with the gate.

Here: their number and their end. Not here: what they do (mirror.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger("postern")


class Background:
    """Tasks that nobody waits for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def has_room(self) -> bool:
        """Whether one more may be started."""
        return len(self._tasks) < self._most

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Begin a task; it runs when the loop comes to it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a copy of a call was broken off by a fault of Postern's own", exc_info=task.exception())

    async def drained(self) -> None:
        """Wait until all that were started have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Cut what still runs, and wait for its end."""
        for task in self._tasks:
            task.cancel()
        await self.drained()
