"""What one target is sent of a request: the client's body, with the target's name for the model and the edits that rules ask for.

Here: the body of an attempt. Not here: which rules there are (request_rules.py), header fields (headers.py), sending (attempts.py).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from proxy.errors import RequestNotShapeable
from proxy.pipeline.request_rules import RequestRules
from proxy.pipeline.state import CallState
from proxy.policy.order import Candidate
from proxy.wire.continuation import going_on
from proxy.wire.dialects.table import Dialect
from proxy.wire.include_usage import OPTIONS, asks_for_usage, inject
from proxy.wire.request import RequestFields, read_request
from proxy.wire.shape import Edits, NotShapeable, shape
from proxy.wire.splice import set_field

UNKNOWN_FORMAT = "its body isn't said to be JSON, or has a content coding that Postern doesn't know"
UNREADABLE = "not all members of its body can be read"


class UpstreamRequest(NamedTuple):
    """A request as one target is to get it, without content coding."""

    body: bytes | None  # None: the client's upload is passed on as it comes
    fields: RequestFields | None  # what `body` says
    changes: str = ""  # what rules changed in it, in words
    keeps_options: bool = False  # a rule says what stream_options are: usage isn't asked for on top of it

    def asking_for_usage(self, kind: str, provider: str) -> bytes | None:
        """The body with the question for a stream's usage; None where it isn't put."""
        if self.body is None or self.fields is None or self.keeps_options or not asks_for_usage(kind, self.fields, provider):
            return None
        try:
            return inject(self.body, self.fields)
        except ValueError:  # a key that is no text: nothing depends on the question, so it isn't put
            return None

    def going_on(self, text: str, spoken: Dialect) -> UpstreamRequest:
        """The request, to be gone on with from the text so far. Raises RequestNotShapeable."""
        try:
            body = going_on(self.body or b"", text, spoken.takes_prefix, spoken.takes_continue)
        except ValueError:
            raise RequestNotShapeable("The request has no messages that the text so far can be put behind.") from None
        return self._replace(body=body)


def upstream_request(call: CallState, rules: RequestRules, step: Candidate) -> UpstreamRequest:
    """The call's request for one target. Raises RequestNotShapeable."""
    body, fields = _renamed(call, step.model), call.fields
    if not rules or not call.api.json_body or call.decision is None:
        return UpstreamRequest(body, fields)
    edits = rules.get((call.decision.route, step.target))
    return UpstreamRequest(body, fields) if edits is None else _shaped(call, edits, body, step.target)


def _renamed(call: CallState, model: str | None) -> bytes | None:
    """The request's body without content coding, with the target's model name where the route gives one. Raises RequestNotShapeable."""
    if call.plain is None or call.fields is None or model is None or model == call.fields.model:
        return call.plain
    try:
        return set_field(call.plain, "model", msgspec.json.encode(model))
    except ValueError:  # a key that is no text: whether it means the model can't be told
        raise _refusal(call, f"model '{model}'", UNREADABLE) from None


def _shaped(call: CallState, edits: Edits, body: bytes | None, target: str) -> UpstreamRequest:
    if body is None or call.fields is None:
        raise _refusal(call, f"the `request` rules for target '{target}'", UNKNOWN_FORMAT)
    try:
        shaped = shape(body, edits)
    except NotShapeable:
        raise _refusal(call, f"the `request` rules for target '{target}'", UNREADABLE) from None
    fields = read_request(shaped.body, call.api.kind) if shaped.changes else call.fields
    return UpstreamRequest(shaped.body, fields, shaped.changes, OPTIONS in edits)


def _refusal(call: CallState, rule: str, why: str) -> RequestNotShapeable:
    assert call.decision is not None
    route = call.decision.route
    message = f"Route '{route}' asks for {rule}, which can't be put into this request: {why}. Nothing was sent there. Send plain JSON."
    return RequestNotShapeable(message, param=route)
