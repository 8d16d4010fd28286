"""How long a provider asks to be left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import HeaderList
from proxy.wire.retry_after import MAX_WAIT_S, remaining_share, retry_after_s

NOW_S = 1_790_000_000.0  # Mon, 21 Sep 2026 14:13:20 GMT


def fields(**values: str) -> HeaderList:
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in values.items()]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": "Mon, 21 Sep 2026 14:13:50 GMT"}, 30.0),
        ({"retry_after": "Mon, 21 Sep 2026 14:13:50 -0000"}, 30.0),
        ({"retry_after": "Monday, 21-Sep-26 14:13:50 GMT"}, 30.0),
        ({"Retry_After_Ms": "250"}, 0.25),
        ({"retry_after_ms": "250", "retry_after": "7"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "7"}, 7.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"}, 360.0),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "12ms"}, 0.012),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1h2m3.5s"}, 3723.5),
        ({"anthropic_ratelimit_input_tokens_remaining": "0", "anthropic_ratelimit_input_tokens_reset": "2026-09-21T14:14:20Z"}, 60.0),
    ],
)
def test_every_form_is_read(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_s(fields(**headers), NOW_S) == pytest.approx(seconds)


def test_the_longest_wait_of_the_limits_used_up_counts() -> None:
    headers = fields(
        x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1s", x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="4s"
    )
    assert retry_after_s(headers, NOW_S) == 4.0


def test_the_reset_of_a_limit_with_room_is_no_wait() -> None:
    assert retry_after_s(fields(x_ratelimit_remaining_tokens="9", x_ratelimit_reset_tokens="6m0s"), NOW_S) is None


def test_a_date_that_has_passed_means_now() -> None:
    assert retry_after_s(fields(retry_after="Mon, 21 Sep 2026 14:00:00 GMT"), NOW_S) == 0.0


@pytest.mark.parametrize("told", ["", "soon", "nan", "inf", "6m0", "Mon, 99 Foo 2026", "0x10"])
def test_what_can_not_be_read_is_unknown(told: str) -> None:
    assert retry_after_s(fields(retry_after=told), NOW_S) is None


@given(st.binary(max_size=64))
def test_any_bytes_are_taken(told: bytes) -> None:
    seconds = retry_after_s([(b"retry-after", told)], NOW_S)
    assert seconds is None or 0 <= seconds <= MAX_WAIT_S


def test_the_tightest_limit_is_the_remaining_share() -> None:
    headers = fields(
        x_ratelimit_limit_requests="100",
        x_ratelimit_remaining_requests="50",
        x_ratelimit_limit_tokens="1000",
        x_ratelimit_remaining_tokens="100",
    )
    assert remaining_share(headers) == pytest.approx(0.1)
    assert remaining_share([]) is None
    assert remaining_share(fields(x_ratelimit_remaining_tokens="5")) is None
