"""YAML text to nodes with places. Duplicate keys, tags and merge keys are problems; aliases are expanded, within bounds.

Here: composing nodes from the parser's events, and YAML's own errors. Not here: what plain words or keys mean.
PyYAML's own composer is not used: it takes duplicate keys silently, and it recurses as deep as the text asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import yaml

from proxy.config.problems import Place, Problems

MAX_DEPTH = 32
MAX_ALIASED_NODES = 10_000
"""Nodes that aliases may stand for, in all: a few hundred bytes of nested aliases can stand for billions."""

STRING_TAGS = (None, "!", "tag:yaml.org,2002:str")
MERGE_KEY = "<<"

_LOADER: type[yaml.CSafeLoader | yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNREADABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTED = re.compile(r"'([^']*)'")


class Scalar(msgspec.Struct, frozen=True, eq=False):
    """A word or a quoted text."""

    text: str
    plain: bool  # written without quotes
    place: Place
    size: int = 1


class Sequence(msgspec.Struct, frozen=True, eq=False):
    """A list."""

    items: tuple[Node, ...]
    place: Place
    size: int  # nodes in it, itself included, aliases expanded


class Mapping(msgspec.Struct, frozen=True, eq=False):
    """Keys and values, each key once."""

    entries: tuple[tuple[Scalar, Node], ...]
    place: Place
    size: int


Node = Scalar | Sequence | Mapping


def compose(text: str, problems: Problems) -> Node:
    """The document's root node. Raises ConfigError where the text is not YAML; lesser problems are collected."""
    bad = _UNREADABLE.search(text)
    if bad:
        raise problems.stop(place_in(text, bad.start()), "", f"character U+{ord(bad[0]):04X} may not stand in YAML")
    try:
        return _Composer(text, problems).document()
    except yaml.YAMLError as error:
        raise problems.stop(_place_of(error), "", _syntax_message(error)) from None


def place_in(text: str, index: int) -> Place:
    """The place of a character of the text."""
    return Place(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def join_key(path: str, key: str) -> str:
    """The path of a mapping's key."""
    if not re.fullmatch(r"[\w-]+", key):
        return f"{path}[{key!r}]"
    return f"{path}.{key}" if path else key


class _Composer:
    """Turns the events of one text into nodes."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._problems = problems
        self._anchors: dict[str, Node | None] = {}  # None: begun and not ended
        self._aliased_nodes = 0

    def document(self) -> Node:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise self._problems.stop(Place(1, 1), "", "the file is empty: it needs at least `targets`")
        root = self._node(next(self._events), "", 1)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._problems.add(_place(event), "", "a second document starts here: the file must hold one")
        return root

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        assert isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent)
        if depth > MAX_DEPTH:
            raise self._problems.stop(_place(event), "", f"nested more than {MAX_DEPTH} levels deep")
        self._check_tag(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = self._content(event, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _content(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, path: str, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            if _SURROGATE.search(event.value):
                raise self._problems.stop(_place(event), path, "has an escape that is not a character")
            return Scalar(event.value, not event.style and event.tag is None, _place(event))
        if isinstance(event, yaml.SequenceStartEvent):
            items = tuple(self._items(path, depth))
            return Sequence(items, _place(event), 1 + sum(item.size for item in items))
        entries = tuple(self._entries(path, depth).values())
        return Mapping(entries, _place(event), 1 + sum(1 + value.size for _, value in entries))

    def _items(self, path: str, depth: int) -> Iterator[Node]:
        index = 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, f"{path}[{index}]", depth + 1)
            index += 1

    def _entries(self, path: str, depth: int) -> dict[str, tuple[Scalar, Node]]:
        entries: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, path, depth + 1)
            at = join_key(path, key.text) if isinstance(key, Scalar) else path
            value = self._node(next(self._events), at, depth + 1)
            message = self._key_message(key, entries)
            if message:
                self._problems.add(key.place, at, message)
            elif isinstance(key, Scalar):
                entries[key.text] = (key, value)
        return entries

    def _key_message(self, key: Node, entries: dict[str, tuple[Scalar, Node]]) -> str | None:
        if not isinstance(key, Scalar):
            return "a key must be a word, not a list or a mapping"
        if key.plain and key.text == MERGE_KEY:
            return "merge keys are not supported: write the keys out"
        if "${" in key.text:
            return "a key can't be interpolated: ${…} may stand in values only"
        if key.text in entries:
            return f"duplicate key (first in line {entries[key.text][0].place.line})"
        return None

    def _alias(self, event: yaml.AliasEvent, path: str) -> Node:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            reason = "stands inside what it refers to" if event.anchor in self._anchors else "refers to an anchor that is not defined above"
            raise self._problems.stop(_place(event), path, f"this alias {reason}")
        self._aliased_nodes += node.size
        if self._aliased_nodes > MAX_ALIASED_NODES:
            raise self._problems.stop(_place(event), path, f"the aliases of this file stand for more than {MAX_ALIASED_NODES} values")
        return node

    def _check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, path: str) -> None:
        allowed = STRING_TAGS if isinstance(event, yaml.ScalarEvent) else STRING_TAGS[:1]
        if event.tag not in allowed:
            self._problems.add(_place(event), path, "tags are not supported, except !!str")


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _place_of(error: yaml.YAMLError) -> Place:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _syntax_message(error: yaml.YAMLError) -> str:
    """What the parser says, without words of the file: they may be secret."""
    said = [part for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part]
    return "not valid YAML: " + (_QUOTED.sub(_without_text, ", ".join(said)) or "it can't be parsed")


def _without_text(quoted: re.Match[str]) -> str:
    return quoted[0] if len(quoted[1]) <= 1 or quoted[1].startswith("<") else "…"  # a mark, or a token such as '<document start>'
