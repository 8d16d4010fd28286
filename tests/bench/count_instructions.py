"""Instructions of the gate a call, counted by valgrind: `python -m tests.bench.count_instructions [-t NAMES]`, a minute for each target.

The same on a busy machine as on a quiet one, to within a per cent: what microseconds of a shared machine can't tell apart, this does. Calls
come one after the other; what the kernel does for them isn't counted, and an instruction that misses the cache counts like any other.
Names of targets as `make bench` has them; bare aiohttp and Postern's.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

from tests.bench.__main__ import CHAT, HERE, REDIS_PORT, REDIS_TARGET, REQUEST, SINK_PORT, TARGETS, UPSTREAM_PORT, Target, answer, build

FEW, MANY = 200, 1200
"""Calls of two runs: the difference is that of the calls alone."""
START_S = 120
DEFAULT = "bare aiohttp;postern;postern, three rules;postern, three budgets"
COUNTED = re.compile(r"^summary: (\d+)", re.MULTILINE)


def main() -> None:
    """Print a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-t", "--targets", default=DEFAULT, help="names, between semicolons")
    chosen = parser.parse_args().targets.split(";")
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        tmp = Path(folder)
        build(tmp)
        beside = [[str(tmp / "upstream"), str(port)] for port in (UPSTREAM_PORT, SINK_PORT)]
        if REDIS_TARGET in chosen:
            beside.append(["redis-server", "--port", str(REDIS_PORT), "--save", "", "--dir", folder, "--loglevel", "warning"])
        processes = [subprocess.Popen(command) for command in beside]
        try:
            first = 0.0
            for target in (one for one in TARGETS if one.name in chosen):
                counted = (instructions(target, tmp, MANY) - instructions(target, tmp, FEW)) / (MANY - FEW)
                first = first or counted
                sys.stdout.write(f"{target.name}: {counted / 1000:.0f} thousand instructions a call, {counted / first:.2f} x the first\n")
                sys.stdout.flush()
        finally:
            for process in processes:
                process.terminate()


def instructions(target: Target, tmp: Path, calls: int) -> int:
    """All that the target's first process executes from its start to its end, with so many calls in between."""
    report = tmp / "counted"
    target.write_files(tmp)
    process = subprocess.Popen(
        ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={report}.%p", *target.arguments(tmp)],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(target.port)
        connection = HTTPConnection("127.0.0.1", target.port, timeout=START_S)
        for _ in range(calls):
            connection.request("POST", CHAT, REQUEST, {"content-type": "application/json"})
            connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)
    finally:
        process.kill()
    found = COUNTED.search(Path(f"{report}.{process.pid}").read_text())
    if found is None:
        raise RuntimeError(f"valgrind counted nothing for {target.name}")
    return int(found[1])


def wait_for(port: int) -> None:
    """Until the target answers."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        try:
            if answer(port) == 200:
                return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"nothing answers on port {port}")


if __name__ == "__main__":
    main()
