"""`postern demo`: a sidecar of its own, the simulated provider, sample traffic, and what to look at.

Here: the show. Not here: the traffic (proxy/simulated/sample_traffic.py), the provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from types import FrameType
from typing import NoReturn

from proxy.observer.ledger.show import run_calls
from proxy.simulated.sample_traffic import send_sample_traffic

READY_S = 20.0
STOP_S = 10.0
CONFIG = """\
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin_port}"}}
state_dir: {state_dir}
targets:
  sim: {{provider: simulated}}
"""


def run_demo(once: bool) -> int:
    """Run the demo; with `once` it ends after the sample traffic. The result is the exit code."""
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="postern-demo-") as folder:
        port, admin_port = _free_port(), _free_port()
        config = Path(folder, "postern.yaml")
        config.write_text(CONFIG.format(port=port, admin_port=admin_port, state_dir=Path(folder, "state")), encoding="utf-8")
        sidecar = subprocess.Popen([sys.executable, "-m", "proxy", "serve", "--config", str(config)])
        try:
            return _show(sidecar, port, admin_port, Path(folder), once)
        finally:
            sidecar.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                sidecar.wait(STOP_S)
            sidecar.kill()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Told to end, as by Ctrl-C: the sidecar must not outlive its demo."""
    raise SystemExit(0)


def _show(sidecar: subprocess.Popen[bytes], port: int, admin_port: int, folder: Path, once: bool) -> int:
    if not asyncio.run(_ready(sidecar, admin_port)):
        sys.stderr.write("The sidecar did not start; what it said stands above.\n")
        return 1
    _say("\nSending sample calls through it, as an app would:\n")
    asyncio.run(send_sample_traffic(f"http://127.0.0.1:{port}/v1", lambda line: _say(f"  {line}\n")))
    _say("\nWhat the ledger says (postern calls):\n\n")
    asyncio.run(asyncio.sleep(0.5))  # the ledger is written behind, at most a tenth of a second late
    run_calls(str(folder / "state"), False, False, 20, _say, lambda: False)
    _say(
        f"\nLook at:\n"
        f"  http://127.0.0.1:{admin_port}/status    how the gate and its observer are doing\n"
        f"  postern calls --follow --json --config {folder / 'postern.yaml'}\n"
        f"  and with OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 set, spans and metrics in your Collector.\n"
    )
    if once:
        return 0
    _say(f"\nIt goes on at http://127.0.0.1:{port}/v1 until Ctrl-C. Try a model such as sim/gpt-4o-mini@fault=cut,after=3.\n\n")
    with contextlib.suppress(KeyboardInterrupt):
        sidecar.wait()
    return 0


async def _ready(sidecar: subprocess.Popen[bytes], admin_port: int) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_S
    while loop.time() < deadline and sidecar.poll() is None:
        if await asyncio.to_thread(_answers, f"http://127.0.0.1:{admin_port}/readyz"):
            return True
        await asyncio.sleep(0.05)
    return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  # our own loopback address
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
