"""What the receiver hands to the pipeline: one client request, in bytes and plain values.

Here: the request's head and its body port. Not here: parsing, sockets.
"""

from __future__ import annotations

import msgspec

from proxy.call import HeaderList
from proxy.ports import RequestBody


class ClientRequest(msgspec.Struct):
    """A request whose head has been read."""

    method: str
    target: str  # the request target as sent: path and query, or an absolute form
    headers: HeaderList
    protocol_version: str  # 1.0 | 1.1
    scheme: str
    server_address: str  # the host the client asked for
    server_port: int
    client_address: str
    body: RequestBody
    started_unix_ns: int
    started_ns: int  # monotonic
    upgrade: bool = False  # a WebSocket handshake

    def __repr__(self) -> str:
        return f"ClientRequest({self.method!r}, {self.target.partition('?')[0]!r})"  # never the headers, nor the query
