"""Which virtual key a client shows, and what it is good for."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from hashlib import sha256
from unittest.mock import patch

import pytest

from proxy.call import expiry_unix_s
from proxy.config.schema import KeyConfig
from proxy.policy.keys import MAX_KEY_BYTES, VirtualKey, VirtualKeys, compile_key, key_message, models_message, route_message

NOW = 1_800_000_000.0


def key(name: str = "web", secret: bytes = b"pk-web", **said: object) -> KeyConfig:
    return KeyConfig(name, sha256(secret).hexdigest(), **said)  # type: ignore[arg-type]


def keys_of(entries: list[KeyConfig]) -> VirtualKeys:
    return VirtualKeys(map(compile_key, entries))


def compiled(**said: object) -> VirtualKey:
    (one,) = keys_of([key("web", b"pk-web", **said)])
    return one


def test_a_key_is_found_by_what_its_digest_is_of() -> None:
    keys = keys_of([key(), key("batch", b"pk-batch")])
    found = keys.find([b"pk-batch"])
    assert found is not None
    assert found.name == "batch"
    assert keys.find([b"sk-other", b"pk-web"]) is not None
    for wrong in ([], [b""], [b"pk-web "], [b"PK-WEB"], [sha256(b"pk-web").digest()], [sha256(b"pk-web").hexdigest().encode()]):
        assert keys.find(wrong) is None


def test_of_several_keys_with_a_name_or_a_digest_the_first_counts() -> None:
    keys = keys_of([key("web", b"pk-web"), key("web", b"pk-other"), key("again", b"pk-web"), key("batch", b"pk-batch")])
    assert [one.name for one in keys] == ["web", "batch"]
    assert len(keys) == 2
    found = keys.find([b"pk-web"])
    assert found is not None
    assert found.name == "web"
    assert keys.find([b"pk-other"]) is None


def test_digests_are_compared_in_constant_time() -> None:
    keys = keys_of([key()])
    with patch.object(hmac, "compare_digest", wraps=hmac.compare_digest) as compare:
        assert keys.find([b"pk-web"]) is not None
    compare.assert_called_once_with(sha256(b"pk-web").digest(), sha256(b"pk-web").digest())


def test_a_digest_may_be_written_in_upper_case() -> None:
    assert keys_of([KeyConfig("web", sha256(b"pk-web").hexdigest().upper())]).find([b"pk-web"]) is not None


def test_what_is_too_long_for_a_key_is_not_hashed() -> None:
    assert keys_of([key(secret=b"x" * (MAX_KEY_BYTES + 1))]).find([b"x" * (MAX_KEY_BYTES + 1)]) is None
    assert keys_of([key(secret=b"x" * MAX_KEY_BYTES)]).find([b"x" * MAX_KEY_BYTES]) is not None


def test_a_key_shows_its_name_alone() -> None:
    assert repr(compiled()) == "VirtualKey('web')"


def test_a_missing_and_an_unknown_key_are_told_apart() -> None:
    assert "has no API key" in (key_message(None, False, NOW) or "")
    assert "none that this Postern knows" in (key_message(None, True, NOW) or "")
    assert key_message(compiled(), True, NOW) is None


@pytest.mark.parametrize(
    ("expires", "end"),
    [
        ("2027-01-31", "2027-02-01T00:00:00+00:00"),  # a date lasts until its end
        ("2028-02-29", "2028-03-01T00:00:00+00:00"),
        ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00+00:00"),
        ("2027-01-31t12:00:00.5z", "2027-01-31T12:00:00.500000+00:00"),
        ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00+00:00"),
    ],
)
def test_a_key_is_good_until_the_moment_it_expires(expires: str, end: str) -> None:
    end_unix_s = datetime.fromisoformat(end).astimezone(UTC).timestamp()
    one = compiled(expires=expires)
    assert key_message(one, True, end_unix_s - 0.001) is None
    assert "'web' has expired" in (key_message(one, True, end_unix_s) or "")


@pytest.mark.parametrize(
    "text", ["", "soon", "2027-02-30", "2027-1-1", "20270101", "2027-W01-1", "2027-01-31T12:00:00", "2027-01-31 12:00", "0000-01-01", "1e9"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        expiry_unix_s(text)


def test_the_last_day_there_is_ends() -> None:
    assert expiry_unix_s("9999-12-31") == expiry_unix_s("9999-12-30") + 86_400


def test_a_key_is_for_the_models_it_names() -> None:
    one = compiled(models=["gpt-*", "smart"])
    for allowed in (["gpt-4o"], ["smart"], ["gpt-4o", "gpt-5"]):
        assert models_message(one, allowed, is_read=False) is None
    for refused in (["claude"], ["xgpt-4o"], ["gpt-4o", "claude"], ["gpt"], ["GPT-4o"], ["smart\n"]):
        assert "is not for model" in (models_message(one, refused, is_read=False) or "")


def test_a_call_that_names_no_model_may_only_read_where_the_key_is_for_some() -> None:
    one = compiled(models=["gpt-*"])
    assert models_message(one, [], is_read=True) is None
    assert "names none" in (models_message(one, [], is_read=False) or "")
    assert models_message(compiled(), [], is_read=False) is None
    assert models_message(compiled(), ["any"], is_read=False) is None


def test_a_long_model_name_is_cut_in_the_message() -> None:
    assert len(models_message(compiled(models=["gpt-*"]), ["x" * 5000], is_read=False) or "") < 400


def test_a_key_is_for_the_routes_it_names() -> None:
    assert route_message(compiled(routes=["chat"]), "chat") is None
    assert "not for route 'batch'" in (route_message(compiled(routes=["chat"]), "batch") or "")
    assert route_message(compiled(), "batch") is None


def test_a_key_says_only_what_its_entry_says() -> None:
    assert compiled(tenant="shop").labels == {"tenant": "shop"}
    assert compiled(tenant="shop", user="u", app="a").labels == {"tenant": "shop", "user": "u", "app": "a"}
