"""The OpenTelemetry conventions as a table of its own: what an attribute or metric is called and holds, and where it belongs.

Transcribed from wire.md A1 (inference, embeddings, fetch_response, OpenAI), A3 (metrics), B1 (HTTP). Versions: `1.41` the GenAI conventions
in core 1.41; `gen-3` as developed since in semantic-conventions-genai; `both` in either; `http` the HTTP conventions 1.44.
"""

from __future__ import annotations

from typing import NamedTuple


class Attribute(NamedTuple):
    """One attribute's row. Levels: R required, C conditionally required, r recommended, O opt-in; "" = not on these spans."""

    name: str
    type: str
    version: str
    inference: str = ""
    embeddings: str = ""
    fetch: str = ""
    server: str = ""
    http: str = ""
    metric: str = ""


ATTRIBUTES = (
    Attribute("gen_ai.operation.name", "string", "both", "R", "R", "R", metric="R"),
    Attribute("gen_ai.provider.name", "string", "both", "R", "R", "R", metric="R"),
    Attribute("gen_ai.request.model", "string", "both", "C", "C", metric="C"),
    Attribute("gen_ai.conversation.id", "string", "both", "C"),
    Attribute("gen_ai.output.type", "string", "both", "C"),
    Attribute("gen_ai.prompt.name", "string", "both", "C"),
    Attribute("gen_ai.prompt.version", "string", "gen-3", "C"),
    Attribute("gen_ai.request.choice.count", "int", "both", "C"),
    Attribute("gen_ai.request.seed", "int", "both", "C"),
    Attribute("gen_ai.request.stream", "boolean", "both", "C", fetch="C"),
    Attribute("gen_ai.request.top_k", "double", "1.41", "C"),
    Attribute("gen_ai.request.top_k", "int", "gen-3", "C"),
    Attribute("gen_ai.conversation.compacted", "boolean", "gen-3", "r"),
    Attribute("gen_ai.request.frequency_penalty", "double", "both", "r"),
    Attribute("gen_ai.request.presence_penalty", "double", "both", "r"),
    Attribute("gen_ai.request.temperature", "double", "both", "r"),
    Attribute("gen_ai.request.top_p", "double", "both", "r"),
    Attribute("gen_ai.request.max_tokens", "int", "both", "r"),
    Attribute("gen_ai.request.stop_sequences", "string[]", "both", "r"),
    Attribute("gen_ai.request.reasoning.level", "string", "gen-3", "r"),
    Attribute("gen_ai.request.previous_response.id", "string", "gen-3", "r"),
    Attribute("gen_ai.request.stream_cursor", "string", "gen-3", fetch="r"),
    Attribute("gen_ai.request.encoding_formats", "string[]", "both", embeddings="r"),
    Attribute("gen_ai.embeddings.dimension.count", "int", "both", embeddings="r"),
    Attribute("gen_ai.response.finish_reasons", "string[]", "both", "r", fetch="r"),
    Attribute("gen_ai.response.id", "string", "both", "r", fetch="r"),
    Attribute("gen_ai.response.model", "string", "both", "r", "r", fetch="r", metric="r"),
    Attribute("gen_ai.response.status", "string", "gen-3", fetch="r"),
    Attribute("gen_ai.response.time_to_first_chunk", "double", "both", "r"),
    Attribute("gen_ai.usage.input_tokens", "int", "both", "r", "r"),
    Attribute("gen_ai.usage.output_tokens", "int", "both", "r"),
    Attribute("gen_ai.usage.cache_read.input_tokens", "int", "both", "r"),
    Attribute("gen_ai.usage.cache_creation.input_tokens", "int", "1.41", "r"),
    Attribute("gen_ai.usage.cache_write.input_tokens", "int", "gen-3", "r"),
    Attribute("gen_ai.usage.reasoning.output_tokens", "int", "both", "r"),
    *(Attribute(f"gen_ai.usage.{kind}.input_tokens", "int", "gen-3", "r") for kind in ("text", "image", "audio")),
    *(Attribute(f"gen_ai.usage.{kind}.output_tokens", "int", "gen-3", "r") for kind in ("text", "image", "audio")),
    *(Attribute(f"gen_ai.usage.{kind}.cache_read.input_tokens", "int", "gen-3", "r") for kind in ("text", "image", "audio")),
    Attribute("gen_ai.input.messages", "any", "both", "O"),
    Attribute("gen_ai.output.messages", "any", "both", "O"),
    Attribute("gen_ai.system_instructions", "any", "both", "O"),
    Attribute("gen_ai.tool.definitions", "any", "both", "O"),
    Attribute("gen_ai.token.type", "string", "1.41", metric="R"),
    Attribute("gen_ai.token.modality", "string", "gen-3", metric="R"),
    Attribute("openai.api.type", "string", "both", "r", fetch="r"),
    Attribute("openai.request.service_tier", "string", "both", "C"),
    Attribute("openai.response.service_tier", "string", "both", "C", fetch="C", metric="r"),
    Attribute("openai.response.system_fingerprint", "string", "both", "r", metric="r"),
    Attribute("error.type", "string", "http", "C", "C", "C", "C", "C", "C"),
    Attribute("server.address", "string", "http", "r", "r", "r", "r", "R", "r"),
    Attribute("server.port", "int", "http", "C", "C", "C", "C", "R", "C"),
    Attribute("http.request.method", "string", "http", server="R", http="R", metric="R"),
    Attribute("http.request.method_original", "string", "http", server="C", http="C"),
    Attribute("http.request.resend_count", "int", "http", http="r"),
    Attribute("http.response.status_code", "int", "http", server="C", http="C", metric="C"),
    Attribute("http.route", "string", "http", server="C", metric="C"),
    Attribute("url.path", "string", "http", server="R"),
    Attribute("url.scheme", "string", "http", server="R", http="O", metric="R"),
    Attribute("url.query", "string", "http", server="C"),
    Attribute("url.full", "string", "http", http="R"),
    Attribute("client.address", "string", "http", server="r"),
    Attribute("user_agent.original", "string", "http", server="r", http="O"),
    Attribute("network.peer.address", "string", "http", server="r", http="r"),
    Attribute("network.peer.port", "int", "http", server="r", http="r"),
    Attribute("network.protocol.version", "string", "http", server="r", http="r", metric="r"),
)

