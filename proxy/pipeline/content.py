"""What was said in a call, for its record, where a rule asks for it.

Here: whether and where it is recorded, which bytes it is read from. Not here: the rule (policy/recording.py), formats, redaction (wire/).
"""

from __future__ import annotations

from proxy.pipeline.redact import credentials_of
from proxy.pipeline.runtime import Runtime
from proxy.pipeline.state import AttemptState, CallState
from proxy.records import Content
from proxy.wire.content import Said, content_of
from proxy.wire.redaction import without_secrets


def is_recorded(runtime: Runtime, call: CallState) -> bool:
    """Whether anything said in this call is recorded."""
    return bool(runtime.captures) and bool(_places(runtime, call))


def _places(runtime: Runtime, call: CallState) -> list[str]:
    """Where; a call that isn't sampled has neither spans nor events."""
    to = runtime.captures.get(call.decision.route, []) if call.decision else []
    return to if call.sampled else [place for place in to if place == "ledger"]


def record_content(runtime: Runtime, call: CallState) -> Content | None:
    """The content of a call that is over; None where there is none to record. Never raises."""
    to = _places(runtime, call)
    if not to or call.plain is None or runtime.redact is None:
        return None
    said = _said(call, call.plain, call.decisive)
    return content_of(said, to, without_secrets(runtime.redact, credentials_of(call)), runtime.max_content_chars)


def _said(call: CallState, request: bytes, attempt: AttemptState | None) -> Said:
    if attempt is None:
        return Said(call.api.kind, request, b"", False)
    if attempt.kept is not None:
        return Said(call.api.kind, request, bytes(attempt.kept.data), True, attempt.kept.is_cut)
    return Said(call.api.kind, request, attempt.capture, False)
