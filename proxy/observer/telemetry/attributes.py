"""What spans say about a call: the record's fields as OpenTelemetry attributes. Absent stays absent, never 0 for unknown.

Here: pure functions from a record to attribute dicts, and the rules of what is an error. Not here: names, spans, the SDK.
"""

from __future__ import annotations

from proxy.call import Outcome
from proxy.observer.telemetry import names
from proxy.observer.totals import call_totals
from proxy.records import AttemptRecord, CallRecord, RequestFacts
from proxy.wire.dialects.table import dialect

AttributeValue = str | bool | int | float | list[str]
Attributes = dict[str, AttributeValue]

MAX_TEXT_CHARS = 1024  # a client may name a model of a megabyte
MAX_LIST_ITEMS = 64

_NUSD_PER_USD = 1_000_000_000
_BROKEN = frozenset({Outcome.FAILED, Outcome.INTERRUPTED})


def server_attributes(record: CallRecord) -> Attributes:
    """Attributes of the SERVER span: the HTTP exchange with the client, and what the call came to."""
    attributes: Attributes = {
        names.HTTP_METHOD: record.method if record.method in names.KNOWN_METHODS else names.OTHER,
        names.URL_PATH: record.path,
        names.URL_SCHEME: record.scheme,
        names.HTTP_ROUTE: record.http_route,
        names.SERVER_ADDRESS: record.server_address,
        names.SERVER_PORT: record.server_port,
        names.CLIENT_ADDRESS: record.client_address,
        names.PROTOCOL_VERSION: record.protocol_version,
        names.CALL_ID: record.call_id,
        names.OUTCOME: record.outcome.value,
        names.OVERHEAD_MS: record.overhead_ns / 1e6,
    }
    if record.method not in names.KNOWN_METHODS:
        attributes[names.HTTP_METHOD_ORIGINAL] = record.method
    _put(attributes, names.USER_AGENT, record.user_agent)
    _put(attributes, names.HTTP_STATUS, record.status)
    _put(attributes, names.ERROR_TYPE, server_error_type(record))
    _put(attributes, names.ROUTE, record.route)
    if record.attempts:
        attributes[names.TARGET] = record.attempts[-1].target
    _put_labels(attributes, record.labels)
    _put_totals(attributes, record)
    return _clipped(attributes)


def _put_labels(attributes: Attributes, labels: dict[str, str]) -> None:
    for label, value in labels.items():
        name = names.LABEL_ATTRIBUTES.get(label)
        if name is not None:
            attributes[name] = value


def _put_totals(attributes: Attributes, record: CallRecord) -> None:
    totals = call_totals(record)
    if totals.usage_source is not None:
        attributes[names.USAGE_SOURCE] = totals.usage_source.value
    if totals.cost_nusd is not None:
        attributes[names.COST_USD] = totals.cost_nusd / _NUSD_PER_USD


def client_attributes(record: CallRecord, attempt: AttemptRecord, cost_attribute: str) -> Attributes:
    """Attributes of an attempt's CLIENT span."""
    attributes: Attributes = {
        names.SERVER_ADDRESS: attempt.server_address,
        names.SERVER_PORT: attempt.server_port,
        names.TARGET: attempt.target,
        names.ATTEMPT: attempt.number,
        names.OUTCOME: attempt.outcome.value,
    }
    _put(attributes, names.HTTP_STATUS, attempt.status)
    _put(attributes, names.ERROR_TYPE, client_error_type(attempt))
    if attempt.number > 1:
        attributes[names.HTTP_RESEND_COUNT] = attempt.number - 1
    if record.operation:
        _put_operation(attributes, record, attempt)
    else:
        attributes[names.HTTP_METHOD] = record.method if record.method in names.KNOWN_METHODS else names.OTHER
    if record.billable:
        _put_usage(attributes, attempt, cost_attribute)
    return _clipped(attributes)


