"""What another configuration changes, added up over recorded calls, as text and as JSON.

Here: the sum, and how it is told. Not here: what becomes of one call (replay.py), the terminal (cli.py).
Money is integer nano-USD inside and an exact decimal number of USD outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from proxy.call import usd_text
from proxy.explain.recorded import RecordedCall
from proxy.explain.replay import Fate, Replay, before
from proxy.explain.table import printable, table
from proxy.observer.ledger.rows import iso_time

MAX_ROWS = 20  # of a table of pairs: the most frequent ones
Place = tuple[str | None, str | None]
"""Target and model; both None: refused."""


class Differences:
    """The sum over calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.skipped = 0
        self.changed = 0
        self.same_target = 0
        self.moved: Counter[tuple[Place, Place]] = Counter()
        self.refused_before: Counter[str] = Counter()
        self.refused_now: Counter[str] = Counter()
        self.failovers = [0, 0]  # calls; before, now: as are the next two
        self.broke = [0, 0]
        self.cost_nusd = [0, 0]
        self.cost_calls = 0

    def add(self, was: Fate, now: Fate) -> bool:
        """Count one call. Returns whether anything about it changes."""
        self.calls += 1
        if was.refusal is not None:
            self.refused_before[was.refusal] += 1
        if now.refusal is not None:
            self.refused_now[now.refusal] += 1
        if was.refusal is None or now.refusal is None:
            self._add_place((was.target, was.model), (now.target, now.model))
        for place, fate in enumerate((was, now)):
            self.failovers[place] += fate.failovers > 0
            self.broke[place] += fate.broke
        self._add_cost(was.cost_nusd, now.cost_nusd)
        changed = _differ(was, now)
        self.changed += changed
        return changed

    def _add_place(self, was: Place, now: Place) -> None:
        if was == now:
            self.same_target += 1
        else:
            self.moved[was, now] += 1

    def _add_cost(self, was_nusd: int | None, now_nusd: int | None) -> None:
        if was_nusd is not None and now_nusd is not None:
            self.cost_calls += 1
            self.cost_nusd[0] += was_nusd
            self.cost_nusd[1] += now_nusd


def run_replay(replay: Replay, calls: Iterable[RecordedCall], as_json: bool, write: Callable[[str], object]) -> None:
    """Play the calls, write what changes: lines of JSON, the last one the sum, or the sum as text."""
    total = Differences()
    for call in calls:
        was = before(call)
        if was is None:
            total.skipped += 1
            continue
        now = replay.now(call)
        if total.add(was, now) and as_json:
            write(_json_line(_changed(call, was, now)))
    write(_json_line({"summary": _summary(total, replay)}) if as_json else _text(total, replay))


def _differ(was: Fate, now: Fate) -> bool:
    """Whether anything changes; a cost that isn't known can't be told to."""
    if was.cost_nusd is None or now.cost_nusd is None:
        was, now = (msgspec.structs.replace(fate, cost_nusd=None) for fate in (was, now))
    return was != now


# ------------------------------------------------------------------------------------------------------------ as JSON


def _json_line(value: object) -> str:
    return msgspec.json.encode(value).decode() + "\n"


def _changed(call: RecordedCall, was: Fate, now: Fate) -> dict[str, object]:
    told: dict[str, object] = {"call_id": call.call_id, "time": iso_time(call.time_ns)}
    if call.requested_model is not None:
        told["requested_model"] = call.requested_model
    return {**told, "before": _fate(was), "now": _fate(now)}


def _fate(fate: Fate) -> dict[str, object]:
    """What is known of it, without what is not so."""
    told = {name: value for name in ("target", "model", "refusal", "failovers", "broke") if (value := getattr(fate, name))}
    if fate.cost_nusd is not None:
        told["cost_usd"] = _usd(fate.cost_nusd)
    return told


def _usd(nusd: int) -> msgspec.Raw:
    return msgspec.Raw(usd_text(nusd).encode())


def _summary(total: Differences, replay: Replay) -> dict[str, object]:
    told: dict[str, object] = {name: getattr(total, name) for name in ("calls", "skipped", "changed", "same_target")}
    told["moved"] = [{"from": _name(was), "to": _name(now), "calls": count} for (was, now), count in total.moved.most_common()]
    told["refused"] = {"before": dict(total.refused_before), "now": dict(total.refused_now)}
    told["failovers"] = {"before": total.failovers[0], "now": total.failovers[1]}
    told["broke"] = {"before": total.broke[0], "now": total.broke[1]}
    if total.cost_calls:
        before_nusd, now_nusd = total.cost_nusd
        told["cost"] = {"calls": total.cost_calls, "before_usd": _usd(before_nusd), "now_usd": _usd(now_nusd)}
    told["unknown"] = [{"route": one.route, "keys": one.keys, "calls": count} for one, count in replay.unknown.most_common()]
    return told


# ------------------------------------------------------------------------------------------------------------ as text


def _text(total: Differences, replay: Replay) -> str:
    lines = [f"Played again: {_calls(total.calls)}. Changed: {total.changed}.", *table(_figures(total))]
    if total.moved:
        pairs = [(_name(was), "->", _name(now), str(count)) for (was, now), count in total.moved.most_common(MAX_ROWS)]
        lines += ["", "Another target:", *table(pairs)]
        if len(total.moved) > MAX_ROWS:
            lines.append(f"  and {len(total.moved) - MAX_ROWS} more pairs: --json has all")
    if total.skipped:
        lines += ["", f"Left out, as they ended before a route was chosen, or were only explained: {_calls(total.skipped)}."]
    if replay.unknown:
        rows = [(one.route, ", ".join(one.keys), _calls(count)) for one, count in replay.unknown.most_common()]
        lines += ["", "Not told by what is recorded, and taken as not so. By route, calls that might go another way:", *table(rows)]
    return "".join(f"{printable(line)}\n" for line in lines)


def _figures(total: Differences) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("", "before", "now"),
        ("refused", _counts(total.refused_before), _counts(total.refused_now)),
        ("failed over", *map(str, total.failovers)),
        ("no target known to answer", *map(str, total.broke)),
    ]
    if total.cost_calls:
        rows.append((f"USD, of {_calls(total.cost_calls)}", *map(usd_text, total.cost_nusd)))
    return [*rows, ("same target", "", str(total.same_target)), ("another target", "", str(total.moved.total()))]


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _counts(by_code: Counter[str]) -> str:
    codes = ", ".join(f"{count} {code}" for code, count in by_code.most_common())
    return codes or "0"


def _name(place: Place) -> str:
    target, model = place
    if target is None:
        return "refused"
    return f"{target}/{model}" if model else target
