"""Conditions that no call can meet, and such as say nothing."""

from __future__ import annotations

import pytest

from tests.config.support import MINIMAL, load, only_problem, problems


def routes(match: str) -> str:
    return MINIMAL + f"routes: [{{name: a, to: [openai], match: {match}}}]"


@pytest.mark.parametrize(
    "match",
    [
        "{metadata: {team: 'ads-*', x: [a, b]}}",
        "{tools: true, images: false}",
        "{response_format: json_schema}",
        "{response_format: [text, json_object]}",
        "{input_tokens: {over: 8000}}",
        "{input_tokens: {over: 0, under: 2}, max_tokens: {under: 1}}",
        "{time: {after: 08:00, before: 18:30, days: [mon, fri], time_zone: Europe/Berlin}}",
        "{time: {after: '22:00', before: 06:00}}",
        "{time: {after: 22:00, before: 00:00}}",
        "{time: {days: [sat, sun]}}",
    ],
)
def test_condition_that_a_call_can_meet_loads(match: str) -> None:
    assert load(routes(match)).config.routes


@pytest.mark.parametrize(
    "match", ["{metadata: {team: []}}", "{metadata: {team: [a, '']}}", "{response_format: []}", "{response_format: ''}"]
)
def test_condition_without_values_is_refused(match: str) -> None:
    assert "is empty and matches nothing" in only_problem(routes(match))


@pytest.mark.parametrize("value", ["json", "[text, xml]", "'json_*'"])
def test_response_format_that_no_request_asks_for_is_refused(value: str) -> None:
    told = only_problem(routes(f"{{response_format: {value}}}"))
    assert told.endswith("routes[0].match.response_format: never matches: there are text, json_object, json_schema")


@pytest.mark.parametrize("key", ["input_tokens", "max_tokens"])
@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ("{}", "says nothing: give `over`, `under`, or both"),
        ("{over: 5, under: 5}", "never matches"),
        ("{over: 9, under: 5}", "never matches"),
        ("{over: 5, under: 6}", "never matches"),  # they are whole
        ("{over: 5.5, under: 6}", "never matches"),
        ("{under: 0}", "never matches"),
    ],
)
def test_bounds_that_no_number_keeps_are_refused(key: str, bounds: str, message: str) -> None:
    assert f"routes[0].match.{key}: {message}" in only_problem(routes(f"{{{key}: {bounds}}}"))


def test_bounds_with_a_wrong_end_are_told_once() -> None:
    assert problems(routes("{input_tokens: {over: many}}"))[0].endswith("over: expected a number, found the string 'many'")
    assert len(problems(routes("{input_tokens: {over: many, under: 0}}"))) == 1


@pytest.mark.parametrize("match", ["{time: {after: '24:00'}}", "{max_tokens: {over: 5, under: 3}}", "{path: v1/chat}"])
def test_route_with_a_wrong_condition_is_not_compared_with_others(match: str) -> None:
    text = MINIMAL + f"routes: [{{name: a, to: [openai], match: {match}}}, {{name: b, to: [openai], match: {match}}}]"
    assert [line.split(": ")[1].partition(".")[0] for line in problems(text)] == ["routes[0]", "routes[1]"]


@pytest.mark.parametrize("value", ["8:00", "24:01", "25:00", "12:60", "noon", "'08:00:00'", "' 08:00'", "''"])
@pytest.mark.parametrize("key", ["after", "before"])
def test_time_of_day_is_hours_and_minutes(key: str, value: str) -> None:
    told = only_problem(routes(f"{{time: {{{key}: {value}}}}}"))
    assert told.endswith(f"routes[0].match.time.{key}: must be a time of day as HH:MM, 00:00 to 24:00")


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ("{}", "time: is every minute of every day"),
        ("{time_zone: Europe/Berlin}", "time: is every minute of every day"),
        ("{after: 08:00, before: 08:00}", "time.before: is the same as `after`"),
        ("{before: 00:00}", "time.before: is the same as `after`"),
        ("{after: 24:00}", "time.after: is the end of the day"),
        ("{days: [mon, tue, mon]}", "time.days: names a day twice"),
        ("{days: [monday]}", "time.days[0]: expected one of fri, mon, "),
        ("{before: 08:00, time_zone: Europe/Berln}", "time.time_zone: is no time zone that this machine knows"),
        ("{before: 08:00, time_zone: Europe}", "time.time_zone: is no time zone that this machine knows"),
        ("{before: 08:00, time_zone: ../etc/passwd}", "time.time_zone: is no time zone that this machine knows"),
        ("{before: 08:00, time_zone: /etc/localtime}", "time.time_zone: is no time zone that this machine knows"),
        ("{before: 08:00, time_zone: ''}", "time.time_zone: is no time zone that this machine knows"),
    ],
)
def test_part_of_the_day_that_is_none_is_refused(time: str, message: str) -> None:
    assert f"routes[0].match.{message}" in only_problem(routes(f"{{time: {time}}}"))


@pytest.mark.parametrize(
    "match", ["{response_format: '${env:S}'}", "{time: {before: '${env:S}'}}", "{time: {before: 08:00, time_zone: '${env:S}'}}"]
)
def test_no_message_repeats_a_value_from_outside(match: str) -> None:
    assert "s1234567" not in only_problem(routes(match), {"S": "s1234567"})
