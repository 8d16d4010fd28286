"""Attempts over aiohttp's client, with every default that bites a proxy turned off (wire.md B5).

Here: one pooled session, requests out. Not here: decisions, retries, what bytes mean; aiohttp's types stay in this folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import cast
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # documented for subclasses only

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from multidict import CIMultiDict
from yarl import URL

from proxy.call import HeaderList, Target
from proxy.errors import UpstreamGarbage
from proxy.upstream.translate import FOREIGN, translate

MAX_HEADER_BYTES = 64 << 10
DNS_CACHE_S = 30
POOLED_S = 15.0  # shorter than most servers' keep-alive, or a request may meet a connection that is just being closed
AUTOMATIC_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
MAX_CACHED_URLS = 256
FIRST_FINAL_STATUS = 200


class HttpUpstream:
    """The pooled connections to all targets. Port: Upstream."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_CACHE_S, keepalive_timeout=POOLED_S)
        connector._factory = cast("partial[ResponseHandler]", partial(_Connection, loop=asyncio.get_running_loop()))
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=AUTOMATIC_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._urls: dict[str, tuple[URL, str | None]] = {}
        self._proxies = getproxies_environment()

    async def open(
        self, target: Target, method: str, url: str, headers: HeaderList, body: bytes | AsyncIterator[bytes] | None
    ) -> HttpUpstreamReply:
        """See the port."""
        parsed, proxy = self._parse(url)
        fields = _fields(headers)
        try:
            response = await self._session.request(
                method,
                parsed,
                data=body,
                headers=fields,
                allow_redirects=False,
                timeout=self._timeout(target.timeouts.connect_s),
                proxy=proxy,
            )
        except FOREIGN as error:
            raise translate(error, target) from error
        if response.status < FIRST_FINAL_STATUS:  # 101 to a request that asked for no upgrade, or no status at all
            response.close()
            raise UpstreamGarbage(f"Target '{target.name}' failed: it answered with status {response.status}.", param=target.name)
        return HttpUpstreamReply(response, target)

    def _parse(self, url: str) -> tuple[URL, str | None]:
        known = self._urls.get(url)
        if known is None:
            if len(self._urls) >= MAX_CACHED_URLS:
                self._urls.clear()
            parsed = URL(url, encoded=True)
            known = self._urls[url] = (parsed, self._proxy(parsed))
        return known

    def _proxy(self, url: URL) -> str | None:
        """The egress proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for a URL."""
        if not self._proxies or proxy_bypass_environment(url.host or ""):
            return None
        return self._proxies.get(url.scheme)

    def _timeout(self, connect_s: float) -> aiohttp.ClientTimeout:
        timeout = self._timeouts.get(connect_s)
        if timeout is None:
            timeout = self._timeouts[connect_s] = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        return timeout

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


def _fields(headers: HeaderList) -> CIMultiDict[str]:
    """The fields as aiohttp wants them: it encodes text as UTF-8, so bytes that are UTF-8 come out as they came in."""
    try:
        fields = CIMultiDict([(name.decode("latin-1"), value.decode()) for name, value in headers])
    except UnicodeDecodeError:  # bytes that aren't: aiohttp has no way to send them, and their Latin-1 text loses the least
        fields = CIMultiDict([(name.decode("latin-1"), _text(value)) for name, value in headers])
    if len({name.lower() for name in fields}) == len(fields):
        return fields
    spelling: dict[str, str] = {}  # aiohttp drops the first of two fields whose names differ in case only
    return CIMultiDict([(spelling.setdefault(name.lower(), name), value) for name, value in fields.items()])


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class _Connection(ResponseHandler):
    """aiohttp's connection; but what a provider says on it unasked ends it, where aiohttp takes it for the next call's reply."""

    _is_answered = False  # the head of the reply that was asked for has come

    def set_response_params(self, **params: object) -> None:
        """aiohttp calls this when a request is about to go out."""
        self._is_answered = False
        super().set_response_params(**params)  # type: ignore[arg-type]

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """aiohttp calls this with each head."""
        self._is_answered = data[0].code >= FIRST_FINAL_STATUS
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if data and self._is_answered and (self._payload is None or self._payload.is_eof()):
            self.close()
        else:
            super().data_received(data)


class HttpUpstreamReply:
    """A reply whose head has arrived. Port: UpstreamReply."""

    def __init__(self, response: aiohttp.ClientResponse, target: Target) -> None:
        self._response = response
        self._target = target
        self.status = response.status
        self.reason = response.reason or ""
        self.headers = cast(HeaderList, response.raw_headers)

    @property
    def has_data(self) -> bool:
        """See the port."""
        content = self._response.content
        return content.total_bytes > 0 or content.is_eof()

    async def read_chunk(self) -> bytes:
        """See the port."""
        try:
            return await self._response.content.readany()
        except FOREIGN as error:
            raise translate(error, self._target) from error

    def release(self) -> None:
        """See the port."""
        self._response.release()

    def close(self) -> None:
        """See the port."""
        self._response.close()
