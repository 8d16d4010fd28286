"""OTLP requests over HTTP, on urllib3.

Here: one POST and its answer, foreign exceptions translated. Not here: what an answer means (send_result.py), trying again (outbox.py).
"""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable

import urllib3

from proxy.observer.telemetry.export.destination import Destination
from proxy.observer.telemetry.export.send_result import Refused, Retry, SendResult, http_result

CONTENT_TYPE = "application/x-protobuf"
MAX_ANSWER_BYTES = 64 << 10
GZIP_LEVEL = 6

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda request: gzip.compress(request, GZIP_LEVEL, mtime=0),
    "deflate": zlib.compress,
}
_NEVER_SENT = (urllib3.exceptions.LocationValueError, UnicodeError, ValueError)  # the endpoint or a header can't be


class HttpSender:
    """Sends to one URL, over connections that are kept. Redirects aren't followed: the headers hold a secret."""

    def __init__(self, destination: Destination, user_agent: str) -> None:
        self.timeout_s = destination.timeout_s
        self._url = destination.endpoint
        self._compress = _COMPRESS.get(destination.compression)
        coding = {"content-encoding": destination.compression} if self._compress else {}
        self._headers = {"user-agent": user_agent, **destination.headers, "content-type": CONTENT_TYPE, **coding}
        self._pool = urllib3.PoolManager(
            maxsize=1,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=destination.ca_file,
            cert_file=destination.certificate_file,
            key_file=destination.key_file,
        )

    def send(self, request: bytes, timeout_s: float) -> SendResult:
        """Send a request once."""
        body = request if self._compress is None else self._compress(request)
        try:
            answer = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers=self._headers,
                timeout=urllib3.Timeout(total=timeout_s),
                redirect=False,
                preload_content=False,
            )
            told = answer.read(MAX_ANSWER_BYTES, decode_content=True)
            if len(told) < MAX_ANSWER_BYTES:
                answer.release_conn()
            else:
                answer.close()
        except _NEVER_SENT as error:
            return Refused(_reason(error))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return Retry(_reason(error))
        return http_result(answer.status, answer.headers.get("retry-after"), told, time.time_ns() / 1e9)

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.clear()


def _reason(error: Exception) -> str:
    """The class is enough, and holds no address or header."""
    return type(error).__name__
