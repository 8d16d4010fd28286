"""Attempts over aiohttp's client, with every default that bites a proxy turned off (wire.md B5).

Here: one pooled session, requests out. Not here: decisions, retries, what bytes mean; aiohttp's types stay in this folder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # documented for subclasses only

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from proxy.call import HeaderList, Target
from proxy.upstream.translate import FOREIGN, translate

MAX_HEADER_BYTES = 64 << 10
DNS_CACHE_S = 30
POOLED_S = 15.0  # shorter than most servers' keep-alive, or a request may meet a connection that is just being closed
AUTOMATIC_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
MAX_CACHED_URLS = 1024


class HttpUpstream:
    """The pooled connections to all targets. Port: Upstream."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_CACHE_S, keepalive_timeout=POOLED_S)
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
        # aiohttp encodes header text as UTF-8: decoded the same way, every byte comes out as it came in.
        fields = CIMultiDict([(name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in headers])
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
