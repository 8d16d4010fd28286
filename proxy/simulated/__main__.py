"""`python -m proxy.simulated`: the simulated provider as a process of its own.

Here: arguments and signals. Not here: the server.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from proxy.simulated.server import start_simulated

DEFAULT_LISTEN = "127.0.0.1:9000"


async def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; one line with the address says that it is ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await start_simulated(host, port)
    sys.stdout.write(f"simulated provider on {server.base_url}\n")
    sys.stdout.flush()
    try:
        await stop.wait()
    finally:
        await server.close()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m proxy.simulated", description="An OpenAI-shaped provider that answers offline.")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help=f"default {DEFAULT_LISTEN}; port 0 takes a free one")
    host, colon, port = parser.parse_args().listen.rpartition(":")
    if not colon or not port.isdecimal():
        parser.error("--listen wants HOST:PORT")
    asyncio.run(serve(host.strip("[]"), int(port)))


if __name__ == "__main__":
    main()
