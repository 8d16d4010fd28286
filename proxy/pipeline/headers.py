"""Header fields at the two edges of a call.

Here: what goes upstream, what comes back, and the `x-postern-*` fields. Not here: RFC 9110's rules (wire/headers.py).
"""

from __future__ import annotations

from proxy.call import Cost, HeaderList, usd_text
from proxy.pipeline.redact import credentials_of
from proxy.pipeline.runtime import Endpoint
from proxy.pipeline.state import AttemptState, CallState
from proxy.wire.credentials import without_protocol_key
from proxy.wire.headers import forward_request_headers

MAX_VALUE_CHARS = 256


def upstream_headers(call: CallState, attempt: AttemptState, is_edited: bool) -> HeaderList:
    """The client's end-to-end fields, with the target's credential and, where it is trusted, our trace context."""
    endpoint: Endpoint = attempt.endpoint
    headers = forward_request_headers(call.request.headers, endpoint.drop_headers)
    if call.key is not None:
        headers = _without_key(call, headers)
    headers += endpoint.add_headers[attempt.credential]
    if endpoint.gets_context:
        flags = b"01" if call.sampled else b"00"
        headers.append((b"traceparent", b"00-%b-%b-%b" % (call.trace_id.encode(), attempt.span_id.encode(), flags)))
        if call.trace_state:
            headers.append((b"tracestate", call.trace_state.encode("latin-1")))
    if attempt.body is not call.body and call.plain is not call.body:  # edited, so it goes without its content coding
        headers = [field for field in headers if field[0].lower() != b"content-encoding"]
    if is_edited:  # the reply, which is asked for uncompressed therefore
        headers = [field for field in headers if field[0].lower() != b"accept-encoding"]
        headers.append((b"accept-encoding", b"identity"))
    return headers


def _without_key(call: CallState, headers: HeaderList) -> HeaderList:
    """The fields without those in which the client sends its virtual key besides: it is for this gate alone."""
    secrets = [secret.encode() for secret in credentials_of(call)]
    return [field for field in without_protocol_key(headers) if not any(secret in field[1] for secret in secrets)]


def own_headers(call: CallState, attempt: AttemptState | None, cost: Cost | None = None, overhead_ns: int = 0) -> HeaderList:
    """The `x-postern-*` fields of a reply (docs/configuration.md). Cost is absent where it isn't known yet, or at all."""
    headers: HeaderList = [
        (b"x-postern-call-id", call.call_id.encode()),
        (b"x-postern-trace-id", call.trace_id.encode()),
        (b"x-postern-attempts", b"%d" % len(call.attempts)),
    ]
    if call.decision is not None:
        headers.append((b"x-postern-route", call.decision.route.encode()))
    if attempt is not None:
        headers.append((b"x-postern-target", attempt.endpoint.target.name.encode()))
        if overhead_ns:
            headers.append((b"x-postern-overhead-ms", b"%.3f" % (overhead_ns / 1e6)))
        if attempt.model:
            headers.append((b"x-postern-model", _field_value(attempt.model)))
        if attempt.changes:
            headers.append((b"x-postern-changes", _field_value(attempt.changes)))
    if cost is not None:
        headers.append((b"x-postern-cost-usd", usd_text(cost.total_nusd).encode()))
    if call.reservation is not None and (remaining := call.reservation.remaining_nusd()) is not None:
        headers.append((b"x-postern-budget-remaining-usd", usd_text(remaining).encode()))
    return headers


def _field_value(text: str) -> bytes:
    """A client's word as a header value: no byte that could end the field."""
    text = text[:MAX_VALUE_CHARS]
    if not (text.isascii() and text.isprintable()):
        text = "".join(character if " " <= character <= "~" else "?" for character in text)
    return text.encode()
