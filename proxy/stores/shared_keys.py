"""Virtual keys that sidecars share: one hash in Redis, read in the background, so that no call waits for it.

Here: how an entry is written and read, when all are read, what is said while Redis is lost. Not here: what a key is good for
(policy/keys.py), who may do without one (pipeline/identify.py), the commands that write here (key_command.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from proxy.config.identity import entry_problems
from proxy.config.schema import KeyConfig
from proxy.policy.keys import VirtualKey, VirtualKeys, compile_key
from proxy.ports import Clock
from proxy.stores.redis_link import RedisLink, RedisLost, Script, ScriptCall
from proxy.stores.sync import end_tasks

CHANGED = Script("keys.lua")
REFRESH_S = 2.0  # what was made or revoked is in force after this time
ANSWER_S = 1.0  # for connecting, and for all keys: nobody waits for them but the start
NS_PER_S = 1_000_000_000

_log = logging.getLogger("postern.store")


class KeyHash:
    """The hash `PREFIX:keys`: by each key's name, its entry as JSON."""

    def __init__(self, link: RedisLink, prefix: str) -> None:
        self._link = link
        self._key = f"{prefix}:keys"

    async def entries(self) -> dict[str, str]:
        """All that is there, by name. Raises RedisLost."""
        return await self._link.fields(self._key)

    async def changed(self, known: str, timeout_s: float) -> tuple[str, dict[str, str]] | None:
        """The digest of what is there, and all of it; None if `known` is its digest. Raises RedisLost."""
        (reply,) = await self._link.run([ScriptCall(CHANGED, [self._key], [known])], timeout_s)
        if isinstance(reply, RedisLost):
            raise reply
        if not reply:
            return None
        digest, *texts = (value.decode("utf-8", "replace") for value in reply if isinstance(value, bytes))
        return digest, dict(zip(texts[::2], texts[1::2], strict=True))

    async def add(self, entry: KeyConfig) -> bool:
        """Keep a key; False: there is one of its name. Raises RedisLost."""
        return await self._link.add_field(self._key, entry.name, msgspec.json.encode(entry).decode())

    async def remove(self, name: str) -> bool:
        """Forget a key; False: there is none of this name. Raises RedisLost."""
        return await self._link.drop_field(self._key, name)

    async def close(self) -> None:
        """Drop the connection."""
        await self._link.close()


def read_entry(name: str, text: str) -> KeyConfig | None:
    """What stands under a name; None if it makes no sense, also where it says more than this version knows: that might be a restriction."""
    try:
        entry = msgspec.json.decode(text, type=KeyConfig)
    except (msgspec.DecodeError, RecursionError):
        return None
    if entry.name != name or any(entry_problems("", entry)):
        return None
    return entry


class SharedKeys:
    """Reads the keys again and again; `take` gets all of them whenever they changed. What was read last stays in force without Redis."""

    def __init__(self, kept: KeyHash, clock: Clock, take: Callable[[VirtualKeys], None]) -> None:
        self._kept = kept
        self._clock = clock
        self._take = take
        self._texts: dict[str, str] = {}  # as read last
        self._digest = ""  # of them; empty: nothing was read yet
        self._keys: dict[str, VirtualKey | None] = {}  # of each text; None: it makes no sense
        self._read_ns = 0
        self._is_lost = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read them, if Redis answers; then go on by itself."""
        await self._read()
        self._tasks.append(asyncio.get_running_loop().create_task(self._read_for_ever()))

    async def close(self) -> None:
        """Read no more."""
        await end_tasks(self._tasks)
        await self._kept.close()

    def health(self) -> dict[str, object]:
        """How old what is known is, for /status."""
        skipped = sum(key is None for key in self._keys.values())
        age_s = None if not self._digest else round((self._clock.monotonic_ns() - self._read_ns) / NS_PER_S, 1)
        return {"known": len(self._keys) - skipped, "skipped": skipped, "age_s": age_s, "is_lost": self._is_lost}

    async def _read_for_ever(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._read()
            except Exception:
                _log.exception("a fault while keys were read: those read last stay in force")

    async def _read(self) -> None:
        try:
            changed = await self._kept.changed(self._digest, ANSWER_S)
        except RedisLost as error:
            self._tell_loss(error)
            return
        if self._is_lost:
            _log.warning("Redis is back: its keys are read again")
        self._is_lost, self._read_ns = False, self._clock.monotonic_ns()
        if changed is not None:
            self._use(*changed)

    def _use(self, digest: str, texts: dict[str, str]) -> None:
        """Take over what is new; an entry that hasn't changed isn't looked at again."""
        before, known = self._texts, self._keys
        self._keys = {
            name: known[name] if before.get(name) == text else _compiled(name, text)
            for name, text in sorted(texts.items())  # of two with one digest always the same counts
        }
        self._digest, self._texts = digest, texts
        self._take(VirtualKeys(key for key in self._keys.values() if key is not None))

    def _tell_loss(self, error: RedisLost) -> None:
        if not self._is_lost:
            what = "calls with a key that isn't under `keys` get 503" if not self._digest else "those read last stay in force"
            _log.error("the keys in Redis can't be read (%s): %s", error, what)
        self._is_lost = True


def _compiled(name: str, text: str) -> VirtualKey | None:
    entry = read_entry(name, text)
    if entry is None:
        _log.error("the key %r in Redis makes no sense: it is skipped", name)
        return None
    return compile_key(entry)
