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


class LabelFacts(msgspec.Struct, frozen=True, gc=False):
    """Where a call's labels are read."""

    headers: HeaderList
    first: Mapping[bytes, bytes]  # of them, by name in lower case: the first value of each
    metadata: Mapping[str, str]
    body: Member  # a string at the top level of the JSON body
    baggage: Member | None  # None: the call has none
    key: Mapping[str, str]  # what the virtual key says


Source = Callable[[LabelFacts], str | None]
"""What a call has in one place."""


class LabelRules:
    """The `identity` section, compiled. `environment` is Postern's own, which doesn't change."""

    def __init__(self, identity: IdentityConfig, environment: Mapping[str, str]) -> None:
        declared: dict[str, tuple[LabelSource, ...]] = {name: getattr(identity, name) for name in IdentityConfig.__struct_fields__}
        sources = [one for several in declared.values() for one in several]
        self._sources = [(name, [_source(name, one, environment) for one in several]) for name, several in declared.items()]
        self._fields = frozenset(_field(one.header) for one in sources if one.header is not None)
        self._members = [one.body for one in sources if one.body is not None]
        self._of_every_call = self._look_everywhere(LabelFacts([], {}, {}, lambda _: None, None, {}))

    def read(self, facts: LabelFacts) -> dict[str, str]:
        """The labels that the call has."""
        says_nothing = self._fields.isdisjoint(facts.first) and not (facts.metadata or facts.key or facts.baggage)
        if says_nothing and not any(map(facts.body, self._members)):
            return self._of_every_call.copy()
        return self._look_everywhere(facts)

    def _look_everywhere(self, facts: LabelFacts) -> dict[str, str]:
        labels: dict[str, str] = {}
        for name, sources in self._sources:
            for source in sources:
                value = source(facts)
                if value and (text := label_text(value)):
                    labels[name] = text
                    break
        return labels


def _field_text(facts: LabelFacts, field: bytes) -> str | None:
    """The first value of a field that is one: a field may be sent twice, and be empty at first."""
    first = facts.first.get(field)
    if first is None:
        return None
    text = label_text(first.decode("utf-8", "replace"))
    if text:
        return text
    values = (value.decode("utf-8", "replace") for name, value in facts.headers if len(name) == len(field) and name.lower() == field)
    return next(filter(label_text, values), None)


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
            return lambda facts: _field_text(facts, field)
        case LabelSource(body=str(member)):
            return lambda facts: facts.body(member)
        case LabelSource(metadata=str(member)):
            return lambda facts: facts.metadata.get(member)
        case LabelSource(baggage=str(member)):
            return lambda facts: facts.baggage(member) if facts.baggage is not None else None
        case LabelSource(env=str(variable)):
            constant = environment.get(variable)
            return lambda _: constant
        case _:
            return lambda facts: facts.key.get(name)
