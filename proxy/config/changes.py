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
}


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that differ and take effect at the next start only."""
    return [key for key, read in READ_AT_START.items() if read(old) != read(new)]
