"""Where a key's entry stands in the YAML, and how one is written."""

from __future__ import annotations

import pytest

from proxy.config.key_entries import entry_lines, entry_text, without_lines
from tests.config.support import load

TARGETS = "targets: {openai: {provider: openai, credential: k}}\n"
DIGEST = "ab" * 32
TEXT = f"""\
keys:   # ours
  # the shop's
  - {{name: web, sha256: {DIGEST}}}   # one line

  - name: batch
    sha256: {"cd" * 32}
    models: ["gpt-*",
             o3]   # few

  # who works at night
  -
    name: "night"
    sha256: '{"ef" * 32}'
{TARGETS}"""


def test_an_entry_that_is_written_is_read_back() -> None:
    said = {
        "name": 'a "b"',
        "sha256": DIGEST,
        "tenant": "caf\u00e9: no",
        "user": None,
        "models": ["gpt-*", "o3"],
        "routes": [],
        "expires": "2027-01-01",
    }
    (key,) = load(f"{TARGETS}keys:\n  {entry_text(said)}\n").config.keys
    assert (key.name, key.tenant, key.user, key.models, key.routes, key.expires) == (
        'a "b"',
        "caf\u00e9: no",
        None,
        ["gpt-*", "o3"],
        [],
        "2027-01-01",
    )


@pytest.mark.parametrize(("index", "expected"), [(0, (3, 3)), (1, (5, 8)), (2, None)])
def test_an_entry_has_lines_of_its_own(index: int, expected: tuple[int, int] | None) -> None:
    assert entry_lines(TEXT, index) == expected


def test_lines_are_counted_as_they_are_ended() -> None:
    assert entry_lines(TEXT.replace("\n", "\r\n"), 1) == (5, 8)


@pytest.mark.parametrize("text", ["keys: [{name: a}, {name: b}]\n", "{keys: [{name: a}]}\n"])
def test_an_entry_among_others_on_its_line_has_none(text: str) -> None:
    assert entry_lines(text, 0) is None


def test_only_the_lines_of_the_entry_go() -> None:
    without = without_lines(TEXT, 5, 8)
    assert [key.name for key in load(without).config.keys] == ["web", "night"]
    assert without.split("\n") == TEXT.split("\n")[:4] + TEXT.split("\n")[8:]
