"""The gate's ports where nothing is behind them: what is in memory is taken or given, nothing is sent and nothing kept.

Here: ports. Not here: what is played on them (ask.py).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from proxy.call import HeaderList, Target
from proxy.errors import BodyTooLarge
from proxy.ports import UpstreamReply, UpstreamTunnel
from proxy.records import CallRecord

SENT_NOWHERE = "a call that is only explained is sent nowhere"


class MachineClock:
    """Port: Clock."""

    time_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)


class GivenBody:
    """Port: RequestBody."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.declared_bytes: int | None = len(data)

    async def read(self, limit: int) -> bytes:
        if len(self._data) > limit:
            raise BodyTooLarge(limit)
        return self._data

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        yield await self.read(limit)


class Collected:
    """Port: ClientReply."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()

    async def start(self, status: int, reason: str, headers: HeaderList) -> None:
        self.status = status

    def flush(self) -> None:
        """Nobody waits for the head."""

    async def write(self, data: bytes) -> None:
        self.body += data

    async def finish(self) -> None:
        """It is whole."""

    def abort(self) -> None:
        """Nobody is there to notice."""


class NoRecorder:
    """Port: Recorder."""

    def record(self, record: CallRecord) -> None:
        """A question leaves no trace."""


class NoUpstream:
    """Port: Upstream."""

    async def open(
        self, target: Target, method: str, url: str, headers: HeaderList, body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamReply:
        raise AssertionError(SENT_NOWHERE)


class NoDialer:
    """Port: TunnelDialer."""

    async def dial(self, target: Target, url: str, headers: HeaderList) -> UpstreamTunnel:
        raise AssertionError(SENT_NOWHERE)


class NoTunnel:
    """Port: ClientTunnel."""

    def open(self, status: int, reason: str, headers: HeaderList) -> None:
        raise AssertionError(SENT_NOWHERE)

    async def read(self) -> bytes:
        return b""

    async def write(self, data: bytes) -> None:
        raise AssertionError(SENT_NOWHERE)

    def close(self) -> None:
        """Nothing is open."""
