"""DESIGN: imports go downwards only. The contracts stand in pyproject.toml; here they are run, and shown to bite."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from importlinter.application import use_cases
from importlinter.cli import lint_imports

from tests.project.tree import ROOT

CONTRACTS = ["layers", "nouns", "pure", "no-edges-inside", "telemetry-in-the-observer"]


def lint(contract: str, config: str = "pyproject.toml") -> bool:
    """Whether one contract is kept."""
    return lint_imports(config_filename=str(ROOT / config), limit_to_contracts=(contract,), no_cache=True, no_logo=True) == 0


@pytest.fixture
def in_project_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger) and not logger.disabled]
    yield
    for logger in loggers:  # import-linter configures logging, and switches every logger off that it doesn't know
        logger.disabled = False


@pytest.mark.usefixtures("in_project_root")
@pytest.mark.parametrize("contract", CONTRACTS)
def test_import_contract_is_kept(contract: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept = lint(contract)
    assert kept, capsys.readouterr().out


@pytest.mark.usefixtures("in_project_root")
def test_every_contract_is_run() -> None:
    declared = use_cases.read_user_options("pyproject.toml").contracts_options
    assert [contract["id"] for contract in declared] == CONTRACTS


@pytest.mark.usefixtures("in_project_root")
def test_an_upward_import_breaks_a_contract(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    upside_down = tmp_path / "upside_down.ini"
    upside_down.write_text(
        "[importlinter]\nroot_packages = proxy\n"
        "[importlinter:contract:upside-down]\nname = upside down\ntype = layers\nlayers =\n  proxy.call\n  proxy.records\n"
    )
    assert not lint("upside-down", str(upside_down)), capsys.readouterr().out
