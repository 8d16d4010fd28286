"""A server on a free port of loopback that runs in a thread with a loop of its own, so that tests with blocking clients can use it too.

Here: its life. Not here: what it answers (scripted_provider.py, counting_provider.py).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

WAIT_S = 10.0
BACKLOG = 1024

Value = TypeVar("Value")


class ThreadedServer:
    """Listens from construction on; `_serve` is what becomes of a connection."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._listening(0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def _listening(self, port: int) -> asyncio.Server:
        return self._do(asyncio.start_server(self._serve, "127.0.0.1", port, backlog=BACKLOG))

    def _do(self, what: Coroutine[object, object, Value]) -> Value:
        """Run something in the server's loop, to its end."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(WAIT_S)

    def close(self) -> None:
        """End the server and its connections."""

        async def end() -> None:
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # transports close in the loop's next turn

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()
