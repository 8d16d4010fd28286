"""Heads and chunks of HTTP/1.1, byte for byte."""

from __future__ import annotations

import pytest

from proxy.wire.http1 import LAST_CHUNK, chunk, has_body, header, parse_reply_head, reply_head


def test_a_head_is_written_as_it_came() -> None:
    headers = [(b"X-Odd", b"\xff"), (b"x-odd", b"2"), (b"Empty", b"")]
    assert reply_head(200, "Fine", headers) == b"HTTP/1.1 200 Fine\r\nX-Odd: \xff\r\nx-odd: 2\r\nEmpty: \r\n\r\n"


def test_framing_stands_behind_the_fields() -> None:
    head = reply_head(200, "", [(b"a", b"b")], b"transfer-encoding: chunked\r\n")
    assert head == b"HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("status", "expected"), [(404, b"Not Found"), (529, b""), (299, b"")])
def test_a_missing_reason_is_the_standard_one_or_none(status: int, expected: bytes) -> None:
    assert reply_head(status, "", []) == b"HTTP/1.1 %d %b\r\n\r\n" % (status, expected)


def test_a_reason_that_is_no_latin_1_breaks_no_head() -> None:
    assert reply_head(200, "\u4f60 \xe9", []) == b"HTTP/1.1 200 ? \xe9\r\n\r\n"


def test_chunks_tell_their_length_in_hex() -> None:
    assert chunk(b"x" * 26) + LAST_CHUNK == b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [("GET", 200, True), ("HEAD", 200, False), ("GET", 204, False), ("GET", 304, False), ("POST", 101, False), ("DELETE", 404, True)],
)
def test_which_replies_have_a_body(method: str, status: int, expected: bool) -> None:
    assert has_body(method, status) is expected


def test_a_head_that_was_written_reads_the_same() -> None:
    headers = [(b"Upgrade", b"websocket"), (b"X", b"a: b"), (b"Empty", b"")]
    assert parse_reply_head(reply_head(101, "Switching Protocols", headers)) == (101, "Switching Protocols", headers)


def test_a_head_may_have_no_reason_and_spaces_around_values() -> None:
    assert parse_reply_head(b"HTTP/1.0 204\r\nA:\t b \r\n\r\n") == (204, "", [(b"A", b"b")])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
    ],
)
def test_a_malformed_head_is_no_head(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"status line|header field"):
        parse_reply_head(head)


def test_a_field_is_found_whatever_its_case_and_the_first_counts() -> None:
    headers = [(b"X-A", b"1"), (b"x-a", b"2"), (b"X-AB", b"3")]
    assert (header(headers, b"x-a"), header(headers, b"x-b")) == (b"1", b"")
