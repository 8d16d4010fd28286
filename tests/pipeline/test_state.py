"""What the state of a call tells of itself."""

from __future__ import annotations

from proxy.pipeline.handle_call import accept
from proxy.pipeline.live_attempt import new_attempt
from tests.pipeline.fakes import FakeRequestBody
from tests.pipeline.scripts import CONFIG, chat
from tests.pipeline.world import World

SECRET = "sk-client-0123456789"


def test_what_is_printed_of_a_call_and_its_attempts_has_no_header_and_no_body() -> None:
    with World(CONFIG) as world:
        request = world._client_request(chat([(b"Authorization", b"Bearer " + SECRET.encode())]), FakeRequestBody(world, (), 0))
        call = accept(world.gate, world.gate.runtime, request)
        call.body = call.plain = b'{"secret": "%b"}' % SECRET.encode()
        attempt = new_attempt(world.gate, call, next(iter(world.gate.runtime.endpoints.values())), None)
        attempt.body = attempt.capture = call.body
    assert SECRET in str(call.headers)
    assert SECRET not in f"{call!r} {attempt!r} {call.attempts!r}"
