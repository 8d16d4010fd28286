"""What the modules of this folder may share. One that wants its own of a name defines it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.gate import RunningGate
from tests.functional.scripted_provider import ScriptedProvider, scripted_provider


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    """One for a module's tests, each of which scripts it anew."""
    with scripted_provider() as running:
        yield running


@pytest.fixture
def gate(shared_gate: RunningGate) -> RunningGate:
    """The `shared_gate` of a module, whose `rows` are those of this test."""
    shared_gate.begin_anew()
    return shared_gate
