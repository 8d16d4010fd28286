"""`make bench`: Postern beside a bare aiohttp proxy and nginx, under one load, interleaved in one run.

The simulator (upstream.c, also the OTLP sink), a redis-server where a target needs one, and the load generator (load.c) run on core 1, the target alone on core 0; both are built with gcc.
Everything stays on loopback and ends by itself. Figures of one run are compared with each other, never with another run's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

# ruff: noqa: E501 - the configurations below read better in long lines
from tests.bench.decide_routes import RULES
from tests.bench.decide_routes import TARGETS as THREE_TARGETS
from tests.bench.processes import Cpu, pss_mb, tree

HERE = Path(__file__).resolve().parent
UPSTREAM_PORT, SINK_PORT, REDIS_PORT = 19000, 19318, 19379
CHAT = "/v1/chat/completions"
REQUEST = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}).encode()
PROXY_CORE, LOAD_CORE = "0", "1"

NGINX = """daemon off; worker_processes 1; pid {tmp}/nginx.pid; error_log /dev/null crit; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {tmp}/nb; proxy_temp_path {tmp}/np; fastcgi_temp_path {tmp}/nf; uwsgi_temp_path {tmp}/nu; scgi_temp_path {tmp}/ns;
 keepalive_requests 100000000; client_max_body_size 64m; client_body_buffer_size 1m;
 upstream u {{ server 127.0.0.1:{up}; keepalive 256; keepalive_requests 100000000; }}
 server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }} }}
"""
POSTERN = """listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin}"}}
state_dir: {tmp}/state
telemetry: {{otlp: {{endpoint: "http://127.0.0.1:{sink}"}}}}
targets: {{openai: {{provider: openai, base_url: "http://127.0.0.1:{up}/v1", credential: passthrough}}}}
"""
SERVE = [sys.executable, "-m", "proxy", "serve", "--config", "{tmp}/{file}"]
EVERYTHING = """telemetry:
  otlp: {{endpoint: "http://127.0.0.1:{sink}"}}
  genai_semconv: both
  openinference: true
  call_log: otlp
  attributes: {{type: {{header: content-type}}, host: {{header: host}}}}
  keep: {{slower_than_s: 10, dearer_than_usd: 0.1, ratio: 1.0}}
"""
TELEMETRY = POSTERN.splitlines(keepends=True)[3]
SIMULATED = '{{provider: openai, base_url: "http://127.0.0.1:{up}/v1", credential: passthrough}}'
ROUTES = RULES.removeprefix(THREE_TARGETS).replace("x-team: search", "content-type: application/json").replace("{", "{{").replace("}", "}}")
THREE_RULES = POSTERN.replace(f"openai: {SIMULATED}", ", ".join(f"{name}: {SIMULATED}" for name in "abc")) + ROUTES
"""The rules of decide_routes.py: all are asked, then a target is drawn by weight. The last one goes by a field that the load sends."""
REDIS_TARGET = "postern, three budgets in Redis"
THREE_BUDGETS = (
    POSTERN
    + """budgets:
  - {{name: tenant-day, per: [tenant], window: {{every: day, time_zone: Europe/Berlin}}, limit: {{usd: 1_000_000}}, warn_at: [50%, 80%, 95%]}}
  - {{name: company-month, window: {{every: month}}, limit: {{tokens: 1_000_000_000_000}}}}
  - {{name: user-hour, per: [user], window: {{rolling_s: 3600}}, limit: {{requests: 1_000_000_000}}}}
