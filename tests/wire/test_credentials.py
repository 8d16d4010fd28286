"""Where a client's credential stands in a request, and that nothing else is taken for one."""

from __future__ import annotations

import pytest

from proxy.call import HeaderList
from proxy.wire.credentials import credentials_in, without_protocol_key, without_query_key


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x/y?key=1", "https://x/y"),
        ("https://x/y?a=1&key=2&b=3", "https://x/y?a=1&b=3"),
        ("https://x/y?key=1&key=2&a=%20", "https://x/y?a=%20"),
        ("https://x/y?monkey=1&key2=3", "https://x/y?monkey=1&key2=3"),
        ("https://x/key=1", "https://x/key=1"),
        ("https://x/y?a=key%3D1", "https://x/y?a=key%3D1"),
        ("https://x/y?", "https://x/y?"),
    ],
)
def test_only_the_key_leaves_the_query(url: str, expected: str) -> None:
    assert without_query_key(url) == expected


@pytest.mark.parametrize("name", ["k%65y", "%6b%65%79", "key"])
def test_a_key_leaves_the_query_however_its_name_is_written(name: str) -> None:
    url = f"https://x/y?a=1&{name}=secret"
    assert credentials_in([], url, is_upgrade=False) == [b"secret"]
    assert without_query_key(url) == "https://x/y?a=1"


@pytest.mark.parametrize(
    ("headers", "target", "expected"),
    [
        ([(b"Authorization", b"Bearer a")], "/", [b"a"]),
        ([(b"authorization", b"bearer  a ")], "/", [b"a"]),
        ([(b"authorization", b"a")], "/", [b"a"]),
        ([(b"authorization", b"")], "/", []),
        ([(b"X-Api-Key", b"a"), (b"api-key", b"b"), (b"x-goog-api-key", b"c")], "/", [b"a", b"b", b"c"]),
        ([(b"x-api-key", b"a"), (b"x-api-key", b"b")], "/", [b"a", b"b"]),
        ([(b"x-api-key", b"\xff\xfe")], "/", [b"\xff\xfe"]),
        ([(b"x-key", b"a"), (b"cookie", b"key=a")], "/key=a", []),
        ([], "/v1/models?a=1&key=b", [b"b"]),
        ([], "/v1/models?key=a%2Bb&key=", [b"a+b"]),
        ([], "/v1/models?key=\udcff", [b"?"]),
    ],
)
def test_a_credential_is_read_from_each_place_that_clients_use(headers: HeaderList, target: str, expected: list[bytes]) -> None:
    assert credentials_in(headers, target, is_upgrade=False) == expected


PROTOCOLS = [(b"Sec-WebSocket-Protocol", b"realtime, openai-insecure-api-key.a,openai-beta.realtime-v1")]


def test_a_subprotocol_is_a_credential_in_a_handshake_only() -> None:
    assert credentials_in(PROTOCOLS, "/", is_upgrade=True) == [b"a"]
    assert not credentials_in(PROTOCOLS, "/", is_upgrade=False)


def test_only_the_key_leaves_the_subprotocols() -> None:
    assert without_protocol_key(PROTOCOLS) == [(b"Sec-WebSocket-Protocol", b"realtime, openai-beta.realtime-v1")]
    assert without_protocol_key([(b"sec-websocket-protocol", b"openai-insecure-api-key.a")]) == []
    assert without_protocol_key([(b"x", b"openai-insecure-api-key.a")]) == [(b"x", b"openai-insecure-api-key.a")]
