"""The project as data, for the tests that hold its shape: files under version control, parsed modules.

Here: reading the tree. Not here: rules about it.
"""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path, PurePath

ROOT = Path(__file__).resolve().parents[2]

CONFIG_LOADER = "proxy/config/load.py"


@functools.cache
def project_files() -> tuple[str, ...]:
    """Paths of all files that are, or would be, under version control, relative to the top folder."""
    return tuple(sorted(path for path in (listed_by_git() or walked()) if (ROOT / path).is_file()))


def listed_by_git() -> list[str]:
    """What git knows or would take; nothing where there is no git, or no repository that it trusts."""
    try:
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        output = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [path for path in output.split("\0") if path]


def walked() -> list[str]:
    """The same from the folders themselves: all but what .gitignore names."""
    ignored = [line.rstrip("/") for line in source(".gitignore").splitlines() if line and not line.startswith("#")]
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
    kept = (path for path in paths if not any(PurePath(part).match(pattern) for part in path.parts for pattern in [".git", *ignored]))
    return [path.as_posix() for path in kept]


def modules(folder: str = "proxy/") -> list[str]:
    """Paths of the Python files under `folder`."""
    return [path for path in project_files() if path.startswith(folder) and path.endswith(".py")]


@functools.cache
def source(path: str) -> str:
    """A file's text."""
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def parsed(path: str) -> ast.Module:
    """A Python file's syntax tree."""
    return ast.parse(source(path), path)


def functions(path: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method in a file, nested ones too."""
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def line_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, from `def` to its end."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def cli_commands() -> list[str]:
    """Names of the subcommands that the command line declares: the first argument of each `add_parser` call in proxy/cli*."""
    names: set[str] = set()
    for path in modules("proxy/cli"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_parser":
                names |= {str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return sorted(names)
