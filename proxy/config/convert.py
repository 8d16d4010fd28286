"""Nodes to the schema's structs, led by the schema's own types; every problem is collected.

Here: required, unknown and not yet built keys, the walk through sections. Not here: what a single value may be (values.py), checks across
sections (check.py).
A value that is wrong is left out, or replaced by an empty stand-in where it is required, so that the checks after this one can still run.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, inspect

from proxy import __version__
from proxy.call import Secret
from proxy.config.interpolate import Interpolation
from proxy.config.key_tables import LIST_OR_ITEM, NEUTRAL, NOT_NULL, NOT_YET, SECRET, SHORTHANDS
from proxy.config.nodes import Mapping, Node, Scalar, Sequence, join_key
from proxy.config.problems import Place, Problems, did_you_mean
from proxy.config.scalars import parse_scalar
from proxy.config.schema import Config
from proxy.config.values import is_any, json_message, kind_of, range_message, read_ratio, type_message

LISTS = inspect.ListType | inspect.VarTupleType
NO_VALUE = "has no value: give one, or leave the key out"


class At(msgspec.Struct, frozen=True):
    """Where the conversion is: the path shown to people, and its shape as the schema's tables write it."""

    path: str = ""  # targets.openai.provider, routes[2].to
    shape: str = ""  # targets.*.provider, routes[].to

    def key(self, name: str) -> At:
        """A section's key."""
        return At(join_key(self.path, name), f"{self.shape}.{name}" if self.shape else name)

    def entry(self, name: str) -> At:
        """A mapping's entry under a name of the user's choice."""
        return At(join_key(self.path, name), f"{self.shape}.*")

    def item(self, index: int) -> At:
        """A list's item."""
        return At(f"{self.path}[{index}]", f"{self.shape}[]")


class Found(msgspec.Struct, frozen=True):
    """Where a value was found, for the checks that come later."""

    place: Place
    secret: bool = False  # it must not be shown


class Conversion:
    """Converts one file. `found` tells where each path of it stands."""

    def __init__(self, problems: Problems, interpolation: Interpolation) -> None:
        self._problems = problems
        self._interpolation = interpolation
        self.found: dict[str, Found] = {}

    def config(self, root: Node) -> Config:
        """The whole configuration, with stand-ins for what is wrong. Raises ConfigError if it has no keys at all."""
        if not isinstance(root, Mapping):
            raise self._problems.stop(root.place, "", f"expected keys such as `targets:`, found {_kind_of_node(root)}")
        root_type = inspect.type_info(Config)
        assert isinstance(root_type, inspect.StructType)
        return msgspec.convert(self._value(root, root_type, At()), Config)

    def _value(self, node: Node, wanted: inspect.Type, at: At) -> object:
        """The converted value; UNSET if it is left out or wrong, and then it was reported."""
        self.found.setdefault(at.path, Found(node.place, at.shape in SECRET))
        declared, wanted = wanted, _member_for(node, wanted)
        if is_any(wanted):
            return self._anything(node, wanted, at)
        if isinstance(wanted, inspect.ListType) and at.shape in LIST_OR_ITEM and not isinstance(node, Sequence):
            return self._only_item(node, wanted.item_type, at)
        if isinstance(wanted, inspect.StructType) and isinstance(node, Scalar) and wanted.cls in SHORTHANDS:
            return self._shorthand(node, wanted, at)
        if isinstance(wanted, inspect.StructType) and isinstance(node, Mapping):
            return self._section(node, wanted, at)
        if isinstance(wanted, inspect.DictType) and isinstance(node, Mapping):
            return {key.text: self._part(value, wanted.value_type, at.entry(key.text)) for key, value in node.entries}
        if isinstance(wanted, LISTS) and isinstance(node, Sequence):
            return [self._part(item, wanted.item_type, at.item(index)) for index, item in enumerate(node.items)]
        if isinstance(node, Scalar) and not isinstance(wanted, inspect.StructType | inspect.DictType | LISTS):
            return self._scalar(node, wanted, at)
        return self._wrong(node, at, f"expected {kind_of(declared)}, found {_kind_of_node(node)}")

    def _anything(self, node: Node, wanted: inspect.Type, at: At) -> object:
        """Plain data, where any JSON value may stand."""
        match node:
            case Scalar():
                return self._scalar(node, wanted, at)
            case Sequence():
                return [self._part(item, wanted, at.item(index)) for index, item in enumerate(node.items)]
            case Mapping():
                return {key.text: self._part(value, wanted, at.entry(key.text)) for key, value in node.entries}

    def _part(self, node: Node, wanted: inspect.Type, at: At) -> object:
        """An entry or item, which can't be left out: null there is a wrong type, or an empty section."""
        if isinstance(wanted, inspect.StructType) and _is_null(node):
            node = Mapping((), node.place, 1)
        return _present(self._value(node, wanted, at), wanted)

    def _section(self, node: Mapping, struct: inspect.StructType, at: At) -> dict[str, object]:
        fields = {field.name: field for field in struct.fields}
        values: dict[str, object] = {}
        for key, value in node.entries:
            under = at.key(key.text)
            if key.text not in fields:
                self._foreign_key(key, value, under, fields)
            elif not _is_null(value):
                values[key.text] = self._value(value, fields[key.text].type, under)
            elif under.shape in NOT_NULL:
                self._wrong(value, under, NO_VALUE)
        for field in struct.fields:
            if field.required and field.name not in values:
                self._problems.add(node.place, at.key(field.name).path, "is required, and missing")
            if field.required and values.get(field.name) in (None, UNSET):
                values[field.name] = _stand_in(field.type)
        return {name: value for name, value in values.items() if value is not UNSET}

    def _shorthand(self, node: Scalar, struct: inspect.StructType, at: At) -> object:
        name = SHORTHANDS[struct.cls]
        value = self._value(node, inspect.StrType(), at.key(name))
        return UNSET if value is UNSET else {name: value}

    def _only_item(self, node: Node, wanted: inspect.Type, at: At) -> object:
        """A list written as its only item."""
        if not isinstance(node, Scalar):
            return self._wrong(node, at, f"expected {kind_of(wanted)} or a list, found {_kind_of_node(node)}")
        value = self._scalar(node, wanted, at)
        return UNSET if value is UNSET else [value]

    def _foreign_key(self, key: Scalar, value: Node, at: At, fields: dict[str, inspect.Field]) -> None:
        if at.shape not in NOT_YET:
            self._problems.add(key.place, at.path, f"unknown key{did_you_mean(key.text, fields)}")
        elif not self._asks_for_nothing(value, at.shape):
            self._problems.add(key.place, at.path, _not_yet(at.path, NOT_YET[at.shape]))

    def _asks_for_nothing(self, node: Node, shape: str) -> bool:
        if isinstance(node, Scalar) and _is_null(node):
            return True
        if not isinstance(node, Scalar) and node.size == 1:
            return True
        return shape in NEUTRAL and _plain(node) == NEUTRAL[shape]

    def _scalar(self, node: Scalar, wanted: inspect.Type, at: At) -> object:
        expanded = self._interpolation.expand(node.text)
        secret = expanded.secret or at.shape in SECRET
        self.found[at.path] = Found(node.place, secret)
        for message in expanded.messages:
            self._problems.add(node.place, at.path, message)
        if expanded.messages:
            return UNSET
        as_text = isinstance(wanted, inspect.StrType | inspect.LiteralType | inspect.CustomType)
        value = read_ratio(expanded.text if (as_text if expanded.secret else not node.plain) else parse_scalar(expanded.text), at.shape)
        if expanded.secret and value is None:
            return self._wrong(node, at, NO_VALUE) if at.shape in NOT_NULL else UNSET
        if is_any(wanted):
            wrong = json_message(value, secret)
        else:
            wrong = type_message(value, wanted, secret) or range_message(value, at.shape, secret)
        if wrong:
            return self._wrong(node, at, wrong)
        return Secret(value) if _is_secret(wanted) and isinstance(value, str) else value

    def _wrong(self, node: Node, at: At, message: str) -> object:
        self._problems.add(node.place, at.path, message)
        return UNSET


