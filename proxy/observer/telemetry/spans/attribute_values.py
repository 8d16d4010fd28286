"""What an attribute may hold, and how large: clients and providers write into most of them.

Here: the types, and the bounds every span keeps. Not here: which attributes there are.
"""

from __future__ import annotations

from proxy.call import NUSD_PER_USD

AttributeValue = str | bool | int | float | list[str]
Attributes = dict[str, AttributeValue]

MAX_TEXT_CHARS = 1024  # a client may name a model of a megabyte
MAX_LIST_ITEMS = 64
MAX_ATTRIBUTES = 128  # of one span: what backends take by default


def put(attributes: Attributes, name: str, value: AttributeValue | None) -> None:
    """Set an attribute, if there is something to set."""
    if value is not None:
        attributes[name] = value


def usd(nusd: int) -> float:
    """Nano-USD as USD."""
    return nusd / NUSD_PER_USD


def clip(text: str) -> str:
    """The text, cut where telemetry would no longer want it."""
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


def clipped(attributes: Attributes) -> Attributes:
    """The same dict, with its texts and lists cut to size."""
    for name, value in attributes.items():
        if isinstance(value, str):
            if len(value) > MAX_TEXT_CHARS:
                attributes[name] = clip(value)
        elif isinstance(value, list) and (len(value) > MAX_LIST_ITEMS or max(map(len, value), default=0) > MAX_TEXT_CHARS):
            attributes[name] = [clip(item) for item in value[:MAX_LIST_ITEMS]]
    return attributes
