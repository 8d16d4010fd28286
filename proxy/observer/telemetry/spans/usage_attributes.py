"""What an attempt used and cost, as attributes. Absent stays absent, never 0 for unknown.

Here: tokens by the vocabulary, cost and its parts. Not here: sums over attempts that the ledger tells too (observer/totals.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.call import Cost, Usage
from proxy.observer.telemetry import names
from proxy.observer.telemetry.spans.attribute_values import Attributes, usd
from proxy.observer.telemetry.vocabulary import USAGE_ATTRIBUTES, Vocabulary

CURRENCY = "USD"
PROVIDERS_COST = "provider"  # Cost.source of a cost that stood in the reply


def put_usage(attributes: Attributes, usage: Usage, vocabulary: Vocabulary) -> None:
    """Set the token counts that are known."""
    for field, name in USAGE_ATTRIBUTES[vocabulary.semconv]:
        tokens: int | None = getattr(usage, field)
        if tokens is not None:
            attributes[name] = tokens
    if vocabulary.latest:
        _put_text(attributes, names.USAGE_TEXT_INPUT, usage.input_tokens, usage.input_audio_tokens, usage.input_image_tokens)
        _put_text(attributes, names.USAGE_TEXT_OUTPUT, usage.output_tokens, usage.output_audio_tokens, usage.output_image_tokens)


def _put_text(attributes: Attributes, name: str, total: int | None, audio: int | None, image: int | None) -> None:
    if total is None or audio is None or image is None or audio + image > total:
        return
    attributes[name] = total - audio - image


def put_cost(attributes: Attributes, cost: Cost, vocabulary: Vocabulary) -> None:
    """Set an attempt's cost, by our name and the configured one, and its parts."""
    attributes[names.COST_USD] = attributes[vocabulary.cost_attribute] = usd(cost.total_nusd)
    if vocabulary.cost_attribute == names.COST_AMOUNT:
        attributes[names.COST_CURRENCY] = CURRENCY
        attributes[names.COST_SOURCE] = "provider" if cost.source == PROVIDERS_COST else "local"
    put_cost_parts(attributes, (cost,))


def put_cost_parts(attributes: Attributes, costs: Iterable[Cost]) -> None:
    """Set the parts of a sum of costs; none where of one of them only the total is known."""
    input_nusd = output_nusd = cache_read_nusd = cache_write_nusd = 0
    for cost in costs:
        if not parts_are_known(cost):
            return
        input_nusd += cost.input_nusd
        output_nusd += cost.output_nusd
        cache_read_nusd += cost.cache_read_nusd
        cache_write_nusd += cost.cache_write_nusd
    attributes[names.COST_INPUT_USD] = usd(input_nusd)
    attributes[names.COST_OUTPUT_USD] = usd(output_nusd)
    attributes[names.COST_CACHE_READ_USD] = usd(cache_read_nusd)
    attributes[names.COST_CACHE_WRITE_USD] = usd(cache_write_nusd)


def parts_are_known(cost: Cost) -> bool:
    """Whether the parts add up to the total."""
    return cost.input_nusd + cost.output_nusd + cost.cache_read_nusd + cost.cache_write_nusd == cost.total_nusd