PROPOSED = {"gen_ai.usage.cost": "double"}
"""gen_ai.* names that no convention has: the cost, where others put it (wire.md A5). The configuration may call it otherwise."""

NOT_TOLD = {
    "gen_ai.prompt.name": "requests name no template",
    "gen_ai.prompt.version": "requests name no template",
    "gen_ai.conversation.compacted": "no record carries it",
    "gen_ai.request.stream_cursor": "no record carries it",
    "gen_ai.response.status": "no record carries it",
    "gen_ai.usage.text.cache_read.input_tokens": "providers tell of audio only",
    "gen_ai.usage.image.cache_read.input_tokens": "providers tell of audio only",
    "url.query": "may hold secrets, and is told nowhere",
    "network.peer.address": "no record carries it: targets are named, not resolved",
    "network.peer.port": "no record carries it: targets are named, not resolved",
}
"""What is required or recommended and still absent, each with the reason."""

NOT_TOLD_ON_PLAIN_HTTP = {"network.protocol.version": "no record carries the upstream's"}

ALSO_TOLD = {
    "http.response.status_code": "on CLIENT spans of operations, which are HTTP exchanges too",
    "http.request.resend_count": "likewise",
}
"""What stands on spans that its convention isn't about, each with the reason."""

DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
HTTP_DURATION = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class Metric(NamedTuple):
    """One metric's row."""

    name: str
    instrument: str
    unit: str
    boundaries: tuple[float, ...]
    version: str


METRICS = (
    Metric("gen_ai.client.token.usage", "histogram", "{token}", TOKENS, "1.41"),
    Metric("gen_ai.client.operation.duration", "histogram", "s", DURATION, "both"),
    Metric("gen_ai.client.operation.time_to_first_chunk", "histogram", "s", DURATION, "1.41"),
    Metric("gen_ai.client.operation.time_per_output_chunk", "histogram", "s", DURATION, "1.41"),
    Metric("gen_ai.client.inference.duration", "histogram", "s", DURATION, "gen-3"),
    Metric("gen_ai.client.inference.time_to_first_chunk", "histogram", "s", DURATION, "gen-3"),
    Metric("gen_ai.client.inference.time_per_output_chunk", "histogram", "s", DURATION, "gen-3"),
    Metric("gen_ai.client.inference.usage.input_tokens", "counter", "{token}", (), "gen-3"),
    Metric("gen_ai.client.inference.usage.output_tokens", "counter", "{token}", (), "gen-3"),
    Metric("gen_ai.client.inference.usage.cache_read.input_tokens", "counter", "{token}", (), "gen-3"),
    Metric("gen_ai.client.inference.usage.cache_write.input_tokens", "counter", "{token}", (), "gen-3"),
    Metric("gen_ai.client.inference.usage.reasoning.output_tokens", "counter", "{token}", (), "gen-3"),
    Metric("gen_ai.client.inference.operation.input_tokens", "histogram", "{token}", TOKENS, "gen-3"),
    Metric("gen_ai.client.inference.operation.output_tokens", "histogram", "{token}", TOKENS, "gen-3"),
    Metric("http.server.request.duration", "histogram", "s", HTTP_DURATION, "http"),
)
