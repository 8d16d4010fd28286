"""Foreign exceptions of the provider side, translated once.

Here: one ordered table. Not here: what follows from an error.
"""

from __future__ import annotations

import asyncio

import aiohttp

from proxy.call import Target
from proxy.errors import ConnectFailed, UpstreamClosed, UpstreamError, UpstreamGarbage, UpstreamTimeout

# First match wins: from the particular to the general.
TRANSLATION: tuple[tuple[type[BaseException], type[UpstreamError], str], ...] = (
    (aiohttp.ConnectionTimeoutError, UpstreamTimeout, "no connection in time"),
    (aiohttp.ClientConnectorCertificateError, ConnectFailed, "its certificate was refused"),
    (aiohttp.ClientSSLError, ConnectFailed, "TLS failed"),
    (aiohttp.ClientProxyConnectionError, ConnectFailed, "the HTTP proxy could not be reached"),
    (aiohttp.ClientConnectorDNSError, ConnectFailed, "its name could not be resolved"),
    (aiohttp.ClientConnectorError, ConnectFailed, "no connection"),
    (aiohttp.ServerTimeoutError, UpstreamTimeout, "no answer in time"),
    (aiohttp.ServerDisconnectedError, UpstreamClosed, "it closed the connection without a whole reply"),
    (aiohttp.ClientResponseError, UpstreamGarbage, "its reply is not HTTP/1.1"),
    (aiohttp.ClientPayloadError, UpstreamClosed, "its reply broke off"),
    (aiohttp.ClientConnectionError, UpstreamClosed, "the connection broke"),
    (aiohttp.ClientError, UpstreamError, "the request failed"),
    (asyncio.TimeoutError, UpstreamTimeout, "no answer in time"),
    (ConnectionRefusedError, ConnectFailed, "no connection"),
    (asyncio.IncompleteReadError, UpstreamClosed, "it closed the connection without a whole reply"),
    (asyncio.LimitOverrunError, UpstreamGarbage, "its reply's head is too large"),
    (OSError, UpstreamClosed, "the connection broke"),
    (ValueError, UpstreamGarbage, "the exchange was not valid HTTP/1.1"),
)
FOREIGN: tuple[type[BaseException], ...] = (
    aiohttp.ClientError,
    OSError,
    ValueError,
    asyncio.IncompleteReadError,
    asyncio.LimitOverrunError,
)


def translate(error: BaseException, target: Target) -> UpstreamError:
    """Our error for a foreign one. Its message carries the cause's first line, which holds no header and no body."""
    for foreign, ours, what in TRANSLATION:
        if isinstance(error, foreign):
            lines = str(error.__cause__ or error).splitlines()
            detail = f" ({lines[0][:200]})" if lines and lines[0] else ""
            return ours(f"Target '{target.name}' failed: {what}{detail}.", param=target.name)
    raise error
