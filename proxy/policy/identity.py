"""Who a call is from and what it is for: its labels, each from the first place that has a value.

Here: the configuration's places compiled, a label's form; pure. Not here: reading bodies and baggage (wire/), virtual keys (keys.py), what
goes by a label (conditions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from proxy.call import HeaderList
from proxy.config.schema import IdentityConfig, LabelSource

MAX_LABEL_CHARS = 256

Member = Callable[[str], str | None]


class LabelFacts(msgspec.Struct, frozen=True):
    """Where a call's labels are read."""

    headers: HeaderList
    metadata: Mapping[str, str]
    body: Member  # a string at the top level of the JSON body
    baggage: Member
    key: Mapping[str, str]  # what the virtual key says


Fields = Mapping[bytes, str]
"""The header fields that labels are read from, by name in lower case: of each the first value that is one."""

Source = Callable[[LabelFacts, Fields], str | None]
"""What a call has in one place."""


class LabelRules:
    """The `identity` section, compiled. `environment` is Postern's own, which doesn't change."""

    def __init__(self, identity: IdentityConfig, environment: Mapping[str, str]) -> None:
        declared: dict[str, tuple[LabelSource, ...]] = {name: getattr(identity, name) for name in IdentityConfig.__struct_fields__}
        self._sources = [(name, [_source(name, one, environment) for one in sources]) for name, sources in declared.items()]
        self._fields = frozenset(_field(one.header) for sources in declared.values() for one in sources if one.header is not None)
        self._lengths = frozenset(map(len, self._fields))

    def read(self, facts: LabelFacts) -> dict[str, str]:
        """The labels that the call has."""
        fields = self._read_fields(facts.headers)
        labels: dict[str, str] = {}
        for name, sources in self._sources:
            for source in sources:
                value = source(facts, fields)
                if value and (text := label_text(value)):
                    labels[name] = text
                    break
        return labels

    def _read_fields(self, headers: HeaderList) -> Fields:
        """In one pass: most fields aren't even as long as one that is wanted."""
        found: dict[bytes, str] = {}
        for field, value in headers:
            if len(field) in self._lengths and (name := field.lower()) in self._fields and name not in found:
                text = label_text(value.decode("utf-8", "replace"))
                if text:
                    found[name] = text
        return found


def label_text(value: str) -> str:
    """A value as a label holds it: printable, without outer spaces, cut to MAX_LABEL_CHARS; "" counts as none."""
    value = value.strip()[:MAX_LABEL_CHARS]
    return value if value.isprintable() else "".join(filter(str.isprintable, value)).strip()


def _field(header: str) -> bytes:
    return header.lower().encode()


def _source(name: str, source: LabelSource, environment: Mapping[str, str]) -> Source:
    match source:
        case LabelSource(header=str(header)):
            field = _field(header)
            return lambda _, fields: fields.get(field)
        case LabelSource(body=str(member)):
            return lambda facts, _: facts.body(member)
        case LabelSource(metadata=str(member)):
            return lambda facts, _: facts.metadata.get(member)
        case LabelSource(baggage=str(member)):
            return lambda facts, _: facts.baggage(member)
        case LabelSource(env=str(variable)):
            constant = environment.get(variable)
            return lambda *_: constant
        case _:
            return lambda facts, _: facts.key.get(name)
