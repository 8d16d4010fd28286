"""docs/configuration.md against the schema, both ways; what it and config/ show loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest
from msgspec import inspect

from proxy.call import Secret
from proxy.config.changes import READ_AT_START
from proxy.config.key_tables import NEUTRAL, NOT_YET
from proxy.config.nodes import compose
from proxy.config.problems import Problems
from proxy.config.rules import NOT_CHANGED
from proxy.config.scalars import parse_scalar
from proxy.config.schema import PER_MILLION, Config, FailoverOn, Match, Provider, Strategy
from proxy.policy.faults import REACTIONS, Fault
from proxy.policy.retry import REFILL_PER_S, RESERVE, RETRY_SHARE
from tests.config.support import load
from tests.project.tree import ROOT

DOCUMENT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
STARTER = (ROOT / "config" / "postern.yaml").read_text(encoding="utf-8")
ENVIRONMENT = {"ANTHROPIC_API_KEY": "a"}
COMMENTED_KEY = re.compile(r"^( *)# ( *(?:- )?\w+:(?: .*)?)$", re.MULTILINE)


def keys(kind: inspect.Type, shape: str = "") -> Iterator[tuple[str, inspect.Field | None]]:
    """Every key below a type, as the schema's tables write it."""
    match kind:
        case inspect.StructType(cls=cls) if cls is Match and not shape.startswith("routes"):
            pass  # documented where it first stands
        case inspect.StructType():
            for field in kind.fields:
                under = f"{shape}.{field.name}" if shape else field.name
                yield under, field
                yield from keys(field.type, under)
        case inspect.UnionType():
            for member in kind.types:
                yield from keys(member, shape)
        case inspect.DictType(value_type=inspect.StructType() as value):
            yield from keys(value, f"{shape}.*")
        case inspect.ListType(item_type=inspect.StructType() as item):
            yield from keys(item, f"{shape}[]")
        case _:
            pass


def rows(heading: str, cells: int) -> dict[str, list[str]]:
    """A table's rows below a heading, by key."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `([^`]+)` \|" + r"([^|]*)\|" * cells + "$", section, re.MULTILINE)
    return {row[0].replace("<name>", "*"): [cell.strip() for cell in row[1:]] for row in found}


SCHEMA = dict(keys(inspect.type_info(Config)))
KEYS = rows("Keys", 3)
LATER = rows("Not built yet", 1)


def default_as_documented(field: inspect.Field) -> str:
    if field.required:
        return "required"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, msgspec.Struct):
        return ""
    if default is None:
        return "" if any(True for _ in keys(field.type)) else "none"
    if isinstance(default, Secret):
        default = default.reveal()
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple) and isinstance(default[0], msgspec.Struct):
        return ""
    if isinstance(default, tuple):
        return f"[{', '.join(default)}]"
    return str(default).removesuffix(".0") or '""'


def test_every_key_of_the_schema_is_documented() -> None:
    assert set(SCHEMA) - set(KEYS) == set()


def test_every_documented_key_is_in_the_schema() -> None:
    assert set(KEYS) - set(SCHEMA) == set()


@pytest.mark.parametrize("key", SCHEMA)
def test_documented_default_is_that_of_the_schema(key: str) -> None:
    field = SCHEMA[key]
    assert field is not None
    assert KEYS[key][1].strip("`") == default_as_documented(field)


def test_every_key_not_built_yet_is_documented_and_no_other() -> None:
    assert set(LATER) == set(NOT_YET)


def test_accepted_values_of_keys_not_built_yet_are_documented() -> None:
    documented = {key: cells[0].strip("`") for key, cells in LATER.items() if cells[0]}
    assert set(documented) == set(NEUTRAL)
    for key, text in documented.items():
        assert parse_scalar(text) == NEUTRAL[key]


def test_documented_providers_and_price_keys_are_those_of_the_schema() -> None:
    assert re.findall(r"`(\w+)`", KEYS["targets.*.provider"][2]) == list(get_args(Provider))
    assert re.findall(r"`(\w+)`", KEYS["targets.*.price.per_million"][2]) == list(PER_MILLION)


def test_documented_strategies_and_faults_are_those_of_the_schema() -> None:
    assert re.findall(r"`(\w+)`", KEYS["routes[].strategy"][2]) == list(get_args(Strategy))
    assert list(rows("Routes", 2)) == [*get_args(Strategy), *get_args(FailoverOn)]


@pytest.mark.parametrize("fault", get_args(FailoverOn))
def test_documented_reaction_to_a_fault_is_that_of_the_policy(fault: str) -> None:
    reaction, told = REACTIONS[Fault(fault)], rows("Routes", 2)[fault][1]
    assert ("the next target" in told, "the same again" in told) == (reaction.failover, reaction.retry)


def test_documented_retry_budget_is_that_of_the_policy() -> None:
    told = " ".join(DOCUMENT.split("**retry budget**")[1].split())
    assert (RETRY_SHARE, RESERVE, REFILL_PER_S) == (1 / 5, 10, 1 / 10)
    assert "a fifth of its first attempts, beside a reserve of 10 that fills up by one every 10 seconds" in told


def test_members_that_no_rule_changes_are_documented() -> None:
    section = DOCUMENT.split("### Changes of the request")[1]
    refused = section.split("Refused are ")[1].split("What was changed")[0]
    assert set(re.findall(r"`(\w+)`", refused)) == set(NOT_CHANGED)


def test_example_of_routes_shows_what_its_comments_say() -> None:
    (example,) = (one for one in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL) if "canary" in one)
    config = load(example, ENVIRONMENT).config
    assert [route.name for route in config.routes] == ["long-prompts", "nights", "canary", "default"]
    assert config.routes[1].to[0].target in config.models
    assert sum(choice.weight for choice in config.routes[2].to) == 100


def test_keys_that_need_a_restart_are_documented() -> None:
    sentence = re.search(r"While Postern runs, (.*) can't change", DOCUMENT)
    assert sentence is not None
    assert re.findall(r"`([^`]+)`", sentence[1]) == list(READ_AT_START)


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL))
def test_example_of_the_document_loads(example: str) -> None:
    assert load(example, ENVIRONMENT).targets


def test_starter_configuration_loads_with_an_empty_environment() -> None:
    loaded = load(STARTER)
    assert loaded.targets["openai"].passthrough
    assert loaded.targets["sim"].base_url == ""
    assert [route.to[0].target for route in loaded.config.routes] == ["sim", "openai"]


def test_starter_configuration_loads_with_every_example_uncommented() -> None:
    loaded = load(COMMENTED_KEY.sub(r"\1\2", STARTER), ENVIRONMENT)
    assert set(loaded.targets) == {"openai", "sim", "claude", "local"}
    assert loaded.config.models


def test_starter_configuration_mentions_every_section() -> None:
    problems = Problems("postern.yaml")
    root = compose(COMMENTED_KEY.sub(r"\1\2", STARTER), problems)
    assert {key.text for key, _ in getattr(root, "entries", ())} == set(Config.__struct_fields__)
