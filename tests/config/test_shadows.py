"""What is called covered is covered: shown against Python's own glob matching, and against the conditions that the router asks."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import Bounds, BudgetUsed, Match, TimeOfDay
from proxy.config.shadows import glob_covers, shadows
from proxy.policy.conditions import RouteFacts, conditions_of

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


SMALL = st.sampled_from([0, 1, 2, 3, 2.5])
BOUNDS = st.none() | st.builds(Bounds, st.none() | SMALL, st.none() | SMALL)
TIMES = st.none() | st.builds(
    TimeOfDay,
    st.sampled_from(["00:00", "09:00", "22:30"]),
    st.sampled_from(["06:00", "09:00", "17:00", "24:00"]),
    st.lists(st.sampled_from(["mon", "sat", "sun"]), max_size=2),
    st.sampled_from(["UTC", "Europe/Berlin"]),
)
FLAGS = st.none() | st.booleans()
FEW_GLOBS = st.sampled_from(["a", "a*", "*", ["a", "b"]])
MAPS = st.dictionaries(st.sampled_from(["x", "y"]), FEW_GLOBS, max_size=2)
FORMATS = st.none() | st.lists(st.sampled_from(["text", "json_object", "json_schema"]), min_size=1)
SHARES = st.none() | st.sampled_from([0.2, 0.5, 0.8])
USES = st.none() | st.builds(BudgetUsed, st.sampled_from(["day", "month"]), SHARES, SHARES)
MATCHES = st.builds(
    Match, header=MAPS, metadata=MAPS, stream=FLAGS, tools=FLAGS, images=FLAGS, response_format=FORMATS, input_tokens=BOUNDS,
    max_tokens=BOUNDS, time=TIMES, tenant=st.none() | FEW_GLOBS, key=st.none() | FEW_GLOBS, budget_used=USES,
)  # fmt: skip
COUNTS = st.none() | st.integers(0, 4)
VALUES = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["a", "b", "ab", ""]))
CALLS = st.builds(
    RouteFacts,
    st.just("POST"),
    st.just("/"),
    st.none(),
    VALUES.map(lambda values: [(name.encode(), value.encode()) for name, value in values.items()]),
    st.booleans(),
    VALUES,
    st.booleans(),
    st.booleans(),
    st.none() | st.sampled_from(["text", "json_object", "json_schema"]),
    COUNTS,
    COUNTS,
    st.integers(1_774_000_000, 1_775_300_000),  # two weeks around the 29th of March 2026, when Berlin's clocks go forward
    st.dictionaries(st.sampled_from(["tenant", "key"]), st.sampled_from(["a", "b", "ab", ""])),
    st.dictionaries(st.sampled_from(["day", "month"]), st.sampled_from([0.0, 0.2, 0.3, 0.8, 1.2])).map(lambda used: used.get),
)


def holds(match: Match, call: RouteFacts) -> bool:
    return all(condition.holds(call) for condition in conditions_of(match))


@given(MATCHES, MATCHES, st.lists(CALLS, max_size=20))
def test_what_is_shadowed_takes_no_call_that_the_earlier_route_does_not(earlier: Match, later: Match, calls: list[RouteFacts]) -> None:
    if shadows(earlier, later):
        assert [call for call in calls if holds(later, call) and not holds(earlier, call)] == []


@given(MATCHES)
def test_every_match_shadows_itself_and_none_is_wider_than_all(match: Match) -> None:
    assert shadows(match, match)
    assert shadows(Match(), match)


def night(after: str = "22:00", before: str = "06:00", **other: object) -> Match:
    return Match(time=TimeOfDay(after, before, **other))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Match(tools=True), Match(tools=True, images=False)),
        (Match(response_format=["text", "json_object"]), Match(response_format="text")),
        (Match(metadata={"team": "*"}), Match(metadata={"team": "ads", "feature": "x"})),
        (Match(input_tokens=Bounds(over=10)), Match(input_tokens=Bounds(over=10, under=20))),
        (Match(input_tokens=Bounds(over=10.5)), Match(input_tokens=Bounds(over=10.2))),
        (Match(max_tokens=Bounds(under=20)), Match(max_tokens=Bounds(over=10, under=20))),
        (Match(tenant="a*"), Match(tenant=["ab", "ac"], task="x")),
        (Match(key="*"), Match(key="web")),
        (Match(budget_used=BudgetUsed("day", over=0.5)), Match(budget_used=BudgetUsed("day", over=0.5, under=0.9))),
        (night(), night("23:00", "05:00")),
        (night(), night("00:00", "06:00")),
        (night(days=["sun"]), night("00:00", "06:00", days=["mon"])),
        (night("00:00", "24:00"), Match()),
        (night("00:00", "24:00"), night(time_zone="Asia/Tokyo")),
    ],
)
def test_a_narrower_condition_after_a_wider_one_is_dead(earlier: Match, later: Match) -> None:
    assert shadows(earlier, later)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Match(tools=True), Match()),
        (Match(images=True), Match(images=False)),
        (Match(response_format="text"), Match(response_format=["text", "json_object"])),
        (Match(response_format=["text", "json_object", "json_schema"]), Match()),
        (Match(metadata={"team": "*"}), Match()),
        (Match(metadata={"team": "*"}), Match(metadata={"Team": "ads"})),
        (Match(input_tokens=Bounds(over=10)), Match(input_tokens=Bounds(over=9))),
        (Match(input_tokens=Bounds()), Match()),
        (Match(max_tokens=Bounds(under=20)), Match(max_tokens=Bounds(under=20.5))),
        (Match(tenant="*"), Match()),
        (Match(tenant="a"), Match(user="a")),
        (Match(budget_used=BudgetUsed("day", over=0.5)), Match(budget_used=BudgetUsed("month", over=0.5))),
        (Match(budget_used=BudgetUsed("day", over=0.5)), Match(budget_used=BudgetUsed("day", over=0.4))),
        (Match(budget_used=BudgetUsed("day")), Match()),
        (night(), night("21:59", "05:00")),
        (night(), night(time_zone="Europe/Berlin")),
        (night(days=["sun"]), night("00:00", "06:00", days=["sun"])),
        (night("09:00", "24:00"), Match()),
        (night(), night("banana", "06:00")),
        (night("banana", "06:00"), night()),
    ],
)
def test_a_condition_that_lets_more_through_is_alive(earlier: Match, later: Match) -> None:
    assert not shadows(earlier, later)
