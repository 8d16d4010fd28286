"""An attempt as gen_ai.* metrics, in the words of core 1.41, of the conventions of late 2026, or both.

Here: which instruments there are in each, and what each records. Not here: names and boundaries (names.py), the caps (labels.py).
Tokens that a tokenizer counted, or a bound, stay out of both: the conventions allow only what the provider told. They are in the
ledger, on spans with postern.usage_source, and in postern.cost.
"""

from __future__ import annotations

from typing import Literal, Protocol

from opentelemetry.context import Context

from proxy.call import Usage, UsageSource
from proxy.observer.telemetry import names
from proxy.observer.telemetry.metrics.chunk_gaps import ChunkGaps
from proxy.observer.telemetry.metrics.instruments import CappedHistogram, Instruments
from proxy.observer.telemetry.metrics.labels import Labels
from proxy.observer.telemetry.spans.attributes import client_error_type, provider_name
from proxy.records import AttemptRecord, CallRecord

Conventions = Literal["v1_41", "latest", "both"]

INFERENCE_OPERATIONS = frozenset({"chat", "text_completion", "generate_content"})

UNKNOWN, TEXT, IMAGE, AUDIO = "unknown", "text", "image", "audio"
"""Values of gen_ai.token.modality."""


class AttemptMetrics(Protocol):
    """One generation of the conventions."""

    def observe(self, record: CallRecord, attempt: AttemptRecord, labels: Labels, span: Context) -> None:
        """Record one attempt of an operation that has a name. `labels` are those that every metric has."""
        ...


def attempt_metrics(conventions: Conventions, instruments: Instruments) -> list[AttemptMetrics]:
    """The metrics that the setting asks for."""
    first: list[AttemptMetrics] = [OperationMetrics(instruments)] if conventions != "latest" else []
    latest: list[AttemptMetrics] = [InferenceMetrics(instruments)] if conventions != "v1_41" else []
    others: list[AttemptMetrics] = [OtherOperationMetrics(instruments)] if conventions == "latest" else []
    return [*first, *latest, *others]


def operation_labels(record: CallRecord, attempt: AttemptRecord) -> Labels:
    """The labels that every gen_ai metric of an attempt has."""
    labels: Labels = {
        names.OPERATION: record.operation,
        names.PROVIDER: provider_name(attempt.provider),
        names.SERVER_ADDRESS: attempt.server_address,
        names.SERVER_PORT: attempt.server_port,
    }
    if attempt.model:
        labels[names.REQUEST_MODEL] = attempt.model
    if attempt.response_model:
        labels[names.RESPONSE_MODEL] = attempt.response_model
    if attempt.service_tier and attempt.provider == names.OPENAI_PROVIDER:
        labels[names.OPENAI_RESPONSE_SERVICE_TIER] = attempt.service_tier
    return labels


class StreamMetrics:
    """How the chunks of a stream came: the same in both generations, under other names."""

    def __init__(self, first_chunk: CappedHistogram, gaps: ChunkGaps) -> None:
        self._first_chunk = first_chunk
        self._gaps = gaps

    def observe(self, record: CallRecord, attempt: AttemptRecord, labels: Labels, span: Context) -> None:
        """Record a stream that had content; nothing otherwise."""
        if not record.stream or attempt.first_chunk_ns is None:
            return
        self._first_chunk.record(seconds(attempt.start_ns, attempt.first_chunk_ns), labels, span)
        if attempt.chunk_gaps and attempt.last_chunk_ns is not None:
            self._gaps.add(attempt.chunk_gaps, seconds(attempt.first_chunk_ns, attempt.last_chunk_ns), labels)


class OperationMetrics:
    """gen_ai.client.* of core 1.41."""

    def __init__(self, instruments: Instruments) -> None:
        self._tokens = instruments.histogram(names.TOKEN_USAGE_METRIC)
        self._duration = instruments.histogram(names.OPERATION_DURATION_METRIC)
        self._stream = StreamMetrics(
            instruments.histogram(names.TIME_TO_FIRST_CHUNK_METRIC), instruments.chunk_gaps(names.TIME_PER_CHUNK_METRIC)
        )

    def observe(self, record: CallRecord, attempt: AttemptRecord, labels: Labels, span: Context) -> None:
        """Record one attempt."""
        self._stream.observe(record, attempt, labels, span)
        usage = told_usage(record, attempt)
        if usage is not None:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if tokens is not None:
                    self._tokens.record(tokens, {**labels, names.TOKEN_TYPE: kind}, span)
        self._duration.record(seconds(attempt.start_ns, attempt.end_ns), with_error(labels, attempt), span)


