"""The file itself, the digest, and that nothing but ConfigError ever comes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.load import load_config, read_text_file
from proxy.config.problems import ConfigError
from tests.config.support import ADDRESSES, FILE, MINIMAL, load, only_problem

STARTER = (Path(__file__).parents[2] / "config" / "postern.yaml").read_text(encoding="utf-8")
CONTRACT = (Path(__file__).parent / "contract.yaml").read_text(encoding="utf-8")


def from_disk(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {}, read_text_file, ADDRESSES.get)
    return str(caught.value)


def test_problem_names_the_file_as_it_was_given() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("./some where/x.yaml", {}, lambda path: "a: 1", ADDRESSES.get)
    assert str(caught.value).startswith("./some where/x.yaml:1:1: ")


def test_missing_file_is_a_problem(tmp_path: Path) -> None:
    assert from_disk(tmp_path / "x.yaml") == f"{tmp_path}/x.yaml: can't be read: No such file or directory"


def test_directory_is_a_problem(tmp_path: Path) -> None:
    assert from_disk(tmp_path) == f"{tmp_path}: can't be read: it is a directory"


def test_file_over_one_mib_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(MINIMAL.encode() + b"#" * (1 << 20))
    assert from_disk(tmp_path / "x.yaml") == f"{tmp_path}/x.yaml: can't be read: it is larger than 1 MiB"
    assert only_problem(MINIMAL + "#" * (1 << 20)) == f"{FILE}: can't be read: it is larger than 1 MiB"


def test_file_on_disk_loads(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(MINIMAL)
    assert load_config(str(tmp_path / "x.yaml"), {}, read_text_file, ADDRESSES.get).targets


def test_bytes_that_are_not_utf_8_are_told_with_their_place() -> None:
    assert only_problem("targets:\n  ä: \xff".encode("latin-1")).startswith("postern.yaml:2:3: not valid UTF-8")
    assert only_problem(b"targets:\n  \xc3\xa4: \xff") == "postern.yaml:2:6: not valid UTF-8 from here on: save the file as UTF-8"


def test_byte_order_mark_is_a_problem() -> None:
    assert only_problem("\ufeff" + MINIMAL) == "postern.yaml:1:1: starts with a byte order mark: save the file as UTF-8 without one"


def test_name_with_a_null_character_is_a_problem() -> None:
    with pytest.raises(ConfigError):
        load_config("a\0b", {}, read_text_file, ADDRESSES.get)


def test_digest_stays_where_only_the_writing_changed() -> None:
    assert load(MINIMAL).digest == load("# a comment\n" + MINIMAL + "drain_s: 600\n").digest


@pytest.mark.parametrize("change", ["drain_s: 5", "admin: {token: x}", "routes: [{name: a, to: [openai]}]"])
def test_digest_changes_with_what_is_said(change: str) -> None:
    assert load(MINIMAL).digest != load(MINIMAL + change).digest


def test_digest_changes_with_a_secret_from_a_file() -> None:
    text = "targets: {a: {provider: openai, credential: '${file:/k}'}}"
    assert load(text, files={"/k": "1"}).digest != load(text, files={"/k": "2"}).digest


def test_a_file_of_7_kb_loads_in_milliseconds() -> None:
    rules = "".join(
        f"  - {{name: rule-{n}, match: {{model: 'model-{n}-*', header: {{x-team: team-{n}}}}}, to: [openai]}}\n" for n in range(80)
    )
    text = MINIMAL + "routes:\n" + rules
    assert len(text) > 7000

    def seconds() -> float:
        start = time.process_time()
        load(text)
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 0.050  # 8 ms where it was written; the quadratic parts are what this is about


def only_config_errors(load_it: Callable[[], object]) -> None:
    told = [FILE]
    try:
        load_it()
    except ConfigError as error:
        told = [str(problem) for problem in error.problems]
    assert told
    assert all(line.startswith(FILE) for line in told)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_config_errors(data: bytes) -> None:
    only_config_errors(lambda: load(data))


@given(
    st.sampled_from([STARTER, CONTRACT]),
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 12),
            st.one_of(
                st.text(max_size=6),
                st.sampled_from(
                    [
                        "${",
                        "}",
                        "[",
                        "{",
                        "]",
                        ": ",
                        "- ",
                        "\n",
                        "&a ",
                        "*a",
                        "<<: ",
                        "!x ",
                        "~",
                        "0x",
                        "'",
                        '"',
                        "|",
                        ">",
                        "%",
                        "@",
                        "1e999",
                        ".nan",
                        "\t",
                        "? ",
                    ]
                ),
            ),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_mutated_configurations_raise_nothing_but_config_errors(text: str, edits: list[tuple[float, int, str]]) -> None:
    for where, removed, inserted in edits:
        at = int(where * len(text))
        text = text[:at] + inserted + text[at + removed :]
    only_config_errors(lambda: load(text, {"ANTHROPIC_API_KEY": "k", "OPS_WEBHOOK": "w"}))


WORDS = st.sampled_from(
    ["~", "1", "-1", "x", "true", "[]", "{}", "[x]", "{a: b}", "${env:A}", "'${file:/f}'", "openai", "http://h", "passthrough", "[openai]"]
)
KEYS = st.sampled_from(
    [
        "provider",
        "base_url",
        "credential",
        "tier",
        "timeouts",
        "price",
        "name",
        "to",
        "match",
        "model",
        "targets",
        "otlp",
        "headers",
        "listen",
        "token",
        "free",
    ]
)


def nested(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return WORDS
    below = nested(depth - 1)
    mapping = st.dictionaries(KEYS, below, max_size=3).map(
        lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"
    )
    return st.one_of(WORDS, mapping, st.lists(below, max_size=2).map(lambda items: "[" + ", ".join(items) + "]"))


@given(
    st.dictionaries(
        st.sampled_from(["targets", "routes", "models", "prices", "telemetry", "admin", "listen", "drain_s"]), nested(3), max_size=4
    )
)
def test_any_mix_of_known_keys_raises_nothing_but_config_errors(sections: dict[str, str]) -> None:
    only_config_errors(lambda: load("\n".join(f"{key}: {value}" for key, value in sections.items()), {"A": "a"}, {"/f": "f"}))
