"""A process that spends on the embedded store until it is killed. It says each amount only after it was settled."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from proxy.spending import Fit, Period
from proxy.stores.embedded import EmbeddedStore
from tests.stores.support import SystemClock, holds, line, reserve, unix_ms


async def main(state_dir: str) -> None:
    store = EmbeddedStore(Path(state_dir), SystemClock())
    await store.start()
    now_ms = unix_ms()
    window = Period(0, 1 << 52, 0)
    said = 0
    while True:
        for _ in range(50):
            (hold,) = holds(await reserve(store, [line(window, 0, 1, f"a{said % 3}:usd:", fit=Fit.NOTHING)], now_ms))
            store.settle(hold, 7, now_ms)
            said += 7
            os.write(1, b"%d\n" % said)
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
