"""docs/identity.md against the program: its examples load, its defaults and codes are those of the code."""

from __future__ import annotations

import re

import pytest

from proxy.call import LABELS
from proxy.config.schema import IdentityConfig, KeyConfig, LabelSource
from proxy.errors import KeyInvalid, KeysUnread, ModelNotAllowed, RouteNotAllowed
from proxy.key_command import PREFIX, RANDOM_BYTES
from proxy.policy.identity import MAX_LABEL_CHARS
from proxy.policy.keys import MAX_KEY_BYTES
from proxy.stores.shared_keys import REFRESH_S
from tests.config.support import load
from tests.project.tree import source

DOCUMENT = source("docs/identity.md")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_loads(example: str) -> None:
    assert load(example).targets


def test_defaults_of_the_example_are_those_of_the_schema() -> None:
    assert load(EXAMPLES[0]).config.identity == IdentityConfig()


@pytest.mark.parametrize("label", IdentityConfig.__struct_fields__)
def test_defaults_of_the_table_of_keys_are_those_of_the_schema(label: str) -> None:
    row = re.search(rf"^\| `identity\.{label}` \|.*left out: `(.*)` \|$", source("docs/configuration.md"), re.MULTILINE)
    assert row is not None
    loaded = load(f"targets: {{a: {{provider: openai}}}}\nidentity: {{{label}: {row[1]}}}\n")
    assert loaded.config.identity == IdentityConfig()


@pytest.mark.parametrize(
    "told",
    [
        *(f"`postern.{label}`" for label in LABELS),
        *(f"`{place}: " for place in LabelSource.__struct_fields__),
        *(f"`{name}`" for name in KeyConfig.__struct_fields__ if name not in ("name", "sha256")),
        *(f"| {error.status} | `{error.code}` |" for error in (ModelNotAllowed, RouteNotAllowed)),
        f"| 401 | `{KeyInvalid.code}` | the key's name |",
        f"| {KeysUnread.status}, `retry-after` | `{KeysUnread.code}` |",
        f"within about {REFRESH_S:g} seconds",
        f"cut to {MAX_LABEL_CHARS} characters",
        f"at most {MAX_KEY_BYTES} bytes",
        f"its {RANDOM_BYTES} bytes after `{PREFIX}`",
    ],
)
def test_document_tells(told: str) -> None:
    assert told in DOCUMENT