def _put_operation(attributes: Attributes, record: CallRecord, attempt: AttemptRecord) -> None:
    attributes[names.OPERATION] = record.operation
    attributes[names.PROVIDER] = provider_name(attempt.provider)
    if attempt.model:
        attributes[names.REQUEST_MODEL] = attempt.model
    if record.stream:
        attributes[names.REQUEST_STREAM] = True
        if attempt.first_chunk_ns is not None:
            attributes[names.RESPONSE_TIME_TO_FIRST_CHUNK] = (attempt.first_chunk_ns - attempt.start_ns) / 1e9
    _put(attributes, names.RESPONSE_ID, attempt.response_id)
    _put(attributes, names.RESPONSE_MODEL, attempt.response_model)
    if attempt.finish_reasons:
        attributes[names.RESPONSE_FINISH_REASONS] = attempt.finish_reasons
    if record.facts is not None:
        _put_facts(attributes, record.facts)
    if attempt.provider == names.OPENAI_PROVIDER:
        _put_openai(attributes, record, attempt)


def _put_facts(attributes: Attributes, facts: RequestFacts) -> None:
    for field, name in names.FACT_ATTRIBUTES:
        value: AttributeValue | None = getattr(facts, field)
        if value is not None:
            attributes[name] = value
    if facts.choice_count is not None and facts.choice_count != 1:
        attributes[names.REQUEST_CHOICE_COUNT] = facts.choice_count


def _put_openai(attributes: Attributes, record: CallRecord, attempt: AttemptRecord) -> None:
    if record.api_type:
        attributes[names.OPENAI_API_TYPE] = record.api_type
    if record.facts is not None and record.facts.service_tier not in (None, "auto"):
        _put(attributes, names.OPENAI_REQUEST_SERVICE_TIER, record.facts.service_tier)
    _put(attributes, names.OPENAI_RESPONSE_SERVICE_TIER, attempt.service_tier)
    _put(attributes, names.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, attempt.system_fingerprint)


def _put_usage(attributes: Attributes, attempt: AttemptRecord, cost_attribute: str) -> None:
    if attempt.usage is not None:
        for field, name in names.USAGE_ATTRIBUTES:
            tokens: int | None = getattr(attempt.usage, field)
            if tokens is not None:
                attributes[name] = tokens
        attributes[names.USAGE_SOURCE] = attempt.usage.source.value
    if attempt.cost is not None:
        attributes[names.COST_USD] = attributes[cost_attribute] = attempt.cost.total_nusd / _NUSD_PER_USD


def server_is_error(record: CallRecord) -> bool:
    """Whether the SERVER span's status is ERROR: not for a 4xx, nor when the client left."""
    if record.outcome is Outcome.ABANDONED:
        return False
    if record.status is None:
        return record.outcome is not Outcome.SUCCEEDED
    return record.status >= 500 or (record.status < 400 and record.outcome in _BROKEN)


def server_error_type(record: CallRecord) -> str | None:
    """error.type of the SERVER span and of http.server.request.duration: on errors, and when the client left."""
    if not server_is_error(record) and record.outcome is not Outcome.ABANDONED:
        return None
    return record.error_type or _status_or_outcome(record.status, record.outcome)


def client_is_error(attempt: AttemptRecord) -> bool:
    """Whether a CLIENT span's status is ERROR: any 4xx or 5xx and every failure, but not when the client left."""
    return attempt.outcome not in (Outcome.SUCCEEDED, Outcome.ABANDONED)


def client_error_type(attempt: AttemptRecord) -> str | None:
    """error.type of a CLIENT span and of gen_ai.client.operation.duration."""
    if attempt.outcome is Outcome.SUCCEEDED:
        return None
    return attempt.error_type or _status_or_outcome(attempt.status, attempt.outcome)


def _status_or_outcome(status: int | None, outcome: Outcome) -> str:
    return str(status) if status is not None and status >= 400 else outcome.value


def provider_name(provider: str) -> str:
    """gen_ai.provider.name of one of our providers; one that has no dialect keeps its own name."""
    try:
        return dialect(provider).otel_provider
    except KeyError:
        return provider


def clip(text: str) -> str:
    """The text, cut where telemetry would no longer want it."""
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


def _put(attributes: Attributes, name: str, value: AttributeValue | None) -> None:
    if value is not None:
        attributes[name] = value


def _clipped(attributes: Attributes) -> Attributes:
    for name, value in attributes.items():
        if isinstance(value, str):
            if len(value) > MAX_TEXT_CHARS:
                attributes[name] = clip(value)
        elif isinstance(value, list):
            attributes[name] = [clip(item) for item in value[:MAX_LIST_ITEMS]]
    return attributes
