"""What is read of a request's body, and what is refused."""

import json

import pytest

from proxy.errors import InvalidField, InvalidJson
from proxy.records import RequestFacts
from proxy.wire.request import NO_LIMITS, OutputLimits, RequestFields, read_request, read_stand_ins, read_text_member


def read(body: object, kind: str = "chat") -> RequestFields:
    return read_request(json.dumps(body).encode(), kind)


def facts(body: object, kind: str = "chat") -> RequestFacts:
    return read(body, kind).facts


def test_common_fields() -> None:
    fields = read(
        {
            "model": "gpt-4o",
            "stream": True,
            "stream_options": {"include_usage": False},
            "user": "bob",
            "metadata": {"a": "b"},
            "messages": [],
        }
    )
    assert fields == RequestFields(
        model="gpt-4o", stream=True, include_usage=False, has_stream_options=True, user="bob", metadata={"a": "b"}
    )


def test_absent_fields_are_absent() -> None:
    assert read_request(b"{}", "chat") == RequestFields()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_tokens": 6}),
        ({"max_output_tokens": 7}, {"max_tokens": 7}),
        ({"temperature": 1, "top_p": 0.5, "top_k": 40}, {"temperature": 1.0, "top_p": 0.5, "top_k": 40.0}),
        ({"n": 1}, {}),
        ({"n": 3}, {"choice_count": 3}),
        ({"stop": "a"}, {"stop_sequences": ["a"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop_sequences": ["c"]}, {"stop_sequences": ["c"]}),
        ({"reasoning_effort": "low"}, {"reasoning_level": "low"}),
        ({"reasoning": {"effort": "high"}}, {"reasoning_level": "high"}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"output_type": "json"}),
        ({"response_format": {"type": "json_object"}}, {"output_type": "json"}),
        ({"response_format": {"type": "text"}}, {"output_type": "text"}),
        ({"text": {"format": {"type": "json_schema"}}}, {"output_type": "json"}),
        ({"modalities": ["text", "audio"]}, {"output_type": "speech"}),
        ({"encoding_format": "base64", "dimensions": 256}, {"encoding_formats": ["base64"], "dimensions": 256}),
        ({"conversation": "conv_1"}, {"conversation_id": "conv_1"}),
        ({"conversation": {"id": "conv_2"}}, {"conversation_id": "conv_2"}),
        ({"previous_response_id": "resp_1", "service_tier": "flex"}, {"previous_response_id": "resp_1", "service_tier": "flex"}),
        ({"seed": 7, "frequency_penalty": 0.1, "presence_penalty": -1}, {"seed": 7, "frequency_penalty": 0.1, "presence_penalty": -1.0}),
        (
            {"generationConfig": {"maxOutputTokens": 9, "topK": 3, "stopSequences": ["x"], "responseMimeType": "application/json"}},
            {"max_tokens": 9, "top_k": 3.0, "stop_sequences": ["x"], "output_type": "json"},
        ),
    ],
)
def test_facts(body: dict[str, object], expected: dict[str, object]) -> None:
    assert facts(body) == RequestFacts(**expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "offers"),
    [
        ({"tools": [{"type": "function"}]}, True),
        ({"functions": [{"name": "f"}]}, True),
        ({"tools": [], "functions": [{"name": "f"}]}, True),
        ({"tools": []}, False),
        ({"tools": None}, False),
        ({}, False),
    ],
)
def test_tools_are_offered_where_there_is_one(body: dict[str, object], offers: bool) -> None:
    assert read(body).tools is offers


