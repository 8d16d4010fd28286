"""`make soak`: an hour of mixed load against the real program with everything switched on, and where its memory goes.

The gate and its observer, the simulated provider and an OTLP receiver are processes of their own. Memory of gate and observer is read every
10 s; the straight line through its lows after the warm-up may rise by no more than 1 MB an hour in either, and no record may be lost.
The call log goes to a temporary file of some 300 MB an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp

from tests.functional.gate import ROOT, RunningGate, environment
from tests.soak.load import Load, Tally
from tests.soak.memory import Sample, Slope, floors, read_sample, slope

SAMPLE_S, SCRAPE_S = 10.0, 15.0
WARM_UP_MINUTES = 10.0
MIN_JUDGED_MINUTES = 20.0  # a shorter line says nothing about an hour
MAX_MB_PER_HOUR = 1.0
FLOOR_S = 120.0
JUDGED = "RSS floor"  # the lowest sample in every FLOOR_S
TABLE_ROWS = 24
SAID_LINES = 40
SETTLE_S, END_S = 20.0, 30.0
CONFIG = """
targets: {{sim: {{provider: simulated, base_url: "{provider}"}}}}
routes: [{{name: simulated, match: {{model: "sim/*"}}, to: [sim]}}]
telemetry:
  otlp: {{endpoint: "http://127.0.0.1:{sink}"}}
  genai_semconv: both
  openinference: true
  capture_content: span
  call_log: stdout
  attributes: {{team: {{header: x-team}}, feature: {{metadata: feature}}}}
"""


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[str]:
    """A Python process of ours, given the first line it prints."""
    command = [sys.executable, "-m", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


class Watch:
    """Reads memory and scrapes metrics while the load runs."""

    def __init__(self, gate: RunningGate) -> None:
        self.samples: dict[str, list[Sample]] = {"gate": [], "observer": []}
        self.scrapes: dict[str, int] = {}
        self._gate = gate
        self._started_s = time.monotonic()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks, aiohttp.ClientSession(self._gate.admin_url) as session:
            tasks.create_task(self._sample(session))
            await self._scrape(session)

    async def _sample(self, session: aiohttp.ClientSession) -> None:
        while True:
            async with session.get("/status") as answer:
                status = await answer.json()
            at_s = time.monotonic() - self._started_s
            for name, pid in (("gate", status["pid"]), ("observer", status["observer"]["pid"])):
                reading = read_sample(pid, at_s) if pid else None
                if reading is not None:
                    self.samples[name].append(reading)
                    print(f"{at_s:7.0f} s {name:8} RSS {reading.rss_mb:7.2f} MB  PSS {reading.pss_mb:7.2f} MB", file=sys.stderr, flush=True)
            await asyncio.sleep(SAMPLE_S)

    async def _scrape(self, session: aiohttp.ClientSession) -> None:
        while True:
            async with session.get("/metrics") as answer:
                await answer.read()
                self.scrapes[str(answer.status)] = self.scrapes.get(str(answer.status), 0) + 1
            await asyncio.sleep(SCRAPE_S)


async def soak(gate: RunningGate, rate: float, seconds: float, seed: int) -> tuple[Watch, Tally]:
    """Load and watch for so long."""
    watch, load = Watch(gate), Load(gate.url, rate, seed)
    watching = asyncio.create_task(watch.run())
    await load.run(seconds)
    if watching.done():
        await watching
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return watch, load.tally


def slopes(watch: Watch, warm_up_s: float) -> dict[str, Slope | None]:
    """By process and measure: the rise after the warm-up."""
    found: dict[str, Slope | None] = {}
    for name, samples in watch.samples.items():
        late = [sample for sample in samples if sample.at_s >= warm_up_s]
        resident = [(sample.at_s, sample.rss_mb) for sample in late]
        found[f"{name} {JUDGED}"] = slope(floors(resident, FLOOR_S))
        found[f"{name} RSS"] = slope(resident)
        found[f"{name} PSS"] = slope([(sample.at_s, sample.pss_mb) for sample in late])
    return found


def memory_table(watch: Watch) -> str:
    """Some of the samples, evenly spread, as Markdown."""
    pairs = list(zip(watch.samples["gate"], watch.samples["observer"], strict=False))
    step = max(1, len(pairs) // TABLE_ROWS)
    lines = ["| minute | gate RSS MB | gate PSS | observer RSS | observer PSS |", "|---|---|---|---|---|"]
    for gate, observer in pairs[::step]:
        lines.append(f"| {gate.at_s / 60:.1f} | {gate.rss_mb:.2f} | {gate.pss_mb:.2f} | {observer.rss_mb:.2f} | {observer.pss_mb:.2f} |")
    return "\n".join(lines)


def losses(status: dict[str, Any]) -> dict[str, int]:
    """What was lost on the way, by what was counted; empty when nothing was."""
    observer = status["observer"]
    lost = {f"gate: {cause}": count for cause, count in observer["dropped"].items() if count}
    marks = ("dropped", "failures", "errors")
    lost |= {name: count for name, count in observer["counters"].items() if count and any(mark in name for mark in marks)}
    lost |= {name: count for name, count in (("restarts", observer["restarts"]), ("never acknowledged", observer["queued"])) if count}
    return lost


def settled_status(gate: RunningGate) -> dict[str, Any]:
    """The status once every record is acknowledged, or when that doesn't come to pass."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        status = gate.status()
        if not (status["observer"]["queued"] or status["calls"]["in_flight"]) or time.monotonic() > deadline:
            return status
        time.sleep(0.1)


