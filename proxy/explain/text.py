"""An explanation for people.

Here: text. Not here: the explanation (policy/explain.py), the terminal (cli.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.policy.explain import Explanation, Step


def as_text(told: Explanation) -> str:
    """The explanation as lines, each of which ends."""
    asked = f"model {told.model}" if told.model else "no model"
    lines = [f"{told.method} {told.path}, {asked}{', streamed' if told.stream else ''}"]
    if told.routes:
        rows = [(one.route, "matches" if one.matches else f"no: {one.because}") for one in told.routes]
        lines += ["", "Routes, in order:", *_table(rows)]
    if told.route is not None:
        lines += ["", *_plan(told)]
    if told.refusal is not None:
        refused = f"{told.refusal.status} {told.refusal.code}"
        lines += ["", f"Nothing would be sent; the client would get {refused}:", f"  {told.refusal.message}"]
    return "".join(f"{_printable(line)}\n" for line in lines)


def _plan(told: Explanation) -> list[str]:
    alias = f", alias {told.alias}" if told.alias else ""
    strategy = f", strategy {told.strategy}" if told.strategy else ""
    lines = [f"Route {told.route}{alias}{strategy}. Asked, one after the other:"]
    lines += _table([(f"{number}.", _name(step.target, step.model), _why(step)) for number, step in enumerate(told.steps, 1)])
    if told.dropped:
        lines += ["Not asked:", *_table([(_name(drop.target, drop.model), drop.why) for drop in told.dropped])]
    if told.draws:
        draws = ",".join(f"{draw!r}" for draw in told.draws)
        lines += [f"Drawn by chance: {draws}. The same once more: --draw {draws}"]
    return [*lines, _failover(told)]


def _failover(told: Explanation) -> str:
    rule = told.failover
    if rule is None:
        return "No failover: the first failure is the call's."
    return f"The next one is asked on {', '.join(rule.on)}; at most {rule.attempts} attempts in all."


def _why(step: Step) -> str:
    return f"{step.why}; request: {step.changes}" if step.changes else step.why


def _name(target: str, model: str | None) -> str:
    return f"{target}/{model}" if model else target


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows with their columns aligned, indented."""
    if not rows:
        return ["  nobody"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _printable(line: str) -> str:
    """A model's name is the client's: no control codes to the terminal."""
    return "".join(char if char.isprintable() else "?" for char in line)
