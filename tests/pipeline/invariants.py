"""What must hold after every call, whatever its script was.

Here: the checks, each with the promise it stands for. Not here: what one script is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.call import HeaderList, Target, Usage, usd_text
from proxy.pipeline.runtime import Gate
from proxy.records import AttemptRecord, CallRecord, encode_record

ABSENT_USAGES = (None, Usage())
SECRETS = (b"sk-client", b"sk-target", b"sk-other-target")
"""What scripts use as credentials: neither may be told to the observer."""


class SeenReply(Protocol):
    """What the client saw."""

    status: int | None
    headers: HeaderList
    events: list[str]
    misuses: list[str]

    @property
    def body(self) -> bytes: ...


Used = Sequence[tuple[Target, list[str] | None]]
"""By attempt: its target, and how its reply was given back; None if no reply's head came."""


def check_invariants(gate: Gate, client: SeenReply, record: CallRecord, used: Used, was_stopped: bool) -> None:
    """Raise AssertionError for the first promise that the call broke; `was_stopped`: something ended it before its reply's end."""
    _check_gate_is_idle(gate)
    _check_client_reply(client, record, was_stopped)
    _check_upstream_replies(record, used)
    _check_times(record)
    _check_plan(record, used)
    for attempt, (target, _) in zip(record.attempts, used, strict=True):
        _check_cost(record, attempt, target)
    _check_cost_header(client, record)
    encoded = encode_record(record)
    assert not [secret for secret in SECRETS if secret in encoded], "a credential went into the record"


def _check_gate_is_idle(gate: Gate) -> None:
    assert gate.in_flight == 0, "in_flight didn't come back to 0"
    assert not gate.watch._guards, "an attempt that is over is still watched"
    busy = {name: state.in_flight for name, state in gate.states.items() if state.in_flight}
    assert not busy, f"attempts that are over are still in flight: {busy}"


def _check_client_reply(client: SeenReply, record: CallRecord, was_stopped: bool) -> None:
    assert not client.misuses, client.misuses
    ends = [event for event in client.events if event in ("finish", "abort")]
    assert len(ends) == (0 if was_stopped or "start" not in client.events else 1), f"the reply was ended {len(ends)} times"
    assert record.status == client.status, "the record tells another status than the client was sent"
    if ends == ["finish"]:
        assert record.response_bytes == len(client.body), "bytes counted are not the bytes sent"


def _check_upstream_replies(record: CallRecord, used: Used) -> None:
    assert [attempt.number for attempt in record.attempts] == list(range(1, len(used) + 1)), "attempts and requests sent differ"
    for attempt, (_, ends) in zip(record.attempts, used, strict=True):
        if ends is None:
            continue
        if attempt.error_type == "timeout":  # the guard closed it, and its owner once more
            assert {*ends} == {"close"}, ends
        else:
            assert ends in (["release"], ["close"]), f"an upstream reply was given back as {ends}"


def _check_times(record: CallRecord) -> None:
    assert record.start_ns <= record.end_ns
    assert record.overhead_ns >= 0
    for attempt in record.attempts:
        assert record.start_ns <= attempt.start_ns <= (attempt.first_chunk_ns or attempt.start_ns) <= attempt.end_ns <= record.end_ns


def _check_plan(record: CallRecord, used: Used) -> None:
    """A target is left for good: what is asked again is the one asked last. The decision names whom it was to be, none of them twice."""
    asked = [(attempt.target, attempt.model) for attempt in record.attempts]
    turns = [one for index, one in enumerate(asked) if index == 0 or asked[index - 1] != one]
    assert len(set(turns)) == len(turns), f"a target was come back to: {asked}"
    assert [target.name for target, _ in used] == [attempt.target for attempt in record.attempts]
    planned = record.decision.partition(">")[2].split(",") if record.decision else []
    assert len(set(planned)) == len(planned), f"a plan repeats a target: {planned}"


def _check_cost(record: CallRecord, attempt: AttemptRecord, target: Target) -> None:
    price, cost = target.price, attempt.cost
    by_tokens = price is None or price.per_million is not None
    if not record.billable:
        assert attempt.usage is None, "a read tells usage that was billed before"
        assert cost is None, "a read costs"
    elif by_tokens and attempt.usage in ABSENT_USAGES:
        assert cost is None, "a cost out of nothing"
    elif attempt.usage is not None:
        assert (cost is None) == attempt.unpriced, "usage without cost must be counted as unpriced, and nothing else"
    if cost is not None and cost.source != "provider":
        assert cost.total_nusd == cost.input_nusd + cost.output_nusd + cost.cache_read_nusd + cost.cache_write_nusd
    if by_tokens and attempt.uncounted is not None:
        assert cost is None or record.http_route == "/v1/messages", "tokens that were billed are counted again"


def _check_cost_header(client: SeenReply, record: CallRecord) -> None:
    shown = [value.decode() for name, value in client.headers if name == b"x-postern-cost-usd"]
    costs = [attempt.cost.total_nusd for attempt in record.attempts if attempt.cost is not None]
    if shown:
        assert shown == [usd_text(sum(costs))], "the cost header is not the sum of the attempts' costs"