def test_empty_tools_are_none_however_they_are_written() -> None:
    assert not read_request(b'{"tools":[ \n]}', "chat").tools


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "json_schema"),
        ({"response_format": {"type": "json_object"}}, "json_object"),
        ({"response_format": {"type": "text"}}, "text"),
        ({"text": {"format": {"type": "json_schema"}}}, "json_schema"),
        ({"text": {"verbosity": "low"}}, None),
        ({"output_format": {"type": "json_schema", "schema": {}}}, "json_schema"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "json_schema"),
        ({"output_config": {"effort": "low"}}, None),
        ({"generationConfig": {"responseMimeType": "application/json"}}, "json_object"),
        ({"generationConfig": {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}}}, "json_schema"),
        ({"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}}, "json_schema"),
        ({"generationConfig": {"responseMimeType": "text/plain"}}, None),
        ({"response_format": "json_schema"}, None),
        ({"response_format": {"type": ["json_schema"]}}, None),
        ({"response_format": {"type": "xml"}}, None),
        ({"response_format": None}, None),
        ({}, None),
    ],
)
def test_response_format_is_told_in_one_vocabulary(body: dict[str, object], expected: str | None) -> None:
    assert read(body).response_format == expected


def test_endpoint_implies_the_output_type() -> None:
    assert facts({"response_format": "b64_json"}, "images").output_type == "image"
    assert facts({"response_format": "mp3"}, "speech").output_type == "speech"


@pytest.mark.parametrize(
    "field",
    [
        {"stream": "yes"},
        {"stream": 1},
        {"max_tokens": "many"},
        {"max_tokens": 1.5},
        {"max_tokens": 10**30},
        {"temperature": "hot"},
        {"stop": 5},
        {"user": 5},
        {"metadata": "m"},
        {"background": "no"},
        {"seed": True},
        {"stream_options": "x"},
        {"reasoning": [1]},
    ],
)
def test_a_wrong_type_is_the_providers_to_refuse(field: dict[str, object]) -> None:
    fields = read({"model": "m", "n": 2, **field})
    assert (fields.model, fields.facts.choice_count) == ("m", 2)
    assert not fields.stream
    assert fields.facts.max_tokens is None
    assert fields.facts.temperature is None


def test_metadata_keeps_what_is_text() -> None:
    assert read({"metadata": {"a": "b", "c": 1, "d": None}}).metadata == {"a": "b"}


@pytest.mark.parametrize(("value", "given"), [({}, True), (None, False), ({"include_usage": None}, True)])
def test_null_stream_options_are_none(value: object, given: bool) -> None:
    fields = read({"stream_options": value})
    assert (fields.has_stream_options, fields.include_usage) == (given, None)


@pytest.mark.parametrize("key", ["data_sources", "dataSources"])
def test_azure_data_sources_are_seen(key: str) -> None:
    assert read({key: [{}]}).has_data_sources
    assert not read({key: None}).has_data_sources


@pytest.mark.parametrize("model", [5, True, ["a"], {"x": 1}, 1.5])
def test_model_must_be_a_string(model: object) -> None:
    with pytest.raises(InvalidField, match='"model" must be a string') as caught:
        read({"model": model})
    assert caught.value.param == "model"


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"7", b"true"])
def test_body_must_be_an_object(body: bytes) -> None:
    with pytest.raises(InvalidField, match="must be a JSON object, not"):
        read_request(body, "chat")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "line 1, column 1"),
        (b'{"model": "m"', "line 1, column 14"),
        (b'{"model":\n "m",}', r"line 2, column \d"),
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON value"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"model": "\xff"}', "UTF-8.* at byte 11"),
        ('{"model": "m"}'.encode("utf-16"), "UTF-8"),
        (b'{"a": 1} x', "Extra data at line 1, column 10"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"messages":' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"user":1,"a":' + b"9" * 5000 + b"}", "too many digits"),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(body: bytes, message: str) -> None:
    with pytest.raises(InvalidJson, match=message):
        read_request(body, "chat")


def test_the_last_of_duplicate_keys_counts() -> None:
    assert read_request(b'{"model":"a","stream":true,"model":"b","stream":false}', "chat") == RequestFields(model="b")


def test_escaped_keys_are_the_same_keys() -> None:
    assert read_request(rb'{"mod\u0065l":"a"}', "chat").model == "a"


def test_lone_surrogates_are_json() -> None:
    fields = read_request(rb'{"model":"m","user":"\ud800x","messages":[{"content":"\udfff"}]}', "chat")
    assert (fields.model, fields.user) == ("m", "?x")


