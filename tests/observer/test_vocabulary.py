from __future__ import annotations

from itertools import combinations

import pytest

from proxy.observer.telemetry import names
from proxy.observer.telemetry.name_rows import On
from proxy.observer.telemetry.vocabulary import collides, nests
from tests.observer.decoded_spans import attributes, full_call, spans_of

COST_ATTRIBUTES = ["gen_ai.usage.cost", "gen_ai.usage.cost.amount", "llm.cost.total", "operation.cost", "postern.cost_usd"]


def unflattened(flat: dict[str, object]) -> dict[str, object]:
    """Dotted keys as objects in each other, as Phoenix and Elasticsearch do it: no value may be an object too."""
    root: dict[str, object] = {}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        place = root
        for part in path:
            place = place.setdefault(part, {})  # type: ignore[assignment]
            assert isinstance(place, dict), f"{name} stands below a value"
        assert leaf not in place, f"{name} is an object too"
        place[leaf] = value
    return root


@pytest.mark.parametrize("cost_attribute", COST_ATTRIBUTES)
@pytest.mark.parametrize("operation", ["chat", "embeddings", "fetch_response", ""])
def test_attributes_of_a_span_can_become_objects(cost_attribute: str, operation: str) -> None:
    for span in spans_of(full_call(operation=operation), "both", openinference=True, cost_attribute=cost_attribute):
        assert unflattened(attributes(span))


@pytest.mark.parametrize("place", [On.SERVER, On.CLIENT, On.EVENT, On.LOG, On.METRIC])
def test_no_two_names_of_the_table_collide(place: On) -> None:
    listed = [row.name for row in names.ATTRIBUTES if row.on & place]
    assert not [(one, other) for one, other in combinations(listed, 2) if nests(one, other)]


@pytest.mark.parametrize("cost_attribute", COST_ATTRIBUTES)
def test_cost_attribute_that_stands_alone_collides_with_nothing(cost_attribute: str) -> None:
    assert collides(cost_attribute) is None


@pytest.mark.parametrize(
    ("cost_attribute", "name"),
    [
        ("gen_ai.usage.input_tokens", "gen_ai.usage.input_tokens"),
        ("gen_ai.usage.input_tokens.cost", "gen_ai.usage.input_tokens"),
        ("gen_ai.usage.cache_read", "gen_ai.usage.cache_read.input_tokens"),
        ("gen_ai", "gen_ai.operation.name"),
        ("postern.tag", "postern.tag.<name>"),
        ("postern.tag.cost", "postern.tag.<name>"),
        ("postern.attribute.cost", "postern.attribute.<name>"),
        ("postern.cost_usd.total", "postern.cost_usd"),
        ("llm.cost", "llm.cost.total"),
        ("llm.cost.total.usd", "llm.cost.total"),
        ("llm.input_messages.0.message.cost", "llm.input_messages.<n>.message.<…>"),
        ("metadata.cost", "metadata"),
        ("http", "http.request.method"),
    ],
)
def test_cost_attribute_that_would_break_a_span_is_told_with_what(cost_attribute: str, name: str) -> None:
    assert collides(cost_attribute) == name


def test_a_name_of_metrics_only_is_free_on_spans() -> None:
    assert collides("gen_ai.token.type.cost") is None
