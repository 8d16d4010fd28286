"""What a request tells the simulated provider to do: how fast, how much, and which fault.

Here: the directives, where they are taken from, how they are refused. Not here: carrying them out (exchange.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from proxy.simulated.mistakes import Mistake

HEADER = "x-sim"
MODEL_PREFIX = "sim/"

Fault = Literal["reset", "close", "stall", "cut", "cutreset", "midstall", "sseerror", "badjson", "nodone", "error200"]

ALLOWED = (
    "lat=ms (before the first byte), d=ms (between chunks), n=content chunks, size=bytes of content, burst=1 (all chunks at once), "
    "status=400…599, retry_after=s, fault=reset|close|stall|cut|cutreset|midstall|sseerror|badjson|nodone|error200, "
    "after=content chunks before the fault, stall=ms (0: for ever), first=N (only the first N such requests fail)"
)

_SEPARATORS = re.compile(r"[,;&\s]+")

Milliseconds = Annotated[float, Meta(ge=0, le=3_600_000)]


class Directives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to answer one request: 20 ms to the first byte, 5 ms a chunk, no fault, unless it says otherwise.

    Names are short because they are typed into model names and headers; `ALLOWED` says what they mean.
    """

    lat: Milliseconds = 20.0
    d: Milliseconds = 5.0
    n: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    size: Annotated[int, Meta(ge=0, le=16_000_000)] | None = None
    burst: bool = False
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    retry_after: Annotated[int, Meta(ge=0)] | None = None
    fault: Fault | None = None
    after: Annotated[int, Meta(ge=0)] = 5
    stall: Milliseconds = 0.0
    first: Annotated[int, Meta(ge=0)] | None = None


def split_model(requested: str) -> tuple[str, str]:
    """The model's own name and the directives that were written behind it: `sim/gpt-4o@n=8` is `gpt-4o` and `n=8`.

    An `@` without a `=` after it belongs to the name, as in `claude-3@20240229`.
    """
    name, at, suffix = requested.removeprefix(MODEL_PREFIX).partition("@")
    if at and name and "=" in suffix:
        return name, suffix
    return requested.removeprefix(MODEL_PREFIX), ""


def read_directives(headers: Iterable[tuple[str, str]], model_suffix: str) -> Directives:
    """The directives of a request; the model's suffix wins over `x-sim-<key>`, which wins over `x-sim`. Raises Mistake."""
    whole: dict[str, str] = {}
    single: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key == HEADER:
            whole |= _pairs(value)
        elif key.startswith(HEADER + "-"):
            single[key.removeprefix(HEADER + "-").replace("-", "_")] = value.strip()
    return _convert(whole | single | _pairs(model_suffix))


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, _SEPARATORS.split(text)):
        key, equals, value = part.partition("=")
        if not equals:
            raise _refusal(f"{part!r} is not key=value")
        pairs[key.lower().replace("-", "_")] = value
    return pairs


def _convert(pairs: dict[str, str]) -> Directives:
    try:
        return msgspec.convert(pairs, Directives, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from error


def _refusal(problem: str) -> Mistake:
    return Mistake(f"Bad directive for the simulated provider: {problem}. Allowed: {ALLOWED}.", code="invalid_directive")
