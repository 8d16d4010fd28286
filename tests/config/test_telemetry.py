"""The telemetry section: names of attributes, regular expressions, where content goes, what is kept."""

from __future__ import annotations

import pytest

from proxy.config.telemetry import CREDENTIAL_FIELDS, MAX_ATTRIBUTES, RESERVED, SAME_COST, overlap
from proxy.observer.telemetry import names
from proxy.observer.telemetry.name_rows import On
from proxy.observer.telemetry.vocabulary import collides
from tests.config.support import MINIMAL, load, only_problem, problems


def problem(telemetry: str) -> str:
    return only_problem(MINIMAL + f"telemetry: {{{telemetry}}}")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("false", False), ("span", "span"), ("[span, ledger]", ["span", "ledger"]), ("[event]", ["event"]), ("'${env:TO}'", "ledger")],
)
def test_content_goes_where_it_is_said(text: str, wanted: object) -> None:
    loaded = load(MINIMAL + f"telemetry: {{capture_content: {text}}}", {"TO": "ledger"})
    assert loaded.config.telemetry.capture_content == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("true", "does not say where content goes"),
        ("spans", "(did you mean 'span'?)"),
        ("[]", "is empty"),
        ("[span, span]", "names a place twice"),
        ("[span, spam]", "capture_content[1]: expected one of"),
        ("1", "expected one of"),
        ("{span: true}", "found a mapping"),
    ],
)
def test_place_of_content_that_is_none_is_a_problem(text: str, message: str) -> None:
    assert message in problem(f"capture_content: {text}")


def test_route_says_for_itself_where_its_content_goes() -> None:
    routes = "routes: [{name: a, to: [openai], match: {model: a}, capture_content: ledger}, {name: b, to: [openai]}]"
    config = load(MINIMAL + routes).config
    assert [route.capture_content for route in config.routes] == ["ledger", None]
    assert "routes[0].capture_content: does not say" in only_problem(MINIMAL + routes.replace("ledger", "true"))


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("keep: {ratio: VALUE}", ("0", "1", "0.5"), ("-0.1", "1.1")),
        ("keep: {slower_than_s: VALUE}", ("0", "10"), ("-1",)),
        ("keep: {dearer_than_usd: VALUE}", ("0", "0.1"), ("-1",)),
        ("spool: {max_mib: VALUE}", ("1", "512"), ("0", "0.5")),
        ("max_chars: VALUE", ("1", "8192"), ("0", "-1")),
    ],
)
def test_numbers_have_their_ranges(key: str, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    for value in good:
        load(MINIMAL + f"telemetry: {{{key.replace('VALUE', value)}}}")
    for value in bad:
        assert "must be at least" in problem(key.replace("VALUE", value))


def test_characters_are_counted_in_whole_numbers() -> None:
    assert "expected a whole number, found the number 1.5" in problem("max_chars: 1.5")
    assert "expected a whole number, found the word true" in problem("max_chars: true")


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\\1", "[z-a]"])
def test_expression_that_re2_cannot_read_is_a_problem(pattern: str) -> None:
    assert "telemetry.redact[1]: is no regular expression that RE2 knows" in problem(f'redact: [ok, "{pattern}"]')


def test_expression_that_matches_everywhere_is_a_problem() -> None:
    assert "matches an empty text" in problem('redact: ["a*"]')
    assert "must not be empty" in problem('redact: [""]')


def test_attribute_has_exactly_one_source() -> None:
    attributes = load(
        MINIMAL + "telemetry: {attributes: {team: {header: x-team}, feature: {metadata: feature}}}"
    ).config.telemetry.attributes
    assert [(source.header, source.metadata) for source in attributes.values()] == [("x-team", None), (None, "feature")]
    assert "telemetry.attributes.team: must name one source" in problem("attributes: {team: {}}")
    assert "telemetry.attributes.team: must name one source" in problem("attributes: {team: {header: a, metadata: b}}")
    assert "telemetry.attributes.team.header: " in problem("attributes: {team: {header: 'a b'}}")


@pytest.mark.parametrize("name", ["a b", "1a", "a..b", ".a", "a.", "ä", "x" * 65])
def test_attribute_name_that_backends_would_refuse_is_a_problem(name: str) -> None:
    assert "an attribute's name is letters" in problem(f"attributes: {{'{name}': {{header: a}}}}")


@pytest.mark.parametrize("name", ["gen_ai.usage.cost", "gen_ai.usage.cost.amount", "postern.mine", "http", "llm.x"])
def test_attribute_name_that_is_taken_is_a_problem(name: str) -> None:
    assert "collides with" in problem(f"attributes: {{{name}: {{header: a}}}}")


def test_attributes_do_not_collide_with_each_other() -> None:
    assert "telemetry.attributes['a.b']: collides with the attribute or section 'a'" in problem(
        "attributes: {a: {header: a}, 'a.b': {header: b}}"
    )
    load(MINIMAL + "telemetry: {attributes: {a: {header: a}, ab: {header: b}}}")


@pytest.mark.parametrize("name", sorted(CREDENTIAL_FIELDS))
def test_header_with_credentials_is_nobodys_attribute(name: str) -> None:
    assert "holds credentials" in problem(f"attributes: {{a: {{header: {name.title()}}}}}")


def test_attributes_are_bounded() -> None:
    many = ", ".join(f"a{number}: {{header: x}}" for number in range(MAX_ATTRIBUTES + 1))
    assert "there may be at most 32" in problem(f"attributes: {{{many}}}")


@pytest.mark.parametrize("name", ["gen_ai.usage.input_tokens", "gen_ai.usage.input_tokens.cost", "postern", "gen_ai", "llm.cost"])
def test_cost_attribute_that_is_taken_is_a_problem(name: str) -> None:
    assert "telemetry.cost_attribute: collides with" in problem(f"cost_attribute: {name}")


@pytest.mark.parametrize("name", ["gen_ai.usage.cost", "gen_ai.usage.cost_usd", "gen_ai.cost.total", "cost", *SAME_COST])
def test_cost_attribute_that_is_free_loads(name: str) -> None:
    assert load(MINIMAL + f"telemetry: {{cost_attribute: {name}}}").config.telemetry.cost_attribute == name


def test_every_attribute_of_our_spans_is_reserved() -> None:
    told = [row.name for row in names.ATTRIBUTES if row.on & On.SPAN]
    assert [name for name in told if not any(overlap(name, reserved) for reserved in RESERVED)] == []
    assert all(collides(name) is None for name in SAME_COST)


def test_names_overlap_where_one_would_be_a_value_and_a_section() -> None:
    assert overlap("a.b", "a.b")
    assert overlap("a", "a.b")
    assert overlap("a.b.c", "a.b")
    assert not overlap("a.b", "a.bc")
    assert not overlap("a.b", "a.c")


def test_all_problems_of_the_section_come_at_once() -> None:
    told = problems(MINIMAL + "telemetry: {cost_attribute: http, capture_content: true, redact: ['('], keep: {ratio: 2}}")
    assert [line.split(": ")[1] for line in told] == [
        "telemetry.cost_attribute",
        "telemetry.capture_content",
        "telemetry.redact[0]",
        "telemetry.keep.ratio",
    ]
