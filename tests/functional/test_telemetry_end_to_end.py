"""From the real client's call to a receiver: spans and metrics with tokens and cost, under the ids the client was told."""

from __future__ import annotations

from typing import Any

import openai

from tests.functional.gate import running_gate
from tests.otlp_receiver import OtlpReceiver, attributes_of

HELLO: Any = [{"role": "user", "content": "Hello, who are you?"}]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "200"}


def test_call_arrives_as_spans_and_metrics() -> None:
    with OtlpReceiver() as receiver:
        config = f'targets: {{sim: {{provider: simulated}}}}\ntelemetry: {{otlp: {{endpoint: "{receiver.endpoint}"}}}}\n'
        with running_gate(config, None, **SOON) as gate, openai.OpenAI(base_url=f"{gate.url}/v1", api_key="none") as client:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-sim": "lat=1,d=1"}
            raw = client.chat.completions.with_raw_response.create(model="sim/gpt-4o-mini", messages=HELLO, extra_headers=headers)
            usage = raw.parse().usage
            with client.chat.completions.create(model="sim/gpt-4o-mini", messages=HELLO, stream=True) as stream:
                assert list(stream)
            gate.rows(2)
            receiver.wait_for(lambda found: len(found.spans) == 4 and found.points("postern.cost"))
    assert usage is not None
    server, client_span = [span for span in receiver.spans if span.trace_id.hex() == TRACE]
    assert (server.name, client_span.name) == ("POST /v1/chat/completions", "chat sim/gpt-4o-mini")
    assert server.parent_span_id.hex() == PARENT
    assert client_span.parent_span_id == server.span_id
    told = attributes_of(client_span.attributes)
    assert told["gen_ai.usage.input_tokens"] == usage.prompt_tokens
    assert told["gen_ai.usage.output_tokens"] == usage.completion_tokens
    assert told["gen_ai.usage.cost"] == float(raw.headers["x-postern-cost-usd"])
    assert attributes_of(server.attributes)["postern.call_id"] == raw.headers["x-postern-call-id"]
    assert client_span.end_time_unix_nano > client_span.start_time_unix_nano
    streamed = [attributes_of(span.attributes) for span in receiver.spans if span.trace_id.hex() != TRACE and span.parent_span_id]
    assert streamed[0]["gen_ai.request.stream"] is True
    assert streamed[0]["gen_ai.response.time_to_first_chunk"]
    assert not receiver.refused
    for metric in ("gen_ai.client.token.usage", "gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk"):
        assert receiver.points(metric), metric
