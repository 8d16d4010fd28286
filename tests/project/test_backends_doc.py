"""docs/backends.md: what it tells to write is what the configuration takes."""

from __future__ import annotations

import re

import pytest

from proxy.config.load import load_config
from proxy.wire.dialects.table import dialect
from tests.project.tree import source

DOCUMENT = "docs/backends.md"
BLOCKS = re.findall(r"^```yaml\n(telemetry:\n.*?)^```$", source(DOCUMENT), re.MULTILINE | re.DOTALL)
VARIABLES = {"LANGFUSE_AUTH": "cGs6c2s=", "PHOENIX_API_KEY": "key"}


@pytest.mark.parametrize("block", BLOCKS)
def test_configuration_it_tells_loads(block: str) -> None:
    text = f"targets: {{sim: {{provider: simulated}}}}\n{block}"
    load_config("postern.yaml", VARIABLES, lambda path: text, lambda provider: dialect(provider).default_base_url)


def test_every_backend_it_lists_has_a_section() -> None:
    linked = set(re.findall(r"\]\(#([a-z-]+)\)", source(DOCUMENT)))
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", source(DOCUMENT), re.MULTILINE)}
    assert linked
    assert linked <= headings


def test_it_has_configurations_to_check() -> None:
    assert len(BLOCKS) >= 5
