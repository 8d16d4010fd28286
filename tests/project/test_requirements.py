"""Dependencies: few, pinned, hashed, and told once."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.tree import ROOT

LOCKS = ["requirements", "requirements-build", "requirements-dev"]
MAX_RUNTIME_DEPENDENCIES = 14  # each is paid for in memory, start-up and supply chain


def asked_for(name: str) -> list[Requirement]:
    lines = (ROOT / f"{name}.in").read_text().splitlines()
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def pinned(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by canonical package name."""
    text = (ROOT / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and line[0] not in "# "]
    pins: dict[str, tuple[str, int]] = {}
    for line in lines:
        requirement, *hashes = re.split(r"\s+--hash=", line)
        parsed = Requirement(requirement.strip())
        pins[canonicalize_name(parsed.name)] = (str(parsed.specifier), len(hashes))
    return pins


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_with_hashes(lock: str) -> None:
    assert all(specifier.startswith("==") and hashes > 0 for specifier, hashes in pinned(lock).values())


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_what_is_asked_for(lock: str) -> None:
    pins = pinned(lock)
    for requirement in asked_for(lock):
        version = pins[canonicalize_name(requirement.name)][0].removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_both_locks_agree_on_shared_packages() -> None:
    runtime, development = pinned("requirements"), pinned("requirements-dev")
    assert {name: runtime[name] for name in runtime.keys() & development.keys()} == {
        name: development[name] for name in runtime.keys() & development.keys()
    }


def test_dependencies_are_few() -> None:
    assert len(asked_for("requirements")) <= MAX_RUNTIME_DEPENDENCIES


def test_package_reads_its_dependencies_from_the_one_list() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "dependencies" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.in"]}
    assert project["build-system"]["requires"] == [str(requirement) for requirement in asked_for("requirements-build")]
