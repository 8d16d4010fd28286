"""Who a call is from: its virtual key, where keys are needed, and its labels.

Here: when they are read, and of what. Not here: which key is good and for what (policy/keys.py), where labels stand (policy/identity.py).
"""

from __future__ import annotations

from proxy.errors import KeyInvalid, KeysUnread, ModelNotAllowed, RouteNotAllowed
from proxy.pipeline.redact import credentials_of, masked
from proxy.pipeline.runtime import SHORTEST_SECRET, Gate, Runtime
from proxy.pipeline.state import CallState
from proxy.policy.identity import LabelFacts
from proxy.policy.keys import VirtualKey, key_message, models_message, route_message
from proxy.wire.credentials import credentials_in
from proxy.wire.endpoints import model_in_path
from proxy.wire.headers import baggage_member
from proxy.wire.request import read_stand_ins, read_text_member

READS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
MODEL_IN_HANDSHAKE = "realtime"
"""The kind of WebSocket whose model can't change any more once it is open."""


def identify(gate: Gate, runtime: Runtime, call: CallState) -> None:
    """Find the call's virtual key, by its head alone: nothing of a body is read for who has no key. Raises KeyInvalid, KeysUnread."""
    if not runtime.needs_keys:
        return
    request = call.request
    credentials = credentials_in(request.headers, request.target, request.upgrade)
    key = gate.keys.find(credentials)
    if key is None and credentials and runtime.shares_keys and gate.shared_keys is None:
        raise KeysUnread
    if key is not None:
        call.labels = {"key": key.name}
    if message := key_message(key, bool(credentials), request.started_unix_ns / 1e9):
        raise KeyInvalid(message, param=key.name if key is not None else None)
    call.key = key


def read_labels(runtime: Runtime, call: CallState) -> None:
    """Set the call's labels, from as much of it as was read. Credentials in them are masked: labels are told to whom the call isn't."""
    headers, fields, key = call.request.headers, call.fields, call.key
    facts = LabelFacts(
        headers,
        call.headers,
        fields.metadata if fields is not None else {},
        lambda name: _body_member(call, name),
        (lambda name: baggage_member(headers, name)) if b"baggage" in call.headers else None,
        key.labels if key is not None else {},
    )
    found = runtime.labels.read(facts)
    if found and max(map(len, found.values())) >= SHORTEST_SECRET:
        secrets = [*credentials_of(call), *runtime.target_secrets]
        found = {name: masked(value, secrets) for name, value in found.items()}
    call.labels = found if key is None else {**found, "key": key.name}


def _body_member(call: CallState, name: str) -> str | None:
    fields = call.fields
    if fields is None or call.plain is None:
        return None
    match name:
        case "user":
            return fields.user
        case "safety_identifier":
            return fields.safety_identifier
        case "model":
            return fields.model
        case _:
            return read_text_member(call.plain, name)


def check_allowed(call: CallState, key: VirtualKey) -> None:
    """Whether the key is for what a routed call asks for, and for the route it takes. Raises ModelNotAllowed, RouteNotAllowed."""
    fields, request = call.fields, call.request
    named = {fields.model if fields is not None else None, model_in_path(call.path), call.model}
    if key.models is not None and call.plain is not None:
        named.update(read_stand_ins(call.plain))
    if request.upgrade and call.api.kind != MODEL_IN_HANDSHAKE:
        named = {None}
    is_read = request.method in READS and not request.upgrade
    if message := models_message(key, sorted(model for model in named if model), is_read):
        raise ModelNotAllowed(message, param=key.name)
    if call.decision is not None and (message := route_message(key, call.decision.route)):
        raise RouteNotAllowed(message, param=key.name)
