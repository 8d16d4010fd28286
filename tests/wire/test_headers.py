"""Which header fields go on, and what a traceparent says."""

import pytest

from proxy.wire.headers import baggage_member, forward_reply_headers, forward_request_headers, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def names(headers: list[tuple[bytes, bytes]], drop: frozenset[bytes] = frozenset()) -> list[bytes]:
    return [name for name, _ in forward_request_headers(headers, drop)]


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "KEEP-ALIVE",
        "Proxy-Authenticate",
        "proxy-authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "upgrade",
    ],
)
def test_hop_by_hop_fields_stay_here_both_ways(name: str) -> None:
    field = (name.encode(), b"x")
    assert forward_request_headers([field], frozenset()) == []
    assert forward_reply_headers([field]) == []


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Expect", b"X-Postern-Tag", b"x-postern-", b"authorization"])
def test_fields_the_sender_sets_anew_and_our_own_stay_here(name: bytes) -> None:
    assert names([(name, b"x"), (b"Accept", b"*/*")], frozenset({b"authorization"})) == [b"Accept"]


def test_order_spelling_and_duplicates_are_kept() -> None:
    headers = [(b"X-B", b"1"), (b"x-a", b"2"), (b"X-B", b"3"), (b"OpenAI-Organization", b"o")]
    assert forward_request_headers(headers, frozenset()) == headers


def test_fields_that_connection_names_are_removed_wherever_they_stand() -> None:
    headers = [(b"X-Before", b"1"), (b"Connection", b"close, x-before ,X-AFTER"), (b"x-after", b"2"), (b"Accept", b"3")]
    assert names(headers) == [b"Accept"]


def test_reply_keeps_what_describes_the_body() -> None:
    headers = [(b"Content-Length", b"3"), (b"Content-Encoding", b"gzip"), (b"Date", b"d"), (b"Server", b"s"), (b"x-request-id", b"r")]
    assert forward_reply_headers([*headers, (b"Connection", b"X-Gone"), (b"x-gone", b"1")]) == headers


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)])
def test_only_the_lowest_flag_bit_says_sampled(flags: str, sampled: bool) -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}".encode()) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize("value", [f" 00-{TRACE}-{SPAN}-01\t", f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes"])
def test_traceparent_with_space_around_or_of_a_later_version_is_taken(value: str) -> None:
    assert parse_traceparent(value.encode()) == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-extra",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}x-{SPAN}-01",
        "\xff",
    ],
)
def test_malformed_traceparent_is_ignored(value: str) -> None:
    assert parse_traceparent(value.encode("latin-1")) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([b"workflow.id=w1"], "w1"),
        ([b"a=b, workflow.id = w1 ;ttl=5;x,c=d"], "w1"),
        ([b"workflow.id=caf%C3%A9%20a%2Cb"], "caf\u00e9 a,b"),
        ([b"workflow%2Eid=w1"], "w1"),
        ([b"a=b", b"workflow.id=w1"], "w1"),
        ([b"workflow.id=w1,workflow.id=w2"], "w2"),
        ([b"workflow.id=a=b"], "a=b"),
        ([b"workflow.id="], ""),
        ([b"workflow.id"], None),
        ([b"xworkflow.id=w1"], None),
        ([b"workflow.id=\xff%ff"], "\ufffd\ufffd"),
        ([b",,;=,"], None),
        ([], None),
    ],
)
def test_member_of_the_baggage_is_decoded_and_without_properties(fields: list[bytes], expected: str | None) -> None:
    assert baggage_member([(b"Baggage", value) for value in fields], "workflow.id") == expected
