"""Planted credentials and where they must not turn up.

Looked through are: logs, the call log, /status, every file of the state folder (ledger, spool), answers of our own, OTLP requests.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.functional.gate import RunningGate
from tests.functional.hostile import ANSWER, ASKED, ASKED_STREAM, Ground, begun, content
from tests.functional.raw_http import Reply, exchange, head, post
from tests.functional.scripted_provider import Step, plain, scripted_provider
from tests.otlp_receiver import OtlpReceiver

CLIENT_KEY = "sk-planted-by-the-client-0123456789"
QUERY_KEY = "AIza-planted-in-the-query-0123456789"
TARGET_KEY = "sk-planted-in-the-configuration-0123456789"
OTLP_TOKEN = "otlp-planted-0123456789"
ADMIN_TOKEN = "admin-planted-0123456789"
CONTENT_KEY = "sk-planted-in-a-message-0123456789"
CONTENT_EMAIL = "planted.person@example.com"
CUSTOM = "CUST-424242"
SECRETS = (CLIENT_KEY, QUERY_KEY, TARGET_KEY, OTLP_TOKEN, ADMIN_TOKEN)
TOLD = (CONTENT_KEY, CONTENT_EMAIL, CUSTOM, CLIENT_KEY, TARGET_KEY)
"""What is said in messages, both ways."""

CONFIG = f"""
max_body_mib: 1
telemetry:
  otlp: {{endpoint: "ENDPOINT", headers: {{x-token: {OTLP_TOKEN}}}}}
  call_log: stdout
  capture_content: [span, event, ledger]
  redact: ["CUST-[0-9]{{6}}"]
  attributes: {{team: {{header: x-team}}}}
  openinference: true
  genai_semconv: both
targets:
  own: {{provider: openai, base_url: "http://127.0.0.1:{{upstream}}/v1", credential: {TARGET_KEY}}}
  theirs: {{provider: openai, base_url: "http://127.0.0.1:{{upstream}}/v1", credential: passthrough, timeouts: {{first_byte_s: 0.3}}}}
  dead: {{provider: openai, base_url: "http://127.0.0.1:1/v1", credential: {TARGET_KEY}}}
routes:
  - {{name: dead, match: {{model: dead}}, to: [dead]}}
  - {{name: own, match: {{header: {{x-own: "1"}}}}, to: [own]}}
  - {{name: theirs, match: {{model: "*"}}, to: [theirs]}}
"""
KEYS = (
    b"x-team: " + CLIENT_KEY.encode(),
    b"Authorization: Bearer " + CLIENT_KEY.encode(),
    b"x-api-key: " + CLIENT_KEY.encode(),
    b"api-key: " + CLIENT_KEY.encode(),
)
OWN = b"x-own: 1"
TARGET = f"/v1/chat/completions?key={QUERY_KEY}&a=1"


class Traces(NamedTuple):
    """Everything a gate left behind."""

    said: str
    status: str
    kept: bytes  # every file of the state folder
    telemetry: str
    replies: list[Reply]


def asked(*fields: bytes, body: bytes = ASKED) -> bytes:
    return post(body, *KEYS, *fields, target=TARGET)


def echoing(key: str) -> list[Step]:
    """A provider that repeats the key it was sent, as some do."""
    return [plain(f'{{"error":{{"message":"Incorrect API key: {key}","code":"invalid_api_key"}}}}'.encode(), b"401 Unauthorized")]


# What the provider plays, and what is sent.
SAID = " ".join(TOLD)
TALK = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": SAID}], "tools": [{"description": SAID}]}).encode()
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
TALKED = json.dumps({"choices": [{"index": 0, "message": {"content": SAID}, "finish_reason": "stop"}], "usage": USAGE}).encode()
PASSED: list[tuple[list[Step], bytes]] = [
    ([plain(TALKED)], asked(OWN, body=TALK)),
    ([begun(content(SAID.encode())), "close"], asked(body=TALK.replace(b'{"model"', b'{"stream":true,"model"'))),
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


class GuardedGate(RunningGate):
    """A gate whose admin listener wants a token."""

    def write_config(self, config: str) -> None:
        own = f'listen: 127.0.0.1:{self.port}\nadmin: {{listen: "127.0.0.1:{self.admin_port}", token: {ADMIN_TOKEN}}}\n'
        self.config_file.write_text(f"{own}state_dir: {self.state_dir}\n{config}", encoding="utf-8")

    def status(self) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.admin_url}/status", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            report: dict[str, Any] = json.load(answer)
            return report


@contextlib.contextmanager
def guarded_ground(endpoint: str) -> Iterator[Ground]:
    with scripted_provider() as provider:
        gate = GuardedGate(CONFIG.replace("ENDPOINT", endpoint).replace("{upstream}", str(provider.port)))
        try:
            yield Ground(gate, provider)
        finally:
            gate.close()


def bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def traces_of(calls: list[tuple[list[Step], bytes]], collector_status: int = 200) -> Traces:
    """Send the calls through a gate of their own and gather what it left behind, after its end."""
    with OtlpReceiver(collector_status) as collector:
        with guarded_ground(collector.endpoint) as ground:
            replies = await send_all(ground, calls)
            ground.gate.until(lambda: ground.gate.status()["observer"]["queued"] == 0, "all recorded")
            status = repr(ground.gate.status())
            kept = bytes_below(ground.gate.state_dir)
            ground.gate.stop()
            said = ground.gate.said
            kept += bytes_below(ground.gate.state_dir)
        assert bool(collector.spans) == (collector_status == 200)
        assert not collector.refused
        telemetry = f"{collector.spans} {collector.metric_batches} {collector.resources} {collector.logs}"
    return Traces(said, status, kept, telemetry, replies)


def check_clean(traces: Traces) -> None:
    for secret in {*SECRETS, *TOLD}:
        assert secret not in traces.said
        assert secret not in traces.status
        assert secret.encode() not in traces.kept
        assert secret not in traces.telemetry


async def test_credentials_leave_no_trace_and_are_in_no_answer_of_ours() -> None:
    traces = await traces_of([*REFUSED, *PASSED])
    check_clean(traces)
    statuses = [502, 504, 502, 502, 502, 400, 400, 413, 404, 400, 400, 200, 200, 200, 200, 200]
    assert [reply.status for reply in traces.replies] == statuses
    ours = [reply for reply in traces.replies if SAID.encode() not in reply.body]  # what a provider says is the client's to see
    assert len(ours) == len(traces.replies) - 2
    for secret in SECRETS:
        assert not any(secret.encode() in reply.body or secret in repr(reply.headers) for reply in ours)


async def test_a_key_that_a_provider_repeats_reaches_the_client_alone() -> None:
    traces = await traces_of(ECHOED)
    assert [reply.status for reply in traces.replies] == [401, 401]
    check_clean(traces)


async def test_content_is_recorded_and_holds_no_secret() -> None:
    traces = await traces_of(PASSED)
    check_clean(traces)
    for mark in ("[REDACTED:credential]", "[REDACTED:email]", "[REDACTED:custom]"):
        assert mark.encode() in traces.kept
        assert mark in traces.telemetry


async def test_what_is_spooled_holds_no_secret() -> None:
    traces = await traces_of(PASSED, collector_status=503)
    check_clean(traces)
    assert b"gen_ai.input.messages" in traces.kept  # the spool's: the ledger has a column
