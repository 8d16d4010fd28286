"""Sets, clamps and drops members of a request's JSON object, and changes not a byte besides.

Here: what can be done to a member, doing it. Not here: which rules apply to a call (pipeline/request_rules.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, assert_never

import msgspec

from proxy.wire.json_text import Member, members
from proxy.wire.splice import OPENING, Cut, encoded_member, splice

_NUMBER = re.compile(rb"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_CLOSING = re.compile(rb"[ \t\n\r]*\}[ \t\n\r]*")
_MAX_EXACT = 1 << 53


class Set(msgspec.Struct, frozen=True):
    """The member has this value, wherever it stands, and no other spelling; it is put in where it is absent."""

    name: str
    value: bytes  # encoded

    @property
    def told(self) -> str:
        """The edit as people read it: without the value, which may be a secret."""
        return f"set {self.name}"


class Clamp(msgspec.Struct, frozen=True):
    """A larger number becomes the limit; what is no number stays, and so does an absent member."""

    name: str
    limit: float

    @property
    def value(self) -> bytes:
        """The limit, encoded as people write it: 800, not 800.0."""
        whole = abs(self.limit) < _MAX_EXACT and self.limit == int(self.limit)
        return msgspec.json.encode(int(self.limit) if whole else self.limit)

    @property
    def told(self) -> str:
        """The edit as people read it."""
        return f"clamp {self.name} {self.value.decode()}"


class Drop(msgspec.Struct, frozen=True):
    """The member goes."""

    name: str

    @property
    def told(self) -> str:
        """The edit as people read it."""
        return f"drop {self.name}"


Edit = Set | Clamp | Drop
Edits = Mapping[str, Edit]
"""By the member's name, case folded: Go's parser, which is Ollama's, takes `Max_Tokens` for `max_tokens`."""


class Shaped(NamedTuple):
    """A body after its edits."""

    body: bytes  # the very object that was given, if nothing had to be changed
    changes: str  # the edits that changed something, e.g. "set temperature; drop logit_bias"; "" if none did


class NotShapeable(Exception):
    """The body can't be edited safely: not all of its members can be told."""


def combined(edits: Iterable[Edit]) -> dict[str, Edit]:
    """What edits come to, done one after the other: at most one for each member."""
    done: dict[str, Edit] = {}
    for edit in edits:
        key = edit.name.casefold()
        done[key] = _after(done.get(key), edit)
    return done


def _after(first: Edit | None, then: Edit) -> Edit:
    """The one edit that does what two do."""
    if not isinstance(then, Clamp):
        return then
    match first:
        case None:
            return then
        case Drop():
            return first
        case Clamp():
            return then if then.limit < first.limit else first
        case Set():
            return Set(first.name, then.value) if _is_over(first.value, then.limit) else first
        case _:
            assert_never(first)


def shape(body: bytes, edits: Edits) -> Shaped:
    """The JSON object after the edits. A member that stands several times is edited each time, as parsers differ over which one counts.

    Raises NotShapeable.
    """
    shaping = _Shaping(body, edits)
    try:
        for member in members(body):
            shaping.take(member)
    except ValueError:  # a key that is no text
        raise NotShapeable from None
    shaping.finish()
    if not shaping.changed:
        return Shaped(body, "")
    return Shaped(splice(body, shaping.cuts), "; ".join(edit.told for edit in edits.values() if edit.name in shaping.changed))


class _Shaping:
    """One pass over the members of a body, in their order. A hostile body has millions: nothing is kept of those that stay."""

    def __init__(self, body: bytes, edits: Edits) -> None:
        self._body = body
        self._edits = edits
        self._missing = {edit.name: edit.value for edit in edits.values() if isinstance(edit, Set)}
        self._end = 0  # of the last member
        self._kept_end = 0  # of the last member that stays; 0: none does so far
        self._run_start: int | None = None  # of the members that go, since the last one that stays
        self.cuts: list[Cut] = []
        self.changed: set[str] = set()

    def take(self, member: Member) -> None:
        """The next member."""
        edit = self._edits.get(member.key.casefold())
        if isinstance(edit, Drop) or (isinstance(edit, Set) and member.key != edit.name):
            self.changed.add(edit.name)
            if self._run_start is None:
                self._run_start = self._kept_end or member.key_start
        else:
            self._keep(member, edit)
        self._end = member.end

    def _keep(self, member: Member, edit: Set | Clamp | None) -> None:
        if self._run_start is not None:  # goes with the commas before its members, or after them if they come first
            self.cuts.append((self._run_start, self._end if self._kept_end else member.key_start, b""))
            self._run_start = None
        self._kept_end = member.end
        if edit is None:
            return
        self._missing.pop(member.key, None)
        value = self._body[member.start : member.end]
        if _is_over(value, edit.limit) if isinstance(edit, Clamp) else value != edit.value:
            self.cuts.append((member.start, member.end, edit.value))
            self.changed.add(edit.name)

    def finish(self) -> None:
        """After the last member. Raises NotShapeable if it isn't the object's last."""
        opening = OPENING.match(self._body)
        if opening is None or _CLOSING.fullmatch(self._body, self._end or opening.end()) is None:
            raise NotShapeable
        if self._run_start is not None:
            self.cuts.append((self._run_start, self._end, b""))
        if self._missing:
            inserted = b",".join(encoded_member(name, value) for name, value in self._missing.items())
            self.cuts.insert(0, (opening.end(), opening.end(), inserted + b"," if self._kept_end else inserted))
            self.changed.update(self._missing)


def _is_over(value: bytes, limit: float) -> bool:
    """Whether an encoded value is a number above the limit. A number too large for a float is."""
    return _NUMBER.fullmatch(value) is not None and float(value) > limit