def _not_yet(path: str, feature: str) -> str:
    key = path.rpartition(".")[2]
    return f"`{key}` is not built in this version ({__version__}): remove it, it would not be enforced (what is missing: {feature})"


def _member_for(node: Node, wanted: inspect.Type) -> inspect.Type:
    """The member of a union that a node may be: a list where the node is one, else what isn't: several, if they are single values."""
    if not isinstance(wanted, inspect.UnionType):
        return wanted
    members = [member for member in wanted.types if not isinstance(member, inspect.NoneType)]
    lists = [member for member in members if isinstance(member, inspect.ListType)]
    others = tuple(member for member in members if not isinstance(member, inspect.ListType))
    if lists and (isinstance(node, Sequence) or not others):
        return lists[0]
    return others[0] if len(others) == 1 else inspect.UnionType(others)


def _is_secret(wanted: inspect.Type) -> bool:
    return isinstance(wanted, inspect.CustomType) and wanted.cls is Secret


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.plain and parse_scalar(node.text) is None


def _plain(node: Node) -> object:
    """A node as plain data, nothing interpolated."""
    match node:
        case Scalar():
            return parse_scalar(node.text) if node.plain else node.text
        case Sequence():
            return [_plain(item) for item in node.items]
        case Mapping():
            return {key.text: _plain(value) for key, value in node.entries}


def _present(value: object, wanted: inspect.Type) -> object:
    return _stand_in(wanted) if value is UNSET else value


def _stand_in(wanted: inspect.Type) -> object:
    """The emptiest value of a type. The problem it stands for is reported: it is never used."""
    match wanted:
        case inspect.StructType():
            return {field.name: _stand_in(field.type) for field in wanted.fields if field.required}
        case inspect.UnionType():
            return _stand_in(wanted.types[0])
        case inspect.LiteralType():
            return wanted.values[0]
        case inspect.ListType() | inspect.VarTupleType():
            return []
        case inspect.DictType():
            return {}
        case inspect.FloatType():
            return 0.0
        case inspect.CustomType():
            return Secret("")
        case _:
            return ""


def _kind_of_node(node: Node) -> str:
    """A node in words, without its text: where a section is expected, it may be a secret in the wrong place."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar():
            return "nothing" if _is_null(node) else "a single value"