def report(watch: Watch, tally: Tally, status: dict[str, Any], rises: dict[str, Slope | None], sink: str) -> None:
    """Everything that was seen, on standard output."""
    print(memory_table(watch))
    print(f"\ncalls: {tally.started} ({tally.left_out} left out), {dict(tally.by_kind)}")
    print(f"results: {dict(tally.by_result)}")
    print(f"/metrics: {watch.scrapes}; received as OTLP: {sink}")
    print(f"settled {status['calls']['settled']}, recorded {status['observer']['recorded']}; counters {status['observer']['counters']}")
    print(f"lost: {losses(status) or 'nothing'}\n")
    for name, rise in rises.items():
        told = f"{rise.mb_per_hour:+.2f} MB/h ± {rise.error_mb_per_hour:.2f} ({rise.samples} samples)" if rise else "too few samples"
        print(f"{name}: {told}")


def verdict(rises: dict[str, Slope | None], judged_minutes: float, lost: dict[str, int]) -> int:
    """The exit code: 1 if memory grew or something was lost."""
    grown = [name for name, rise in rises.items() if name.endswith(JUDGED) and (rise is None or rise.mb_per_hour > MAX_MB_PER_HOUR)]
    if judged_minutes < MIN_JUDGED_MINUTES:
        print(f"growth isn't judged: it takes {MIN_JUDGED_MINUTES:.0f} minutes after the warm-up")
        grown = []
    elif grown:
        print(f"grown by more than {MAX_MB_PER_HOUR} MB/h: {', '.join(grown)}")
    return 1 if grown or lost else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak ARGS=…", description=__doc__)
    parser.add_argument("-m", "--minutes", type=float, default=60.0)
    parser.add_argument("-w", "--warm-up", type=float, help=f"minutes; default {WARM_UP_MINUTES:.0f}, or a third of a shorter run")
    parser.add_argument("-r", "--rate", type=float, default=60.0, help="calls started a second")
    parser.add_argument("-s", "--seed", type=int, default=1)
    options = parser.parse_args()
    warm_up = options.warm_up if options.warm_up is not None else min(WARM_UP_MINUTES, options.minutes / 3)
    with child("proxy.simulated", "--listen", "127.0.0.1:0") as address, child("tests.soak.sink") as port:
        gate = RunningGate(CONFIG.format(provider=address.split()[-1], sink=port))
        try:
            watch, tally = asyncio.run(soak(gate, options.rate, options.minutes * 60, options.seed))
            status = settled_status(gate)
            sink = asyncio.run(fetch_stats(port))
            said, exit_code = end(gate)
        finally:
            gate.close()
    rises = slopes(watch, warm_up * 60)
    report(watch, tally, status, rises, sink)
    print(f"\nthe gate ended with {exit_code}; it said beside the call log:", *said[:SAID_LINES], sep="\n  ")
    faulty = exit_code != 0 or any("Traceback" in line for line in said)
    return 1 if faulty else verdict(rises, options.minutes - warm_up, losses(status))


def end(gate: RunningGate) -> tuple[list[str], int]:
    """Stop it: what it said beside the call log, and its exit code."""
    gate.process.terminate()
    exit_code = gate.process.wait(END_S)
    with (gate.folder / "said.txt").open(encoding="utf-8", errors="replace") as lines:
        return [line.rstrip() for line in lines if not line.startswith("{")], exit_code


async def fetch_stats(port: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/stats") as answer:
        return json.dumps(await answer.json())


if __name__ == "__main__":
    sys.exit(main())
