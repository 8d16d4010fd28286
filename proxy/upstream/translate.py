"""Foreign exceptions of the provider side, translated once.

Here: one ordered table. Not here: what follows from an error.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from proxy.call import Target
from proxy.errors import ConnectFailed, ConnectTimeout, UpstreamClosed, UpstreamError, UpstreamGarbage, UpstreamTimeout

MAX_REASON_CHARS = 200

# First match wins: from the particular to the general.
TRANSLATION: tuple[tuple[type[BaseException], type[UpstreamError], str], ...] = (
    (aiohttp.ConnectionTimeoutError, ConnectTimeout, "no connection in time"),
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
    """Our error for a foreign one. Its message carries the cause's reason, which holds no header and no body."""
    for foreign, ours, what in TRANSLATION:
        if isinstance(error, foreign):
            reason = _reason(error.__cause__ or error)
            detail = f" ({reason})" if reason else ""
            return ours(f"Target '{target.name}' failed: {what}{detail}.", param=target.name)
    raise error


def _reason(cause: BaseException) -> str:
    """The cause in a few words."""
    text = str(cause)
    if isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientResponseError | HttpProcessingError):
        # Behind the colon the parser quotes what it stumbled over, and a head that was cut is the message itself.
        text = cause.message.partition(":")[0] if isinstance(cause.message, str) else ""
    lines = text.splitlines()
    return lines[0][:MAX_REASON_CHARS].rstrip(". ") if lines else ""
