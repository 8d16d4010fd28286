"""Docs are tested against what they describe."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from tests.project.tree import ROOT, cli_commands, project_files, source

COMMANDS = ["serve", "check", "calls", "explain", "replay", "demo"]
DECISION_SECTIONS = ["## Context", "## Choice", "## Cost"]
DOCUMENTS = [path for path in project_files() if path.endswith(".md")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", source("Makefile"), re.MULTILINE))


def links(path: str) -> list[str]:
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", source(path))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_make_commands_in_documents_exist(path: str) -> None:
    told = set(re.findall(r"(?:`|^)make ([a-z]+)", source(path), re.MULTILINE))
    assert told <= make_targets()


def test_readme_tells_the_two_commands() -> None:
    assert {"make run", "make test"} <= set(source("README.md").splitlines())


def test_cli_has_the_commands_of_this_version() -> None:
    assert set(COMMANDS) <= set(cli_commands())


@pytest.mark.parametrize("command", sorted({*COMMANDS, *cli_commands()}))
def test_every_command_is_documented(command: str) -> None:
    assert [path for path in DOCUMENTS if re.search(rf"\bpostern {command}\b", source(path))]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: str) -> None:
    assert not [link for link in links(path) if not (ROOT / PurePosixPath(path).parent / link).exists()]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.startswith("docs/decisions/")])
def test_decision_has_context_choice_and_cost(path: str) -> None:
    assert [line for line in source(path).splitlines() if line.startswith("## ")] == DECISION_SECTIONS
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", PurePosixPath(path).name)


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(PurePosixPath(path).name[:4]) for path in DOCUMENTS if path.startswith("docs/decisions/")]
    assert numbers == list(range(len(numbers)))


def test_changelog_tells_of_this_version() -> None:
    version = re.search(r'__version__ = "([^"]+)"', source("proxy/__init__.py"))
    assert version is not None
    assert f"## {version[1]}" in source("docs/changelog.md")
