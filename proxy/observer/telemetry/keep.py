"""Which calls are told as spans, decided when they are over: `telemetry.keep`. Metrics and the ledger tell of every call.

Here: the pure decision. Not here: whether the client wanted a trace at all (CallRecord.sampled).
"""

from __future__ import annotations

from proxy.call import Outcome
from proxy.config.schema import KeepConfig
from proxy.records import CallRecord

CALL_ERRORS = frozenset({Outcome.FAILED, Outcome.INTERRUPTED, Outcome.THROTTLED})
ATTEMPT_ERRORS = CALL_ERRORS | {Outcome.REJECTED}  # an attempt that the provider answered with 4xx is an error of its span
FIRST_SERVER_ERROR = 500

_TRACE_ID_MASK = (1 << 64) - 1


def is_kept(record: CallRecord, keep: KeepConfig) -> bool:
    """Whether the call's spans are told. Raises ValueError if its trace id isn't hex."""
    return (
        (keep.errors == "always" and is_error(record))
        or (keep.refusals == "always" and is_refusal(record))
        or (keep.slower_than_s is not None and record.end_ns - record.start_ns > keep.slower_than_s * 1e9)
        or (keep.dearer_than_usd is not None and _cost_nusd(record) > keep.dearer_than_usd * 1e9)
        or is_in_ratio(record.trace_id, keep.ratio)
    )


def is_error(record: CallRecord) -> bool:
    """The call failed, broke, was throttled or was answered with 5xx; or one of its attempts was an error, whatever came of the call."""
    return (
        record.outcome in CALL_ERRORS
        or (record.status is not None and record.status >= FIRST_SERVER_ERROR)
        or any(attempt.outcome in ATTEMPT_ERRORS for attempt in record.attempts)
    )


def is_refusal(record: CallRecord) -> bool:
    """Postern said no before any upstream was asked: by a rule, or because the request can't be one."""
    return record.rule is not None or (record.outcome is Outcome.REJECTED and not record.attempts)


def is_in_ratio(trace_id: str, ratio: float) -> bool:
    """The rule of the SDK's TraceIdRatioBased: every service that asks about a trace gets the same answer."""
    return int(trace_id, 16) & _TRACE_ID_MASK < round(ratio * (_TRACE_ID_MASK + 1))


def _cost_nusd(record: CallRecord) -> int:
    """What is known of the call's cost; an unknown cost is not dear."""
    return sum(attempt.cost.total_nusd for attempt in record.attempts if attempt.cost is not None)
