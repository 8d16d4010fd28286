"""What a good configuration may not do as it looks: said at start and by `postern check`, and refused by nobody.

Here: notes about a whole Config. Not here: problems (check.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from proxy.call import Secret
from proxy.config.nodes import join_key
from proxy.config.schema import PASSTHROUGH, Config


def notes(config: Config) -> Iterator[str]:
    """Each thing to know, as `key: what`."""
    for name, target in config.targets.items():
        if config.needs_keys and target.provider != "simulated" and target.credential == [Secret(PASSTHROUGH)]:
            path = join_key("targets", name)
            yield f"{path}.credential: what clients send is a virtual key, as there are `keys`, and stays here: this target is sent none"
