"""Values from the environment and from files."""

from __future__ import annotations

import pytest

from tests.config.support import MINIMAL, load, only_problem, problems


def credential(expression: str, environment: dict[str, str] | None = None, files: dict[str, str] | None = None) -> str | None:
    text = f"targets: {{openai: {{provider: openai, credential: '{expression}'}}}}"
    credentials = load(text, environment, files).targets["openai"].credentials
    return credentials[0].reveal() if credentials else None


def test_variable_stands_for_its_value() -> None:
    assert credential("${env:KEY}", {"KEY": "sk-1"}) == "sk-1"


def test_missing_variable_is_a_problem_that_names_it() -> None:
    text = MINIMAL + "state_dir: ${env:NOWHERE}\n"
    expected = "postern.yaml:2:12: state_dir: environment variable NOWHERE is not set (a default is written ${env:NOWHERE:-default})"
    assert only_problem(text) == expected


@pytest.mark.parametrize("environment", [{}, {"KEY": ""}])
def test_default_stands_in_for_a_variable_not_set_or_empty(environment: dict[str, str]) -> None:
    assert credential("${env:KEY:-sk-:-2}", environment) == "sk-:-2"


def test_default_is_not_taken_where_the_variable_is_set() -> None:
    assert credential("${env:KEY:-no}", {"KEY": "sk-1"}) == "sk-1"


def test_empty_default_is_an_empty_string() -> None:
    assert load(MINIMAL + "admin: {token: '${env:TOKEN:-}'}").config.admin.token.reveal() == ""


def test_file_stands_for_its_text_without_the_last_line_break() -> None:
    loaded = load(MINIMAL + "admin: {token: '${file:/run/token}'}", files={"/run/token": "abc\r\n\n"})
    assert loaded.config.admin.token.reveal() == "abc"


def test_files_read_are_told_once_each() -> None:
    text = "targets: {openai: {provider: openai, credential: '${file:/a}${file:/b}${file:/a}'}}"
    assert load(text, files={"/a": "1", "/b": "2"}).files == ["/a", "/b"]


def test_unreadable_file_is_a_problem_that_names_it() -> None:
    assert only_problem(MINIMAL + "state_dir: ${file:/nowhere}").endswith(
        "state_dir: file /nowhere can't be read: No such file or directory"
    )


def test_relative_file_is_refused() -> None:
    assert "an expression that is not known" in only_problem(MINIMAL + "state_dir: ${file:secret}", files={"secret": "x"})


def test_endless_file_is_refused() -> None:
    assert "longer than 64 KiB" in only_problem(MINIMAL + "state_dir: ${file:/big}", files={"/big": "x" * 65_537})


def test_several_expressions_and_text_around_them() -> None:
    assert credential("a${env:X}b${env:Y}c", {"X": "1", "Y": "2"}) == "a1b2c"


@pytest.mark.parametrize(
    ("written", "meant"), [("$${env:X}", "${env:X}"), ("a$${b", "a${b"), ("$$", "$$"), ("$x", "$x"), ("${env:X}$${", "1${")]
)
def test_doubled_dollar_is_a_literal(written: str, meant: str) -> None:
    assert credential(written, {"X": "1"}) == meant


def test_value_of_a_variable_is_not_expanded_again() -> None:
    assert credential("${env:X}", {"X": "${env:Y}", "Y": "no"}) == "${env:Y}"


@pytest.mark.parametrize(
    "expression",
    ["${HOME}", "${env:}", "${env:1A}", "${env:A B}", "${vault:sk-secret}", "${}", "${file:}", "${env:X", "${env:A:-${env:B}}"],
)
def test_malformed_expression_is_a_problem_that_repeats_none_of_it(expression: str) -> None:
    problem = only_problem(MINIMAL + f"state_dir: '{expression}'", {"HOME": "/h", "A": "a", "B": "b"})
    assert problem.startswith("postern.yaml:2:12: state_dir: ")
    assert "sk-secret" not in problem


def test_every_problem_of_a_value_is_told() -> None:
    assert len(problems(MINIMAL + "state_dir: ${env:A}${env:B}")) == 2


@pytest.mark.parametrize("text", ["600.5", "'${env:N}'", "${env:N}", "${env:NO:-600.5}"])
def test_number_may_come_from_outside(text: str) -> None:
    assert load(MINIMAL + f"drain_s: {text}", {"N": "600.5"}).config.drain_s == 600.5


def test_truth_value_may_come_from_outside() -> None:
    assert load(MINIMAL + "transparent: ${env:T}", {"T": "true"}).config.transparent is True


def test_word_where_a_number_from_outside_is_wanted_is_a_problem() -> None:
    assert only_problem(MINIMAL + "drain_s: ${env:N}", {"N": "soon"}).endswith("drain_s: expected a number, found the string '***'")


def test_empty_text_from_outside_leaves_a_number_out() -> None:
    assert load(MINIMAL + "drain_s: ${env:N:-}").config.drain_s == 600


def test_what_comes_from_outside_is_a_string_however_it_looks() -> None:
    assert credential("${env:KEY}", {"KEY": "0123"}) == "0123"
    assert load(MINIMAL + "state_dir: ${env:D}", {"D": "null"}).config.state_dir == "null"


def test_number_from_outside_that_is_out_of_range_is_not_shown() -> None:
    assert "-5" not in only_problem(MINIMAL + "drain_s: ${env:N}", {"N": "-5"})


def test_variable_that_is_not_utf_8_is_a_problem() -> None:
    assert "environment variable D is not valid UTF-8" in only_problem(MINIMAL + "state_dir: ${env:D}", {"D": "\udcff"})


def test_sections_not_built_yet_need_no_variables() -> None:
    assert "notify" in only_problem(MINIMAL + "notify: {ops: {webhook: '${env:OPS}'}}")
