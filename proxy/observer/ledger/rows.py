"""A record as a row of the ledger, and a row as `postern calls` shows it.

Here: the columns, pure conversions. Not here: SQL (store.py, read.py), tables on a terminal (show.py).
Money is integer nano-USD inside and an exact decimal number of USD outside; NULL and a key that isn't there mean unknown.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from proxy.call import usd_text
from proxy.observer.totals import call_totals
from proxy.records import AttemptRecord, CallRecord, PlanRecord, decisive_attempt

SqlValue = str | int | float | None
SqlRow = tuple[SqlValue, ...]

COLUMNS: dict[str, str] = {
    "call_id": "TEXT NOT NULL UNIQUE",
    "time_ns": "INTEGER NOT NULL",
    "trace_id": "TEXT NOT NULL",
    "method": "TEXT NOT NULL",
    "path": "TEXT NOT NULL",
    "route": "TEXT",
    "target": "TEXT",
    "provider": "TEXT",
    "requested_model": "TEXT",
    "model": "TEXT",
    "stream": "INTEGER NOT NULL",
    "status": "INTEGER",
    "outcome": "TEXT NOT NULL",
    "error": "TEXT",
    "attempts": "INTEGER NOT NULL",
    "input_tokens": "INTEGER",
    "output_tokens": "INTEGER",
    "cache_read_tokens": "INTEGER",
    "cache_write_tokens": "INTEGER",
    "reasoning_tokens": "INTEGER",
    "usage_source": "TEXT",
    "cost_nusd": "INTEGER",
    "saved_nusd": "INTEGER",
    "cache": "TEXT",
    "duration_ms": "REAL NOT NULL",
    "first_chunk_ms": "REAL",
    "overhead_ms": "REAL NOT NULL",
    "tenant": "TEXT",
    "user": "TEXT",
    "app": "TEXT",
    "key": "TEXT",
    "task": "TEXT",
    "workflow": "TEXT",
    "step": "TEXT",
    "tags": "TEXT",
    "decision": "TEXT",
}
"""Names and SQL types, in the order of `postern calls --json`."""

CONTENT_COLUMN = "content"
"""Beside them, and shown only where it is asked for: a JSON object of what was said, for calls whose rule sends it to the ledger."""

CONTENT_MEMBERS = ("system_instructions", "input_messages", "output_messages", "tool_definitions")
LABELS = ("tenant", "user", "app", "key", "task", "workflow", "step")
MAX_INTEGER = 2**63 - 1  # what SQLite holds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(msgspec.Struct, frozen=True, gc=False):
    """One call as the ledger holds it, with its place in the file."""

    rowid: int
    call_id: str
    time_ns: int  # Unix time of its start
    trace_id: str
    method: str
    path: str
    route: str | None
    target: str | None  # of the attempt that answered, else the last; as are provider and model
    provider: str | None
    requested_model: str | None
    model: str | None
    stream: int
    status: int | None
    outcome: str
    error: str | None
    attempts: int
    input_tokens: int | None  # summed over attempts, as are the other tokens and the cost
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str | None
    cost_nusd: int | None
    saved_nusd: int | None
    cache: str | None
    duration_ms: float
    first_chunk_ms: float | None
    overhead_ms: float
    tenant: str | None
    user: str | None
    app: str | None
    key: str | None
    task: str | None
    workflow: str | None
    step: str | None
    tags: str | None  # a JSON object
    decision: str | None  # a JSON object, or a line
    content: str | None = None


def sql_row(record: CallRecord) -> SqlRow:
    """The record's values in the order of COLUMNS, and CONTENT_COLUMN's."""
    totals = call_totals(record)
    target, provider, model = _last_target(record)
    return (
        record.call_id,
        record.start_ns,
        record.trace_id,
        record.method,
        record.path,
        record.route,
        target,
        provider,
        record.requested_model,
        model,
        int(record.stream),
        record.status,
        record.outcome.value,
        record.error_type,
        len(record.attempts),
        _fitting(totals.input_tokens),
        _fitting(totals.output_tokens),
        _fitting(totals.cache_read_tokens),
        _fitting(totals.cache_write_tokens),
        _fitting(totals.reasoning_tokens),
        totals.usage_source and totals.usage_source.value,
        _fitting(totals.cost_nusd),
        _fitting(record.saved_nusd),
        record.cache,
        _milliseconds(record.end_ns - record.start_ns),
        None if record.first_chunk_ns is None else _milliseconds(record.first_chunk_ns - record.start_ns),
        _milliseconds(record.overhead_ns),
        *(record.labels.get(label) for label in LABELS),
        msgspec.json.encode(record.tags).decode() if record.tags else None,
        _decision(record),
        _content(record),
    )


def _decision(record: CallRecord) -> str | None:
    """A JSON object where the call had a choice of targets, an experiment or a route in shadow; else the line that spans have.

    Where there was more than one attempt, or one that a breaker changed by, it holds what became of each.
    """
    plan = record.plan
    if plan is None:
        return record.decision
    told = _planned(record.route, plan)
    if len(record.attempts) > 1 or any(attempt.opened_breaker or attempt.recovery_ns is not None for attempt in record.attempts):
        told["attempts"] = [_attempted(record, attempt) for attempt in record.attempts]
    if record.experiment is not None:
        told["experiment"] = {"name": record.experiment, "arm": record.arm}
    if record.shadow is not None:
        told["shadow"] = {**_planned(record.shadow.route, record.shadow.plan), "differs": record.shadow.differs}
    return msgspec.json.encode(told).decode()


def _attempted(record: CallRecord, attempt: AttemptRecord) -> dict[str, object]:
    told: dict[str, object] = {"target": attempt.target, "outcome": attempt.outcome.value}
    further = {
        "error": attempt.error_type,
        "cause": attempt.cause,
        "seam_chars": attempt.seam_chars,
        "answered": True if attempt is decisive_attempt(record) else None,
        "opened_breaker": attempt.opened_breaker or None,
        "recovery_s": None if attempt.recovery_ns is None else attempt.recovery_ns / 1e9,
    }
    return told | {name: value for name, value in further.items() if value is not None}


def _planned(route: str | None, plan: PlanRecord) -> dict[str, object]:
    told: dict[str, object] = {"route": route, "strategy": plan.strategy, "steps": [_place(*step) for step in plan.steps]}
    if plan.dropped:
        told["dropped"] = [_place(*drop) for drop in plan.dropped]
    if plan.last_resort:
        told["last_resort"] = True
    return told


def _place(target: str, model: str | None, why: str) -> dict[str, str]:
    return {"target": target, "why": why} if model is None else {"target": target, "model": model, "why": why}


def _content(record: CallRecord) -> str | None:
    """A JSON object of what was said, in the format of the spans' attributes; None if it isn't for the ledger."""
    content = record.content
    if content is None or "ledger" not in content.to:
        return None
    texts = {name: getattr(content, name) for name in CONTENT_MEMBERS}
    return msgspec.json.encode({name: msgspec.Raw(text.encode()) for name, text in texts.items() if text is not None}).decode()


def _last_target(record: CallRecord) -> tuple[str | None, str | None, str | None]:
    last = decisive_attempt(record)
    if last is None:
        return None, None, None
    return last.target, last.provider, last.model or None


def _fitting(count: int | None) -> int | None:
    """A provider may claim any number; what SQLite can't hold is as good as unknown."""
    return count if count is not None and abs(count) <= MAX_INTEGER else None


