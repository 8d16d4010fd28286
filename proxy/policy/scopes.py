"""Scopes: whom a budget or limit counts together, as the text that accounts are named by.

Here: values of `per` to text such as `tenant=acme,user=bob`. Not here: where the values come from (budgets.py).
No two lists of values have the same text, however long they are and whatever stands in them: text that a client chooses can't reach the
account of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import quote

EVERYBODY = "all"
"""The scope of a rule without `per`. Others have a `=` in them."""

NO_VALUE = "(none)"
"""Stands for a value that a call doesn't have. A value of this text is `%28none%29`."""

MAX_VALUE_CHARS = 64
"""Longer values, quoted, are told by their beginning and their hash."""

_BEGINNING = MAX_VALUE_CHARS // 2
_HASH_BYTES = 16


def scope_text(names: Sequence[str], values: Sequence[str | bytes | None]) -> str:
    """The scope of a call: letters, digits and marks of ASCII, no space, at most about 80 characters for each value."""
    return ",".join([f"{quote(name, safe=':')}={_value_text(value)}" for name, value in zip(names, values, strict=True)]) or EVERYBODY


def _value_text(value: str | bytes | None) -> str:
    if not value:
        return NO_VALUE
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    quoted = quote(data, safe="@:/")
    if len(quoted) <= MAX_VALUE_CHARS:
        return quoted
    return f"{quoted[:_BEGINNING]}*{blake2b(data, digest_size=_HASH_BYTES).hexdigest()}"  # no value that is quoted has a `*`
