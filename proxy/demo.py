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
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from proxy.observer.ledger.show import run_calls
from proxy.simulated.sample_traffic import send_sample_traffic

READY_S = 20.0
SETTLED_S = 5.0
STOP_S = 10.0
CONFIG = """\
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin_port}"}}
state_dir: {state_dir}
targets:
  sim: {{provider: simulated}}
"""


class _Calls(msgspec.Struct, frozen=True):
    in_flight: int = 1


class _Observer(msgspec.Struct, frozen=True):
    queued: int = 1


class _Status(msgspec.Struct, frozen=True):
    """The part of /status that the demo waits for."""

    calls: _Calls = _Calls()
    observer: _Observer = _Observer()


_decode_status = msgspec.json.Decoder(_Status).decode


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
    if not asyncio.run(_until(lambda: _is_ready(admin_port), READY_S, sidecar)):
        sys.stderr.write("The sidecar did not start; what it said stands above.\n")
        return 1
    _say("\nSending sample calls through it, as an app would:\n")
    asyncio.run(send_sample_traffic(f"http://127.0.0.1:{port}/v1", lambda line: _say(f"  {line}\n")))
    _say("\nWhat the ledger says (postern calls):\n\n")
    asyncio.run(_until(lambda: _is_settled(admin_port), SETTLED_S, sidecar))
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


async def _until(is_so: Callable[[], bool], limit_s: float, sidecar: subprocess.Popen[bytes]) -> bool:
    """Wait for a condition; False if it didn't come true in time, or the sidecar ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while loop.time() < deadline and sidecar.poll() is None:
        if await asyncio.to_thread(is_so):
            return True
        await asyncio.sleep(0.05)
    return False


def _is_ready(admin_port: int) -> bool:
    return _ask(admin_port, "/readyz") != b""


def _is_settled(admin_port: int) -> bool:
    """Whether every call is over and in the ledger: one that was cut is counted first, which takes a moment."""
    report = _decode_status(_ask(admin_port, "/status") or b"{}")
    return report.calls.in_flight == 0 and report.observer.queued == 0


def _ask(admin_port: int, path: str) -> bytes:
    """The body of a good answer, else nothing."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}{path}", timeout=1) as answer:  # our own loopback address
            return bytes(answer.read()) if answer.status == 200 else b""
    except OSError:
        return b""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
