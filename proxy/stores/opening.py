"""Which store a configuration asks for, and where the keys are read that sidecars share.

Here: the choice, and what an owner of a store may do with it beside the port. Not here: the stores.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from proxy.config.schema import Config, StoreConfig
from proxy.policy.keys import VirtualKeys
from proxy.ports import BudgetStore, Clock
from proxy.spending import Entry, Period

if TYPE_CHECKING:
    from proxy.stores.redis_link import RedisLink
    from proxy.stores.shared_keys import SharedKeys


class OwnedStore(BudgetStore, Protocol):
    """A store with its life, and what operators do with it."""

    async def start(self) -> None:
        """Be ready to take reservations. Raises OSError if it can't be."""
        ...

    async def close(self) -> None:
        """Leave nothing unwritten and nothing held."""
        ...

    def health(self) -> dict[str, object]:
        """How it is doing, for /status."""
        ...

    async def accounts(self) -> list[Entry]:
        """All accounts, by period."""
        ...

    async def put_spent(self, account: str, period: Period, spent: int) -> None:
        """Say what an account has spent in a period, whatever was counted. Raises OSError if the store can't be reached."""
        ...


def store_for(config: Config, clock: Clock) -> OwnedStore:
    """The store of `store:`, not yet started. Raises OSError for an URL that leads nowhere."""
    if config.store.kind == "redis":
        from proxy.stores.redis_store import RedisStore  # the client takes 13 MB

        try:
            return RedisStore(config.store, clock)
        except ValueError as error:
            raise OSError(f"store.url: {error}") from error
    from proxy.stores.embedded import EmbeddedStore

    return EmbeddedStore(Path(config.state_dir), clock)


def shared_keys_for(config: Config, clock: Clock, take: Callable[[VirtualKeys], None]) -> SharedKeys:
    """The keys of `store.keys`, not yet read; `take` gets them whenever they changed. Raises OSError for an URL that leads nowhere."""
    from proxy.stores.shared_keys import KeyHash, SharedKeys  # the client takes 13 MB

    return SharedKeys(KeyHash(link_for(config.store), config.store.prefix), clock, take)


def link_for(store: StoreConfig) -> RedisLink:
    """A connection of one's own to the shared store. Raises OSError for an URL that leads nowhere."""
    from proxy.stores.redis_link import ClientLink

    try:
        return ClientLink(store.url.reveal() if store.url else "")
    except ValueError as error:
        raise OSError(f"store.url: {error}") from error
