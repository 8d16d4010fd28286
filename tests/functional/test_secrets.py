"""Planted credentials and where they must not turn up: logs, /status, the ledger's bytes, answers of our own, telemetry."""

from __future__ import annotations

from typing import NamedTuple

from tests.functional.hostile import ANSWER, ASKED, ASKED_STREAM, Ground, begun, broken_ground, content
from tests.functional.raw_http import Reply, exchange, head, post
from tests.functional.scripted_provider import Step, plain
from tests.otlp_receiver import OtlpReceiver

CLIENT_KEY = "sk-planted-by-the-client-0123456789"
QUERY_KEY = "AIza-planted-in-the-query-0123456789"
TARGET_KEY = "sk-planted-in-the-configuration-0123456789"
OTLP_TOKEN = "otlp-planted-0123456789"
SECRETS = (CLIENT_KEY, QUERY_KEY, TARGET_KEY, OTLP_TOKEN)

CONFIG = f"""
max_body_mib: 1
telemetry: {{otlp: {{endpoint: "ENDPOINT", headers: {{x-token: {OTLP_TOKEN}}}}}}}
targets:
  own: {{provider: openai, base_url: "http://127.0.0.1:{{upstream}}/v1", credential: {TARGET_KEY}}}
  theirs: {{provider: openai, base_url: "http://127.0.0.1:{{upstream}}/v1", credential: passthrough, timeouts: {{first_byte_s: 0.3}}}}
  dead: {{provider: openai, base_url: "http://127.0.0.1:1/v1", credential: {TARGET_KEY}}}
routes:
  - {{name: dead, match: {{model: dead}}, to: [dead]}}
  - {{name: own, match: {{header: {{x-own: "1"}}}}, to: [own]}}
  - {{name: theirs, match: {{model: "*"}}, to: [theirs]}}
"""
KEYS = (b"Authorization: Bearer " + CLIENT_KEY.encode(), b"x-api-key: " + CLIENT_KEY.encode(), b"api-key: " + CLIENT_KEY.encode())
OWN = b"x-own: 1"
TARGET = f"/v1/chat/completions?key={QUERY_KEY}&a=1"


class Traces(NamedTuple):
    """Everything a gate left behind."""

    said: str
    status: str
    ledger: bytes
    telemetry: str
    replies: list[Reply]


def asked(*fields: bytes, body: bytes = ASKED) -> bytes:
    return post(body, *KEYS, *fields, target=TARGET)


def echoing(key: str) -> list[Step]:
    """A provider that repeats the key it was sent, as some do."""
    return [plain(f'{{"error":{{"message":"Incorrect API key: {key}","code":"invalid_api_key"}}}}'.encode(), b"401 Unauthorized")]


# What the provider plays, and what is sent.
PASSED: list[tuple[list[Step], bytes]] = [
    ([plain(ANSWER)], asked()),
    ([plain(ANSWER)], asked(OWN)),
    ([begun(content(b"one")), "close"], asked(body=ASKED_STREAM)),
]
ECHOED: list[tuple[list[Step], bytes]] = [(echoing(CLIENT_KEY), asked()), (echoing(TARGET_KEY), asked(OWN))]
REFUSED: list[tuple[list[Step], bytes]] = [
    (["close"], asked()),
    (["stall"], asked()),
    ([b"HTTP/1.1 200 OK\r\nX-A: " + CLIENT_KEY.encode() + b"\0\r\n\r\n", "close"], asked()),
    ([b"HTTP/1.1 200 OK\r\nSet-Cookie: " + CLIENT_KEY.encode(), "close"], asked()),
    ([plain(ANSWER)], asked(body=ASKED.replace(b"gpt-4o", b"dead"))),
    ([plain(ANSWER)], asked(body=b'{"model":')),
    ([plain(ANSWER)], asked(body=b'{"model":42}')),
    ([plain(ANSWER)], head(*KEYS, b"Content-Length: 209715200", target=TARGET)),
    ([plain(ANSWER)], head(*KEYS, method="GET", target=f"/v1/models?key={QUERY_KEY}")),
    ([plain(ANSWER)], head(*KEYS, method="GET", target=f"/v1/../models?key={QUERY_KEY}")),
    ([plain(ANSWER)], head(*KEYS, b"X-A: a\r\n " + CLIENT_KEY.encode(), target=TARGET)),
]


async def send_all(ground: Ground, calls: list[tuple[list[Step], bytes]]) -> list[Reply]:
    replies = []
    for script, request in calls:
        ground.provider.script(script)
        replies.append(await exchange(ground.gate.port, request))
    return replies


async def traces_of(calls: list[tuple[list[Step], bytes]]) -> Traces:
    """Send the calls through a gate of their own and gather what it left behind, after its end."""
    with OtlpReceiver() as collector:
        with broken_ground(CONFIG.replace("ENDPOINT", collector.endpoint)) as ground:
            replies = await send_all(ground, calls)
            ground.gate.until(lambda: ground.gate.status()["observer"]["queued"] == 0, "all recorded")
            status = repr(ground.gate.status())
            ledger = b"".join(path.read_bytes() for path in ground.gate.state_dir.glob("*"))
            ground.gate.stop()
            said = ground.gate.said
            ledger += b"".join(path.read_bytes() for path in ground.gate.state_dir.glob("*"))
        assert collector.spans
        assert not collector.refused
        telemetry = f"{collector.spans} {collector.metric_batches} {collector.resources}"
    return Traces(said, status, ledger, telemetry, replies)


def check_clean(traces: Traces) -> None:
    for secret in SECRETS:
        assert secret not in traces.said
        assert secret not in traces.status
        assert secret.encode() not in traces.ledger
        assert secret not in traces.telemetry


async def test_credentials_leave_no_trace_and_are_in_no_answer_of_ours() -> None:
    traces = await traces_of([*REFUSED, *PASSED])
    check_clean(traces)
    assert [reply.status for reply in traces.replies] == [502, 504, 502, 502, 502, 400, 400, 413, 404, 400, 400, 200, 200, 200]
    for secret in SECRETS:
        assert not any(secret.encode() in reply.body or secret in repr(reply.headers) for reply in traces.replies)


async def test_a_key_that_a_provider_repeats_reaches_the_client_alone() -> None:
    traces = await traces_of(ECHOED)
    assert [reply.status for reply in traces.replies] == [401, 401]
    check_clean(traces)
