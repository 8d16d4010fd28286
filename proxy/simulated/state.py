"""What the simulated provider remembers: counters, stored responses and files, prompts seen, faults used up. All of it bounded.

Here: memory. Not here: requests, replies.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

import msgspec
from aiohttp import web

from proxy.simulated.counting import PromptCache
from proxy.simulated.directives import Directives
from proxy.simulated.mistakes import JsonObject
from proxy.simulated.responses import ResponsesReply

MAX_STORED_RESPONSES = 256
MAX_FILES = 32
MAX_KEPT_FILE_BYTES = 1 << 20
MAX_FAULT_COUNTERS = 4096

T = TypeVar("T")


class Bounded(Generic[T]):
    """The latest values by id."""

    def __init__(self, capacity: int) -> None:
        self._values: OrderedDict[str, T] = OrderedDict()
        self._capacity = capacity

    def put(self, key: str, value: T) -> None:
        """Keep a value; the oldest goes when there are too many."""
        self._values[key] = value
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)

    def get(self, key: str) -> T | None:
        """The value, or None if it isn't known (any more)."""
        return self._values.get(key)

    def drop(self, key: str) -> bool:
        """Forget a value; False if it wasn't known."""
        return self._values.pop(key, None) is not None


class StoredFile(msgspec.Struct, frozen=True):
    """An uploaded file; the content only if it is small."""

    description: JsonObject
    content: bytes | None


class Stats(msgspec.Struct):
    """What was asked and how it ended. requests = completed + aborted + broken_off + those still running."""

    requests: int = 0
    streams: int = 0
    completed: int = 0
    aborted: int = 0  # the client left before the reply was whole
    broken_off: int = 0  # a fault broke the connection
    faults: int = 0  # requests that a status or a fault was applied to
    by_path: Counter[str] = msgspec.field(default_factory=Counter)


class State:
    """Everything that outlives a request; `reset` forgets it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new."""
        self.stats = Stats()
        self.prompts = PromptCache()
        self.responses: Bounded[ResponsesReply] = Bounded(MAX_STORED_RESPONSES)
        self.files: Bounded[StoredFile] = Bounded(MAX_FILES)
        self._faults_used: Counter[Directives] = Counter()

    def use_fault(self, directives: Directives) -> bool:
        """Whether a request with these directives is to fail; counts it if so. `first=N` counts requests with the same directives."""
        if directives.fault is None and directives.status is None:
            return False
        if directives.first is not None:
            if self._faults_used[directives] >= directives.first:
                return False
            if len(self._faults_used) > MAX_FAULT_COUNTERS:
                self._faults_used.clear()
            self._faults_used[directives] += 1
        self.stats.faults += 1
        return True


STATE: web.AppKey[State] = web.AppKey("state", State)
