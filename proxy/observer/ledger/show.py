"""The body of `postern calls`: the last calls as a table or as JSON lines, and new ones as they come.

Here: what is printed. Not here: arguments, the terminal, waiting (all three are the caller's), SQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from proxy.call import usd_text
from proxy.observer.ledger.read import read_calls
from proxy.observer.ledger.rows import Row, iso_time, row_json
from proxy.observer.ledger.store import LEDGER_NAME

POLL_S = 0.3  # how long the caller's `wait` should take
FOLLOW_BATCH = 500

_WIDTHS = (12, -20, -12, -16, 8, 8, 11, 8, 8, -6)
"""Column widths of the table, negative: aligned left. With one blank between they come to 118."""

_HEADINGS = ("time (UTC)", "model", "target", "outcome", "in", "out", "cost $", "seconds", "first s", "cache")
_OUTCOME_COLUMN = _HEADINGS.index("outcome")
_ABSENT = "-"
_COLOURS = {"succeeded": "\x1b[32m", "abandoned": "\x1b[33m", "throttled": "\x1b[33m", "rejected": "\x1b[33m"}
_BAD_COLOUR = "\x1b[31m"
_RESET = "\x1b[0m"


def run_calls(
    state_dir: str,
    follow: bool,
    as_json: bool,
    limit: int,
    write: Callable[[str], None],
    wait: Callable[[], bool],
    colour: bool = False,
    with_content: bool = False,
) -> int:
    """Print the last `limit` calls, oldest first; with `follow`, new ones until `wait()`, called between polls, says False.

    `write` takes whole lines, `colour` is for terminals only, `with_content` adds what was said to JSON, where it was recorded.
    Returns the exit code: 0, or 1 if the ledger can't be read.
    """
    path = Path(state_dir) / LEDGER_NAME
    if not path.exists() and not (follow and as_json):
        write(f"No ledger at {path} yet: it begins with the first call through `postern serve`.\n")
        if not follow:
            return 1
    printer = _Printer(write, as_json, colour, with_content)
    try:
        if not follow:
            printer.show(read_calls(path, None, limit, with_content))
            return 0
        _follow(path, limit, printer, wait, with_content)
    except sqlite3.Error as error:
        write(f"The ledger at {path} can't be read: {error}.\n")
        return 1
    return 0


def _follow(path: Path, limit: int, printer: _Printer, wait: Callable[[], bool], with_content: bool) -> None:
    seen: int | None = None
    while True:
        try:
            rows = read_calls(path, seen, limit if seen is None else FOLLOW_BATCH, with_content)
        except FileNotFoundError:
            rows = []
        printer.show(rows)
        if rows:
            seen = rows[-1].rowid
        elif not wait():
            return


class _Printer:
    """Writes rows, and the table's heading before the first."""

    def __init__(self, write: Callable[[str], None], as_json: bool, colour: bool, with_content: bool) -> None:
        self._write = write
        self._as_json = as_json
        self._colour = colour
        self._with_content = with_content
        self._headed = as_json

    def show(self, rows: list[Row]) -> None:
        if rows and not self._headed:
            self._headed = True
            self._write(" ".join(_padded(_HEADINGS)) + "\n")
        for row in rows:
            self._write((row_json(row, self._with_content).decode() if self._as_json else self._table_line(row)) + "\n")

    def _table_line(self, row: Row) -> str:
        cells = _padded(_cells(row))
        if self._colour:
            cells[_OUTCOME_COLUMN] = f"{_COLOURS.get(row.outcome, _BAD_COLOUR)}{cells[_OUTCOME_COLUMN]}{_RESET}"
        return " ".join(cells).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    status = _ABSENT if row.status is None else str(row.status)
    return (
        iso_time(row.time_ns)[11:23],
        row.model or row.requested_model or _ABSENT,
        row.target or _ABSENT,
        f"{status} {row.outcome}",
        _count(row.input_tokens, row.usage_source),
        _count(row.output_tokens, row.usage_source),
        _ABSENT if row.cost_nusd is None else usd_text(row.cost_nusd),
        f"{row.duration_ms / 1000:.3f}",
        _ABSENT if row.first_chunk_ms is None else f"{row.first_chunk_ms / 1000:.3f}",
        row.cache or _ABSENT,
    )


def _count(tokens: int | None, source: str | None) -> str:
    """A token count; ~ before one that isn't the provider's own."""
    if tokens is None:
        return _ABSENT
    return str(tokens) if source == "provider" else f"~{tokens}"


def _fit(text: str, width: int) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in text)  # clients name models: no control codes to the terminal
    return printable if len(printable) <= width else printable[: width - 1] + "…"


def _padded(texts: tuple[str, ...]) -> list[str]:
    fitted = [(_fit(text, abs(width)), width) for text, width in zip(texts, _WIDTHS, strict=True)]
    return [cell.ljust(-width) if width < 0 else cell.rjust(width) for cell, width in fitted]
