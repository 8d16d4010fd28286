"""Counts and names as the most lenient servers read them: what is held, and what a key is for, must not be less."""

from __future__ import annotations

import pytest

from proxy.wire.endpoints import endpoint_of
from proxy.wire.request import read_request, read_stand_ins


@pytest.mark.parametrize("written", ["50", "50.0", '"50"', '" 50 "', '"5e1"', '"5_0"'])
def test_choices_that_a_lenient_server_reads_are_counted(written: str) -> None:
    body = f'{{"model": "m", "max_tokens": 10, "n": {written}}}'
    limits = read_request(body.encode(), "chat").limits
    assert (limits.tokens, limits.choices) == (10, 50)


def test_a_larger_limit_that_a_lenient_server_reads_is_not_passed_over_for_a_smaller_one() -> None:
    body = b'{"model": "m", "max_tokens": 5, "max_completion_tokens": "4000"}'
    assert read_request(body, "chat").limits.tokens == 4000


@pytest.mark.parametrize("written", ['"many"', '"nan"', '"inf"', "1.5", "[50]", "{}", "1e400", '"' + "9" * 400 + '"'])
def test_what_nobody_reads_as_a_count_is_none(written: str) -> None:
    body = f'{{"model": "m", "n": {written}}}'
    assert read_request(body.encode(), "chat").limits.choices == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"model": "a", "Model": "b"}', ["b"]),
        (b'{"MODEL": "b", "models": ["c"]}', ["c", "b"]),
        (b'{"model": "a", "Model": 1, "x": 1e999}', []),
        (b'{"model": "a", "Model": "b", "x": "\\ud800"}', ["b"]),
        (b'{"model": "a"}', []),
    ],
)
def test_a_model_spelt_as_go_takes_it_is_named_too(body: bytes, named: list[str]) -> None:
    assert read_stand_ins(body) == named


@pytest.mark.parametrize("path", ["/v1/%63hat/completions", "/%761/chat/%63ompletions"])
def test_an_endpoint_is_known_however_its_path_is_written(path: str) -> None:
    assert endpoint_of("POST", path) == endpoint_of("POST", "/v1/chat/completions")
