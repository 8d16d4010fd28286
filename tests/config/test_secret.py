"""A secret in the configuration shows nowhere by accident, and is there where it is asked for."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from proxy.call import Secret
from tests.config.support import load

TEXT = "sk-planted-0123456789"
CONFIG = f"""
targets: {{openai: {{provider: openai, credential: {TEXT}}}}}
admin: {{token: {TEXT}}}
telemetry: {{otlp: {{headers: {{authorization: {TEXT}}}}}}}
routes: [{{name: a, to: [openai], match: {{header: {{x-key: {TEXT}}}}}}}]
"""


def test_secret_is_not_in_what_is_made_of_it() -> None:
    secret = Secret(TEXT)
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{secret:>40}", "%s" % secret, repr([secret]), repr({1: secret})):  # noqa: UP031
        assert TEXT not in shown
    assert str(secret) == "***"


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, pickle.dumps])
def test_secret_is_not_encoded_by_accident(encode: object) -> None:
    with pytest.raises(TypeError):
        encode({"key": Secret(TEXT)})  # type: ignore[operator]


def test_secrets_are_equal_by_what_they_hold() -> None:
    assert Secret(TEXT) == Secret(TEXT) != Secret("")
    assert Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT)}) == 1
    assert not Secret("")


def test_configuration_and_targets_show_no_secret() -> None:
    loaded = load(CONFIG)
    assert TEXT not in repr(loaded)
    assert TEXT not in str(loaded.config.telemetry.otlp)
    assert TEXT not in repr(loaded.targets["openai"])
    target = loaded.targets["openai"]
    assert [credential.reveal() for credential in target.credentials] == [TEXT]
    assert TEXT == loaded.config.admin.token.reveal() == TEXT


def test_changed_secret_is_a_changed_configuration() -> None:
    assert load(CONFIG).digest == load(CONFIG).digest != load(CONFIG.replace(TEXT, TEXT + "1", 1)).digest
