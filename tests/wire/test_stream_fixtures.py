"""Streams of every provider, cut at every byte: the client's bytes are the provider's, and the reading doesn't depend on the cuts."""

import pytest

from proxy.wire.dialects.table import dialect
from proxy.wire.include_usage import UsageChunkFilter
from proxy.wire.reply_text import text_of_events
from proxy.wire.stream_reader import StreamReader
from tests.streams import STREAMS, StreamCase

CASES = pytest.mark.parametrize("case", STREAMS.values(), ids=STREAMS.keys())


def filtered(case: StreamCase, pieces: list[bytes]) -> bytes:
    edit = UsageChunkFilter(dialect(case.provider))
    return b"".join([edit.feed(piece) for piece in pieces]) + edit.flush()


def read(case: StreamCase, pieces: list[bytes], raw: bytes) -> None:
    reader = StreamReader(case.kind)
    for piece in pieces:
        reader.feed(piece)
    text, rest = reader.uncounted()
    facts = reader.result()
    assert facts.usage == case.usage
    assert facts.finish_reasons == case.finish_reasons
    assert (facts.response_id, facts.response_model) == (case.response_id, case.response_model)
    assert facts.ended == case.ended
    assert (facts.error.code if facts.error else None) == case.error_code
    assert reader.first_content == bool(case.text)
    assert text == ""
    assert rest == raw


@CASES
def test_client_sees_what_it_would_have_seen_unasked(case: StreamCase) -> None:
    assert filtered(case, [case.asked]) == case.unasked


@CASES
def test_filter_does_not_depend_on_where_the_bytes_are_cut(case: StreamCase) -> None:
    for cut in range(len(case.asked) + 1):
        assert filtered(case, [case.asked[:cut], case.asked[cut:]]) == case.unasked, cut


@CASES
def test_filter_takes_single_bytes(case: StreamCase) -> None:
    assert filtered(case, [case.asked[i : i + 1] for i in range(len(case.asked))]) == case.unasked


@CASES
def test_filter_leaves_a_stream_alone_that_has_nothing_injected(case: StreamCase) -> None:
    edit = UsageChunkFilter(dialect("mistral"))
    raw = case.unasked
    assert b"".join([edit.feed(raw[i : i + 7]) for i in range(0, len(raw), 7)]) + edit.flush() == raw


@CASES
def test_filter_never_holds_back_a_finished_event(case: StreamCase) -> None:
    edit = UsageChunkFilter(dialect(case.provider))
    out = edit.feed(case.asked)
    assert case.unasked.startswith(out)
    assert b"\n\n" not in edit.flush()


@CASES
def test_reading_a_whole_stream(case: StreamCase) -> None:
    read(case, [case.asked], case.asked)


@CASES
def test_reading_does_not_depend_on_where_the_bytes_are_cut(case: StreamCase) -> None:
    for cut in range(len(case.asked) + 1):
        read(case, [case.asked[:cut], case.asked[cut:]], case.asked)


@CASES
def test_reading_takes_single_bytes(case: StreamCase) -> None:
    read(case, [case.asked[i : i + 1] for i in range(len(case.asked))], case.asked)


@CASES
def test_text_of_a_stream_is_its_content_in_order(case: StreamCase) -> None:
    assert text_of_events(case.asked) == case.text


@CASES
def test_text_let_go_and_raw_kept_tell_the_whole_text(case: StreamCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.wire.stream_reader.KEPT_RAW_BYTES", 300)
    reader = StreamReader(case.kind)
    for start in range(0, len(case.asked), 50):
        reader.feed(case.asked[start : start + 50])
    text, rest = reader.uncounted()
    assert text + text_of_events(rest) == case.text
    assert len(rest) < 300 + 50 + 700  # an unfinished event stays whole
