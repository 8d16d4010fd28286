"""When a rule's conditions hold."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from proxy.call import LABELS
from proxy.config.schema import Bounds, BudgetUsed, Match, TimeOfDay
from proxy.policy.conditions import RouteFacts, conditions_of

CALL = RouteFacts("POST", "/v1/chat/completions", "gpt-4o", [], False)


def matches(match: Match, **facts: object) -> bool:
    call = msgspec.structs.replace(CALL, **facts)
    return all(condition.holds(call) for condition in conditions_of(match))


def asking(key: str, value: object) -> Match:
    return msgspec.structs.replace(Match(), **{key: value})


def test_no_conditions_hold_for_every_call() -> None:
    assert conditions_of(Match()) == ()


def test_conditions_are_named_as_in_the_file() -> None:
    match = Match(model="gpt-*", tools=True, max_tokens=Bounds(over=1), time=TimeOfDay(), header={"X-Team": "a"}, metadata={"task": "b"})
    assert [one.key for one in conditions_of(match)] == ["tools", "max_tokens", "model", "time", "metadata.task", "header.X-Team"]


def test_every_key_of_match_is_a_condition() -> None:
    given = {"model": "a", "path": "/", "method": "GET", "header": {"a": "b"}, "metadata": {"a": "b"}, "stream": True, "tools": True,
             "images": True, "response_format": "text", "input_tokens": {"over": 1}, "max_tokens": {"over": 1}, "time": {},
             "budget_used": {"budget": "day"}, **dict.fromkeys(LABELS, "a")}  # fmt: skip
    assert set(given) == set(Match.__struct_fields__)
    for key, value in given.items():
        assert [one.key.partition(".")[0] for one in conditions_of(msgspec.convert({key: value}, Match))] == [key]


@pytest.mark.parametrize("key", ["tools", "images", "stream"])
def test_false_asks_for_calls_without(key: str) -> None:
    for wanted in (True, False):
        assert matches(asking(key, wanted), **{key: wanted})
        assert not matches(asking(key, wanted), **{key: not wanted})


@pytest.mark.parametrize(
    ("globs", "metadata", "expected"),
    [
        ("ads*", {"team": "ads-eu"}, True),
        ("ads*", {"team": "search"}, False),
        (["ads", "search"], {"team": "search"}, True),
        ("*", {"team": ""}, True),
        ("*", {}, False),
        ("*", {"Team": "ads"}, False),
    ],
)
def test_metadata_is_matched_by_key_and_glob(globs: str | list[str], metadata: dict[str, str], expected: bool) -> None:
    assert matches(Match(metadata={"team": globs}), metadata=metadata) is expected


def test_every_key_of_the_metadata_must_match() -> None:
    match = Match(metadata={"team": "ads", "task": "*"})
    assert matches(match, metadata={"team": "ads", "task": "caption"})
    assert not matches(match, metadata={"team": "ads"})


@pytest.mark.parametrize(
    ("wanted", "asked", "expected"),
    [
        ("json_schema", "json_schema", True),
        ("json_schema", "json_object", False),
        (["json_object", "json_schema"], "json_object", True),
        ("text", None, False),
    ],
)
def test_one_of_the_response_formats_is_enough(wanted: str | list[str], asked: str | None, expected: bool) -> None:
    assert matches(Match(response_format=wanted), response_format=asked) is expected


@pytest.mark.parametrize("key", ["input_tokens", "max_tokens"])
@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        (Bounds(over=10), 10, False),
        (Bounds(over=10), 11, True),
        (Bounds(under=10), 10, False),
        (Bounds(under=10), 9, True),
        (Bounds(over=10, under=12), 11, True),
        (Bounds(over=10, under=12), 12, False),
        (Bounds(under=10), 0, True),
        (Bounds(under=10), None, False),
        (Bounds(), None, False),
    ],
)
def test_bounds_leave_their_ends_out_and_ask_for_a_number(key: str, bounds: Bounds, value: int | None, expected: bool) -> None:
    assert matches(asking(key, bounds), **{key: value}) is expected


# -------------------------------------------------------------------------------------------------------------- time


def at(text: str, part: TimeOfDay) -> bool:
    """Whether it is that time at a moment given in UTC."""
    return matches(Match(time=part), now_unix_s=datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


WORK = TimeOfDay("09:00", "17:00", ["mon", "tue", "wed", "thu", "fri"], "Europe/Berlin")
NIGHT = TimeOfDay("22:00", "06:00", ["fri"], "Europe/Berlin")


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-01-16 07:59:59", False),  # Friday, 08:59:59 in Berlin's winter
        ("2026-01-16 08:00:00", True),
        ("2026-01-16 15:59:59", True),
        ("2026-01-16 16:00:00", False),
        ("2026-01-17 12:00:00", False),  # Saturday
        ("2026-07-17 06:59:59", False),  # Friday, 08:59:59 in Berlin's summer
        ("2026-07-17 07:00:00", True),
        ("2026-07-17 15:00:00", False),
    ],
)
def test_a_part_of_the_day_is_that_of_its_time_zone(moment: str, expected: bool) -> None:
    assert at(moment, WORK) is expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-01-16 20:59:59", False),  # Friday, 21:59:59
        ("2026-01-16 21:00:00", True),
        ("2026-01-16 23:30:00", True),  # Saturday, 00:30
        ("2026-01-17 04:59:59", True),
        ("2026-01-17 05:00:00", False),
        ("2026-01-17 21:30:00", False),  # Saturday evening
        ("2026-01-16 03:00:00", False),  # Friday, 04:00: that night began on Thursday
    ],
)
def test_a_night_belongs_to_the_day_it_began_on(moment: str, expected: bool) -> None:
    assert at(moment, NIGHT) is expected


def test_the_night_after_sunday_is_mondays_morning() -> None:
    assert at("2026-01-19 03:00:00", TimeOfDay("22:00", "06:00", ["sun"]))


def test_the_end_of_the_day_is_midnight() -> None:
    late = TimeOfDay("23:00", "24:00", ["mon"])
    assert at("2026-01-19 23:59:59", late)
    assert not at("2026-01-20 00:00:00", late)


def test_without_hours_the_whole_of_the_days_is_meant() -> None:
    weekend = TimeOfDay(days=["sat", "sun"])
    assert at("2026-01-17 00:00:00", weekend)
    assert at("2026-01-18 23:59:59", weekend)
    assert not at("2026-01-19 00:00:00", weekend)


def test_an_hour_that_comes_twice_in_autumn_matches_twice() -> None:
    second_hour = TimeOfDay("02:00", "03:00", time_zone="Europe/Berlin")  # on the 25th of October 2026, from 00:00 to 02:00 UTC
    found = [at(f"2026-10-{moment}", second_hour) for moment in ("24 23:59:59", "25 00:00:00", "25 01:59:59", "25 02:00:00")]
    assert found == [False, True, True, False]


def test_an_hour_left_out_in_spring_matches_nothing_that_day() -> None:
    second_hour = TimeOfDay("02:00", "03:00", time_zone="Europe/Berlin")  # on the 29th of March 2026, 01:59:59 is followed by 03:00
    assert not any(at(f"2026-03-29 {hour:02}:{minute:02}:00", second_hour) for hour in range(24) for minute in (0, 30))
    assert at("2026-03-30 00:00:00", second_hour)


def test_a_window_over_the_change_of_clocks_keeps_to_the_clock_on_the_wall() -> None:
    morning = TimeOfDay("01:00", "04:00", time_zone="Europe/Berlin")
    assert [at(f"2026-03-29 {moment}", morning) for moment in ("00:00:00", "01:59:59", "02:00:00")] == [True, True, False]


# ------------------------------------------------------------------------------------------------- labels, use of budgets


@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_matched_by_globs(label: str) -> None:
    assert matches(asking(label, "shop-*"), labels={label: "shop-eu"})
    assert matches(asking(label, ["ads", "shop-?u"]), labels={label: "shop-eu"})
    assert not matches(asking(label, "shop"), labels={label: "shop-eu"})
    assert not matches(asking(label, "Shop-*"), labels={label: "shop-eu"})


@pytest.mark.parametrize("label", LABELS)
def test_a_call_without_the_label_matches_no_glob(label: str) -> None:
    others = {name: "a" for name in LABELS if name != label}
    assert not matches(asking(label, "*"), labels=others)
    assert not matches(asking(label, ["*", "a"]))


def used(share: float | None) -> dict[str, object]:
    return {"budget_used": {"day": share}.get}


@pytest.mark.parametrize(
    ("bounds", "share", "expected"),
    [
        (BudgetUsed("day", over=0.8), 0.03, False),  # 3 %, not 0.8 %
        (BudgetUsed("day", over=0.8), 0.8, False),
        (BudgetUsed("day", over=0.8), 0.81, True),
        (BudgetUsed("day", over=0.99), 0.99, False),
        (BudgetUsed("day", over=0.99), 1.3, True),  # a critical call's, or one that was let through
        (BudgetUsed("day", over=0.01), 0.005, False),
        (BudgetUsed("day", under=0.5), 0.0, True),
        (BudgetUsed("day", under=0.5), 0.5, False),
        (BudgetUsed("day", over=0.2, under=0.5), 0.3, True),
        (BudgetUsed("day", over=0.2, under=0.5), 0.1, False),
    ],
)
def test_use_of_a_budget_is_a_share_of_its_limit(bounds: BudgetUsed, share: float, expected: bool) -> None:
    assert matches(Match(budget_used=bounds), **used(share)) is expected


@pytest.mark.parametrize("bounds", [BudgetUsed("day", over=0.0), BudgetUsed("day", under=1.0), BudgetUsed("month", under=1.0)])
def test_use_that_is_not_known_matches_no_bounds(bounds: BudgetUsed) -> None:
    assert not matches(Match(budget_used=bounds), **used(None))
    assert not matches(Match(budget_used=bounds))