def _milliseconds(duration_ns: int) -> float:
    return round(max(0, duration_ns) / 1e6, 3)


def row_json(row: Row, with_content: bool = False) -> bytes:
    """The row as one JSON object on one line, without what is unknown; money as an exact decimal number of USD."""
    shown: dict[str, object] = {}
    for name in (*COLUMNS, CONTENT_COLUMN) if with_content else COLUMNS:
        value = getattr(row, name)
        if value is not None:
            shown_name, shown_value = _shown(name, value)
            shown[shown_name] = shown_value
    return msgspec.json.encode(shown)


def _shown(name: str, value: object) -> tuple[str, object]:
    if name == "time_ns" and isinstance(value, int):
        return "time", iso_time(value)
    if name.endswith("_nusd") and isinstance(value, int):
        return f"{name.removesuffix('_nusd')}_usd", msgspec.Raw(usd_text(value).encode())
    if name == "stream":
        return name, bool(value)
    if name == "decision" and isinstance(value, str):
        return name, _decision_shown(value)
    if name in ("tags", CONTENT_COLUMN) and isinstance(value, str):
        return name, msgspec.Raw(value.encode())
    return name, value


def _decision_shown(decision: str) -> object:
    if not decision.startswith("{"):
        return decision
    try:
        return msgspec.json.decode(decision, type=dict[str, object])
    except msgspec.MsgspecError:
        return decision  # the line of a route with a name like that


def iso_time(time_ns: int) -> str:
    """A Unix time as ISO 8601 in UTC, to the millisecond."""
    moment = _EPOCH + timedelta(milliseconds=time_ns // 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