class OtherOperationMetrics:
    """gen_ai.client.operation.duration of what isn't inference, where OperationMetrics doesn't tell it."""

    def __init__(self, instruments: Instruments) -> None:
        self._duration = instruments.histogram(names.OPERATION_DURATION_METRIC)

    def observe(self, record: CallRecord, attempt: AttemptRecord, labels: Labels, span: Context) -> None:
        """Record one attempt."""
        if record.operation not in INFERENCE_OPERATIONS:
            self._duration.record(seconds(attempt.start_ns, attempt.end_ns), with_error(labels, attempt), span)


class InferenceMetrics:
    """gen_ai.client.inference.*: counters of tokens by modality, which failures count as 0, and distributions."""

    def __init__(self, instruments: Instruments) -> None:
        self._duration = instruments.histogram(names.INFERENCE_DURATION_METRIC)
        self._stream = StreamMetrics(
            instruments.histogram(names.INFERENCE_FIRST_CHUNK_METRIC), instruments.chunk_gaps(names.INFERENCE_TIME_PER_CHUNK_METRIC)
        )
        self._input, self._output = (
            (instruments.counter(total), instruments.histogram(size))
            for total, size in (
                (names.INFERENCE_INPUT_METRIC, names.INFERENCE_INPUT_SIZE_METRIC),
                (names.INFERENCE_OUTPUT_METRIC, names.INFERENCE_OUTPUT_SIZE_METRIC),
            )
        )
        self._cache_read = instruments.counter(names.INFERENCE_CACHE_READ_METRIC)
        self._cache_write = instruments.counter(names.INFERENCE_CACHE_WRITE_METRIC)
        self._reasoning = instruments.counter(names.INFERENCE_REASONING_METRIC)

    def observe(self, record: CallRecord, attempt: AttemptRecord, labels: Labels, span: Context) -> None:
        """Record one attempt, if it is inference."""
        if record.operation not in INFERENCE_OPERATIONS:
            return
        outcome_labels = with_error(labels, attempt)
        self._duration.record(seconds(attempt.start_ns, attempt.end_ns), outcome_labels, span)
        self._stream.observe(record, attempt, labels, span)
        usage = told_usage(record, attempt) or Usage()
        for (total, size), tokens, modalities in (
            (self._input, usage.input_tokens, input_modalities(usage)),
            (self._output, usage.output_tokens, output_modalities(usage)),
        ):
            for modality, amount in modalities.items():
                total.add(amount, {**labels, names.TOKEN_MODALITY: modality}, span)
            if tokens is not None:
                size.record(tokens, outcome_labels, span)
        for counter, modalities in (
            (self._cache_read, by_modality(usage.cache_read_tokens, audio=usage.cache_read_audio_tokens)),
            (self._cache_write, by_modality(usage.cache_write_tokens)),
            (self._reasoning, by_modality(usage.reasoning_tokens)),
        ):
            for modality, amount in modalities.items():
                if amount:
                    counter.add(amount, {**labels, names.TOKEN_MODALITY: modality}, span)


def told_usage(record: CallRecord, attempt: AttemptRecord) -> Usage | None:
    """What the provider said it bills; None if it said nothing, or says again what it has said before."""
    usage = attempt.usage
    return usage if record.billable and usage is not None and usage.source is UsageSource.PROVIDER else None


def input_modalities(usage: Usage) -> dict[str, int]:
    """Input tokens by modality."""
    return by_modality(usage.input_tokens, usage.input_audio_tokens, usage.input_image_tokens)


def output_modalities(usage: Usage) -> dict[str, int]:
    """Output tokens by modality."""
    return by_modality(usage.output_tokens, usage.output_audio_tokens, usage.output_image_tokens)


def by_modality(tokens: int | None, audio: int | None = None, image: int | None = None) -> dict[str, int]:
    """Tokens by modality: the rest is text only where the provider told both others; no tokens at all are 0 unknown ones."""
    parts = {AUDIO: audio or 0, IMAGE: image or 0}
    rest = TEXT if audio is not None and image is not None else UNKNOWN
    parts[rest] = max(0, (tokens or 0) - sum(parts.values()))
    return {modality: amount for modality, amount in parts.items() if amount} or {UNKNOWN: 0}


def with_error(labels: Labels, attempt: AttemptRecord) -> Labels:
    """The labels, and error.type if there is one."""
    error_type = client_error_type(attempt)
    return labels if error_type is None else {**labels, names.ERROR_TYPE: error_type}


def seconds(start_ns: int, end_ns: int) -> float:
    """The time between; never negative, whatever the machine's clock did."""
    return max(0, end_ns - start_ns) / 1e9
