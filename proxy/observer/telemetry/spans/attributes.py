"""What spans say about a call: the record's fields as OpenTelemetry attributes. Absent stays absent, never 0 for unknown.

Here: pure functions from a record to attribute dicts, and the rules of what is an error. Not here: names, captured content, bytes.
"""

from __future__ import annotations

from itertools import chain, islice

from proxy.call import Outcome
from proxy.observer.telemetry import names
from proxy.observer.telemetry.spans.attribute_values import MAX_ATTRIBUTES, Attributes, AttributeValue, clipped, put, usd
from proxy.observer.telemetry.spans.openinference import put_openinference_call, put_openinference_operation
from proxy.observer.telemetry.spans.usage_attributes import put_cost, put_cost_parts, put_usage
from proxy.observer.telemetry.vocabulary import FACT_ATTRIBUTES, Vocabulary
from proxy.observer.totals import call_totals
from proxy.records import AttemptRecord, CallRecord, RequestFacts, decisive_attempt, facts_as_sent
from proxy.wire.dialects.table import dialect

CACHE_HIT = "hit"

_BROKEN = frozenset({Outcome.FAILED, Outcome.INTERRUPTED})


def server_attributes(record: CallRecord, vocabulary: Vocabulary) -> Attributes:
    """Attributes of the SERVER span: the HTTP exchange with the client, and what the call came to."""
    attributes: Attributes = {
        names.URL_PATH: record.path,
        names.URL_SCHEME: record.scheme,
        names.HTTP_ROUTE: record.http_route,
        names.SERVER_ADDRESS: record.server_address,
        names.SERVER_PORT: record.server_port,
        names.CLIENT_ADDRESS: record.client_address,
        names.PROTOCOL_VERSION: record.protocol_version,
        names.OUTCOME: record.outcome.value,
        names.OVERHEAD_MS: record.overhead_ns / 1e6,
    }
    _put_method(attributes, record.method)
    put(attributes, names.USER_AGENT, record.user_agent)
    put(attributes, names.HTTP_STATUS, record.status)
    put(attributes, names.ERROR_TYPE, server_error_type(record))
    put(attributes, names.DECISION, record.decision)
    put(attributes, names.RULE, record.rule)
    put(attributes, names.EXPERIMENT, record.experiment)
    put(attributes, names.ARM, record.arm)
    if record.shadow is not None:
        attributes[names.SHADOW] = record.shadow.decision
        attributes[names.SHADOW_DIFFERS] = record.shadow.differs
    put(attributes, names.MIRROR_OF, record.mirror_of)
    decisive = decisive_attempt(record)
    if decisive is not None:
        attributes[names.TARGET] = decisive.target
        attributes[names.RETRIES] = len(record.attempts) - 1
    _put_call(attributes, record)
    if record.operation != names.FETCH_OPERATION:
        _put_totals(attributes, record, vocabulary)
    _put_cache_and_budget(attributes, record)
    if vocabulary.openinference:
        put_openinference_call(attributes, record)
    if record.attributes or record.tags:
        _put_custom(attributes, record.attributes, record.tags)
    return clipped(attributes)


def _put_method(attributes: Attributes, method: str) -> None:
    if method in names.KNOWN_METHODS:
        attributes[names.HTTP_METHOD] = method
    else:
        attributes[names.HTTP_METHOD] = names.OTHER
        attributes[names.HTTP_METHOD_ORIGINAL] = method


def _put_call(attributes: Attributes, record: CallRecord) -> None:
    attributes[names.CALL_ID] = record.call_id
    put(attributes, names.ROUTE, record.route)
    for label, value in record.labels.items():
        name = names.LABEL_ATTRIBUTES.get(label)
        if name is not None:
            attributes[name] = value


def _put_totals(attributes: Attributes, record: CallRecord, vocabulary: Vocabulary) -> None:
    totals = call_totals(record)
    if totals.usage_source is not None:
        attributes[names.USAGE_SOURCE] = totals.usage_source.value
    if totals.cost_nusd is not None:
        attributes[names.COST_USD] = usd(totals.cost_nusd)
        put_cost_parts(attributes, [attempt.cost for attempt in record.attempts if attempt.cost is not None])
    elif record.cache == CACHE_HIT and not record.attempts:
        attributes[names.COST_USD] = attributes[vocabulary.cost_attribute] = 0.0


def _put_cache_and_budget(attributes: Attributes, record: CallRecord) -> None:
    put(attributes, names.CACHE, record.cache)
    put(attributes, names.CACHE_AGE_S, record.cache_age_s)
    if record.saved_nusd is not None:
        attributes[names.SAVED_USD] = usd(record.saved_nusd)
    if record.shadow_refusals:
        attributes[names.SHADOW_REFUSALS] = record.shadow_refusals
    if record.budget_left_nusd is not None:
        attributes[names.BUDGET_LEFT_USD] = usd(record.budget_left_nusd)


