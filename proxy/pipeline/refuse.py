"""Errors of our own, told to the client.

Here: one error, one answer. Not here: which error; how envelopes look (wire/).
"""

from __future__ import annotations

from proxy.call import HeaderList, Outcome
from proxy.errors import ClientGone, PosternError, UpstreamError
from proxy.pipeline.headers import own_headers
from proxy.pipeline.runtime import Runtime
from proxy.pipeline.state import CallState
from proxy.ports import ClientReply
from proxy.wire.error_bodies import error_body_for

REFUSED = "postern_refused"
UNAUTHORIZED = 401


async def send_error(call: CallState, reply: ClientReply, error: PosternError, runtime: Runtime) -> None:
    """Answer with the error, in the envelope that the called API's clients read."""
    code = error.error_type if isinstance(error, UpstreamError) else error.code
    call.error_type, call.error_message = code, error.message
    call.rule = error.param if error.type == REFUSED else None
    call.outcome = Outcome.REJECTED if error.status < 500 else Outcome.FAILED
    body = error_body_for(call.api.kind, error.message, error.type, error.code, error.param)
    headers: HeaderList = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-should-retry", b"true" if error.retry else b"false"),
    ]
    if error.status == UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="postern"'))  # RFC 9110 15.5.2
    headers += error.headers
    if not runtime.transparent:
        headers += own_headers(call, call.decisive)
    try:
        await reply.start(error.status, "", headers)
        call.status = error.status
        await reply.write(body)
        await reply.finish()
    except ClientGone:
        call.outcome = Outcome.ABANDONED
    call.response_bytes = len(body)
