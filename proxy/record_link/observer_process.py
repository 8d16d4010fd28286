"""Starting the observer, and starting it again.

Here: the child process and its backoff. Not here: what is sent to it (link.py) and asked of it (pages.py), what it does (proxy.observer).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys

from proxy.record_link.link import RecordLink
from proxy.record_link.pages import PageLink

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 10.0
HEALTHY_S = 30.0  # an observer that lived this long starts again at once
MAX_FRUITLESS_LIVES = 5
STOP_S = 6.0  # it flushes within 5 s, even if the collector is dead
SOCKET_BUFFER_BYTES = 1 << 20

log = logging.getLogger("postern")


class ObserverProcess:
    """The second process of DESIGN 2: the gate starts it, restarts it, and counts what it had to drop."""

    def __init__(self, settings: bytes) -> None:
        self.settings = settings
        self.link = RecordLink(self._on_lost)
        self.pages = PageLink()
        self.restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self._started_s = 0.0
        self._restarting: asyncio.TimerHandle | None = None
        self._stopping = False
        self._renewing = False
        self._fruitless_lives = 0  # in a row, without one record acknowledged
        self._acknowledged_before = 0

    @property
    def pid(self) -> int | None:
        """The observer's process id, None between two lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Spawn the observer and send it what waits."""
        self._restarting = None
        ours, theirs = socket.socketpair()
        our_pages, their_pages = socket.socketpair()
        for end in (ours, theirs, our_pages, their_pages):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy.observer", "--fd", str(theirs.fileno()), "--pages-fd", str(their_pages.fileno())],
                pass_fds=[theirs.fileno(), their_pages.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the gate's to handle: the observer must outlive it by a flush
            )
        except OSError as error:
            log.error("the observer could not be started: %s", error)
            ours.close()
            our_pages.close()
            self._restart_later()
            return
        finally:
            theirs.close()
            their_pages.close()
        self._started_s = asyncio.get_running_loop().time()
        self.link.connect(ours, self.settings)
        self.pages.connect(our_pages)

    def renew(self, settings: bytes) -> None:
        """Replace the observer by one with other settings: the old one flushes and ends, the new one starts when it has."""
        self.settings = settings
        if self._process is not None:
            self._renewing = True
            self.link.finish()

    async def stop(self) -> None:
        """Let it flush and end; kill it when it doesn't."""
        self._stopping = True
        if self._restarting is not None:
            self._restarting.cancel()
            self.start()  # what is queued deserves a last try
        self.link.finish()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, STOP_S)
        self._reap()
        self.link.read_rest()
        self.link.disconnect()
        self.pages.disconnect()
        if self.link.queued:
            log.error("the observer never acknowledged %d records: the ledger and the telemetry may lack them", self.link.queued)

    def _on_lost(self) -> None:
        self.pages.disconnect()
        if self._stopping:
            return
        self._reap()
        if self._renewing:
            self._renewing = False
            self.start()
            return
        self.restarts += 1
        log.warning("the observer is gone; %d records wait for the next one", self.link.queued)
        self._drop_poison()
        self._restart_later()

    def _drop_poison(self) -> None:
        """A record that kills every observer it meets must not stand in the way of all others."""
        fruitless = self.link.queued > 0 and self.link.acknowledged == self._acknowledged_before
        self._fruitless_lives = self._fruitless_lives + 1 if fruitless else 0
        self._acknowledged_before = self.link.acknowledged
        if self._fruitless_lives >= MAX_FRUITLESS_LIVES and self.link.drop_oldest("poison"):
            log.error("%d observers in a row died over the same record: it was dropped", self._fruitless_lives)
            self._fruitless_lives = 0

    def _restart_later(self) -> None:
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._started_s > HEALTHY_S:
            self._backoff_s = FIRST_BACKOFF_S
        self._restarting = loop.call_later(self._backoff_s, self.start)
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)

    def _reap(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        self._process = None
