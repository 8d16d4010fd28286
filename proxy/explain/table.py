"""Text for a terminal: rows with aligned columns, lines without control codes.

Here: what explanations and replays share when they are printed. Not here: what they say (text.py, differences.py).
"""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows with their columns aligned, indented."""
    if not rows:
        return ["  nobody"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def printable(line: str) -> str:
    """A model's name is the client's: no control codes to the terminal."""
    return "".join(char if char.isprintable() else "?" for char in line)
