"""What every test may ask for. Nothing here happens by itself: a test that wants something names it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout's top folder."""
    return Path(__file__).resolve().parent.parent
