"""The seam: what the pipeline needs from the outside world, as Protocols. Bytes, header lists and plain values only.

Here: ports. Not here: implementations; no aiohttp type may cross them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from proxy.call import HeaderList, Target
from proxy.records import CallRecord
from proxy.spending import Answer, Hold, Line, Period, Rate, Standing


class Clock(Protocol):
    """Time as an argument."""

    def time_ns(self) -> int:
        """Unix time."""
        ...

    def monotonic_ns(self) -> int:
        """Time that never goes back."""
        ...


class RequestBody(Protocol):
    """The client's request body: read whole up to a limit, or passed on in pieces."""

    @property
    def declared_bytes(self) -> int | None:
        """Content-Length; None if chunked; 0 if there is no body."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge beyond `limit` bytes and BadRequest if it is broken off or malformed."""
        ...

    def stream(self, limit: int) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive. Raises as `read` does."""
        ...


class ClientReply(Protocol):
    """The reply on its way to the client. `start`, any number of `write`, then `finish` or `abort`."""

    async def start(self, status: int, reason: str, headers: HeaderList) -> None:
        """Take the head; it is sent with the first bytes that follow, or by `flush`.

        Framing fields are set here, not taken from `headers`, except Content-Length.
        """
        ...

    def flush(self) -> None:
        """Send the head without waiting for the first body bytes. Raises ClientGone."""
        ...

    async def write(self, data: bytes) -> None:
        """Send body bytes now; waits while the client reads too slowly. Raises ClientGone."""
        ...

    async def finish(self) -> None:
        """End the reply in good order."""
        ...

    def abort(self) -> None:
        """Break the connection: the client must see that the reply is not whole."""
        ...


class UpstreamReply(Protocol):
    """A reply whose head has arrived."""

    status: int
    reason: str
    headers: HeaderList

    @property
    def has_data(self) -> bool:
        """Whether body bytes (or the end) came together with the head."""
        ...

    async def read_chunk(self) -> bytes:
        """The next bytes as they came, b"" at the end. Raises UpstreamError."""
        ...

    def release(self) -> None:
        """The reply was read to its end: the connection goes back to the pool."""
        ...

    def close(self) -> None:
        """Drop the connection at once."""
        ...


class Upstream(Protocol):
    """Where attempts go."""

    async def open(
        self, target: Target, method: str, url: str, headers: HeaderList, body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamReply:
        """Send a request and wait for the reply's head. Raises UpstreamError."""
        ...


class Recorder(Protocol):
    """Takes the record of a call that is over. Never blocks, never raises."""

    def record(self, record: CallRecord) -> None: ...


class ClientTunnel(Protocol):
    """The client's connection as raw bytes, once an upgrade was granted."""

    def open(self, status: int, reason: str, headers: HeaderList) -> None:
        """Send the upstream's 101 head and take the connection over."""
        ...

    async def read(self) -> bytes:
        """The client's next bytes, b"" when it is gone."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes to the client; waits while it reads too slowly. Raises ClientGone."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...


class UpstreamTunnel(Protocol):
    """An upstream connection whose answer to an upgrade request has arrived."""

    status: int
    reason: str
    headers: HeaderList

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. Raises UpstreamError."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes upstream. Raises UpstreamError."""
        ...

    async def read_refusal(self, limit: int) -> bytes:
        """The body of an answer other than 101, at most `limit` bytes. Raises UpstreamError."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...


class TunnelDialer(Protocol):
    """Opens upgraded connections."""

    async def dial(self, target: Target, url: str, headers: HeaderList) -> UpstreamTunnel:
        """Send a GET with these fields (an upgrade handshake) and wait for the answer's head. Raises UpstreamError."""
        ...


class BudgetStore(Protocol):
    """Remembers what was spent and what is held. In each of its accounts, what lines with `Fit.WHOLE` hold and spend fits the limit.

    `now_ms` is the sidecar's own Unix time in milliseconds; a shared store corrects it by its own clock.
    """

    def now_ms(self, now_ms: int) -> int:
        """The store's time: windows are cut by it."""
        ...

    def reserve(self, lines: Sequence[Line], now_ms: int) -> Answer | None:
        """Hold every line or none, at once. None: only `ask` can tell."""
        ...

    async def ask(self, lines: Sequence[Line], now_ms: int) -> Answer:
        """As `reserve`, after asking the store that is shared; never longer than its time-outs allow.

        It is also asked for accounts that nothing is known of, where a line lets everything through: `standing` knows them then.
        """
        ...

    def settle(self, hold: Hold, spent: int, now_ms: int) -> None:
        """End a hold: `spent` of it counts, 0 gives it back. A second time does nothing. Never blocks, never raises."""
        ...

    def standing(self, account: str, window: Period | Rate, now_ms: int) -> Standing | None:
        """How an account stands as far as is known here; None: nothing is known of it."""
        ...