"""
)
IN_REDIS = THREE_BUDGETS + 'store: {{kind: redis, url: "redis://127.0.0.1:{redis}/0"}}\n'
STEADY_RATE = 600  # calls a second
COLUMNS = (
    ("rps", "rps", 0), ("cpu_gate", "µs CPU/call (gate)", 0), ("cpu_all", "µs CPU/call (all)", 0), ("cpu_gate_steady", f"µs CPU/call at {STEADY_RATE}/s (gate)", 0), ("cpu_all_steady", f"at {STEADY_RATE}/s (all)", 0), ("cpu_chunk_gate", "µs CPU/chunk (gate)", 1),
    ("cpu_chunk_all", "µs CPU/chunk (all)", 1), ("add_p50", "+p50 µs", 0), ("add_p99", "+p99 µs", 0), ("add_ttft_p50", "+TTFT p50 µs", 0),
    ("add_chunk_p50", "+chunk p50 µs", 0), ("add_chunk_p99", "+chunk p99 µs", 0), ("pss_idle", "PSS idle MB", 1), ("pss_after", "PSS after MB", 1),
    ("cold_s", "first 200 s", 2), ("errors", "errors", 0),
)  # fmt: skip


RATIOS = (
    ("cpu_gate", "CPU per call of the gate"), ("cpu_gate_steady", f"at {STEADY_RATE}/s"), ("cpu_all", "with the observer"), ("cpu_chunk_gate", "CPU per chunk of the gate"), ("add_p50", "added p50"),
)  # fmt: skip


class Target:
    """One thing to measure: how it is started."""

    def __init__(self, name, port, command=None, files=None):
        self.name, self.port, self.command, self.files = name, port, command, files or {}

    def write_files(self, tmp):
        """Its configuration, and no state of earlier runs."""
        for name, text in self.files.items():
            fields = {"port": self.port, "admin": self.port + 1000, "tmp": tmp, "up": UPSTREAM_PORT, "sink": SINK_PORT, "redis": REDIS_PORT}
            (tmp / name).write_text(text.format(**fields))
        shutil.rmtree(tmp / "state", ignore_errors=True)

    def arguments(self, tmp):
        """Its command."""
        return [part.format(tmp=tmp, port=self.port) for part in self.command]

    def spawn(self, tmp):
        self.write_files(tmp)
        command = ["taskset", "-c", PROXY_CORE, *self.arguments(tmp)]
        started = time.perf_counter()
        with (tmp / f"{self.name}.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=HERE.parents[1], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while time.perf_counter() - started < 30:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {process.returncode}: see {tmp}/{self.name}.log")
            try:
                if answer(self.port) == 200:
                    return process, time.perf_counter() - started
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(f"{self.name} is not ready after 30 s")


def postern(name, port, config, *variables):
    file = f"{port}.yaml"
    with_variables = ["env", *variables] if variables else []
    return Target(name, port, [*with_variables, *(part.replace("{file}", file) for part in SERVE)], {file: config})


TARGETS = (
    Target("direct", UPSTREAM_PORT),
    Target("nginx", 18101, ["nginx", "-c", "{tmp}/nginx.conf"], {"nginx.conf": NGINX}),
    Target(
        "bare aiohttp", 18102,
        [sys.executable, str(HERE / "bare_proxy.py"), "--port", "{port}", "--upstream", f"http://127.0.0.1:{UPSTREAM_PORT}", "--uvloop"],
    ),
    postern("postern", 18103, POSTERN),
    postern("postern, telemetry off", 18104, POSTERN.replace(TELEMETRY, ""), "OTEL_SDK_DISABLED=true"),
    postern("postern, everything on", 18105, POSTERN.replace(TELEMETRY, EVERYTHING)),
    postern("postern, three rules", 18107, THREE_RULES),
    postern("postern, three budgets", 18108, THREE_BUDGETS),
    postern(REDIS_TARGET, 18109, IN_REDIS),
    postern("postern, content too", 18106, POSTERN.replace(TELEMETRY, EVERYTHING + "  capture_content: span\n")),
)  # fmt: skip


def answer(port):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{CHAT}", REQUEST, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as reply:
        reply.read()
        return reply.status


def build(tmp):
    for name in ("upstream", "load"):
        subprocess.run(["gcc", "-O2", "-w", "-o", str(tmp / name), str(HERE / f"{name}.c"), "-lm"], check=True)


def set_simulator(query):
    urllib.request.urlopen(f"http://127.0.0.1:{UPSTREAM_PORT}/_sim/set?{query}", timeout=5).read()


def start_load(tmp, port, *options):
    extra = ["-D"] if "-s" in options else []
    command = ["taskset", "-c", LOAD_CORE, str(tmp / "load"), "-u", f"http://127.0.0.1:{port}{CHAT}", *map(str, options), *extra]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish_load(process):
    return json.loads(process.communicate()[0])


def measure(target, tmp, seconds):
    """One round of one target: the phases of the table."""
    set_simulator("lat=0&n=64&d=0")
    result = {}
    process = None
    if target.command:
        process, result["cold_s"] = target.spawn(tmp)
        time.sleep(1)
        result["pss_idle"] = pss_mb(process.pid)
    try:
        finish_load(start_load(tmp, target.port, "-c", 8, "-t", 3, "-n", 1000))
        finish_load(start_load(tmp, target.port, "-s", "-c", 8, "-t", 3, "-n", 60))
        low_rate(target, tmp, seconds, result)
        high_rate(target, tmp, seconds, result, process)
        if process:
            result["pss_after"] = pss_mb(process.pid)
    finally:
        if process:
            stop(process)
    return result


def low_rate(target, tmp, seconds, result):
    """Latency added at 50 calls and 20 streams a second, against direct traffic running at the same time."""
    errors = 0
    for simulator, options, names in (
        ("lat=20", ("-r", 50), (("add_p50", "latency", "p50"), ("add_p99", "latency", "p99"))),
        (
            "lat=20&n=32&d=10",
            ("-s", "-r", 20),
            (("add_ttft_p50", "ttft", "p50"), ("add_chunk_p50", "transit", "p50"), ("add_chunk_p99", "transit", "p99")),
        ),
    ):
        set_simulator(simulator)
        loads = [start_load(tmp, port, "-c", 200, "-t", seconds, "-P", *options) for port in (target.port, UPSTREAM_PORT)]
        through, direct = (finish_load(load) for load in loads)
        errors += through["errors"]
        for name, metric, quantile in names:
            result[name] = through[metric][quantile] - direct[metric][quantile]
    result["errors"] = errors


def high_rate(target, tmp, seconds, result, process):
    """CPU of a call, closed loop on 32 connections, then at a rate the observer can follow; CPU of a chunk, 64 streams with one every 20 ms."""
    for simulator, options, per, names in (
        ("lat=0", ("-c", 32), "ok", ("cpu_gate", "cpu_all")),
        ("lat=0", ("-c", 64, "-r", STEADY_RATE), "ok", ("cpu_gate_steady", "cpu_all_steady")),
        ("lat=0&n=64&d=20", ("-s", "-c", 64), "chunks", ("cpu_chunk_gate", "cpu_chunk_all")),
    ):
        set_simulator(simulator)
        before = Cpu(process.pid) if process else None
        load = finish_load(start_load(tmp, target.port, "-t", seconds, *options))
        result["errors"] += load["errors"]
        if names[0] == "cpu_gate":
            result["rps"] = load["rps"]
        if process:
            assert before
            gate_s, all_s = Cpu(process.pid).since(before)
            result[names[0]], result[names[1]] = (1e6 * cpu_s / max(1, load[per]) for cpu_s in (gate_s, all_s))


def stop(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in tree(process.pid):
            os.kill(pid, 9)


def median_of(results):
    """The median of each figure over the rounds."""
    keys = {key for result in results for key in result}
    return {key: statistics.median(result[key] for result in results if key in result) for key in keys}


def table(rounds):
    """Medians over the rounds, as Markdown, and the ratios that matter."""
    medians = {name: median_of(results) for name, results in rounds.items()}
    lines = ["| target | " + " | ".join(title for _, title, _ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, values in medians.items():
        cells = [f"{values[key]:.{digits}f}" if key in values else "–" for key, _, digits in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in medians:
        for base in ("bare aiohttp", "postern", "postern, telemetry off", "postern, three budgets"):
            if name != base and name.startswith("postern") and base in medians:
                pairs = ((what, medians[name][key], medians[base][key]) for key, what in RATIOS)
                ratios = (f"{what} {one / other:.2f} × ({one - other:+.1f} µs)" for what, one, other in pairs)
                lines.append(f"\n{name}, against {base}: {', '.join(ratios)}.")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("-t", "--targets", default="direct;nginx;bare aiohttp;postern", help="names, between semicolons")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-d", "--seconds", type=float, default=4.0, help="of each phase")
    options = parser.parse_args()
    chosen = [target for target in TARGETS if target.name in options.targets.split(";")]
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        tmp = Path(folder)
        build(tmp)
        beside = [[str(tmp / "upstream"), str(port)] for port in (UPSTREAM_PORT, SINK_PORT)]
        if any(target.name == REDIS_TARGET for target in chosen):
            beside.append(["redis-server", "--port", str(REDIS_PORT), "--save", "", "--dir", folder, "--loglevel", "warning"])
        simulators = [subprocess.Popen(["taskset", "-c", LOAD_CORE, *command]) for command in beside]
        time.sleep(0.3)
        rounds: dict[str, list[dict[str, float]]] = {target.name: [] for target in chosen}
        try:
            for number in range(options.rounds):
                for target in chosen if number % 2 == 0 else chosen[::-1]:
                    rounds[target.name].append(measure(target, tmp, options.seconds))
                    print(f"round {number + 1} {target.name}: {rounds[target.name][-1]}", file=sys.stderr, flush=True)
        finally:
            for simulator in simulators:
                simulator.terminate()
        print(table(rounds))


if __name__ == "__main__":
    main()
