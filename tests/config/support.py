"""Loading texts in tests: files are a mapping, provider addresses a small table."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.config.load import LoadedConfig, load_config
from proxy.config.problems import ConfigError
from proxy.config.schema import Config

FILE = "postern.yaml"
MINIMAL = "targets: {openai: {provider: openai}}\n"
TWO_TARGETS = "targets: {openai: {provider: openai}, local: {provider: ollama}}\n"
ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "ollama": "http://127.0.0.1:11434/v1",
}


def load(text: str | bytes, environment: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> LoadedConfig:
    """The configuration in a text."""

    def read_file(path: str) -> str:
        if path == FILE:
            return text if isinstance(text, str) else text.decode("utf-8")
        if files is None or path not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path]

    return load_config(FILE, environment or {}, read_file, ADDRESSES.get)


def loaded_or_refused(text: str) -> Config | None:
    """The configuration of a text that may be wrong; None if it is refused, each problem with its key and its place."""
    try:
        return load(text, {"A": "a"}).config
    except ConfigError as error:
        found = error.problems
    assert not [problem for problem in found if not problem.path or problem.place is None]
    return None


def problems(text: str | bytes, environment: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> list[str]:
    """What is reported about a text that must not load."""
    with pytest.raises(ConfigError) as caught:
        load(text, environment, files)
    lines = [str(problem) for problem in caught.value.problems]
    assert str(caught.value) == "\n".join(lines)
    return lines


def only_problem(text: str | bytes, environment: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> str:
    """The one thing reported about a text."""
    (problem,) = problems(text, environment, files)
    return problem
