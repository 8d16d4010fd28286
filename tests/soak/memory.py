"""How much memory a process holds over time, from /proc (Linux), and how fast that grows."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    """One reading of one process."""

    at_s: float  # since the start of the run
    rss_mb: float
    pss_mb: float


class Slope(NamedTuple):
    """A straight line's rise, by least squares."""

    mb_per_hour: float
    error_mb_per_hour: float  # standard error
    samples: int


def read_sample(pid: int, at_s: float) -> Sample | None:
    """The process's memory now; None if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    fields = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return Sample(at_s, fields["Rss"] / 1024, fields["Pss"] / 1024)


def floors(points: Sequence[tuple[float, float]], window_s: float) -> list[tuple[float, float]]:
    """The lowest of the (seconds, MB) points in each window: a leak lifts it, what a page or a batch takes for a moment doesn't."""
    lowest: dict[int, tuple[float, float]] = {}
    for point in points:
        window = int(point[0] // window_s)
        lowest[window] = min(lowest.get(window, point), point, key=lambda one: one[1])
    return list(lowest.values())


def slope(points: Sequence[tuple[float, float]]) -> Slope | None:
    """The rise of (seconds, MB) points; None for fewer than three, or all at one time."""
    count = len(points)
    if count < 3:
        return None
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return None
    rise = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - rise * (x - mean_x)) ** 2 for x, y in points)
    return Slope(rise * 3600, sqrt(rest / (count - 2) / spread) * 3600, count)
