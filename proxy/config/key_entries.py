"""The text of a virtual key's entry in the YAML: how it is written, on which lines it stands.

Here: text and places in it. Not here: files, what an entry may say (identity.py), making keys (key_command.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import yaml

KEYS = "keys"
_BEFORE_ENTRY = re.compile(r"\s*-\s+(?:&\S+\s+)?")


def entry_text(values: Mapping[str, str | Sequence[str] | None]) -> str:
    """An entry of `keys` as one line, e.g. `- {name: "web", models: ["gpt-*"]}`; what is empty is left out."""
    told = (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value)
    return f"- {{{', '.join(told)}}}"


def entry_lines(text: str, index: int) -> tuple[int, int] | None:
    """The first and the last line, from 1, of an entry of `keys` in a configuration that loads; None if others stand on them too."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    entries = next(value for key, value in root.value if key.value == KEYS)
    if entries.flow_style:
        return None
    entry = entries.value[index]
    start, end = entry.start_mark, _end(entry)
    lines = text.split("\n")
    rest = lines[end.line][end.column :].strip()
    if not _BEFORE_ENTRY.fullmatch(lines[start.line][: start.column]) or (rest and not rest.startswith("#")):
        return None
    return start.line + 1, end.line + 1


def _end(node: yaml.Node) -> yaml.Mark:
    """Where a node's text ends; the mark of one in block style is that of what follows it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return node.end_mark


def without_lines(text: str, first: int, last: int) -> str:
    """The text without these lines, every other byte as it was."""
    lines = text.split("\n")
    return "\n".join(lines[: first - 1] + lines[last:])
