"""DESIGN 4 and 9: where things live, and how large they may be."""

from __future__ import annotations

import ast
from statistics import median

import pytest

from tests.project.tree import CONFIG_LOADER, functions, line_count, modules, parsed, project_files, source

TOP_LEVEL = {
    ".ci", ".dockerignore", ".gitignore", "Dockerfile", "LICENSE", "Makefile", "README.md", "config", "deploy", "docs",
    "otel-collector.yaml", "proxy", "pyproject.toml", "tests",
    "requirements.in", "requirements.txt", "requirements-build.in", "requirements-build.txt", "requirements-dev.in", "requirements-dev.txt",
}  # fmt: skip

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
MEDIAN_FUNCTION_LINES = 8
NINE_TENTHS_FUNCTION_LINES = 30

LONG_FILES: dict[str, str] = {"proxy/config/schema.py": "one vocabulary: every section of the YAML, one after the other"}
"""Files that may be longer, each with the reason."""

LONG_FUNCTIONS: dict[str, str] = {}
"""Functions that may be longer, as path:name, each with the reason."""

MAY_USE_ANY: dict[str, str] = {
    CONFIG_LOADER: "the YAML's values have no type before they are checked",
}
"""Files outside wire/ that may say Any, each with the reason."""

MIN_DOCSTRING_LETTERS = 20


def test_top_level_holds_only_what_the_design_allows() -> None:
    assert {path.split("/")[0] for path in project_files()} <= TOP_LEVEL


@pytest.mark.parametrize("path", modules())
def test_module_says_first_what_lives_in_it(path: str) -> None:
    docstring = ast.get_docstring(parsed(path)) or ""
    assert len(docstring) >= MIN_DOCSTRING_LETTERS, f"{path}: its first lines say what lives here and what may not"


def test_no_function_is_too_long() -> None:
    lengths = {f"{path}:{node.name}": line_count(node) for path in modules() for node in functions(path)}
    too_long = {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES and name not in LONG_FUNCTIONS}
    assert not too_long


def test_functions_are_short_as_a_rule() -> None:
    lengths = sorted(line_count(node) for path in modules() for node in functions(path))
    assert median(lengths) <= MEDIAN_FUNCTION_LINES
    assert lengths[len(lengths) * 9 // 10] <= NINE_TENTHS_FUNCTION_LINES


def test_no_file_is_too_long() -> None:
    lengths = {path: source(path).count("\n") for path in modules()}
    assert not {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES and path not in LONG_FILES}


@pytest.mark.parametrize("listed", [LONG_FILES, LONG_FUNCTIONS, MAY_USE_ANY])
def test_no_exception_outlives_its_file(listed: dict[str, str]) -> None:
    assert {entry.split(":")[0] for entry in listed} <= {*project_files(), CONFIG_LOADER}


def says_any(node: ast.AST) -> bool:
    match node:
        case ast.ImportFrom(module="typing" | "typing_extensions", names=names):
            return any(alias.name == "Any" for alias in names)
        case ast.Attribute(value=ast.Name(id="typing" | "t"), attr="Any"):
            return True
        case _:
            return False


@pytest.mark.parametrize("path", [path for path in modules() if not path.startswith("proxy/wire/") and path not in MAY_USE_ANY])
def test_any_stays_where_foreign_data_comes_in(path: str) -> None:
    assert not [node for node in ast.walk(parsed(path)) if says_any(node)]


def test_module_names_say_what_they_hold() -> None:
    vague = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "service"}
    assert not [path for path in modules() if vague & set(path.removesuffix(".py").split("/"))]
