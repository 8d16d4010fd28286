"""What a running Postern can't take over from a new configuration.

Here: the keys that are read once, at start. Not here: watching files, swapping configurations.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.config.schema import Config

READ_AT_START: dict[str, Callable[[Config], object]] = {
    "listen": lambda config: config.listen,  # the socket is bound
    "admin.listen": lambda config: config.admin.listen,
    "state_dir": lambda config: config.state_dir,  # the ledger is open
    "store": lambda config: config.store,  # what was spent is in it
}


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that differ and take effect at the next start only."""
    return [key for key, read in READ_AT_START.items() if read(old) != read(new)]


def refused_until_restart(old: Config, new: Config) -> str | None:
    """Why the new configuration can't be taken over at all; None: it can.

    Half of it in force would be worse than none: keys needed that nobody reads, or clients' virtual keys passed on to a target.
    """
    if old.store.keys == new.store.keys:
        return None
    return "store.keys: whether keys are kept in Redis is settled at the start: restart Postern to take this file over"