def test_numbers_beyond_a_float_are_the_providers_business() -> None:
    assert read_request(b'{"model":"m","temperature":1e999,"seed":3}', "chat").facts == RequestFacts(seed=3)


# --------------------------------------------------------------------------------------------------------- output limits


@pytest.mark.parametrize(
    ("kind", "body", "limits"),
    [
        ("chat", {"max_tokens": 9}, OutputLimits(9, 9)),
        ("chat", {"max_completion_tokens": 7}, OutputLimits(7)),
        ("chat", {"max_completion_tokens": 7, "max_tokens": 9}, OutputLimits(9, 9)),
        ("chat", {"max_completion_tokens": 9, "max_tokens": 7}, OutputLimits(9, 7)),
        ("chat", {"max_output_tokens": 1}, NO_LIMITS),
        ("chat", {"max_tokens": 9, "n": 3}, OutputLimits(9, 9, 3)),
        ("chat", {"n": 3, "best_of": 5}, OutputLimits(choices=3)),
        ("chat", {"max_tokens": 0, "n": 0}, OutputLimits()),
        ("chat", {"max_tokens": -1}, NO_LIMITS),
        ("chat", {"max_tokens": "many"}, NO_LIMITS),
        ("completions", {"max_tokens": 9, "n": 2, "best_of": 5}, OutputLimits(9, 9, 5)),
        ("completions", {"max_completion_tokens": 9}, OutputLimits()),
        ("responses", {"max_output_tokens": 9, "max_tokens": 1, "n": 4}, OutputLimits(9, 9)),
        ("messages", {"max_tokens": 9, "max_completion_tokens": 100}, OutputLimits(9, 9)),
        ("other", {"max_tokens": 1}, NO_LIMITS),
        ("gemini", {"generationConfig": {"maxOutputTokens": 9, "candidateCount": 2}}, OutputLimits(9, 9, 2)),
        ("gemini", {"generationConfig": {"maxOutputTokens": 9, "thinkingConfig": {"thinkingBudget": 100}}}, OutputLimits(109, 109)),
        ("gemini", {"generationConfig": {"maxOutputTokens": 9, "thinkingConfig": {"thinkingBudget": -1}}}, OutputLimits(9, 9)),
        ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 100}}}, OutputLimits()),
        ("gemini", {"max_tokens": 1}, NO_LIMITS),
    ],
)
def test_a_reply_is_limited_by_the_members_of_its_own_api_only(kind: str, body: dict[str, object], limits: OutputLimits) -> None:
    assert read_request(json.dumps(body).encode(), kind).limits == limits


@pytest.mark.parametrize("body", [{"safety_identifier": "u"}, {"safety_identifier": "u", "temperature": "hot"}])
def test_safety_identifier_is_read_beside_the_user(body: object) -> None:
    assert (read(body).user, read(body).safety_identifier) == (None, "u")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"org": "a"}', "a"),
        (b'{"or\\u0067": "a", "x": [1, {"org": "b"}]}', "a"),
        (b'{"org": "a", "org": "b"}', "b"),
        (b'{"org": ""}', None),
        (b'{"org": 5}', None),
        (b'{"org": null}', None),
        (b'{"org": {"a": "b"}}', None),
        (b'{"x": {"org": "a"}}', None),
        (b'{"org": "\\ud800a", "x": 1}', "?a"),
        (b'["org", "a"]', None),
        (b'{"org": "a"', None),
        (b"", None),
    ],
)
def test_a_text_at_the_top_of_the_body_is_read_by_its_name(body: bytes, expected: str | None) -> None:
    assert (read_text_member(body, "org") or None) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model": "a", "models": ["b", "c", 5]}', ["b", "c"]),
        (b'{"models": ["\\ud800"]}', ["?"]),
        (b'{"models": "b"}', []),
        (b'{"models": null}', []),
        (b'{"models": [', []),
        (b"{}", []),
        (b"[]", []),
    ],
)
def test_models_that_stand_in_for_the_model_are_read(body: bytes, expected: list[str]) -> None:
    assert read_stand_ins(body) == expected
