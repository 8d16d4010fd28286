"""How long a provider asks to be left alone, in every form that providers say it in.

Here: reading header fields. Not here: what is done about it (policy/).
Sources: RFC 9110 10.2.3; `retry-after-ms` as openai-python reads it; `x-ratelimit-*` of OpenAI; `anthropic-ratelimit-*` of Anthropic.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from proxy.call import HeaderList
from proxy.wire.http1 import header

MAX_WAIT_S = 31 * 86_400.0  # a provider's month; what is longer is a mistake
KINDS = ("requests", "tokens", "input-tokens", "output-tokens")

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS_OF_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def retry_after_s(headers: HeaderList, now_s: float) -> float | None:
    """Seconds from `now_s` (Unix time) until the provider wants to be asked again; None if it doesn't say.

    `retry-after-ms` wins over `Retry-After`; without either, the reset of whichever limit is used up.
    """
    milliseconds = _number(header(headers, b"retry-after-ms").decode("latin-1"))
    if milliseconds is not None:
        return _sane(milliseconds / 1000)
    told = header(headers, b"retry-after").decode("latin-1").strip()
    if told:
        seconds = _number(told)
        return _sane(seconds if seconds is not None else _until(told, now_s))
    waits = [wait for kind in KINDS if (wait := _reset_s(headers, kind, now_s)) is not None]
    return max(waits) if waits else None


def remaining_share(headers: HeaderList) -> float | None:
    """The smallest of remaining / limit over the limits a reply tells of, 0 to 1; None if it tells of none."""
    shares = []
    for kind in KINDS:
        limit, remaining = _limit(headers, "limit", kind), _limit(headers, "remaining", kind)
        if limit is not None and remaining is not None and limit > 0:
            shares.append(min(1.0, max(0.0, remaining / limit)))
    return min(shares) if shares else None


def _reset_s(headers: HeaderList, kind: str, now_s: float) -> float | None:
    """The wait for one limit to be reset; None unless it is used up. Azure says -1 for a limit it doesn't know."""
    if _limit(headers, "remaining", kind) != 0:
        return None
    told = _field(headers, "reset", kind)
    if not told:
        return None
    seconds = _number(told)
    if seconds is None:
        seconds = _duration_s(told)
    return _sane(seconds if seconds is not None else _until(told, now_s))


def _limit(headers: HeaderList, what: str, kind: str) -> float | None:
    return _number(_field(headers, what, kind))


def _field(headers: HeaderList, what: str, kind: str) -> str:
    openai = header(headers, f"x-ratelimit-{what}-{kind}".encode())
    return (openai or header(headers, f"anthropic-ratelimit-{kind}-{what}".encode())).decode("latin-1").strip()


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _duration_s(text: str) -> float | None:
    """`6m0s`, `12ms`, `1h2m3.5s` as seconds; None if the whole text isn't one."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(amount + unit for amount, unit in parts) != text:
        return None
    return sum(float(amount) * _SECONDS_OF_UNIT[unit] for amount, unit in parts)


def _until(text: str, now_s: float) -> float | None:
    """Seconds until an HTTP date or an RFC 3339 time; None if it is neither."""
    moment = _http_date(text) or _rfc3339(text)
    return None if moment is None else moment.timestamp() - now_s


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _rfc3339(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _sane(seconds: float | None) -> float | None:
    """At least 0 (a date that has passed), at most MAX_WAIT_S; None stays unknown."""
    return None if seconds is None else min(MAX_WAIT_S, max(0.0, seconds))
