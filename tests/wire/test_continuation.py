from __future__ import annotations

import json

import pytest

from proxy.wire.continuation import LARGEST_EVENT_BYTES, MOST_CHARS, ToldStream, going_on


def event(document: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(document).encode()


def chunk(delta: dict[str, object], **more: object) -> bytes:
    return event({"id": "one", "created": 1, "model": "a", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} | more)


def later(delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    return event({"id": "two", "created": 2, "model": "b", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more)


def gone_on(*firsts: bytes) -> ToldStream:
    """A stream that broke after these events."""
    told = ToldStream()
    told.next_part().feed(b"".join(firsts))
    told.break_off()
    return told


def documents(stream: bytes) -> list[dict[str, object]]:
    return [json.loads(one.removeprefix(b"data: ")) for one in stream.split(b"\n\n") if one and not one.endswith(b"[DONE]")]


# ------------------------------------------------------------------------------------------------------------ the request


def test_the_text_so_far_is_the_assistants_last_message_and_every_other_byte_stays() -> None:
    body = b'{ "model":"m", "messages" : [ {"role":"user","content":"Hi"} ] ,"temperature":1.0}'
    assert going_on(body, 'He said "hi', takes_prefix=False, takes_continue=False) == (
        b'{ "model":"m", "messages" : [ {"role":"user","content":"Hi"} ,{"role":"assistant","content":"He said \\"hi"}] ,"temperature":1.0}'
    )


def test_providers_that_want_to_be_told_are() -> None:
    body = b'{"messages":[{"role":"user","content":"Hi"}]}'
    assert json.loads(going_on(body, "x", takes_prefix=True, takes_continue=False))["messages"][-1]["prefix"] is True
    told = json.loads(going_on(body, "x", takes_prefix=False, takes_continue=True))
    assert (told["continue_final_message"], told["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize("body", [b"{}", b'{"messages":[]}', b'{"messages":"hi"}', b'{"messages":null}', b"[]", b""])
def test_a_request_without_messages_cant_be_gone_on_with(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"no messages|not a JSON object"):
        going_on(body, "x", takes_prefix=False, takes_continue=False)


# ------------------------------------------------------------------------------------------------------------- the stream


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_the_first_stream_passes_byte_for_byte_and_event_by_event(size: int, line_end: bytes) -> None:
    stream = (
        chunk({"role": "assistant", "content": ""}) + b": ping\n\n" + chunk({"content": "He\u00e9llo"}) + b"data: [DONE]\n\n"
    ).replace(b"\n", line_end)
    told = ToldStream()
    part = told.next_part()
    pieces = [part.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert b"".join(pieces) + part.flush() == stream
    if line_end == b"\n":
        assert all(piece.endswith(b"\n\n") for piece in pieces if piece)
    assert (told.text, told.can_go_on) == ("He\u00e9llo", True)


def test_half_an_event_is_nothing_that_the_client_has() -> None:
    told = gone_on(chunk({"content": "Hel"}), chunk({"content": "lo"})[:-8])
    assert told.text == "Hel"


def test_names_are_those_that_a_chunk_has_not_those_it_leaves_empty() -> None:
    azure = event({"id": "", "created": 0, "model": "", "choices": []})
    part = gone_on(azure, chunk({"content": "Hel"})).next_part()
    (following,) = documents(part.feed(later({"content": "lo"})))
    assert (following["id"], following["created"], following["model"]) == ("one", 1, "a")


def test_an_event_larger_than_can_be_held_is_passed_on_and_not_gone_on_from() -> None:
    told = ToldStream()
    part, large = told.next_part(), b"data: " + b"x" * LARGEST_EVENT_BYTES
    assert part.feed(chunk({"content": "Hel"})) + part.feed(large) == chunk({"content": "Hel"}) + large
    assert not told.can_go_on


def test_an_error_that_goes_on_and_on_is_passed_on_in_time() -> None:
    told = ToldStream()
    part, error = told.next_part(), event({"error": {"message": "no"}})
    part.feed(chunk({"content": "Hel"}))
    more = b": waiting\n\n" * (LARGEST_EVENT_BYTES // 8)
    assert part.feed(error + more) == error + more
    assert part.feed(b": waiting\n\n") == b": waiting\n\n"
    assert (part.flush(), told.can_go_on) == (b"", False)


def test_an_error_behind_more_than_text_is_passed_on_at_once() -> None:
    part, error = ToldStream().next_part(), event({"error": {"message": "no"}})
    part.feed(chunk({"content": "x", "tool_calls": [{"index": 0}]}))
    assert part.feed(error) == error


def test_more_text_than_can_be_kept_is_not_gone_on_from() -> None:
    assert gone_on(chunk({"content": "x" * (MOST_CHARS // 8)})).can_go_on
    assert not gone_on(*[chunk({"content": "x" * (MOST_CHARS // 8)})] * 9).can_go_on


@pytest.mark.parametrize(
    "first",
    [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "x", "tool_calls": [{"index": 0}]}),
        chunk({"content": "x", "refusal": "no"}),
        chunk({"content": "x", "reasoning_content": "hm"}),
        event({"id": "one", "choices": [{"index": 1, "delta": {"content": "x"}}]}),
        event({"id": "one", "choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {"content": []}}]}),
        event({"id": "one", "choices": [{"index": 0, "delta": {"content": ["x"]}}]}),
        b"data: [1]\n\n",
        b"data: nonsense\n\n",
    ],
)
def test_only_text_is_gone_on_with(first: bytes) -> None:
    assert not gone_on(first).can_go_on


def test_what_follows_has_the_first_streams_names_and_no_second_beginning() -> None:
    told = gone_on(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}))
    part = told.next_part()
    out = part.feed(later({"role": "assistant", "content": ""}) + later({"role": "assistant", "content": "lo"}) + later({}, "stop"))
    assert part.feed(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"
    content, end = documents(out)
    assert {name: content[name] for name in ("id", "created", "model")} == {"id": "one", "created": 1, "model": "a"}
    assert content["choices"] == [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None}]
    assert end["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert told.text == "Hello"


def test_usage_is_the_sum_of_what_was_told() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 1}}
    told = gone_on(chunk({"content": "Hel"}, usage={"prompt_tokens": 10, "completion_tokens": 2} | details))
    part = told.next_part()
    (usage,) = documents(part.feed(event({"id": "two", "choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3}})))
    assert usage["usage"] == {"prompt_tokens": 22, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}
    assert usage["id"] == "one"


def test_usage_that_only_the_last_one_told_is_as_it_told() -> None:
    part = gone_on(chunk({"content": "Hel"})).next_part()
    (usage,) = documents(part.feed(event({"id": "two", "choices": [], "usage": {"prompt_tokens": 12}})))
    assert usage["usage"] == {"prompt_tokens": 12}


@pytest.mark.parametrize("is_first", [True, False])
def test_an_error_is_passed_on_at_the_streams_end_as_it_came(is_first: bool) -> None:
    told = ToldStream() if is_first else gone_on(chunk({"content": "Hel"}))
    part, error = told.next_part(), event({"error": {"message": "no"}})
    assert part.feed(chunk({"content": "lo"}) + error + b"data: [DONE]\n\n").count(b"data:") == 1
    assert part.flush() == error + b"data: [DONE]\n\n"


def test_an_error_that_is_null_is_none() -> None:
    part = ToldStream().next_part()
    assert part.feed(chunk({"content": "lo"}, error=None)) == chunk({"content": "lo"}, error=None)
