"""What is called covered is covered: shown against Python's own glob matching, which the router uses."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from proxy.config.shadows import glob_covers

GLOBS = st.text(alphabet="ab*?[]!", max_size=6)
TEXTS = st.text(alphabet="ab[]!*?", max_size=7)


@given(GLOBS, GLOBS, st.lists(TEXTS, max_size=30))
def test_covered_glob_matches_nothing_that_the_wider_one_does_not(wide: str, narrow: str, texts: list[str]) -> None:
    if glob_covers(wide, narrow):
        assert [text for text in texts if fnmatchcase(text, narrow) and not fnmatchcase(text, wide)] == []


@given(st.text(alphabet="ab*?", max_size=6), st.lists(st.sampled_from(["", "a", "b", "ab", "?"]), max_size=5))
def test_glob_covers_each_glob_made_by_filling_in_its_stars(wide: str, fillings: list[str]) -> None:
    narrow = wide
    for filling in fillings:
        narrow = narrow.replace("*", filling + "*", 1)
    assert glob_covers(wide, narrow)


@given(GLOBS)
def test_every_glob_covers_itself(glob: str) -> None:
    assert glob_covers(glob, glob)
    assert glob_covers("*", glob)
