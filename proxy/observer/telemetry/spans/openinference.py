"""OpenInference's words for what gen_ai.* says already, for Phoenix. Source: wire.md A6.

Here: everything but messages (content_attributes.py). Not here: the names.
"""

from __future__ import annotations

import msgspec

from proxy.call import Cost, Usage
from proxy.observer.telemetry import names
from proxy.observer.telemetry.spans.attribute_values import Attributes, put, usd
from proxy.observer.telemetry.spans.usage_attributes import parts_are_known
from proxy.records import AttemptRecord, CallRecord, RequestFacts, facts_as_sent

_KINDS = {names.EMBEDDINGS_OPERATION: "EMBEDDING", names.RERANK_OPERATION: "RERANKER"}

_HOSTS = {"azure": "azure", "gemini": "google", "mistral": "mistralai"}
_SYSTEMS = {"azure": "openai", "mistral": "mistralai"}
"""OpenInference's name of a provider, where it isn't ours: of the host, and of whose product the API is."""

_PARAMETERS = (
    "max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed", "stop_sequences", "dimensions",
    "encoding_formats", "service_tier",
)  # fmt: skip
_RENAMED_PARAMETERS = {"choice_count": "n", "reasoning_level": "reasoning_effort", "output_type": "output_type"}

_encode = msgspec.json.Encoder().encode


def put_openinference_call(attributes: Attributes, record: CallRecord) -> None:
    """Set what the SERVER span says."""
    if record.operation:
        attributes[names.OPENINFERENCE_KIND] = "CHAIN"
        _put_session(attributes, record)


def _put_session(attributes: Attributes, record: CallRecord) -> None:
    put(attributes, names.USER_ID, record.labels.get("user"))
    if record.facts is not None:
        put(attributes, names.SESSION_ID, record.facts.conversation_id)


def put_openinference_operation(attributes: Attributes, record: CallRecord, attempt: AttemptRecord) -> None:
    """Set what an attempt's CLIENT span says."""
    attributes[names.OPENINFERENCE_KIND] = _KINDS.get(record.operation, "LLM")
    _put_session(attributes, record)
    if record.operation == names.EMBEDDINGS_OPERATION:
        put(attributes, names.EMBEDDING_MODEL, attempt.response_model or attempt.model or None)
        _put_parameters(attributes, names.EMBEDDING_PARAMETERS, facts_as_sent(record, attempt))
    else:
        _put_model(attributes, record, attempt)
    if record.billable and record.operation != names.FETCH_OPERATION:
        if attempt.usage is not None:
            _put_tokens(attributes, attempt.usage)
        if attempt.cost is not None:
            _put_cost(attributes, attempt.cost)
    if record.labels or record.attributes:
        attributes[names.METADATA] = _encode({**record.labels, **record.attributes}).decode()
    if record.tags:
        attributes[names.TAGS] = [f"{name}={value}" for name, value in record.tags.items()]


def _put_model(attributes: Attributes, record: CallRecord, attempt: AttemptRecord) -> None:
    put(attributes, names.LLM_MODEL, attempt.response_model or attempt.model or None)
    put(attributes, names.LLM_REQUEST_MODEL, attempt.model or None)
    put(attributes, names.LLM_RESPONSE_MODEL, attempt.response_model)
    attributes[names.LLM_PROVIDER] = _HOSTS.get(attempt.provider, attempt.provider)
    attributes[names.LLM_SYSTEM] = _SYSTEMS.get(attempt.provider, attempt.provider)
    _put_parameters(attributes, names.LLM_PARAMETERS, facts_as_sent(record, attempt))
    if attempt.finish_reasons:
        attributes[names.LLM_FINISH_REASON] = attempt.finish_reasons[0]


def _put_parameters(attributes: Attributes, name: str, facts: RequestFacts | None) -> None:
    if facts is None:
        return
    told = {field: getattr(facts, field) for field in _PARAMETERS}
    told |= {parameter: getattr(facts, field) for field, parameter in _RENAMED_PARAMETERS.items()}
    present = {parameter: value for parameter, value in told.items() if value is not None}
    if present:
        attributes[name] = _encode(present).decode()


def _put_tokens(attributes: Attributes, usage: Usage) -> None:
    put(attributes, names.LLM_PROMPT_TOKENS, usage.input_tokens)
    put(attributes, names.LLM_COMPLETION_TOKENS, usage.output_tokens)
    if usage.input_tokens is not None and usage.output_tokens is not None:
        attributes[names.LLM_TOTAL_TOKENS] = usage.input_tokens + usage.output_tokens
    put(attributes, names.LLM_CACHE_READ_TOKENS, usage.cache_read_tokens)
    put(attributes, names.LLM_CACHE_WRITE_TOKENS, usage.cache_write_tokens)
    put(attributes, names.LLM_PROMPT_AUDIO_TOKENS, usage.input_audio_tokens)
    put(attributes, names.LLM_REASONING_TOKENS, usage.reasoning_tokens)
    put(attributes, names.LLM_COMPLETION_AUDIO_TOKENS, usage.output_audio_tokens)


def _put_cost(attributes: Attributes, cost: Cost) -> None:
    attributes[names.LLM_COST] = usd(cost.total_nusd)
    if not parts_are_known(cost):
        return
    attributes[names.LLM_COST_PROMPT] = usd(cost.total_nusd - cost.output_nusd)
    attributes[names.LLM_COST_COMPLETION] = attributes[names.LLM_COST_OUTPUT] = usd(cost.output_nusd)
    attributes[names.LLM_COST_INPUT] = usd(cost.input_nusd)
    attributes[names.LLM_COST_CACHE_READ] = usd(cost.cache_read_nusd)
    attributes[names.LLM_COST_CACHE_WRITE] = usd(cost.cache_write_nusd)
