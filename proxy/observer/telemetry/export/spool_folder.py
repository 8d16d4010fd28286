"""Whose folder of the spool is whose: a lock decides, so that two observers on one state folder never write to one another's files.

Here: claiming a folder, and taking over what dead observers left in theirs. Not here: what is in the files.
`spool/` belongs to the first observer, `spool.1/` to a second that runs beside it (two gates, or a restart's overlap).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

LOCK_NAME = "lock"
SUFFIX = ".otlp"
FOLDER_MODE = 0o700
MAX_OBSERVERS = 64  # on one state folder

SIGNALS = ("traces", "logs")


class ClaimedFolder:
    """A folder that is ours until `close`, or the end of the process however it comes."""

    def __init__(self, root: Path) -> None:
        """Claim `root`, or the first of `root.1`, `root.2`… that is free. Raises OSError."""
        self.path, self._lock = _claim(root)
        try:
            for signal in SIGNALS:
                (self.path / signal).mkdir(FOLDER_MODE, exist_ok=True)
        except OSError:
            self.close()
            raise
        for other in _folders(root):
            if other != self.path:
                self._adopt(other)

    def close(self) -> None:
        """Give the folder up."""
        os.close(self._lock)

    def segment_path(self, signal: str, number: int) -> Path:
        """Where the segment of this number is."""
        return self.path / signal / f"{number:012d}{SUFFIX}"

    def segment_numbers(self, signal: str) -> list[int]:
        """The segments there are, oldest first. What isn't one of ours is left alone."""
        names = [path.name.removesuffix(SUFFIX) for path in (self.path / signal).glob(f"*{SUFFIX}")]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def next_number(self) -> int:
        """A number that no segment of any signal has, above all others."""
        return 1 + max((number for signal in SIGNALS for number in self.segment_numbers(signal)), default=0)

    def _adopt(self, other: Path) -> None:
        """Move the segments of a folder whose observer is gone behind our own. One that can't be moved stays where it is."""
        with contextlib.suppress(OSError):
            lock = _lock(other)
            if lock is None:
                return
            try:
                self._take_over(other)
            finally:
                os.close(lock)

    def _take_over(self, other: Path) -> None:
        number = self.next_number()
        for signal in SIGNALS:
            for segment in sorted((other / signal).glob(f"*{SUFFIX}")):
                segment.rename(self.segment_path(signal, number))
                number += 1


def _folders(root: Path) -> list[Path]:
    return [root, *sorted(path for path in root.parent.glob(f"{root.name}.*") if path.is_dir())]


def _claim(root: Path) -> tuple[Path, int]:
    for number in range(MAX_OBSERVERS):
        path = root if number == 0 else root.with_name(f"{root.name}.{number}")
        path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        lock = _lock(path)
        if lock is not None:
            return path, lock
    raise OSError(f"{MAX_OBSERVERS} observers share {root.parent} already")


def _lock(folder: Path) -> int | None:
    """The locked lock file of a folder; None if a living observer has it. Raises OSError."""
    file = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError:
        os.close(file)
        raise
    return file
