"""CPU and memory of a process and of its children, from /proc (Linux)."""

from __future__ import annotations

from pathlib import Path


def tree(pid: int) -> list[int]:
    """The process and all that descend from it, the process first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


class Cpu:
    """CPU time used so far, by process."""

    def __init__(self, pid: int) -> None:
        self.root = pid
        self.by_pid = {member: _cpu_s(member) for member in tree(pid)}

    def since(self, before: Cpu) -> tuple[float, float]:
        """Seconds used since an earlier reading: by the root process, and by all of them."""
        used = {pid: cpu_s - before.by_pid.get(pid, 0.0) for pid, cpu_s in self.by_pid.items()}
        return used[self.root], sum(used.values())


def _cpu_s(pid: int) -> float:
    total = 0
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    except OSError:
        pass
    return total / 1e9


def pss_mb(pid: int) -> float:
    """Proportional set size of the process and its children in MB."""
    total_kb = 0
    for member in tree(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024
