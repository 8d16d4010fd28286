"""What YAML itself may hold, and how much of it."""

from __future__ import annotations

import pytest
import yaml

from proxy.config import nodes
from tests.config.support import MINIMAL, load, only_problem, problems


@pytest.fixture(params=["libyaml", "pure Python"], autouse=True)
def both_parsers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pure Python":
        monkeypatch.setattr(nodes, "_LOADER", yaml.SafeLoader)


def test_duplicate_key_is_a_problem() -> None:
    assert only_problem(MINIMAL + "drain_s: 1\nlisten: a:1\ndrain_s: 2\n") == "postern.yaml:4:1: drain_s: duplicate key (first in line 2)"


def test_duplicate_key_deep_inside_is_told_with_its_path() -> None:
    text = "targets:\n  openai:\n    provider: openai\n    provider: vllm\n"
    assert only_problem(text) == "postern.yaml:4:5: targets.openai.provider: duplicate key (first in line 3)"


def test_quoted_key_is_the_same_key() -> None:
    assert "duplicate key" in only_problem(MINIMAL + "drain_s: 1\n'drain_s': 2\n")


def test_syntax_error_is_reported_alone() -> None:
    assert only_problem("unknown: 1\ntargets: {openai: [}\n").startswith("postern.yaml:2:20: not valid YAML: ")


def test_syntax_error_repeats_no_text_of_the_file() -> None:
    assert "sk-123" not in only_problem("targets:\n  openai: {credential: *sk-123, provider: openai}\n")
    assert "sk-123" not in only_problem("targets:\n  openai: {credential: !sk-123! x, provider: openai}\n")


def test_merge_key_is_refused() -> None:
    text = (
        "targets:\n  openai: &base {provider: openai}\n  other: {<<: *base, provider: openai, base_url: http://h}\n"
        "routes: [{name: a, to: [other]}]\n"
    )
    assert only_problem(text) == "postern.yaml:3:11: targets.other['<<']: merge keys are not supported: write the keys out"


def test_quoted_merge_key_is_a_key_like_others() -> None:
    assert "unknown key" in only_problem(MINIMAL + "'<<': 1\n")


@pytest.mark.parametrize("tag", ["!custom", "!!python/object:os.system", "!!int", "!<tag:x,2000:y>"])
def test_tags_are_refused(tag: str) -> None:
    assert only_problem(MINIMAL + f"listen: {tag} '127.0.0.1:1'\n") == "postern.yaml:2:9: listen: tags are not supported, except !!str"


def test_string_tag_makes_a_string() -> None:
    assert load(MINIMAL + "admin: {token: !!str 123}\n").config.admin.token.reveal() == "123"


def test_tag_on_a_section_is_refused() -> None:
    assert "tags are not supported" in only_problem(MINIMAL + "admin: !!str {}\n")


def test_alias_stands_for_its_anchor() -> None:
    text = (
        "targets:\n  openai: {provider: openai, timeouts: &t {connect_s: 3}}\n  sim: {provider: simulated, timeouts: *t}\n"
        "routes: [{name: a, to: [sim]}]\n"
    )
    assert load(text).targets["sim"].timeouts.connect_s == 3


def test_billion_laughs_are_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases of this file stand for more than" in only_problem(MINIMAL + "\n".join(rows))


def test_alias_inside_its_anchor_is_refused() -> None:
    assert "stands inside what it refers to" in only_problem(MINIMAL + "routes: &r [*r]\n")


def test_unknown_alias_is_refused() -> None:
    assert only_problem(MINIMAL + "routes: *r\n") == "postern.yaml:2:9: routes: this alias refers to an anchor that is not defined above"


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused_without_recursing(opening: str) -> None:
    assert "levels deep" in only_problem("targets: " * (opening != "- ") + opening * 5000)


def test_a_second_document_is_refused() -> None:
    assert only_problem(MINIMAL + "---\nlisten: 127.0.0.1:1\n") == "postern.yaml:2:1: a second document starts here: the file must hold one"


def test_document_marks_around_one_document_are_fine() -> None:
    assert load("%YAML 1.2\n---\n" + MINIMAL + "...\n").targets


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n"])
def test_empty_file_is_a_clear_problem(text: str) -> None:
    assert only_problem(text) == "postern.yaml:1:1: the file is empty: it needs at least `targets`"


@pytest.mark.parametrize(("text", "found"), [("~\n", "nothing"), ("[]\n", "a list"), ("word\n", "a single value")])
def test_a_file_without_keys_is_a_clear_problem(text: str, found: str) -> None:
    assert only_problem(text) == f"postern.yaml:1:1: expected keys such as `targets:`, found {found}"


def test_list_or_mapping_as_a_key_is_refused() -> None:
    assert "a key must be a word" in only_problem(MINIMAL + "? [a]\n: 1\n")


def test_interpolated_key_is_refused() -> None:
    assert "a key can't be interpolated" in problems(MINIMAL + "${env:A}: 1\n", {"A": "listen"})[0]


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\ufffe", "\ud800"])
def test_character_that_yaml_forbids_is_told_with_its_place(character: str) -> None:
    assert only_problem(MINIMAL + f"listen: a{character}").startswith(f"postern.yaml:2:10: character U+{ord(character):04X}")


def test_escaped_half_of_a_character_is_refused() -> None:
    assert only_problem(MINIMAL + 'state_dir: "\\ud800"').startswith("postern.yaml:2:")


def test_columns_count_characters() -> None:
    assert only_problem('{targets: {a: {provider: openai}}, state_dir: "ä😀", bla: 1}').startswith("postern.yaml:1:53: bla: ")