def _put_custom(attributes: Attributes, custom: dict[str, str], tags: dict[str, str]) -> None:
    """A dot in a tag's name would make it another tag's parent; the names of attributes are checked by the configuration."""
    named = ((names.CUSTOM_PREFIX + name, value) for name, value in custom.items())
    tagged = ((names.TAG_PREFIX + name.replace(".", "_"), value) for name, value in tags.items())
    room = MAX_ATTRIBUTES - len(attributes) - 1
    attributes.update(islice(chain(named, tagged), room))
    dropped = len(custom) + len(tags) - room
    if dropped > 0:
        attributes[names.TAGS_DROPPED] = dropped


def client_attributes(record: CallRecord, attempt: AttemptRecord, vocabulary: Vocabulary) -> Attributes:
    """Attributes of an attempt's CLIENT span, but for captured content (content_attributes.py)."""
    attributes: Attributes = {
        names.SERVER_ADDRESS: attempt.server_address,
        names.SERVER_PORT: attempt.server_port,
        names.TARGET: attempt.target,
        names.ATTEMPT: attempt.number,
        names.OUTCOME: attempt.outcome.value,
    }
    put(attributes, names.HTTP_STATUS, attempt.status)
    put(attributes, names.ERROR_TYPE, client_error_type(attempt))
    put(attributes, names.REQUEST_CHANGES, attempt.changes)
    put(attributes, names.CUT_BY, attempt.cut_by)
    put(attributes, names.ATTEMPT_CAUSE, attempt.cause)
    put(attributes, names.SEAM_CHARS, attempt.seam_chars)
    if attempt.number > 1:
        attributes[names.HTTP_RESEND_COUNT] = attempt.number - 1
    _put_call(attributes, record)
    if record.operation:
        _put_operation(attributes, record, attempt, vocabulary)
    else:
        _put_method(attributes, record.method)
        put(attributes, names.URL_FULL, attempt.url)
    if record.billable and record.operation != names.FETCH_OPERATION:
        _put_usage_and_cost(attributes, record, attempt, vocabulary)
    if vocabulary.openinference and record.operation:
        put_openinference_operation(attributes, record, attempt)
    if record.attributes:
        _put_custom(attributes, record.attributes, {})
    return clipped(attributes)


def _put_operation(attributes: Attributes, record: CallRecord, attempt: AttemptRecord, vocabulary: Vocabulary) -> None:
    attributes[names.OPERATION] = record.operation
    attributes[names.PROVIDER] = provider_name(attempt.provider)
    if attempt.model:
        attributes[names.REQUEST_MODEL] = attempt.model
    if record.stream:
        attributes[names.REQUEST_STREAM] = True
        if attempt.first_chunk_ns is not None:
            attributes[names.RESPONSE_TIME_TO_FIRST_CHUNK] = (attempt.first_chunk_ns - attempt.start_ns) / 1e9
    put(attributes, names.RESPONSE_ID, attempt.response_id)
    put(attributes, names.RESPONSE_MODEL, attempt.response_model)
    if attempt.finish_reasons:
        attributes[names.RESPONSE_FINISH_REASONS] = attempt.finish_reasons
    facts = facts_as_sent(record, attempt)
    if facts is not None:
        _put_facts(attributes, facts, vocabulary)
    if attempt.provider == names.OPENAI_PROVIDER:
        _put_openai(attributes, record, attempt, facts)


def _put_facts(attributes: Attributes, facts: RequestFacts, vocabulary: Vocabulary) -> None:
    for field, name in FACT_ATTRIBUTES[vocabulary.semconv]:
        value: AttributeValue | None = getattr(facts, field)
        if value is not None:
            attributes[name] = value
    if facts.top_k is not None:
        put(attributes, names.REQUEST_TOP_K, _top_k(facts.top_k, vocabulary))
    if facts.choice_count is not None and facts.choice_count != 1:
        attributes[names.REQUEST_CHOICE_COUNT] = facts.choice_count


def _top_k(top_k: float, vocabulary: Vocabulary) -> float | None:
    """One name, two types: core 1.41's double, except where only `latest` is told, whose int a fraction isn't."""
    if vocabulary.semconv != "latest":
        return float(top_k)
    return int(top_k) if float(top_k).is_integer() else None


def _put_openai(attributes: Attributes, record: CallRecord, attempt: AttemptRecord, facts: RequestFacts | None) -> None:
    if record.api_type:
        attributes[names.OPENAI_API_TYPE] = record.api_type
    if facts is not None and facts.service_tier not in (None, "auto"):
        put(attributes, names.OPENAI_REQUEST_SERVICE_TIER, facts.service_tier)
    put(attributes, names.OPENAI_RESPONSE_SERVICE_TIER, attempt.service_tier)
    put(attributes, names.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, attempt.system_fingerprint)


def _put_usage_and_cost(attributes: Attributes, record: CallRecord, attempt: AttemptRecord, vocabulary: Vocabulary) -> None:
    if attempt.usage is not None:
        attributes[names.USAGE_SOURCE] = attempt.usage.source.value
        if record.operation:
            put_usage(attributes, attempt.usage, vocabulary)
    if attempt.cost is not None:
        put_cost(attributes, attempt.cost, vocabulary)


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
